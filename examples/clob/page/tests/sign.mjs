// Signs requests as the page does: `[{ key, domain, type, message }]` on stdin, `[{ user, signature }]` on stdout. Numbers
// in messages are texts of digits.

import { readFileSync } from "node:fs";
import { Account } from "../sign.js";

const number = (value) => (/^\d+$/.test(value) ? BigInt(value) : value);
const signed = JSON.parse(readFileSync(0, "utf8")).map(({ key, domain, type, message }) => {
  const account = new Account(key);
  const whole = Object.fromEntries(Object.entries(message).map(([name, value]) => [name, number(value)]));
  return { user: account.user, signature: account.sign(domain, type, whole) };
});
console.log(JSON.stringify(signed));
