// Curves of several experiments over each other, read anew while one of them still runs.
import { CurveBoard, number, wireToggles } from "./curves.js";

const AGAIN_MS = 3000;
const items = [...document.querySelectorAll(".keys [data-series]")];
const outputs = items.map((item) => item.querySelector("output"));

const board = new CurveBoard(document.getElementById("curves"), {
  series: items.map((item, index) => ({ id: item.dataset.series, label: item.dataset.label, index })),
  empty: document.getElementById("no-curves"),
  onValues: (values) => outputs.forEach((output, index) => {
    const value = values?.[index];
    output.textContent = value === undefined || value === null ? "" : number(value);
  }),
});
wireToggles(board);

async function read(item) {
  const answer = await fetch(`/api/v1/experiments/${item.dataset.series}/metrics`);
  if (!answer.ok) return;
  const histories = await answer.json();
  for (const [key, points] of Object.entries(histories)) board.add(item.dataset.series, key, points);
}

async function readAll(which) {
  await Promise.allSettled(which.map(read));
}

await readAll(items);
const live = items.filter((item) => item.dataset.live === "yes");
if (live.length) setInterval(() => { if (!document.hidden) readAll(live); }, AGAIN_MS);
