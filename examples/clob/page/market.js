// What everybody sees: the book, the trades and the stages, as the feed tells them.

const TRADES = 200;
const STAGES = ["answered", "executed", "settled", "final"];

export class Market {
  seq = 0;
  /** Price to size, both as the server writes them. */
  levels = { buy: new Map(), sell: new Map() };
  /** The latest first. */
  trades = [];
  stages = { answered: 0, executed: 0, settled: 0, final: 0 };

  /** Takes a message of the feed. False: something was missed. */
  take(message) {
    switch (message.type) {
      case "book":
        this.seq = message.seq;
        this.levels = { buy: new Map(message.bids), sell: new Map(message.asks) };
        break;
      case "trades":
        this.trades = message.trades;
        break;
      case "stages":
        for (const stage of STAGES) this.stages[stage] = message[stage];
        break;
      case "update":
        if (message.prev !== this.seq) return false;
        this.seq = message.seq;
        for (const [side, price, size] of message.levels) {
          if (size === "0") this.levels[side].delete(price);
          else this.levels[side].set(price, size);
        }
        // The trades of one order come in their order.
        this.trades = [...message.trades.toReversed(), ...this.trades].slice(0, TRADES);
        break;
    }
    return true;
  }

  /** The levels of a side, the best first: `[{ price, size, total }]`, in BigInt. */
  depth(side) {
    const levels = [...this.levels[side]].map(([price, size]) => ({ price: BigInt(price), size: BigInt(size) }));
    const sign = side === "buy" ? -1 : 1;
    levels.sort((one, other) => (one.price < other.price ? -sign : sign));
    let total = 0n;
    for (const level of levels) level.total = total += level.size;
    return levels;
  }

  /** How far a place is: the furthest stage that has come so far, or "" for none. */
  stage(place) {
    return STAGES.findLast((stage) => place <= this.stages[stage]) ?? "";
  }
}
