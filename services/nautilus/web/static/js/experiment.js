// An experiment's page: its log and curves as they grow, over one event stream; htmx refreshes the rest.
import { CurveBoard, wireToggles } from "./curves.js";
import { LogView } from "./log.js";

const TAIL_BYTES = 256 * 1024;
// A hidden tab gives its connection back: browsers allow six to a host.
const HIDDEN_FOR_MS = 20000;

const root = document.getElementById("experiment");
const api = `/api/v1/experiments/${root.dataset.id}`;
const logElement = document.getElementById("log");
const note = document.getElementById("log-note");
const tail = Number(logElement.dataset.size) > TAIL_BYTES;

const log = new LogView(logElement, { note, followButton: document.getElementById("log-follow") });
const board = new CurveBoard(document.getElementById("curves"), {
  series: [{ id: root.dataset.id, label: "value", index: 0 }],
  empty: document.getElementById("no-curves"),
});
wireToggles(board);

let offset = -1;
let ended = root.dataset.final === "yes";
let source = null;
let cursor = "";
let changed = 0;

function announce(name) {
  document.body.dispatchEvent(new CustomEvent(name));
}

/** Reads the end of the log as it is now; the stream goes on from there. */
async function readLog() {
  const size = Number(logElement.dataset.size);
  const from = Math.max(0, size - TAIL_BYTES);
  const answer = await fetch(`${api}/log?offset=${from}`, { headers: { Accept: "text/plain" } });
  if (!answer.ok) return;
  const bytes = new Uint8Array(await answer.arrayBuffer());
  offset = from + bytes.length;
  let text = new TextDecoder().decode(bytes);
  if (from > 0) text = text.slice(text.indexOf("\n") + 1);
  if (!text && !ended) {
    logElement.replaceChildren();
    return;
  }
  if (text) {
    log.reset();
    log.skipped = tail;
    log.append(text);
  }
}

async function readMetrics() {
  const answer = await fetch(`${api}/metrics`);
  if (!answer.ok) return;
  show(await answer.json());
}

function show(histories) {
  for (const [key, points] of Object.entries(histories)) board.add(root.dataset.id, key, points);
}

function metricsChanged() {
  changed ||= setTimeout(() => { changed = 0; announce("experiment-metrics"); }, 1000);
}
