// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {Reverting} from "../common/Reverting.sol";
import {SingleOffchainSigner} from "../common/SingleOffchainSigner.sol";
import {Consumer} from "./Consumer.sol";

contract RevertingConsumer is Consumer, Reverting {
    constructor(address jobManager, address signer, uint64 initialMaxNonce)
        Consumer(jobManager, initialMaxNonce)
        SingleOffchainSigner(signer)
    {}
}
