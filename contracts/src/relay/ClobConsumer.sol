// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {Clob} from "../common/Clob.sol";
import {SingleOffchainSigner} from "../common/SingleOffchainSigner.sol";
import {Consumer} from "./Consumer.sol";
import {StatefulConsumer} from "./StatefulConsumer.sol";

/// The contract of the example `clob`.
contract ClobConsumer is StatefulConsumer, SingleOffchainSigner, Clob {
    constructor(
        address jobManager,
        address signer,
        uint64 initialMaxNonce,
        bytes32 initialStateRoot,
        address base,
        address quote
    )
        Consumer(jobManager, initialMaxNonce)
        StatefulConsumer(initialStateRoot)
        SingleOffchainSigner(signer)
        Clob(base, quote)
    {}

    function _receiveStatefulResult(bytes32, bytes memory result) internal override {
        settle(result);
    }
}
