// Metric curves: one chart per metric, any number of experiments in each; uPlot draws, this keeps the points.
/* global uPlot */

const HEIGHT_PX = 190;
const REDRAW_MS = 200;
const COLOURS = 8;

/** A number for the eye: up to 5 significant digits, exponents only where they are shorter. */
export function number(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e9) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e9)) return value.toExponential(3);
  return String(Number(value.toPrecision(5)));
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function seriesColour(index) {
  const probe = document.createElement("span");
  probe.className = `series-${index % COLOURS}`;
  document.body.append(probe);
  const value = getComputedStyle(probe).getPropertyValue("--series").trim();
  probe.remove();
  return value;
}

class Chart {
  constructor(board, key) {
    this.board = board;
    this.key = key;
    this.tables = new Map();
    this.figure = document.createElement("figure");
    this.figure.className = "chart";
    this.figure.dataset.metric = key;
    const caption = document.createElement("figcaption");
    const name = document.createElement("span");
    name.textContent = key;
    this.output = document.createElement("output");
    caption.append(name, this.output);
    this.plot = document.createElement("div");
    this.plot.className = "plot";
    this.plot.setAttribute("role", "img");
    this.figure.append(caption, this.plot);
    this.uplot = null;
    this.resizing = new ResizeObserver(() => this.#fit());
    this.resizing.observe(this.plot);
  }

  add(series, points) {
    const table = this.tables.get(series) || new Map();
    for (const point of points) {
      const value = typeof point.value === "number" && Number.isFinite(point.value) ? point.value : null;
      // The stream may send a point twice, never not at all.
      table.set(`${point.step} ${point.timestamp}`, { step: Number(point.step) || 0, at: Number(point.timestamp) || 0, value });
    }
    this.tables.set(series, table);
  }

  /** How many points its longest series has: one point makes no curve. */
  get length() {
    return Math.max(0, ...[...this.tables.values()].map((table) => table.size));
  }

  #columns(series) {
    const table = [...(this.tables.get(series)?.values() || [])];
    const start = table.reduce((least, point) => Math.min(least, point.at), Infinity);
    const x = this.board.axis === "time" ? (point) => (point.at - start) / 1000 : (point) => point.step;
    const sorted = table.sort((a, b) => x(a) - x(b));
    const kept = (value) => (this.board.logarithmic && value !== null && value <= 0 ? null : value);
    return [sorted.map(x), sorted.map((point) => kept(point.value))];
  }

  #data() {
    const tables = this.board.series.map((series) => this.#columns(series.id));
    return tables.length === 1 ? tables[0] : uPlot.join(tables);
  }

  #options() {
    const muted = colour("--muted");
    const line = colour("--line");
    const axis = { stroke: muted, font: "11px system-ui, sans-serif", grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 } };
    const format = (_, splits) => splits.map((value) => (value === null ? "" : number(value)));
    return {
      width: Math.max(120, this.plot.clientWidth),
      height: HEIGHT_PX,
      legend: { show: false },
      cursor: { sync: { key: this.board.syncKey }, drag: { x: true, y: false }, points: { size: 7 } },
      scales: { x: { time: false }, y: { distr: this.board.logarithmic ? 3 : 1 } },
      axes: [{ ...axis, size: 28, space: 60, values: format }, { ...axis, size: 54, space: 32, values: format }],
      series: [{}, ...this.board.series.map((series) => ({
        label: series.label,
        stroke: seriesColour(series.index),
        width: 1.75,
        spanGaps: true,
        points: { show: this.length <= 40, size: 5, fill: colour("--surface") },
      }))],
      hooks: { setCursor: [(u) => this.#say(u.cursor.idx)] },
    };
  }

  #fit() {
    if (this.uplot && this.plot.clientWidth) this.uplot.setSize({ width: this.plot.clientWidth, height: HEIGHT_PX });
  }

  #say(index) {
    const data = this.uplot?.data;
    if (!data) return;
    if (this.board.series.length > 1) {
      const shown = index ?? null;
      this.output.textContent = shown === null ? "" : `${this.board.axisName} ${number(data[0][shown])}`;
      this.board.say(shown === null ? null : data.slice(1).map((column) => column[shown]), this.key);
      return;
    }
    const at = index ?? data[0].length - 1;
    this.output.textContent = at < 0 ? "" : `${number(data[1][at])} · ${this.board.axisName} ${number(data[0][at])}`;
  }

  draw(fresh) {
    const data = this.#data();
    if (fresh || !this.uplot) {
      this.uplot?.destroy();
      this.uplot = new uPlot(this.#options(), data, this.plot);
    } else {
      this.uplot.setData(data);
    }
    this.#say(null);
    const last = data[1]?.findLast?.((value) => value !== null && value !== undefined);
    this.plot.setAttribute("aria-label", `Curve of ${this.key}, ${data[0].length} points${this.board.series.length === 1 ? `, last ${number(last)}` : ""}`);
  }
}

/** All charts of a page. root gets the figures; empty is shown while there are none. */
export class CurveBoard {
  constructor(root, { series, empty, onValues } = {}) {
    this.root = root;
    this.empty = empty;
    this.series = series;
    this.onValues = onValues;
    this.charts = new Map();
    this.axis = "step";
    this.logarithmic = false;
    this.syncKey = "curves";
    this.timer = 0;
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
  }

  get axisName() {
    return this.axis === "time" ? "second" : "step";
  }

  /** Adds points ({step, value, timestamp in ms}) of one metric of one experiment. */
  add(series, key, points) {
    if (!this.charts.has(key)) this.charts.set(key, new Chart(this, key));
    this.charts.get(key).add(series, points);
    this.timer ||= setTimeout(() => { this.timer = 0; this.#draw(false); }, REDRAW_MS);
  }

  set({ axis, logarithmic }) {
    if (axis) this.axis = axis;
    if (logarithmic !== undefined) this.logarithmic = logarithmic;
    this.redraw();
  }

  redraw() {
    this.#draw(true);
  }

  say(values, key) {
    this.onValues?.(values, key);
  }

  #draw(fresh) {
    let shown = 0;
    for (const chart of [...this.charts.values()].sort((a, b) => a.key.localeCompare(b.key))) {
      if (chart.length < 2) continue;
      shown += 1;
      const isNew = !chart.figure.isConnected;
      if (isNew) {
        const after = [...this.root.children].find((other) => other.dataset.metric?.localeCompare(chart.key) > 0);
        this.root.insertBefore(chart.figure, after || null);
      }
      chart.draw(fresh || isNew);
    }
    if (this.empty) this.empty.hidden = shown > 0;
  }
}

/** Wires the "log scale" and "by time" toggles (buttons with aria-pressed) to a board. */
export function wireToggles(board, scope = document) {
  const toggle = (name, apply) => {
    const button = scope.querySelector(`button[data-curves="${name}"]`);
    button?.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      apply(on);
    });
  };
  toggle("log", (on) => board.set({ logarithmic: on }));
  toggle("time", (on) => board.set({ axis: on ? "time" : "step" }));
}
