// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {Clob} from "../common/Clob.sol";
import {SingleOffchainSigner} from "../common/SingleOffchainSigner.sol";
import {Consumer} from "./Consumer.sol";
import {StatefulConsumer} from "./StatefulConsumer.sol";

/// The contract of the example `clob`. Only results of its own program count: the job manager compares the program with the
/// one that the signer of the job has chosen, and there is a program for whatever that signer would like to have.
contract ClobConsumer is StatefulConsumer, SingleOffchainSigner, Clob {
    /// keccak256 of the program's id.
    bytes32 public immutable programHash;

    constructor(
        address jobManager,
        address signer,
        uint64 initialMaxNonce,
        bytes32 initialStateRoot,
        address base,
        address quote,
        bytes memory programID
    )
        Consumer(jobManager, initialMaxNonce)
        StatefulConsumer(initialStateRoot)
        SingleOffchainSigner(signer)
        Clob(base, quote)
    {
        programHash = keccak256(programID);
    }

    function _receiveStatefulResult(bytes32 jobID, bytes memory result) internal override {
        require(
            keccak256(manager.getJobMetadata(jobID).programID) == programHash,
            "ClobConsumer: a result of another program"
        );
        settle(result);
    }
}
