// Trades on the page as two people would, in Chromium: one with a mouse, one with a keyboard alone.
//
//     node browser.mjs URL RPC FOLDER
//
// URL is the server's, RPC that of its chain (an anvil), and FOLDER is where screenshots go. When it writes "server: stop" and
// "server: start", whoever runs it does so, and then writes a line.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [url, rpc, folder] = process.argv.slice(2);
const tools = createRequire(new URL("../../../../target/tools/tools.js", import.meta.url));
const { default: puppeteer } = await import(pathToFileURL(tools.resolve("puppeteer-core")));
const axe = readFileSync(tools.resolve("axe-core/axe.min.js"), "utf8");

/** Longer than anything here takes: only what never happens takes so long. */
const PATIENCE = 150_000;
const DESKTOP = { width: 1280, height: 900 };
const PHONE = { width: 390, height: 844, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  // Containers have neither user namespaces nor much shared memory.
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--lang=en-US"],
});
const began = Date.now();
const done = (what) => console.log(`${((Date.now() - began) / 1000).toFixed(1).padStart(5)} s  ${what}`);

const chain = async (method, params) => {
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
  const reply = await fetch(rpc, { method: "POST", headers: { "content-type": "application/json" }, body });
  const { result, error } = await reply.json();
  if (error) throw new Error(`${method}: ${error.message}`);
  return result;
};
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const server = async (what) => {
  console.log(`server: ${what}`);
  await lines.next();
};
/** While the server is stopped, browsers write into the console that they cannot connect. */
let stopped = false;
const word = (value) => BigInt(value).toString(16).padStart(64, "0");

/** A person with a browser of their own, and all that must not happen in it. */
async function person(name, prepare = async () => {}) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(`${error.stack ?? error}`));
  // The browser itself writes refused requests there, which are meant.
  page.on("console", (line) => {
    const meant = /status of 4\d\d/.test(line.text()) || (stopped && /WebSocket|ERR_/.test(line.text()));
    if (line.type() === "error" && !meant) wrong.push(line.text());
  });
  page.on("request", (request) => {
    if (new URL(request.url()).host !== new URL(url).host) wrong.push(`asks ${request.url()}`);
  });
  await page.evaluateOnNewDocument(() => {
    // Lists whose latest entry comes first move down, of course.
    globalThis.shifted = [];
    const list = (node) => node?.closest?.("#trades, #orders, #transfers");
    new PerformanceObserver((seen) => {
      for (const { sources, value, hadRecentInput } of seen.getEntries()) {
        const moved = sources.map(({ node }) => (node?.nodeType === 3 ? node.parentElement : node));
        if (hadRecentInput || moved.every(list) || value < 0.0005) continue;
        globalThis.shifted.push(`${value.toFixed(4)} ${moved.map((node) => node?.outerHTML.slice(0, 80)).join(" ")}`);
      }
    }).observe({ type: "layout-shift", buffered: true });
  });
  await page.setViewport(DESKTOP);
  await prepare(page);
  await page.goto(url);
  await page.waitForSelector('#link[data-state="live"]');
  const text = (selector) => page.$eval(selector, (node) => node.textContent);
  /** Waits until the text of something is so. */
  const until = async (selector, pattern) => {
    const find = (selector, source) => new RegExp(source).test(document.querySelector(selector)?.textContent ?? "");
    await page.waitForFunction(find, { polling: "mutation" }, selector, pattern.source).catch(async (error) => {
      const there = await text(selector).catch(() => "nothing");
      throw new Error(`${name}: ${selector} never was ${pattern}, it is ${JSON.stringify(there)}`, { cause: error });
    });
  };
  /** The number of the order of which the form tells. */
  const order = async () => Number(/Order (\d+)/.exec(await text("#outcome"))[1]);
  const at = (number, column) => `[data-order="${number}"] td.${column}`;
  const press = async (key, times = 1) => {
    for (; times > 0; times--) await page.keyboard.press(key);
  };
  /** Goes on with the Tab key until this has the focus. */
  const tabTo = async (selector, back = false) => {
    if (back) await page.keyboard.down("Shift");
    let there = false;
    for (let stops = 0; stops < 60 && !there; stops++) {
      await page.keyboard.press("Tab");
      there = await page.evaluate((selector) => document.activeElement.matches(selector), selector);
    }
    if (back) await page.keyboard.up("Shift");
    assert(there, `${name}: the Tab key never comes to ${selector}`);
  };
  const focused = () => page.evaluate(() => document.activeElement.id);
  return { name, page, wrong, text, until, order, at, press, tabTo, focused };
}

async function funded(who) {
  await who.until("#base-free", /^1,000$/);
  await who.until("#quote-free", /^1,000,000$/);
}

/** An order by clicks; it says what came of it. */
async function click(who, side, price, size) {
  const { page } = who;
  await page.click(`.sides .${side}`);
  for (const [field, text] of [["#price", price], ["#size", size]]) {
    await page.click(field, { count: 3 });
    await page.type(field, text);
  }
  await page.click("#send");
  await who.until("#outcome", /Answered in|Not carried out|First/);
  return who.text("#outcome");
}

