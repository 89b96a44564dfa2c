// The form for a new order.

import { busy, complain, find, number, tell, write } from "./dom.js";

export class Ticket {
  /** `send(side, price, size)` sends it and says what came of it; `waits()` says what is missing first, or "". */
  constructor(units, send, waits) {
    Object.assign(this, { units, send, waits });
    this.form = find("ticket");
    const { price, size } = this.form.elements;
    this.form.addEventListener("input", ({ target }) => {
      if (target === price || target === size) complain(target, "");
      this.#sums();
    });
    price.addEventListener("keydown", (event) => this.#step(event));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      busy(find("send"), () => this.#submit());
    });
    this.#sums();
  }

  get side() {
    return this.form.elements.side.value;
  }

  /** Somebody chose a level of the book. */
  fill(side, price) {
    const { elements } = this.form;
    elements.side.value = side;
    elements.price.value = this.units.show("price", price);
    complain(elements.price, "");
    this.#sums();
    elements.size.focus();
  }

  render(own) {
    this.own = own;
    this.#sums();
  }

  async #submit() {
    const { price, size } = this.form.elements;
    const missing = this.waits();
    if (missing) return tell(find("outcome"), missing, "bad");
    const numbers = [number(this.units, "price", price), number(this.units, "size", size)];
    if (numbers.includes(null)) return (numbers[0] === null ? price : size).focus();
    tell(find("outcome"), "Sent …");
    const [text, kind] = await this.send(this.side, ...numbers);
    tell(find("outcome"), text, kind);
  }

  #sums() {
    const { units, side, own } = this;
    const buys = side === "buy";
    write(find("send"), `${buys ? "Buy" : "Sell"} ${units.base.symbol}`);
    find("send").className = `main ${side}`;
    let total = "–";
    try {
      const { price, size } = this.form.elements;
      total = units.named("quote", units.cost(units.read("price", price.value), units.read("size", size.value)));
    } catch {
      // Not written yet.
    }
    write(find("total"), total);
    const token = buys ? "quote" : "base";
    write(find("have"), own?.known ? units.named(token, own[token].free) : "–");
  }

  #step(event) {
    const by = { ArrowUp: 1n, ArrowDown: -1n }[event.key];
    if (!by) return;
    event.preventDefault();
    try {
      const price = this.units.read("price", event.target.value) + by * (event.shiftKey ? 10n : 1n);
      if (price > 0n) event.target.value = this.units.show("price", price);
      this.#sums();
    } catch {
      // Nothing to step from.
    }
  }
}
