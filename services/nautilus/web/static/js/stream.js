// Server-sent events over fetch: unlike EventSource it can begin in the middle (Last-Event-ID), says why it was
// refused, and lets go of its connection while nobody looks at the tab.

const RETRY_MS = 1500;
const LONGEST_RETRY_MS = 15000;

/** The events of a chunk of complete blocks: [{ id, name, data }]. */
export function parse(text) {
  const events = [];
  for (const block of text.split("\n\n")) {
    const event = { id: null, name: "message", data: "" };
    for (const line of block.split("\n")) {
      if (line.startsWith("id: ")) event.id = line.slice(4);
      else if (line.startsWith("event: ")) event.name = line.slice(7);
      else if (line.startsWith("data: ")) event.data += line.slice(6);
    }
    if (event.data) events.push(event);
  }
  return events;
}

export class Stream {
  /** on: one function per event name, given the event's data; `trouble(text)` says what is wrong, "" when mended. */
  constructor(url, lastId, on) {
    this.url = url;
    this.lastId = lastId;
    this.on = on;
    this.isOver = false;
    this.abort = null;
    this.failures = 0;
    document.addEventListener("visibilitychange", () => this.#looked());
  }

  start() {
    if (!this.isOver && !this.abort) this.#run();
  }

  stop() {
    this.isOver = true;
    this.abort?.abort();
  }

  #looked() {
    clearTimeout(this.pause);
    if (!document.hidden) this.start();
    // Browsers allow six connections to a host; a hidden tab gives its own back.
    else this.pause = setTimeout(() => this.abort?.abort(), 15000);
  }

  async #run() {
    this.abort = new AbortController();
    let again = true;
    try {
      const headers = { Accept: "text/event-stream", "Last-Event-ID": this.lastId };
      const answer = await fetch(this.url, { headers, signal: this.abort.signal, cache: "no-store" });
      if (answer.status === 401 || answer.status === 403 || answer.status === 404) {
        again = false;
        this.on.trouble?.("You may not see this any more. Reload the page.");
      } else if (answer.ok) {
        this.on.trouble?.("");
        this.failures = 0;
        await this.#read(answer.body);
      } else {
        throw new Error(String(answer.status));
      }
    } catch {
      this.failures += 1;
      if (!this.abort.signal.aborted && this.failures > 1) this.on.trouble?.("The connection is lost; trying again.");
    }
    this.abort = null;
    if (again && !this.isOver && !document.hidden) {
      const wait = Math.min(LONGEST_RETRY_MS, RETRY_MS * 2 ** Math.max(0, this.failures - 1));
      setTimeout(() => this.start(), wait);
    }
  }

  async #read(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      rest += value;
      const end = rest.lastIndexOf("\n\n");
      if (end < 0) continue;
      for (const event of parse(rest.slice(0, end + 2))) {
        if (event.id !== null) this.lastId = event.id;
        this.on[event.name]?.(JSON.parse(event.data));
      }
      rest = rest.slice(end + 2);
    }
  }
}