try {
  let account;
  const seller = await person("seller", async (page) => {
    // A wallet, as browsers have them: an account of the chain.
    account = (await chain("eth_accounts", []))[6];
    await page.exposeFunction("askWallet", ({ method, params = [] }) =>
      method === "eth_requestAccounts" ? [account] : chain(method, params),
    );
    await page.evaluateOnNewDocument(() => (globalThis.ethereum = { request: (asked) => globalThis.askWallet(asked) }));
  });
  const buyer = await person("buyer");
  done("both see the page");

  // Nobody trades without a key or funds, and both are made on the page.
  assert.match(await click(seller, "sell", "100", "5"), /First make a key/);
  const tab = await seller.page.browserContext().newPage();
  await tab.goto(url);
  await tab.waitForSelector('#link[data-state="live"]');
  await seller.page.bringToFront();
  await seller.page.click("#make-key");
  await seller.until("#quote-free", /^0$/);
  assert.match(await click(seller, "sell", "100", "5"), /First get some funds/);
  await seller.page.click("#faucet");

  // Another tab of the same browser takes the key that is there by now; and one that is replaced is kept.
  await tab.bringToFront();
  await tab.click("#make-key");
  const address = () => tab.$eval("#address", (node) => node.textContent);
  const whose = await seller.text("#address");
  assert.equal(await address(), whose);
  const kept = (name) => tab.evaluate((name) => localStorage.getItem(name), name);
  const key = await kept("clob.key");
  const use = async (key) => {
    await tab.$eval("#key", (details) => (details.open = true));
    await tab.type("#other-key", key);
    await tab.click("#use-key button");
  };
  await use(`0x${"11".repeat(32)}`);
  assert.notEqual(await address(), whose);
  assert.deepEqual([await kept("clob.key"), await kept(`clob.key.${whose}`)], [`0x${"11".repeat(32)}`, key]);
  await use(key);
  assert.deepEqual([await kept("clob.key"), await address()], [key, whose]);
  await tab.close();

  // The keyboard alone: over the skip link to the form, and on to the key.
  await buyer.page.bringToFront();
  await buyer.tabTo(".skip");
  await buyer.press("Enter");
  assert.equal(await buyer.focused(), "price");
  await buyer.tabTo("#make-key");
  await buyer.press("Enter");
  assert.equal(await buyer.focused(), "faucet");
  await buyer.press("Enter");
  await funded(buyer);
  await seller.page.bringToFront();
  await funded(seller);
  done("both have funds");

  // By clicks: a few levels, and the order that will trade.
  for (const [side, price, size] of [
    ["sell", "101.5", "12"], ["sell", "102", "3.25"], ["sell", "103.75", "20"], ["sell", "105", "8"],
    ["buy", "98.5", "4"], ["buy", "97", "15"], ["buy", "96.25", "6.5"], ["buy", "95", "22"],
  ]) {
    assert.match(await click(seller, side, price, size), /waits in the book/);
  }
  assert.match(await click(seller, "sell", "100", "5"), /^Order \d+: 5 COIN waits in the book\. Answered in \d+ ms$/);
  const sold = await seller.order();
  await seller.until(seller.at(sold, "state"), /^open$/);
  await seller.until("#asks tr:last-child button", /^100\.00$/);
  await seller.until("#asks tr:last-child td:nth-child(2)", /^5$/);
  done("an order by clicks is in the book");

  // By the keyboard: from level to level, take a price, write a size.
  await buyer.page.bringToFront();
  await buyer.until("#asks tr:last-child button", /^100\.00$/);
  await buyer.tabTo("#levels button", true);
  await buyer.press("Home");
  const levels = await buyer.page.$$eval("#levels button:not([hidden])", (all) => all.map((one) => one.textContent));
  assert.deepEqual(levels, ["105.00", "103.75", "102.00", "101.50", "100.00", "98.50", "97.00", "96.25", "95.00"]);
  await buyer.press("ArrowDown", levels.indexOf("100.00") + 1);
  await buyer.press("ArrowUp");
  await buyer.press("Enter");
  assert.equal(await buyer.focused(), "size");
  await buyer.page.keyboard.type("2");
  assert.equal(await buyer.text("#total"), "200 USD");
  await buyer.press("Enter");
  await buyer.until("#outcome", /: bought 2 COIN for 200 USD\. Answered in \d+ ms$/);
  const bought = await buyer.order();
  await buyer.until("#last", /^100\.00/);
  await buyer.until("#trades tr:first-child td:nth-child(3)", /^2$/);
  await buyer.until("#base-free", /^1,002$/);
  await buyer.until("#quote-free", /^999,800$/);
  await buyer.until(buyer.at(bought, "state"), /^filled$/);
  done("an order by the keyboard has traded");

  // An order by steps of the price, which is cancelled; focus is not lost.
  await buyer.tabTo("#price", true);
  await buyer.press("ArrowDown", 3);
  await buyer.press("Enter");
  await buyer.until("#outcome", /: 2 COIN waits in the book/);
  const waits = await buyer.order();
  await buyer.until(buyer.at(waits, "price"), /^99\.97$/);
  await buyer.tabTo(`[data-order="${waits}"] button`);
  await buyer.press("Enter");
  await buyer.until("#outcome", /is cancelled: 2 COIN/);
  await buyer.until(buyer.at(waits, "state"), /^cancelled$/);
  assert.equal(await buyer.focused(), "orders-title");

  // What is wrong is said at the field, or by the server; and then the page goes on.
  await seller.page.bringToFront();
  await seller.page.click("#size", { count: 3 });
  await seller.page.type("#size", "1.23456");
  await seller.press("Enter");
  assert.match(await seller.text("#size-error"), /At most 4 digits/);
  assert.equal(await seller.focused(), "size");
  assert.match(await click(seller, "sell", "100", "1000000"), /^Not carried out: .*free/);
  assert.match(await click(seller, "sell", "110", "1"), /waits in the book/);
  await seller.until(seller.at(sold, "state"), /^part filled$/);
  await seller.until(seller.at(sold, "filled"), /^2$/);

  // In from a wallet, and out to the key's own address.
  const { quote } = await (await fetch(new URL("/api/market", url))).json();
  await chain("eth_sendTransaction", [{ from: account, to: quote.token, data: `0x40c10f19${word(account)}${word(10n ** 9n)}` }]);
  const free = Number((await seller.text("#quote-free")).replaceAll(",", ""));
  const shown = (number) => new RegExp(`^${number.toLocaleString("en-US")}$`);
  await seller.page.click("#deposit summary");
  await seller.page.type("#deposit-amount", "250");
  await seller.page.click("#deposit-form button");
  await seller.until("#transfers li:first-child", /Deposit of 250 USD/);
  await seller.until("#account-outcome", /Deposited 250 USD/);
  await seller.until("#quote-free", shown(free + 250));
  await seller.page.click("#withdraw summary");
  await seller.page.type("#withdraw-amount", "100.5");
  await seller.page.click("#withdraw-form button");
  await seller.until("#transfers li:first-child", /Withdrawal of 100\.5 USD/);
  await seller.until("#quote-free", shown(free + 149.5));
  done("a deposit and a withdrawal are answered");

  await seller.until("#transfers li:first-child", /final$/);
  await seller.until(seller.at(sold, "stage"), /^final$/);
  const user = await seller.text("#address");
  const paid = await chain("eth_call", [{ to: quote.token, data: `0x70a08231${word(user)}` }, "latest"]);
  assert.equal(BigInt(paid), 100_500_000n);
  await buyer.page.bringToFront();
  await buyer.until(buyer.at(bought, "stage"), /^final$/);
  await buyer.until("#news", /^Order \d+ is final$/);
  done("all of it is final, and paid");

  // What was is kept.
  for (const { name, page } of [seller, buyer]) assert.deepEqual(await page.evaluate(() => shifted), [], `${name}: it moves`);
  await buyer.page.reload();
  await buyer.until(buyer.at(bought, "state"), /^filled$/);
  await buyer.until(buyer.at(bought, "stage"), /^final$/);
  await buyer.until(buyer.at(waits, "state"), /^cancelled$/);
  await buyer.until("#base-free", /^1,002$/);

  // The server goes away, and comes back: the page says so, and goes on with what the server has then.
  stopped = true;
  await server("stop");
  await buyer.until("#link", /^away since \d/);
  await server("start");
  await buyer.until("#link", /^live again after \d+ s$/);
  await seller.page.bringToFront();
  await seller.until("#link", /^live/);
  stopped = false;
  assert.match(await click(seller, "sell", "120", "1"), /waits in the book/);
  await buyer.page.bringToFront();
  await buyer.until("#asks", /120\.00/);
  await buyer.until(buyer.at(bought, "stage"), /^final$/);
  done("the server was away, and all goes on");

  // In the light, in the dark, and on a phone.
  const { page } = seller;
  await page.bringToFront();
  for (const [name, scheme, viewport] of [
    ["light", "light", DESKTOP], ["dark", "dark", DESKTOP],
    ["narrow", "light", PHONE], ["narrow-dark", "dark", PHONE], ["middle", "light", { width: 860, height: 900 }],
  ]) {
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    // To a phone and back, it loads the page anew.
    await page.setViewport(viewport);
    await seller.until(seller.at(sold, "stage"), /^final$/);
    await page.evaluate(axe);
    const { wide, faults } = await page.evaluate(async () => {
      const { violations } = await globalThis.axe.run();
      const faults = violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.failureSummary} ${node.html}`));
      return { wide: document.documentElement.scrollWidth - innerWidth, faults };
    });
    await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
    assert(wide <= 0, `${name}: the page is ${wide} px too wide`);
    assert.deepEqual(faults, [], name);
  }
  for (const { name, wrong } of [seller, buyer]) assert.deepEqual(wrong, [], name);
  done("it is well in light, dark and narrow");
} finally {
  process.stdin.destroy();
  await browser.close();
}
