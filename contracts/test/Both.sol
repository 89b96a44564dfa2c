// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

import {AllowList} from "../src/common/AllowList.sol";
import {BaseJobManager} from "../src/common/BaseJobManager.sol";
import {MatchingGame} from "../src/common/MatchingGame.sol";
import {Reverting} from "../src/common/Reverting.sol";
import {SquareRoot} from "../src/common/SquareRoot.sol";
import {Claim, Job, Rig} from "./Rig.sol";
import {vm} from "./Vm.sol";

/// What holds in either revision.
abstract contract Both is Rig {
    SquareRoot internal roots;
    AllowList internal list;
    Reverting internal reverting;

    string private constant FOREIGN = "Consumer.onlyJobManager: caller is not the job manager";
    string private constant TAKEN = "JobManager.createJob: job already exists with this nonce and consumer";
    string private constant REQUEST = "JobManager.submitResultForOffchainJob: Invalid signature on job request";
    string private constant RESULT = "JobManager.submitResultForOffchainJob: Invalid signature on result";

    /// A square root consumer that has seen nonces up to `maxNonce`.
    function newRoots(address signer, uint64 maxNonce) internal virtual returns (SquareRoot);
    function newGame(bytes32 first) internal virtual returns (MatchingGame);
    function latestOf(MatchingGame game) internal view virtual returns (bytes32);
    /// A job of a stateful consumer, and its program's output.
    function step(address consumer, uint64 nonce, bytes32 from, bytes32 to, bytes memory result)
        internal
        pure
        virtual
        returns (Job memory, bytes memory);

    function job(uint64 nonce) internal view returns (Job memory) {
        return jobFor(address(roots), nonce, abi.encode(49));
    }

    function output() internal pure returns (bytes memory) {
        return abi.encode(49, 7);
    }

    // The whole way.

    function test_a_result_is_completed_and_delivered() external {
        Job memory made = job(5);
        bytes memory data = call(made, claimFor(made, output()));
        vm.expectEmit();
        emit BaseJobManager.JobCompleted(idOf(made), output());
        // Anyone may bring it.
        vm.prank(address(0xbeef));
        accept(address(manager), data);
        BaseJobManager.JobMetadata memory metadata = manager.getJobMetadata(idOf(made));
        assert(metadata.status == 3 && metadata.maxCycles == 1_000 && metadata.consumer == address(roots));
        assert(keccak256(metadata.programID) == keccak256("program"));
        assert(roots.getRoot(49) == 7);
        assert(keccak256(roots.getOnchainInputForJob(idOf(made))) == keccak256(abi.encode(49)));
        assert(roots.getOffchainInputHashForJob(idOf(made)) == keccak256("offchain"));
    }

    function test_a_job_is_taken_once() external {
        settle(job(1), output());
        refuseWith(call(job(1), claimFor(job(1), output())), TAKEN);
        // Whatever it holds.
        Job memory other = jobFor(address(roots), 1, "");
        refuseWith(call(other, claimFor(other, "")), TAKEN);
        settle(job(2), output());
    }

    function test_an_unknown_job_has_no_metadata() external view {
        BaseJobManager.JobMetadata memory metadata = manager.getJobMetadata(keccak256("unknown"));
        assert(metadata.status == 0 && metadata.consumer == address(0) && metadata.programID.length == 0);
    }

    // Signatures.

    function test_a_stranger_signs_nothing() external {
        bytes memory right = output();
        refuseWith(call(job(1), claimFor(job(1), right), OPERATOR, STRANGER), REQUEST);
        refuseWith(call(job(1), claimFor(job(1), right), STRANGER, SIGNER), RESULT);
        // The request is looked at first.
        refuseWith(call(job(1), claimFor(job(1), right), STRANGER, STRANGER), REQUEST);
        assert(statusOf(idOf(job(1))) == 0);
    }

    function test_an_encoding_of_the_same_fields_counts_only_as_signed() external {
        Job memory made = job(1);
        bytes memory request = encode(made);
        bytes memory result = encode(claimFor(made, output()));
        bytes memory longer = abi.encodePacked(request, bytes32(0));
        refuseWith(
            abi.encodeWithSignature(
                "submitResultForOffchainJob(bytes,bytes,bytes,bytes)",
                result,
                sign(OPERATOR, result),
                longer,
                sign(SIGNER, request)
            ),
            REQUEST
        );
    }

    function test_the_operator_can_be_replaced_by_the_owner_only() external {
        bytes memory change = abi.encodeCall(manager.setCoprocessorOperator, (vm.addr(STRANGER)));
        vm.prank(address(0xbeef));
        refuseWith(change, "JobManager.onlyOwner: caller is not the owner");
        accept(address(manager), change);
        assert(manager.getCoprocessorOperator() == vm.addr(STRANGER));
        refuseWith(call(job(1), claimFor(job(1), output())), RESULT);
        accept(address(manager), call(job(1), claimFor(job(1), output()), STRANGER, SIGNER));
    }

    function test_without_a_signer_what_is_unreadable_passes() external {
        SquareRoot open = newRoots(address(0), 0);
        bytes32 hash = keccak256("anything");
        assert(isSignedFor(open, hash, ""));
        assert(isSignedFor(open, hash, "x"));
        assert(isSignedFor(open, hash, new bytes(65)));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(SIGNER, hash);
        assert(!isSignedFor(open, hash, abi.encodePacked(r, s, v)));
        assert(!isSignedFor(roots, hash, "x"));
        assert(isSignedFor(roots, hash, abi.encodePacked(r, s, v)));
    }

    function test_the_signer_can_be_replaced() external {
        roots.setOffchainSigner(vm.addr(STRANGER));
        assert(roots.getOffchainSigner() == vm.addr(STRANGER));
        refuseWith(call(job(1), claimFor(job(1), output())), REQUEST);
        accept(address(manager), call(job(1), claimFor(job(1), output()), OPERATOR, STRANGER));
    }

    function test_a_list_lets_several_sign() external {
        Job memory made = jobFor(address(list), 1, "in");
        accept(address(manager), call(made, claimFor(made, "out")));
        assert(keccak256(list.getResult(idOf(made))) == keccak256("out"));
        made.nonce = 2;
        bytes memory other = call(made, claimFor(made, "two"), OPERATOR, STRANGER);
        refuseWith(other, REQUEST);
        list.allow(vm.addr(STRANGER), true);
        accept(address(manager), other);
        list.allow(vm.addr(SIGNER), false);
        made.nonce = 3;
        refuseWith(call(made, claimFor(made, "three")), REQUEST);
        // Zero on the list is nobody still.
        list.allow(address(0), true);
        assert(!isSignedFor(list, keccak256("anything"), "x"));
        bytes memory change = abi.encodeCall(list.allow, (address(0xbeef), true));
        vm.prank(address(0xbeef));
        refuse(address(list), change, message("AllowList.onlyOwner: caller is not the owner"));
    }

    // What the operator signed must be what was requested. Checked in this order.

    function test_every_field_of_a_result_is_compared() external {
        Job memory made = job(1);
        Claim memory claim = claimFor(made, output());
        claim.maxCycles++;
        refuseWith(
            call(made, claim),
            "JobManager.submitResult: max cycles signed by coprocessor doesn't match max cycles submitted with job"
        );
        claim.programID = "programme";
        refuseWith(
            call(made, claim),
            "JobManager.submitResult: program ID signed by coprocessor doesn't match program ID submitted with job"
        );
        claim.onchainInputHash = keccak256("other");
        refuseWith(
            call(made, claim),
            "JobManager.submitResult: onchain input signed by coprocessor doesn't match onchain input submitted with job"
        );
        claim.offchainInputHash = keccak256("other");
        refuseWith(
            call(made, claim),
            "JobManager.submitResultForOffchainJob: offchain input hash signed by coprocessor doesn't match offchain input hash of job request"
        );
        claim.jobID = keccak256("other");
        refuseWith(
            call(made, claim),
            "JobManager.submitResultForOffchainJob: job ID signed by coprocessor doesn't match job ID of job request"
        );
        // Nothing of it stays.
        assert(statusOf(idOf(made)) == 0 && roots.maxNonce() == 0);
        settle(made, output());
    }

    function test_what_is_no_encoding_reverts_without_a_word() external {
        bytes memory noise = "noise";
        bytes memory request = encode(job(1));
        bytes memory result = encode(claimFor(job(1), output()));
        bytes4 submit = bytes4(keccak256("submitResultForOffchainJob(bytes,bytes,bytes,bytes)"));
        bytes memory operator = sign(OPERATOR, noise);
        refuse(
            address(manager), abi.encodeWithSelector(submit, result, sign(OPERATOR, result), noise, sign(SIGNER, noise)), ""
        );
        refuse(address(manager), abi.encodeWithSelector(submit, noise, operator, request, sign(SIGNER, request)), "");
    }

    function test_a_consumer_without_code_reverts_without_a_word() external {
        Job memory made = jobFor(address(0xc0de), 1, "");
        refuse(address(manager), call(made, claimFor(made, "")), "");
    }

    // Nonces.

    function test_fuzz_the_highest_nonce_counts(uint64[6] calldata nonces) external {
        uint64 highest = 0;
        for (uint256 i = 0; i < nonces.length; i++) {
            if (statusOf(idOf(job(nonces[i]))) != 0) continue;
            settle(job(nonces[i]), output());
            if (nonces[i] > highest) highest = nonces[i];
            assert(roots.maxNonce() == highest);
            if (highest != type(uint64).max) assert(roots.getNextNonce() == highest + 1);
        }
    }

    function test_the_first_nonce_is_1_and_0_is_one_too() external {
        assert(roots.maxNonce() == 0 && roots.getNextNonce() == 1);
        settle(job(0), output());
        assert(roots.maxNonce() == 0 && roots.getNextNonce() == 1);
    }

    function test_after_the_last_nonce_there_is_none() external {
        settle(job(type(uint64).max), output());
        assert(roots.maxNonce() == type(uint64).max);
        refuse(address(roots), abi.encodeCall(roots.getNextNonce, ()), panic(0x11));
        refuse(address(roots), abi.encodeCall(roots.requestSquareRoot, ("program", 9, 1)), panic(0x11));
        // Those below it can be used still.
        settle(job(1), output());
    }

    function test_a_consumer_may_begin_late() external {
        SquareRoot late = newRoots(vm.addr(SIGNER), 1_700_000_000_000);
        assert(late.getNextNonce() == 1_700_000_000_001);
        assert(late.getJobManager() == address(manager));
    }

    function test_only_the_job_manager_may_write() external {
        refuse(address(roots), abi.encodeCall(roots.updateLatestNonce, (7)), message(FOREIGN));
        refuse(address(roots), abi.encodeCall(roots.receiveResult, (bytes32(0), output())), message(FOREIGN));
    }

    // Onchain requests.

    function test_a_request_on_chain_is_pending_and_takes_a_nonce() external {
        settle(job(4), output());
        bytes32 expected = keccak256(abi.encodePacked(uint64(5), address(roots)));
        vm.expectEmit();
        emit BaseJobManager.JobCreated(expected, 5, address(roots), 2_000, "program", abi.encode(81));
        bytes32 id = roots.requestSquareRoot("program", 81, 2_000);
        assert(id == expected && statusOf(id) == 1 && roots.maxNonce() == 5);
        assert(keccak256(roots.getOnchainInputForJob(id)) == keccak256(abi.encode(81)));
        // It is the same job as an offchain one with this nonce.
        refuseWith(call(job(5), claimFor(job(5), output())), TAKEN);
    }

    function test_a_consumer_or_the_owner_cancels() external {
        bytes32 one = roots.requestSquareRoot("program", 81, 2_000);
        bytes32 two = roots.requestSquareRoot("program", 82, 2_000);
        bytes memory cancel = abi.encodeCall(manager.cancelJob, (one));
        vm.prank(address(0xbeef));
        refuseWith(cancel, "JobManager.cancelJob: caller is not the job consumer or JobManager owner");
        vm.expectEmit();
        emit BaseJobManager.JobCancelled(one);
        roots.cancel(one);
        assert(statusOf(one) == 2);
        manager.cancelJob(two);
        assert(statusOf(two) == 2);
        refuseWith(cancel, "JobManager.cancelJob: job is not in pending state");
        settle(job(3), output());
        refuseWith(
            abi.encodeCall(manager.cancelJob, (idOf(job(3)))), "JobManager.cancelJob: job is not in pending state"
        );
        // A cancelled nonce is used up.
        refuseWith(call(job(1), claimFor(job(1), output())), TAKEN);
    }

    // Consumers that refuse.

    function test_a_consumer_reverts_in_every_way() external {
        Job memory made = jobFor(address(reverting), 1, "in");
        bytes memory data = call(made, claimFor(made, "out"));
        refuseWith(data, "RevertingConsumer: told to");
        reverting.setMode(Reverting.Mode.CustomError);
        refuse(address(manager), data, abi.encodeWithSelector(Reverting.Refused.selector, idOf(made), 3));
        reverting.setMode(Reverting.Mode.Panic);
        refuse(address(manager), data, panic(1));
        reverting.setMode(Reverting.Mode.Empty);
        refuse(address(manager), data, "");
        assert(statusOf(idOf(made)) == 0 && reverting.maxNonce() == 0);
        reverting.setMode(Reverting.Mode.Works);
        accept(address(manager), data);
        assert(keccak256(reverting.getLatestResult()) == keccak256("out"));
    }

    // The matching game.

    function test_a_matching_game_keeps_partners() external {
        MatchingGame game = newGame("first");
        (address one, address two, address three) = (address(0x01), address(0x02), address(0x03));
        MatchingGame.Match[] memory pairs = new MatchingGame.Match[](2);
        (pairs[0], pairs[1]) = (MatchingGame.Match(7, one, two), MatchingGame.Match(type(uint64).max, three, one));
        (Job memory made, bytes memory out) = step(address(game), 1, "first", "second", abi.encode(pairs));
        vm.expectEmit();
        emit MatchingGame.Matched(7, one, two);
        settle(made, out);
        assert(game.getPartner(7, one) == two && game.getPartner(7, two) == one);
        assert(game.getPartner(type(uint64).max, one) == three && game.getPartner(type(uint64).max, three) == one);
        assert(game.getPartner(8, one) == address(0) && game.getPartner(7, three) == address(0));
        assert(latestOf(game) == "second");
        // The latest counts, and a batch need not have any.
        (pairs[0], pairs[1]) = (MatchingGame.Match(7, one, two), MatchingGame.Match(7, three, one));
        (made, out) = step(address(game), 2, "second", "third", abi.encode(pairs));
        settle(made, out);
        assert(game.getPartner(7, one) == three && game.getPartner(7, three) == one && game.getPartner(7, two) == one);
        (made, out) = step(address(game), 3, "third", "fourth", abi.encode(new MatchingGame.Match[](0)));
        settle(made, out);
        assert(latestOf(game) == "fourth");
    }

    function test_a_matching_game_takes_only_matches() external {
        MatchingGame game = newGame("first");
        (Job memory made, bytes memory out) = step(address(game), 1, "first", "second", "no matches");
        refuse(address(manager), call(made, claimFor(made, out)), "");
        assert(latestOf(game) == "first");
        (made, out) = step(address(game), 1, "other", "second", abi.encode(new MatchingGame.Match[](0)));
        (bool works,) = address(manager).call(call(made, claimFor(made, out)));
        assert(!works && latestOf(game) == "first");
    }
}
