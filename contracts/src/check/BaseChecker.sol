// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

import {OffchainRequester} from "../common/OffchainRequester.sol";
import {Signatures} from "../common/Signatures.sol";

/// Reads many signed messages in one call, to compare an encoder with Solidity's.
abstract contract BaseChecker {
    struct Reading {
        /// keccak-256 over the packed fields, those of variable length by their hash. Zero if the message does not decode.
        bytes32 fields;
        /// Whether Solidity encodes the fields to the same bytes again.
        bool canonical;
        bytes32 eip191Hash;
        /// Zero if no account can be read from the signature.
        address signer;
        /// What the requester says of the signature.
        bytes4 answer;
    }

    function readRequests(OffchainRequester requester, bytes[] calldata messages, bytes[] calldata signatures)
        external
        view
        returns (Reading[] memory)
    {
        return read(this.decodeRequest, requester, messages, signatures);
    }

    function readResults(OffchainRequester requester, bytes[] calldata messages, bytes[] calldata signatures)
        external
        view
        returns (Reading[] memory)
    {
        return read(this.decodeResult, requester, messages, signatures);
    }

    function decodeRequest(bytes calldata message) external pure virtual returns (bytes32 fields, bool canonical);

    function decodeResult(bytes calldata message) external pure virtual returns (bytes32 fields, bool canonical);

    function read(
        function(bytes memory) external pure returns (bytes32, bool) decode,
        OffchainRequester requester,
        bytes[] calldata messages,
        bytes[] calldata signatures
    ) private view returns (Reading[] memory readings) {
        readings = new Reading[](messages.length);
        for (uint256 i = 0; i < messages.length; i++) {
            Reading memory reading = readings[i];
            try decode(messages[i]) returns (bytes32 fields, bool canonical) {
                (reading.fields, reading.canonical) = (fields, canonical);
            } catch {}
            reading.eip191Hash = Signatures.eip191Hash(messages[i]);
            reading.signer = Signatures.tryRecover(reading.eip191Hash, signatures[i]);
            reading.answer = requester.isValidSignature(reading.eip191Hash, signatures[i]);
        }
    }
}
