// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {WalletSigner} from "../common/WalletSigner.sol";
import {Consumer} from "./Consumer.sol";

contract WalletConsumer is Consumer, WalletSigner {
    constructor(address jobManager, address signer, uint64 initialMaxNonce)
        Consumer(jobManager, initialMaxNonce)
        WalletSigner(signer)
    {}
}
