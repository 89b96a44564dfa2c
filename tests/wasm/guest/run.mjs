// Runs the guest in Node.js: `node run.mjs guest.wasm values KEY CONSUMER PROGRAM`, or, with the codec,
// `node run.mjs guest.wasm wire KEY CONSUMER PROGRAM GATEWAY OPERATOR`, which has a node compute a square root.
import { readFileSync } from "node:fs";

const [file, what, key, consumer, program, gateway, operator] = process.argv.slice(2);

const host = {
  random: (at, len) => crypto.getRandomValues(new Uint8Array(memory().buffer, at, len)),
};
const { instance } = await WebAssembly.instantiate(readFileSync(file), { host });
const memory = () => instance.exports.memory;

function call(...args) {
  const text = new TextEncoder().encode(JSON.stringify(args));
  const at = instance.exports.reserve(text.length);
  new Uint8Array(memory().buffer, at, text.length).set(text);
  const answer = BigInt.asUintN(64, instance.exports.answer(at, text.length));
  const bytes = new Uint8Array(memory().buffer, Number(answer >> 32n), Number(answer & 0xffffffffn));
  const { ok, error } = JSON.parse(new TextDecoder().decode(bytes));
  if (error) throw new Error(error);
  return ok;
}

async function post(method, body) {
  const headers = { "content-type": "application/json" };
  const reply = await fetch(`${gateway}/v1/coprocessor_node/${method}`, { method: "POST", headers, body });
  const text = await reply.text();
  if (!reply.ok) throw new Error(`${method}: ${reply.status} ${text}`);
  return text;
}

const job = call("sign", key, consumer, program, 1, 144);
if (what === "values") {
  let refused;
  try { call("sign", "no key", consumer, program, 1, 144); } catch (error) { refused = error.message; }
  console.log(JSON.stringify({ job, accounts: [call("new_account"), call("new_account")], refused }));
} else {
  const [submit, look] = call("requests", job);
  await post("submit_job", submit);
  let answer, root = null;
  while (root === null) root = call("result", job, operator, (answer = await post("get_result", look)));
  let refused;
  try { call("result", job, consumer, answer); } catch (error) { refused = error.message; }
  console.log(JSON.stringify({ root, refused }));
}
