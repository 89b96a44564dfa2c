// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

import {BaseConsumer} from "../src/common/BaseConsumer.sol";
import {BaseJobManager} from "../src/common/BaseJobManager.sol";
import {OffchainRequester} from "../src/common/OffchainRequester.sol";
import {IConsumer, IOffchainRequester} from "../src/interfaces/IConsumer.sol";
import {IJobManager} from "../src/interfaces/IJobManager.sol";
import {JobManager as RelayManager} from "../src/relay/JobManager.sol";
import {JobManager as StateManager} from "../src/state/JobManager.sol";

/// The interfaces say what the contracts have.
contract InterfacesTest {
    function test_job_managers() external pure {
        assert(IJobManager.getCoprocessorOperator.selector == BaseJobManager.getCoprocessorOperator.selector);
        assert(IJobManager.getJobMetadata.selector == BaseJobManager.getJobMetadata.selector);
        assert(IJobManager.createJob.selector == BaseJobManager.createJob.selector);
        assert(IJobManager.cancelJob.selector == BaseJobManager.cancelJob.selector);
        assert(
            IJobManager.submitResultForOffchainJob.selector == RelayManager.submitResultForOffchainJob.selector
                && IJobManager.submitResultForOffchainJob.selector == StateManager.submitResultForOffchainJob.selector
        );
        assert(IJobManager.JobCreated.selector == BaseJobManager.JobCreated.selector);
        assert(IJobManager.JobCancelled.selector == BaseJobManager.JobCancelled.selector);
        assert(IJobManager.JobCompleted.selector == BaseJobManager.JobCompleted.selector);
    }

    function test_metadata_decodes() external {
        RelayManager made = new RelayManager(address(1));
        IJobManager.JobMetadata memory metadata = IJobManager(address(made)).getJobMetadata("none");
        assert(metadata.status == 0 && metadata.programID.length == 0);
    }

    function test_consumers() external pure {
        assert(IConsumer.getJobManager.selector == BaseConsumer.getJobManager.selector);
        assert(IConsumer.maxNonce.selector == bytes4(keccak256("maxNonce()")));
        assert(IConsumer.getNextNonce.selector == BaseConsumer.getNextNonce.selector);
        assert(IConsumer.getOnchainInputForJob.selector == BaseConsumer.getOnchainInputForJob.selector);
        assert(IConsumer.getOffchainInputHashForJob.selector == BaseConsumer.getOffchainInputHashForJob.selector);
        assert(IConsumer.updateLatestNonce.selector == BaseConsumer.updateLatestNonce.selector);
        assert(IConsumer.receiveResult.selector == BaseConsumer.receiveResult.selector);
        assert(IOffchainRequester.isValidSignature.selector == OffchainRequester.isValidSignature.selector);
    }
}
