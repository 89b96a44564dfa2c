// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {AllowList} from "../common/AllowList.sol";
import {Consumer} from "./Consumer.sol";

contract AllowListConsumer is Consumer, AllowList {
    constructor(address jobManager, address signer, uint64 initialMaxNonce)
        Consumer(jobManager, initialMaxNonce)
        AllowList(signer)
    {}
}
