// What was traded, the latest first.

import { find, make, Rows, time, write } from "./dom.js";

const SHOWN = 60;

export class TradesView {
  constructor(units) {
    this.units = units;
    this.rows = new Rows(find("trades"), ({ side, price, size, time: at }) =>
      make(
        "tr",
        { className: side },
        make("td", {}, side),
        make("td", {}, units.show("price", price)),
        make("td", {}, units.show("size", size)),
        make("td", {}, time(at)),
      ),
    );
  }

  render({ trades }) {
    // Several trades may have one place: they are counted from the first.
    let [place, count] = [0, 0];
    const keyed = trades.slice(0, SHOWN).map((trade) => {
      count = trade.place === place ? count + 1 : 0;
      place = trade.place;
      return { ...trade, back: count };
    });
    const sizes = new Map();
    for (const { place } of keyed) sizes.set(place, (sizes.get(place) ?? 0) + 1);
    this.rows.show(keyed, ({ place, back }) => `${place}/${sizes.get(place) - back}`, () => {});
    find("no-trades").hidden = trades.length > 0;
    const [last, before] = trades;
    const up = last && before ? BigInt(last.price) - BigInt(before.price) : 0n;
    const arrow = up > 0n ? " ▲" : up < 0n ? " ▼" : "";
    write(find("last"), last ? this.units.show("price", last.price) + arrow : "–");
    find("last").dataset.moved = up > 0n ? "up" : up < 0n ? "down" : "";
  }
}
