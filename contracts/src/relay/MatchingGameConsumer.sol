// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {MatchingGame} from "../common/MatchingGame.sol";
import {SingleOffchainSigner} from "../common/SingleOffchainSigner.sol";
import {Consumer} from "./Consumer.sol";
import {StatefulConsumer} from "./StatefulConsumer.sol";

/// The contract of the example `matching_game`.
contract MatchingGameConsumer is StatefulConsumer, SingleOffchainSigner, MatchingGame {
    constructor(address jobManager, address signer, uint64 initialMaxNonce, bytes32 initialStateRoot)
        Consumer(jobManager, initialMaxNonce)
        StatefulConsumer(initialStateRoot)
        SingleOffchainSigner(signer)
    {}

    function _receiveStatefulResult(bytes32, bytes memory result) internal override {
        keepMatches(result);
    }
}
