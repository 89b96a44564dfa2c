// Puts the page together: the feed fills the market and the account, the views show them, the trader sends.

import { Lost, read } from "./api.js";
import { Feed } from "./feed.js";
import { Market } from "./market.js";
import { Own } from "./own.js";
import { Account } from "./sign.js";
import { Trader } from "./trader.js";
import { Units } from "./units.js";
import { AccountView } from "./views/account.js";
import { BookView } from "./views/book.js";
import { busy, find, tell, time, write } from "./views/dom.js";
import { OrdersView } from "./views/orders.js";
import { Ticket } from "./views/ticket.js";
import { TradesView } from "./views/trades.js";

const KEY = "clob.key";
/** How long the page says that the server was away, in milliseconds. */
const TOLD = 10_000;

async function start() {
  const info = await market();
  const units = new Units(info);
  const state = new Market();
  let [own, trader] = [null, null];

  for (const node of document.querySelectorAll("[data-symbol]")) node.textContent = units[node.dataset.symbol].symbol;
  for (const node of document.querySelectorAll("[data-contract]")) node.textContent = info.contract;
  document.title = `${info.base.symbol}/${info.quote.symbol} · Order book`;
  write(find("pair"), `${info.base.symbol}/${info.quote.symbol}`);
  write(find("chain"), String(info.chain_id));

  const book = new BookView(units, (side, price) => ticket.fill(side, price));
  const trades = new TradesView(units);
  const orders = new OrdersView(units, cancel, (order) => write(find("news"), `Order ${order.order} is final`));
  const ticket = new Ticket(units, place, () => {
    if (!trader) return "First make a key, under Your account";
    return own.known && own.base.free + own.base.locked + own.quote.free + own.quote.locked === 0n && own.nonce === 0
      ? "First get some funds, under Your account"
      : "";
  });
  const account = new AccountView(units, info, {
    // Another tab may have made one meanwhile: it is the only copy, and there may be funds.
    makeKey: () => use(stored() ?? Account.random()),
    useKey: (text) => use(new Account(text)),
    trader: () => trader,
    faucet: async () => {
      const { base, quote } = await trader.faucet();
      const [coins, money] = [units.named("base", base), units.named("quote", quote)];
      return [`${coins} and ${money} are deposited for you: they count in a few blocks`, "good"];
    },
    withdraw: async (token, amount) => {
      await trader.withdraw(token, amount);
      return [`${units.named(token, amount)}: the contract pays it to your address once this is settled`, "good"];
    },
  });

  /** Whether the server was ever there, and since when it is away. */
  let [seen, away, calm] = [false, 0, 0];
  const feed = new Feed(
    (message) => {
      own?.take(message);
      const fits = state.take(message);
      draw();
      return fits;
    },
    (link) => {
      find("link").dataset.state = link;
      clearTimeout(calm);
      if (link === "live") {
        const gone = away && Math.ceil((Date.now() - away) / 1000);
        [seen, away] = [true, 0];
        write(find("link"), gone ? `live again after ${gone} s` : "live");
        calm = setTimeout(() => write(find("link"), "live"), TOLD);
      } else {
        if (seen) away ||= Date.now();
        write(find("link"), away ? `away since ${time(away)}` : "connecting");
      }
    },
  );

  let drawn = 0;
  /** At most once a frame, however many messages came. */
  function draw() {
    drawn ||= requestAnimationFrame(() => {
      drawn = 0;
      book.render(state, own);
      trades.render(state);
      orders.render(own, state);
      account.render(own);
      ticket.render(own);
    });
  }

  function use(next) {
    const before = stored();
    // Nobody else has it. It comes back by "Use this key instead".
    if (before && before.user !== next.user) localStorage.setItem(`${KEY}.${before.user}`, before.reveal());
    localStorage.setItem(KEY, next.reveal());
    trader = new Trader(next, info.domain, info.ahead);
    const name = `clob.${info.chain_id}.${info.contract}.${next.user}`;
    own = new Own({ get: () => localStorage.getItem(name), set: (text) => localStorage.setItem(name, text) });
    orders.forget();
    account.show(next.user);
    feed.follow(next.user);
    draw();
  }

  async function place(side, price, size) {
    const [at, mine] = [trader, own];
    try {
      const answer = await at.limit(side, price, size);
      mine.placed(answer, side, price, size);
      draw();
      return [outcome(units, answer, side, size), "good"];
    } catch (error) {
      return [why(error), "bad"];
    }
  }

  function cancel(order, button) {
    return busy(button, async () => {
      try {
        const { size } = await trader.cancel(order);
        tell(find("outcome"), `Order ${order} is cancelled: ${units.named("size", size)} of it had not traded`, "good");
      } catch (error) {
        tell(find("outcome"), why(error), "bad");
      }
    });
  }

  const mine = stored();
  if (mine) use(mine);
  else feed.follow();
}

/** The account of the key that is kept in this browser, or null. */
function stored() {
  const key = localStorage.getItem(KEY);
  return key ? new Account(key) : null;
}

/** What the server trades, and how far its clock is ahead. Waits for the server, if it is not there. */
async function market() {
  for (;;) {
    const asked = Date.now();
    try {
      const info = await read("/api/market");
      return { ...info, ahead: Math.round(info.time - (asked + Date.now()) / 2) };
    } catch (error) {
      write(find("link"), `waiting for the server: ${error.message}`);
      await new Promise((next) => setTimeout(next, 1000));
    }
  }
}

function outcome(units, { place, fills, resting, cancelled, took }, side, size) {
  const parts = [];
  const filled = size - BigInt(resting) - BigInt(cancelled);
  if (filled > 0n) {
    const paid = fills.reduce((sum, fill) => sum + BigInt(fill.price) * BigInt(fill.size), 0n);
    parts.push(`${side === "buy" ? "bought" : "sold"} ${units.named("size", filled)} for ${units.named("quote", paid)}`);
  }
  if (resting !== "0") parts.push(`${units.named("size", resting)} waits in the book`);
  if (cancelled !== "0") parts.push(`${units.named("size", cancelled)} was given up`);
  return `Order ${place}: ${parts.join(", ")}. Answered in ${took.toFixed(0)} ms`;
}

function why(error) {
  if (error instanceof Lost) return error.message;
  return `Not carried out: ${error.message}`;
}

start();
