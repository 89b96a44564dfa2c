// The server over HTTP.

/** The server's reason why it did not do what it was asked for. */
export class Refused extends Error {
  constructor(status, { code, message, ...more }) {
    super(message);
    Object.assign(this, { status, code, ...more });
  }
}

/** A reply was lost, or the server does not know itself: nobody knows whether the request was carried out. */
export class Lost extends Error {
  constructor(message = "No reply came from the server, and it may have done this: look before you send it again") {
    super(message);
  }
}

const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

async function reply(path, options) {
  const response = await fetch(path, options);
  const text = await response.text();
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    // Whatever is between here and the server: the request may have come through.
    body = { error: { code: "undecided", message: `the server said ${response.status}` } };
  }
  if (!response.ok || body.error) throw new Refused(response.status, body.error ?? { code: "", message: text });
  return body;
}

/** Reads something. */
export function read(path) {
  return reply(path, { headers: { accept: "application/json" } });
}

/**
 * Asks for something until there is an answer, or until `deadline` (of `Date.now()`). All attempts have one idempotency
 * key, so it is carried out once, whichever reply was lost. Without a key it is asked once. Once a reply was lost, only an
 * answer says what became of the request: that a later attempt is not admitted does not.
 */
export async function ask(path, body, { key, deadline = 0 } = {}) {
  const headers = { "content-type": "application/json" };
  if (key) headers["idempotency-key"] = key;
  let lost = false;
  for (let pause = 200; ; pause = Math.min(pause * 2, 3000)) {
    try {
      return await reply(path, { method: "POST", headers, body: JSON.stringify(body) });
    } catch (error) {
      const refused = error instanceof Refused && error.code !== "undecided";
      lost ||= !refused;
      const again = !refused || error.status === 503 || error.status === 429;
      const rest = error.retry_after ?? pause;
      if (!again) throw error;
      if (!key || Date.now() + rest > deadline) throw lost ? new Lost() : error;
      await wait(rest);
    }
  }
}
