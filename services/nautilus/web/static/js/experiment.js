// An experiment's page: its log and curves as they grow, over one stream; htmx refreshes the rest.
import { CurveBoard, wireToggles } from "./curves.js";
import { LogView } from "./log.js";
import { Stream } from "./stream.js";

const TAIL_BYTES = 256 * 1024;
const MOST_CURVES = 60;
const AT_ONCE = 6;

const root = document.getElementById("experiment");
const api = `/api/v1/experiments/${root.dataset.id}`;
const logElement = document.getElementById("log");
const status = document.getElementById("status");
const size = Number(logElement.dataset.size);
const from = Math.max(0, size - TAIL_BYTES);

const log = new LogView(logElement, {
  note: document.getElementById("log-note"),
  followButton: document.getElementById("log-follow"),
});
const board = new CurveBoard(document.getElementById("curves"), {
  series: [{ id: root.dataset.id, label: "value", index: 0 }],
  empty: document.getElementById("no-curves"),
});
wireToggles(board);

function announce(name) {
  document.body.dispatchEvent(new CustomEvent(name));
}

let changed = 0;
function metricsChanged() {
  changed ||= setTimeout(() => { changed = 0; announce("experiment-metrics"); }, 1000);
}

/** What the runner logs of the machine is in the table of usage. */
function isOwn(key) {
  return !key.startsWith("system/");
}

let isBegun = false;
/** The first text of a log that is read from its middle starts with part of a line. */
function addText(text, isFromMiddle) {
  if (!isBegun) {
    isBegun = true;
    log.reset();
    log.skipped = isFromMiddle;
    log.append(isFromMiddle ? text.slice(text.indexOf("\n") + 1) : text);
    return;
  }
  log.append(text);
}

async function readEnded() {
  if (size > 0) {
    const answer = await fetch(`${api}/log?offset=${from}`);
    if (answer.ok) addText(await answer.text(), from > 0);
  }
  const answer = await fetch(`${api}/metrics`);
  if (!answer.ok) return;
  const keys = Object.keys(await answer.json()).filter(isOwn).slice(0, MOST_CURVES);
  const next = async () => {
    for (let key = keys.shift(); key !== undefined; key = keys.shift()) {
      const curve = await fetch(`${api}/metrics/${encodeURIComponent(key)}`);
      if (curve.ok) board.add(root.dataset.id, key, await curve.json());
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, next));
}

function follow() {
  let state = "";
  const stream = new Stream(`${api}/events`, `${from},`, {
    state: (data) => {
      // The page itself shows the first one.
      if (state && state !== JSON.stringify([data.state, data.reason])) announce("experiment-state");
      state = JSON.stringify([data.state, data.reason]);
    },
    log: (data) => addText(data.text, from > 0),
    metric: (data) => {
      if (!isOwn(data.key)) return;
      board.add(root.dataset.id, data.key, [data]);
      metricsChanged();
    },
    end: () => {
      stream.stop();
      announce("experiment-state");
      announce("experiment-metrics");
      announce("experiment-end");
      const empty = document.getElementById("no-curves");
      empty.textContent = "No metric was logged more than once.";
    },
    trouble: (text) => {
      status.className = "notice warn";
      status.textContent = text;
      status.hidden = !text;
    },
  });
  stream.start();
}

if (root.dataset.final === "yes") await readEnded();
else follow();
