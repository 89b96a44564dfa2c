// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {Signatures} from "../common/Signatures.sol";
import {IJobManager} from "../interfaces/IJobManager.sol";
import {cheats, Cheats} from "./Cheats.sol";

/// Offchain jobs in forge's tests: programs run for real, by `ivm` on the path, and their results are posted into the
/// test's own EVM with both signatures. Needs `forge test --ffi`.
///
/// A test takes `RelayJobs` or `StateJobs`, by its node's revision.
abstract contract OffchainJobs {
    /// The operator whose results `ivm` signs: a job manager of a test must name it.
    address internal constant OPERATOR = 0x330FF539bFbc640c02424BaD3cC274F24B6AfA3e;

    /// A job that has run: all that a job manager is told.
    struct Executed {
        bytes32 jobID;
        bytes resultWithMetadata;
        bytes resultSignature;
        bytes request;
        bytes requestSignature;
        bytes32[] blobHashes;
    }

    struct Program {
        string command;
        bool raw;
    }

    /// The program has no output, or `ivm` could not run it. Says why.
    error OffchainJobFailed(string reason);

    /// An argument of a process ends at 128 KiB, so at 64 KiB of bytes in hex. What is longer goes by a file.
    uint256 private constant LONGEST_ARGUMENT = 60_000;

    mapping(bytes32 programID => Program) private programs;

    /// Which revision `ivm` speaks: its --revision.
    function revision() internal pure virtual returns (string memory);

    /// Where results are posted.
    function manager() internal view virtual returns (IJobManager);

    /// Says what runs under an id: a command that speaks the executor protocol, or `example:square-root` or
    /// `example:sum`, which `ivm` brings along.
    function program(bytes memory programID, string memory command) internal {
        programs[keccak256(programID)] = Program(command, false);
    }

    /// Says what runs under an id: a command that reads the onchain input and writes the output.
    function rawProgram(bytes memory programID, string memory command) internal {
        programs[keccak256(programID)] = Program(command, true);
    }

    /// The id of a job.
    function jobIDOf(uint64 nonce, address consumer) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(nonce, consumer));
    }

    /// Posts a result, as a node's relayer does: what the contracts refuse reverts here.
    function post(Executed memory job) internal {
        cheats.blobhashes(job.blobHashes);
        manager().submitResultForOffchainJob(
            job.resultWithMetadata, job.resultSignature, job.request, job.requestSignature
        );
    }

    /// Signs a request with a key, and runs its program. The key stays in the EVM.
    function run(
        bytes memory programID,
        bytes32 jobID,
        bytes memory request,
        bytes memory offchainInput,
        bytes memory state,
        uint256 signerKey
    ) internal returns (Executed memory job) {
        (uint8 v, bytes32 r, bytes32 s) = cheats.sign(signerKey, Signatures.eip191Hash(request));
        job.jobID = jobID;
        job.request = request;
        job.requestSignature = abi.encodePacked(r, s, v);
        Program memory known = programs[keccak256(programID)];
        if (bytes(known.command).length == 0) {
            revert OffchainJobFailed("no command runs under this program id: name one with program() or rawProgram()");
        }
        string[] memory command = new string[](known.raw ? 16 : 15);
        command[0] = cheats.envOr("IVM", "ivm");
        command[1] = "ffi";
        command[2] = "execute";
        command[3] = "--revision";
        command[4] = revision();
        command[5] = "--program";
        command[6] = known.command;
        command[7] = "--request";
        command[8] = argument(request);
        command[9] = "--signature";
        command[10] = argument(job.requestSignature);
        command[11] = "--offchain-input";
        command[12] = argument(offchainInput);
        command[13] = "--state";
        command[14] = argument(state);
        if (known.raw) command[15] = "--raw";
        Cheats.FfiResult memory done = start(command);
        for (uint256 i = 8; i < 15; i += 2) discard(command[i]);
        if (done.exitCode != 0) revert OffchainJobFailed(string(done.stderr));
        (job.resultWithMetadata, job.resultSignature, job.blobHashes) =
            abi.decode(done.stdout, (bytes, bytes, bytes32[]));
    }

    /// Runs the command. What forge says of one that does not start is as long as its arguments.
    function start(string[] memory command) private returns (Cheats.FfiResult memory) {
        try cheats.tryFfi(command) returns (Cheats.FfiResult memory done) {
            return done;
        } catch {
            revert OffchainJobFailed(
                string.concat(
                    command[0], " cannot be started: put ivm on the path, or set IVM; and run forge test --ffi"
                )
            );
        }
    }

    /// Bytes as an argument: in hex, or the name of a file that holds them.
    function argument(bytes memory value) private returns (string memory) {
        if (value.length <= LONGEST_ARGUMENT) return cheats.toString(value);
        string memory folder = string.concat(cheats.projectRoot(), "/.ivm");
        cheats.createDir(folder, true);
        // Other tests run at the same time, and may have the same value.
        bytes32 name = keccak256(abi.encode(value, address(this), msg.sig, gasleft(), cheats.unixTime()));
        string memory path = string.concat(folder, "/", cheats.toString(abi.encode(name)));
        cheats.writeFileBinary(path, value);
        return string.concat("@", path);
    }

    /// Removes the file of an argument, if it has one.
    function discard(string memory given) private {
        bytes memory text = bytes(given);
        if (text.length == 0 || text[0] != "@") return;
        bytes memory path = new bytes(text.length - 1);
        for (uint256 i = 0; i < path.length; i++) path[i] = text[i + 1];
        cheats.removeFile(string(path));
    }
}
