// Curves of several experiments over each other, read anew while one of them still runs.
import { CurveBoard, number, wireToggles } from "./curves.js";

const AGAIN_MS = 4000;
const MOST_CURVES = 30;
const AT_ONCE = 6;
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

async function keysOf(item) {
  const answer = await fetch(`/api/v1/experiments/${item.dataset.series}/metrics`);
  return answer.ok ? Object.keys(await answer.json()).slice(0, MOST_CURVES) : [];
}

async function readAll(which) {
  const wanted = (await Promise.all(which.map(async (item) => (await keysOf(item)).map((key) => [item, key])))).flat();
  const next = async () => {
    for (let pair = wanted.shift(); pair; pair = wanted.shift()) {
      const [item, key] = pair;
      const answer = await fetch(`/api/v1/experiments/${item.dataset.series}/metrics/${encodeURIComponent(key)}`);
      if (answer.ok) board.add(item.dataset.series, key, await answer.json());
    }
  };
  await Promise.allSettled(Array.from({ length: AT_ONCE }, next));
}

await readAll(items);
const live = items.filter((item) => item.dataset.live === "yes");
if (live.length) setInterval(() => { if (!document.hidden) readAll(live); }, AGAIN_MS);
