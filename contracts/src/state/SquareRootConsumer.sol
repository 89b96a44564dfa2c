// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {SingleOffchainSigner} from "../common/SingleOffchainSigner.sol";
import {SquareRoot} from "../common/SquareRoot.sol";
import {Consumer} from "./Consumer.sol";

contract SquareRootConsumer is Consumer, SquareRoot {
    constructor(address jobManager, address signer, uint64 initialMaxNonce)
        Consumer(jobManager, initialMaxNonce)
        SingleOffchainSigner(signer)
    {}
}
