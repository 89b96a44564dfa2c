// The server's WebSocket feed. It connects again by itself; every connection begins with a snapshot.

/** How long to wait before the next attempt, in milliseconds. */
const PAUSES = [250, 500, 1000, 2000, 4000];
/** The server says something every 10 seconds. Who hears nothing for longer than this has lost it, in milliseconds. */
const SILENCE = 25_000;

export class Feed {
  #socket = null;
  #failed = 0;
  #timer = 0;
  #silence = 0;
  #user = undefined;

  /** `take` gets each message and returns whether it fits to those before; `told` gets "live" or "waiting". */
  constructor(take, told) {
    Object.assign(this, { take, told });
  }

  /** Follows the market, and the user's own account if there is one. */
  follow(user) {
    this.#user = user;
    this.#connect();
  }

  #connect() {
    clearTimeout(this.#timer);
    if (this.#socket) {
      this.#socket.onclose = this.#socket.onmessage = null;
      this.#socket.close();
    }
    const url = new URL("/api/feed", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    if (this.#user) url.searchParams.set("user", this.#user);
    const socket = new WebSocket(url);
    this.#socket = socket;
    this.#heard();
    socket.onmessage = ({ data }) => {
      this.#heard();
      const message = JSON.parse(data);
      if (message.type === "book") {
        this.#failed = 0;
        this.told("live");
      }
      if (!this.take(message)) this.#connect();
    };
    socket.onclose = () => {
      clearTimeout(this.#silence);
      this.told("waiting");
      const pause = PAUSES[Math.min(this.#failed++, PAUSES.length - 1)];
      // Not all pages at the same moment.
      this.#timer = setTimeout(() => this.#connect(), pause * (0.75 + Math.random() / 2));
    };
  }

  /** A connection that is gone may look open for many minutes. */
  #heard() {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => {
      this.told("waiting");
      this.#connect();
    }, SILENCE);
  }
}
