// Exact numbers: the server's are integers in the tokens' smallest units, a person's are in whole tokens.

const MOST = { price: 2n ** 64n - 1n, size: 2n ** 64n - 1n, amount: 2n ** 128n - 1n };

/** Why what somebody typed is no number that can be sent. */
export class Unreadable extends Error {}

/** How far the point is moved, for each kind of number. */
export class Units {
  constructor(market) {
    this.base = market.base;
    this.quote = market.quote;
    this.places = {
      size: market.base.decimals,
      base: market.base.decimals,
      quote: market.quote.decimals,
      // A price is quote units for one base unit.
      price: market.quote.decimals - market.base.decimals,
    };
  }

  /** In whole tokens, with commas. Prices keep all their digits, so that they stand below one another. */
  show(kind, units) {
    return shown(BigInt(units), this.places[kind], kind === "price");
  }

  /** With the token's name. */
  named(kind, units) {
    const token = kind === "price" || kind === "quote" ? this.quote : this.base;
    return `${this.show(kind, units)} ${token.symbol}`;
  }

  /** What somebody typed, in the smallest units. */
  read(kind, text) {
    const most = MOST[kind] ?? MOST.amount;
    return read(text, this.places[kind], most);
  }

  /** What a size costs at a price, in quote units. */
  cost(price, size) {
    return BigInt(price) * BigInt(size);
  }
}

function shown(units, places, keepsZeros) {
  if (places < 0) return grouped((units * 10n ** BigInt(-places)).toString());
  const digits = units.toString().padStart(places + 1, "0");
  const whole = grouped(digits.slice(0, digits.length - places));
  let part = digits.slice(digits.length - places);
  if (!keepsZeros) part = part.replace(/0+$/, "");
  return part ? `${whole}.${part}` : whole;
}

function grouped(digits) {
  return digits.replace(/\B(?=(\d{3})+$)/g, ",");
}

function read(text, places, most) {
  // As it is shown, so that it can be copied.
  const plain = text.trim().replaceAll(",", "");
  const parts = /^(\d*)(?:\.(\d*))?$/.exec(plain);
  if (!parts || !/\d/.test(plain)) throw new Unreadable("Write a number, such as 12.5");
  const [, whole, part = ""] = parts;
  const used = part.replace(/0+$/, "");
  if (used.length > Math.max(places, 0)) {
    throw new Unreadable(places > 0 ? `At most ${places} digits after the point` : "No digits after the point");
  }
  let units = BigInt(whole + used.padEnd(Math.max(places, 0), "0"));
  if (places < 0) {
    const step = 10n ** BigInt(-places);
    if (units % step) throw new Unreadable(`Only multiples of ${step}`);
    units /= step;
  }
  if (units === 0n) throw new Unreadable("More than 0");
  if (units > most) throw new Unreadable("This is too large");
  return units;
}
