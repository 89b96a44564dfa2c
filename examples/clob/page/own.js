// A user's own account: balances, orders, deposits and withdrawals. The feed tells what is open; what is over is kept in
// the browser, so that it can be seen to become final.

const ORDERS = 60;
const TRANSFERS = 20;

const NOTHING = { free: 0n, locked: 0n };
const funds = ({ free, locked }) => ({ free: BigInt(free), locked: BigInt(locked) });
const total = ({ free, locked }) => free + locked;

export class Own {
  seq = 0;
  nonce = 0;
  base = NOTHING;
  quote = NOTHING;
  /** Whether the server has told of the account yet. */
  known = false;
  /** Number to `{ order, side, price, size, left, filled, place, time }`; `place` is where it changed last. */
  orders = new Map();
  /** `{ place, time, token, amount }`, the latest first; withdrawals are below zero. */
  transfers = [];

  /** `store` has `get()` and `set(text)`. */
  constructor(store) {
    this.store = store;
    try {
      this.#restore(JSON.parse(store.get() ?? "{}"));
    } catch {
      // Something else wrote it.
    }
  }

  /** Takes a message of the feed. */
  take(message) {
    if (message.type === "account") this.#snapshot(message);
    else if (message.type === "own" && message.seq > this.seq) this.#change(message);
    else return;
    this.#keep();
  }

  /** An order was answered: only whoever sent it knows what its size was. */
  placed({ place, time, resting, fills }, side, price, size) {
    const sum = fills.reduce((sum, fill) => sum + BigInt(fill.size), 0n);
    const known = this.orders.get(place);
    if (known) known.size = size;
    else this.#add({ order: place, side, price, size, left: BigInt(resting), filled: sum, place, time });
    this.#keep();
  }

  /** The latest first, those that wait before the others. */
  listed() {
    const order = (one, other) => (other.left > 0n) - (one.left > 0n) || other.order - one.order;
    return [...this.orders.values()].sort(order);
  }

  #snapshot(message) {
    // The feed never goes back. This is another chain at the same address: a development chain was started again.
    if (message.seq < this.seq || message.nonce < this.nonce) {
      this.orders.clear();
      this.transfers = [];
    }
    this.#balances(message);
    const open = new Set();
    for (const { order, side, price, size } of message.orders) {
      open.add(order);
      const [left, known] = [BigInt(size), this.orders.get(order)];
      if (!known) this.#add({ order, side, price: BigInt(price), size: left, left, filled: 0n, place: order, time: 0 });
      else if (known.left !== left) Object.assign(known, { filled: known.size - left, left, place: message.seq });
    }
    for (const order of this.orders.values()) {
      const gone = order.left > 0n && !open.has(order.order);
      // It ended while nobody looked, unless it was answered after this was sent.
      if (gone && order.place <= message.seq) Object.assign(order, { left: 0n, place: message.seq, unseen: true });
    }
  }

  #change(message) {
    const before = { base: total(this.base), quote: total(this.quote) };
    this.#balances(message);
    const { seq: place, time } = message;
    for (const { order, side, price, size, cancelled = "0" } of message.orders) {
      const made = message.fills.filter((fill) => fill.order === order);
      const filled = made.reduce((sum, fill) => sum + BigInt(fill.size), 0n);
      const [left, known] = [BigInt(size), this.orders.get(order)];
      if (!known) {
        this.#add({ order, side, price: BigInt(price), size: left + filled + BigInt(cancelled), left, filled, place, time });
      } else if (place > known.place) {
        Object.assign(known, { left, filled: known.filled + filled, place, time });
      }
    }
    // Nothing but a transfer changes a total without a fill.
    if (message.fills.length) return;
    for (const token of ["base", "quote"]) {
      const amount = total(this[token]) - before[token];
      if (amount !== 0n) this.transfers.unshift({ place, time, token, amount });
    }
    this.transfers.length = Math.min(this.transfers.length, TRANSFERS);
  }

  #balances({ seq, nonce, base, quote }) {
    Object.assign(this, { seq, nonce, base: funds(base), quote: funds(quote), known: true });
  }

  #add(order) {
    this.orders.set(order.order, order);
    const over = [...this.orders.values()].filter(({ left }) => left === 0n);
    over.sort((one, other) => one.order - other.order);
    for (const { order } of over.slice(0, Math.max(0, this.orders.size - ORDERS))) this.orders.delete(order);
  }

  #keep() {
    const plain = (_, value) => (typeof value === "bigint" ? `${value}n` : value);
    const { seq, nonce, orders, transfers } = this;
    this.store.set(JSON.stringify({ seq, nonce, orders: [...orders.values()], transfers }, plain));
  }

  #restore({ seq = 0, nonce = 0, orders = [], transfers = [] }) {
    const whole = (fields) => {
      const number = ([name, value]) => [name, /^-?\d+n$/.test(value) ? BigInt(value.slice(0, -1)) : value];
      return Object.fromEntries(Object.entries(fields).map(number));
    };
    Object.assign(this, { seq, nonce });
    this.orders = new Map(orders.map((order) => [order.order, whole(order)]));
    this.transfers = transfers.map(whole);
  }
}

/** What became of an order, in a word or two. */
export function state({ left, filled, size, unseen }) {
  if (left > 0n) return filled > 0n ? "part filled" : "open";
  if (filled >= size) return "filled";
  if (unseen) return "over";
  return filled > 0n ? "rest cancelled" : "cancelled";
}
