// Signs requests and sends them, one after the other: each has the nonce after the one before.

import { ask, Lost, read, Refused } from "./api.js";

/** How long a request may be carried out, in milliseconds. */
const VALID = 30_000;

export class Trader {
  #nonce = null;
  #last = Promise.resolve();

  /** `ahead` is how far the server's clock is ahead of ours, in milliseconds. */
  constructor(account, domain, ahead) {
    Object.assign(this, { account, domain, ahead });
  }

  get user() {
    return this.account.user;
  }

  limit(side, price, size) {
    const body = { side, price: price.toString(), size: size.toString() };
    return this.#send("/api/orders", body, "Limit", { buy: side === "buy", price, size });
  }

  cancel(order) {
    return this.#send("/api/cancels", { order }, "Cancel", { order: BigInt(order) });
  }

  withdraw(token, amount) {
    const body = { token, amount: amount.toString() };
    return this.#send("/api/withdrawals", body, "Withdraw", { base: token === "base", amount });
  }

  faucet() {
    return ask("/api/faucet", { user: this.user });
  }

  #send(path, body, type, message) {
    const sent = this.#last.then(() => this.#try(path, body, type, message));
    this.#last = sent.catch(() => {});
    return sent;
  }

  async #try(path, body, type, message) {
    try {
      return await this.#once(path, body, type, message);
    } catch (error) {
      // The same key works elsewhere, too: nothing was carried out.
      if (error.code !== "nonce" || !error.next_nonce) throw error;
      this.#nonce = error.next_nonce - 1;
      return await this.#once(path, body, type, message);
    }
  }

  async #once(path, body, type, message) {
    this.#nonce ??= (await read(`/api/accounts/${this.user}`)).nonce;
    const nonce = this.#nonce + 1;
    const began = Date.now();
    const expiry = began + this.ahead + VALID;
    const signature = this.account.sign(this.domain, type, {
      nonce: BigInt(nonce),
      expiry: BigInt(expiry),
      ...message,
    });
    const whole = { user: this.user, nonce, expiry, ...body, signature };
    const signed = performance.now();
    try {
      const answer = await ask(path, whole, { key: crypto.randomUUID(), deadline: began + VALID });
      this.#nonce = nonce;
      return { ...answer, took: performance.now() - signed };
    } catch (error) {
      // A 422 has used the nonce. After a lost reply only the server knows.
      if (error instanceof Refused && error.status === 422) this.#nonce = nonce;
      else if (error instanceof Lost) this.#nonce = null;
      throw error;
    }
  }
}
