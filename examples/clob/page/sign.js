// What a user signs (EIP-712), and the key that does. API.md has the types.

import { addr, signTyped } from "./vendor/micro-eth-signer.js";

const field = (type, name) => ({ name, type });
const TERMS = [field("address", "user"), field("uint64", "nonce"), field("uint64", "expiry")];
const TYPES = {
  EIP712Domain: [
    field("string", "name"),
    field("string", "version"),
    field("uint256", "chainId"),
    field("address", "verifyingContract"),
  ],
  Limit: [...TERMS, field("bool", "buy"), field("uint64", "price"), field("uint64", "size")],
  Cancel: [...TERMS, field("uint64", "order")],
  Withdraw: [...TERMS, field("bool", "base"), field("uint128", "amount")],
};

/** A key's account. */
export class Account {
  #key;

  constructor(key) {
    if (!addr.isValidPrivateKey(key)) throw new Error("This is no private key: 0x and 64 digits");
    this.#key = key;
    /** Its address, with the letters that are its checksum. */
    this.user = addr.fromPrivateKey(key);
  }

  /** A new one, out of the browser's random numbers. */
  static random() {
    return new Account(addr.random().privateKey);
  }

  /** The key itself, for its owner. */
  reveal() {
    return this.#key;
  }

  /** Signs a `Limit`, `Cancel` or `Withdraw`. The message's numbers are BigInt. */
  sign(domain, primaryType, message) {
    const typed = {
      domain: { ...domain, chainId: BigInt(domain.chainId) },
      types: { EIP712Domain: TYPES.EIP712Domain, [primaryType]: TYPES[primaryType] },
      primaryType,
      message: { user: this.user, ...message },
    };
    // The nonce of RFC 6979 alone: the same request has the same signature.
    return signTyped(typed, this.#key, false);
  }
}
