// The page's parts that need no browser: numbers, the market, one's own account, and how the server is asked and heard.

import assert from "node:assert/strict";
import { mock } from "node:test";
import { ask, Lost, Refused } from "../api.js";
import { Feed } from "../feed.js";
import { Market } from "../market.js";
import { Own, state } from "../own.js";
import { Units } from "../units.js";
import { approveCall, depositCall } from "../wallet.js";

const token = (symbol, decimals) => ({ symbol, decimals });

const tests = {
  "numbers are exact in both directions"() {
    const units = new Units({ base: token("COIN", 4), quote: token("USD", 6) });
    for (const [kind, text, number] of [
      ["price", "100.05", 10005n],
      ["price", "0.01", 1n],
      ["price", "184,467,440,737,095,516.15", 2n ** 64n - 1n],
      ["size", "12.0001", 120001n],
      ["size", "7", 70000n],
      ["quote", "1,000,000.000001", 1000000000001n],
      ["quote", "340,282,366,920,938,463,463,374,607,431,768.211455", 2n ** 128n - 1n],
    ]) {
      assert.equal(units.read(kind, text), number);
      assert.equal(units.show(kind, number), text);
    }
    assert.equal(units.read("price", " 1.500 "), 150n);
    assert.equal(units.read("size", ".5"), 5000n);
    assert.equal(units.show("price", 150n), "1.50");
    assert.equal(units.named("quote", units.cost(10005n, 70000n)), "700.35 USD");
    for (const [text, why] of [
      ["", /Write a number/], [".", /Write a number/], ["1e3", /Write a number/], ["-1", /Write a number/],
      ["0.001", /At most 2 digits/], ["0", /More than 0/], ["184467440737095516.16", /too large/],
    ]) {
      assert.throws(() => units.read("price", text), why, text);
    }
    // A base token with more digits than the quote token: only some prices can be asked for.
    const coarse = new Units({ base: token("WEI", 18), quote: token("USD", 6) });
    assert.equal(coarse.read("price", "3000000000000"), 3n);
    assert.equal(coarse.show("price", 3n), "3,000,000,000,000");
    assert.throws(() => coarse.read("price", "3000000000001"), /multiples of 1000000000000/);
    assert.throws(() => coarse.read("price", "0.5"), /No digits/);
  },

  "the market follows the feed, and notices what it missed"() {
    const market = new Market();
    market.take({ type: "book", seq: 7, bids: [["99", "5"], ["98", "1"]], asks: [["101", "2"]] });
    market.take({ type: "trades", trades: [{ place: 6, price: "100", size: "1", side: "buy" }] });
    market.take({ type: "stages", answered: 9, executed: 8, settled: 6, final: 0 });
    const trades = [{ place: 9, price: "101", size: "2" }, { place: 9, price: "102", size: "1" }];
    const levels = [["sell", "101", "0"], ["sell", "103", "4"], ["buy", "99", "6"], ["buy", "100", "2"]];
    assert.equal(market.take({ type: "update", seq: 9, prev: 7, levels, trades }), true);
    const plain = (side) => market.depth(side).map(({ price, size, total }) => [price, size, total].join());
    assert.deepEqual(plain("buy"), ["100,2,2", "99,6,8", "98,1,9"]);
    assert.deepEqual(plain("sell"), ["103,4,4"]);
    assert.deepEqual(market.trades.map(({ price }) => price), ["102", "101", "100"], "the latest is first");
    assert.deepEqual([6, 7, 9, 10].map((place) => market.stage(place)), ["settled", "executed", "answered", ""]);
    assert.equal(market.take({ type: "update", seq: 11, prev: 10, levels: [], trades: [] }), false);
  },

  "an account has its orders and transfers, whatever comes first"() {
    let kept;
    const store = { get: () => kept, set: (text) => (kept = text) };
    const funds = (free, locked = 0) => ({ free: String(free), locked: String(locked) });
    const own = new Own(store);
    const tell = (seq, nonce, base, quote, orders = [], fills = []) =>
      own.take({ type: "own", seq, time: seq, nonce, base, quote, orders, fills });
    own.take({ type: "account", seq: 0, nonce: 0, base: funds(0), quote: funds(0), orders: [] });
    tell(1, 0, funds(10), funds(0));
    tell(2, 0, funds(10), funds(500));
    // The reply first, and then the feed.
    own.placed({ place: 4, time: 4, resting: "3", fills: [] }, "sell", 50n, 3n);
    tell(4, 1, funds(7, 3), funds(500), [{ order: 4, side: "sell", price: "50", size: "3" }]);
    // The feed first: an order of 5 that traded 2, of which the rest was given up.
    const bought = [{ order: 6, side: "buy", price: "40", size: "2", maker: false }];
    tell(6, 2, funds(9, 3), funds(420), [{ order: 6, side: "buy", price: "40", size: "0" }], bought);
    own.placed({ place: 6, time: 6, resting: "0", fills: [{ order: 5, price: "40", size: "2" }] }, "buy", 40n, 5n);
    // Somebody takes one of the three that wait, and again what was heard before.
    const sold = [{ order: 4, side: "sell", price: "50", size: "1", maker: true }];
    for (let twice = 0; twice < 2; twice++) {
      tell(9, 2, funds(9, 2), funds(470), [{ order: 4, side: "sell", price: "50", size: "2" }], sold);
    }
    const seen = () => own.listed().map((order) => [order.order, state(order), order.filled, order.size, order.place]);
    assert.deepEqual(seen(), [[4, "part filled", 1n, 3n, 9], [6, "rest cancelled", 2n, 5n, 6]]);
    tell(10, 3, funds(9, 2), funds(400));
    const transfers = [[10, "quote", -70n], [2, "quote", 500n], [1, "base", 10n]];
    assert.deepEqual(own.transfers.map(({ place, token, amount }) => [place, token, amount]), transfers);
    tell(11, 4, funds(11), funds(400), [{ order: 4, side: "sell", price: "50", size: "0" }]);
    assert.deepEqual(seen(), [[6, "rest cancelled", 2n, 5n, 6], [4, "rest cancelled", 1n, 3n, 11]]);

    // Loaded again, with an order that ended meanwhile, and one of another browser.
    own.placed({ place: 12, time: 12, resting: "1", fills: [] }, "sell", 60n, 1n);
    const later = new Own(store);
    const open = [{ order: 13, side: "sell", price: "70", size: "2" }];
    later.take({ type: "account", seq: 15, nonce: 6, base: funds(8, 2), quote: funds(400), orders: open });
    const states = later.listed().map((order) => [order.order, state(order)]);
    assert.deepEqual(states, [[13, "open"], [12, "over"], [6, "rest cancelled"], [4, "rest cancelled"]]);
    assert.equal(later.transfers.length, 3);

    // A reply that overtook a snapshot.
    later.placed({ place: 17, time: 17, resting: "1", fills: [] }, "buy", 30n, 1n);
    later.take({ type: "account", seq: 16, nonce: 6, base: funds(8, 2), quote: funds(400), orders: open });
    assert.deepEqual(later.listed().map((order) => state(order)).slice(0, 3), ["open", "open", "over"]);

    // Told by the feed alone, as to another tab: all of an order was given up, and the rest of another.
    const rest = [{ order: 18, side: "buy", price: "40", size: "0", cancelled: "3" }];
    later.take({ type: "own", seq: 18, time: 18, nonce: 7, base: funds(8, 2), quote: funds(400), orders: rest, fills: [] });
    const part = [{ order: 19, side: "buy", price: "40", size: "0", cancelled: "4" }];
    const fills = [{ order: 19, side: "buy", price: "40", size: "1", maker: false }];
    later.take({ type: "own", seq: 19, time: 19, nonce: 8, base: funds(9, 2), quote: funds(360), orders: part, fills });
    const told = [18, 19].map((number) => later.orders.get(number));
    assert.deepEqual(told.map((order) => [state(order), order.filled, order.size]), [["cancelled", 0n, 3n], ["rest cancelled", 1n, 5n]]);

    // Another chain at the same address.
    const other = new Own(store);
    other.take({ type: "account", seq: 15, nonce: 0, base: funds(0), quote: funds(0), orders: [] });
    assert.deepEqual([other.listed(), other.transfers], [[], []]);
  },

  async "what may have been carried out is not told as refused"() {
    const said = (status, body) => ({ ok: status === 200, status, text: async () => body });
    const error = (status, code) => said(status, JSON.stringify({ error: { code, message: code } }));
    // Time that passes with the pauses alone.
    let clock = 0;
    mock.method(Date, "now", () => clock);
    mock.method(globalThis, "setTimeout", (wake, pause) => {
      clock += pause;
      queueMicrotask(wake);
    });
    const [gone, busy, off] = [null, error(429, "rate"), error(503, "unavailable")];
    for (const [what, replies, expected] of [
      ["a reply was lost, and then the server stood by", [gone, off], Lost],
      ["a reply was lost, and then it was too often", [gone, busy], Lost],
      ["the server does not know itself", [error(503, "undecided"), off], Lost],
      ["a proxy has lost it", [said(502, "<html>"), off], Lost],
      ["no reply at all", [gone, gone], Lost],
      ["never admitted", [off, off], Refused],
      ["a reply was lost, and the next one is the answer", [gone, error(422, "funds")], Refused],
      ["it was carried out", [gone, said(200, '{"place":7}')], undefined],
    ]) {
      const asked = [];
      globalThis.fetch = async (path, { headers }) => {
        const reply = replies[asked.push(headers["idempotency-key"]) - 1];
        if (!reply) throw new TypeError("Failed to fetch");
        return reply;
      };
      // Room for one more attempt after the first pause, and not after the second.
      const done = ask("/api/orders", {}, { key: "k", deadline: clock + 350 });
      const seen = await done.catch((error) => error);
      assert.equal(seen instanceof Error ? seen.constructor : undefined, expected, what);
      assert.deepEqual(asked, ["k", "k"], what);
    }
    globalThis.fetch = async () => said(503, "<html>");
    assert.equal((await ask("/api/faucet", {}).catch((error) => error)).constructor, Lost, "once, without a key");
    mock.restoreAll();
  },

  "a feed that is silent is connected anew"() {
    mock.timers.enable({ apis: ["setTimeout"] });
    const sockets = [];
    globalThis.location = { href: "http://127.0.0.1/" };
    globalThis.WebSocket = class {
      constructor(url) {
        Object.assign(this, { url: String(url), open: true });
        sockets.push(this);
      }
      close() {
        this.open = false;
      }
    };
    const [told, taken] = [[], []];
    const feed = new Feed((message) => Boolean(taken.push(message.type)), (link) => told.push(link));
    feed.follow("0x7");
    const say = (type) => sockets.at(-1).onmessage({ data: JSON.stringify({ type }) });
    say("book");
    for (let beats = 0; beats < 10; beats++) {
      mock.timers.tick(10_000);
      say("stages");
    }
    assert.deepEqual([sockets.length, told, taken.length], [1, ["live"], 11]);
    mock.timers.tick(24_999);
    assert.equal(sockets.length, 1);
    mock.timers.tick(1);
    assert.deepEqual(sockets.map(({ open }) => open), [false, true]);
    assert.deepEqual(told, ["live", "waiting"]);
    say("book");
    assert.deepEqual([told.at(-1), sockets[1].url], ["live", "ws://127.0.0.1/api/feed?user=0x7"]);
    // One that is closed waits for its turn alone.
    sockets[1].onclose();
    mock.timers.tick(1_000);
    assert.equal(sockets.length, 3);
    mock.timers.reset();
  },

  "a wallet is asked for the right calls"() {
    const [spender, user] = ["0x" + "Ab".repeat(20), "0x" + "cd".repeat(20)];
    const pad = (text) => text.padStart(64, "0");
    assert.equal(approveCall(spender, 258n), `0x095ea7b3${pad("ab".repeat(20))}${pad("102")}`);
    assert.equal(depositCall(user, true, 1n), `0x6dd8045a${pad("cd".repeat(20))}${pad("1")}${pad("1")}`);
    assert.equal(depositCall(user, false, 10n), `0x6dd8045a${pad("cd".repeat(20))}${pad("0")}${pad("a")}`);
  },
};

for (const [name, test] of Object.entries(tests)) {
  await test();
  console.log(`ok: ${name}`);
}
