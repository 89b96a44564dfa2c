// The book: the best levels of both sides, and a curve of the depth.

import { find, make, write } from "./dom.js";

/** Levels of each side that are shown. */
const SHOWN = 10;

export class BookView {
  /** `take(side, price)` is called for a level that somebody chose: `side` is the one that would trade with it. */
  constructor(units, take) {
    this.units = units;
    this.take = take;
    this.rows = { sell: [], buy: [] };
    // Always as many rows: nothing moves when levels come and go. The best offers are nearest to the middle.
    for (const [side, body] of [["sell", find("asks")], ["buy", find("bids")]]) {
      for (let at = 0; at < SHOWN; at++) {
        const row = this.#row(side);
        this.rows[side].push(row);
        if (side === "sell") body.prepend(row.node);
        else body.append(row.node);
      }
    }
    find("levels").hidden = false;
    find("levels").addEventListener("keydown", (event) => this.#move(event));
  }

  render(market, own) {
    const [asks, bids] = [market.depth("sell"), market.depth("buy")];
    const mine = { sell: new Set(), buy: new Set() };
    for (const { side, price, left } of own?.orders.values() ?? []) if (left > 0n) mine[side].add(price);
    this.#levels("sell", asks, mine.sell);
    this.#levels("buy", bids, mine.buy);
    const [ask, bid] = [asks[0]?.price, bids[0]?.price];
    const spread = ask && bid ? this.units.show("price", ask - bid) : "–";
    write(find("spread"), spread);
    write(find("middle"), ask && bid ? `spread ${spread}` : "no spread");
    this.#curve(asks, bids);
    // One stop for the Tab key; the arrow keys go on from there.
    const buttons = this.#buttons();
    if (!buttons.some((button) => button.tabIndex === 0)) {
      const first = this.rows.sell[0].button.hidden ? buttons[0] : this.rows.sell[0].button;
      if (first) first.tabIndex = 0;
    }
  }

  #row(side) {
    const button = make("button", { type: "button", tabIndex: -1, hidden: true });
    const [size, total] = [make("td"), make("td")];
    const node = make("tr", { className: side }, make("td", {}, make("i", { className: "bar" }), button), size, total);
    const row = { node, button, size, total, price: null };
    node.addEventListener("click", () => {
      if (row.price !== null) this.take(side === "buy" ? "sell" : "buy", row.price);
    });
    return row;
  }

  #levels(side, levels, mine) {
    const shown = levels.slice(0, SHOWN);
    const most = shown.at(-1)?.total ?? 1n;
    const name = side === "buy" ? "buyers" : "sellers";
    this.rows[side].forEach((row, at) => {
      const level = shown[at];
      row.price = level?.price ?? null;
      row.button.hidden = !level;
      if (!level) row.button.tabIndex = -1;
      const price = level ? this.units.show("price", level.price) : "";
      write(row.button, price);
      const own = Boolean(level && mine.has(level.price));
      row.node.classList.toggle("mine", own);
      if (level) row.button.setAttribute("aria-label", `${price}, ${name}${own ? ", you too" : ""}: take this price`);
      write(row.size, level ? this.units.show("size", level.size) : "");
      write(row.total, level ? this.units.show("size", level.total) : "");
      row.node.style.setProperty("--depth", level ? Number((level.total * 1000n) / most) / 1000 : 0);
    });
  }

  #buttons() {
    return [...find("levels").querySelectorAll("button:not([hidden])")];
  }

  #move(event) {
    const buttons = this.#buttons();
    const at = buttons.indexOf(document.activeElement);
    const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (at < 0 || !buttons[to]) return;
    event.preventDefault();
    buttons[at].tabIndex = -1;
    buttons[to].tabIndex = 0;
    buttons[to].focus();
  }

  #curve(asks, bids) {
    // Both sides have the same scale, from the best price outwards. A few orders far away do not set it.
    const far = Math.max(reach(asks), reach(bids), 1);
    const near = (levels) => levels.filter(({ price }) => distance(levels[0].price, price) <= far);
    const [sells, buys] = [near(asks), near(bids)];
    const most = [sells.at(-1)?.total ?? 0n, buys.at(-1)?.total ?? 0n].reduce((one, other) => (one > other ? one : other));
    const path = (levels, sign) => {
      if (!levels.length) return "";
      const height = ({ total }) => 58 - Number((total * 5400n) / most) / 100;
      const x = ({ price }) => (100 + sign * (1 + (97 * distance(levels[0].price, price)) / far)).toFixed(1);
      const steps = levels.map((level) => `H${x(level)}V${height(level)}`);
      return `M${x(levels[0])},60${steps.join("")}H${sign > 0 ? 200 : 0}V60Z`;
    };
    find("depth-buy").setAttribute("d", path(buys, -1));
    find("depth-sell").setAttribute("d", path(sells, 1));
    const told = (levels) => (levels.length ? this.units.named("size", levels.at(-1).total) : "nothing");
    find("depth").setAttribute("aria-label", `Depth: ${told(bids)} to buy, ${told(asks)} to sell`);
  }
}

const distance = (one, other) => Number(one > other ? one - other : other - one);
/** How far away most levels are. */
const reach = (levels) => {
  const most = levels[Math.floor((levels.length - 1) * 0.75)];
  return most ? 1.25 * distance(levels[0].price, most.price) : 0;
};
