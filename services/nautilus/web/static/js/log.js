// A job's log as it grows: the last lines only, colours, sections that fold, and a view that follows the end until
// the reader scrolls up. Rendering is bounded: whatever arrives, at most MAX_LINES lines are in the document.
import { PLAIN, paint, strip } from "./ansi.js";
import { duration } from "./times.js";

export const MAX_LINES = 4000;
const MAX_LINE_LENGTH = 8000;
const NEAR_END_PX = 24;
// GitLab's markers: section_start:<unix time>:<name>[options]\r\x1b[0K<title>
const MARKER = /section_(start|end):(\d+):([\w.-]+)(\[[^\]\r\n]*\])?\r(?:\x1b\[0?K)?/g;
// The section of the job's own script is what the reader came for: it stays open.
const OPEN_SECTIONS = new Set(["step_script", "build_script", "script"]);

export class LogView {
  /** root: the scrolling element; note: what is shown when earlier lines are left out; followButton: may be null. */
  constructor(root, { note, followButton, onCount } = {}) {
    this.root = root;
    this.note = note;
    this.button = followButton;
    this.onCount = onCount || (() => {});
    this.lines = [];
    this.left = 0;
    this.pending = "";
    this.skipped = false;
    this.scheduled = false;
    this.following = true;
    this.sections = [];
    this.style = PLAIN;
    this.open = null;
    this.openText = "";
    root.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.button?.addEventListener("click", () => this.follow(!this.following));
  }

  /** Empties the view, for a log that starts anew. */
  reset() {
    this.root.replaceChildren();
    this.lines = [];
    this.sections = [];
    this.style = PLAIN;
    this.open = null;
    this.openText = "";
    this.pending = "";
    this.left = 0;
  }

  /** Takes the next text of the log; it is drawn with the next frame. */
  append(text) {
    this.pending += text;
    if (this.pending.length > MAX_LINES * 400) this.pending = this.#tail(this.pending);
    if (this.scheduled) return;
    this.scheduled = true;
    const draw = () => { this.scheduled = false; this.#draw(); };
    // Frames stop in a hidden tab; a timer keeps what is pending bounded there.
    if (document.hidden) setTimeout(draw, 500);
    else requestAnimationFrame(draw);
  }

  follow(on) {
    this.following = on;
    this.button?.setAttribute("aria-pressed", String(on));
    if (on) this.root.scrollTop = this.root.scrollHeight;
  }

  #tail(text) {
    const kept = text.slice(-MAX_LINES * 200);
    this.skipped = true;
    return kept.slice(kept.indexOf("\n") + 1);
  }

  #draw() {
    const rows = this.pending.split("\n");
    this.pending = "";
    if (rows.length > MAX_LINES + 1) {
      this.left += rows.length - MAX_LINES - 1;
      this.skipped = true;
      rows.splice(0, rows.length - MAX_LINES - 1);
      this.openText = "";
      this.open = null;
    }
    rows.forEach((row, index) => {
      const whole = index < rows.length - 1;
      if (row || whole || this.open) this.#row(row, whole);
    });
    this.#trim();
    if (this.following) this.root.scrollTop = this.root.scrollHeight;
  }

  /** One row's further text; the unfinished last row is drawn again when more of it comes. */
  #row(text, whole) {
    let row = this.openText + text;
    if (whole && row.endsWith("\r")) row = row.slice(0, -1);
    if (row.length > MAX_LINE_LENGTH * 2 && !row.includes("section_")) {
      // A progress bar is about its last state, anything else about its beginning.
      row = row.includes("\r") ? row.slice(-MAX_LINE_LENGTH) : row.slice(0, MAX_LINE_LENGTH + 1);
    }
    if (!whole && !/section_(start|end):/.test(row)) {
      this.openText = row;
      this.open ||= this.#addLine();
      this.open.replaceChildren();
      paint(this.open, this.#visible(row), this.style);
      return;
    }
    if (!whole) {
      this.openText = row;
      return;
    }
    const line = this.open;
    this.open = null;
    this.openText = "";
    this.#finish(row, line);
  }

  #finish(row, line) {
    let last = 0;
    let title = null;
    const put = (piece) => {
      if (title) {
        title.textContent = strip(this.#visible(piece)).trim() || title.dataset.name;
        title = null;
        return;
      }
      const target = line || this.#addLine();
      line = null;
      target.replaceChildren();
      this.style = paint(target, this.#visible(piece), this.style);
    };
    for (const match of row.matchAll(MARKER)) {
      const before = row.slice(last, match.index);
      if (strip(before).trim() || title) put(before);
      last = match.index + match[0].length;
      if (match[1] === "start") title = this.#enter(match[3], Number(match[2]), match[4] || "");
      else this.#leave(match[3], Number(match[2]));
    }
    const rest = row.slice(last);
    if (last === 0 || title || strip(rest).trim()) put(rest);
    if (line) {
      // Part of a marker was drawn before the rest of it came.
      line.remove();
      this.lines.splice(this.lines.lastIndexOf(line), 1);
    }
  }

  /** What a terminal would show of a row: the text after its last carriage return. */
  #visible(row) {
    const parts = row.split("\r");
    let text = parts.pop();
    while (!strip(text) && parts.length) text = parts.pop();
    return text.length > MAX_LINE_LENGTH ? `${text.slice(0, MAX_LINE_LENGTH)} … (line cut here)` : text;
  }

  #container() {
    return this.sections.at(-1)?.element || this.root;
  }

  #addLine() {
    const line = document.createElement("div");
    line.className = "line";
    this.#container().append(line);
    this.lines.push(line);
    return line;
  }

  #enter(name, startedAt, options) {
    const element = document.createElement("details");
    element.open = !options.includes("collapsed=true");
    const summary = document.createElement("summary");
    const title = document.createElement("span");
    title.dataset.name = name;
    title.textContent = name;
    summary.append(title);
    summary.addEventListener("click", () => { element.dataset.touched = "1"; });
    element.append(summary);
    this.#container().append(element);
    this.sections.push({ name, startedAt, element, summary });
    return title;
  }

  #leave(name, endedAt) {
    const index = this.sections.findLastIndex((section) => section.name === name);
    if (index < 0) return;
    const [section] = this.sections.splice(index);
    const span = document.createElement("span");
    span.className = "ansi-dim";
    span.textContent = `  ${duration(Math.max(0, endedAt - section.startedAt))}`;
    section.summary.append(span);
    if (!OPEN_SECTIONS.has(name) && !section.element.dataset.touched) section.element.open = false;
  }

  #trim() {
    const extra = this.lines.length - MAX_LINES;
    if (extra > 0) {
      for (const line of this.lines.splice(0, extra)) {
        const parent = line.parentElement;
        line.remove();
        if (parent && parent !== this.root && parent.children.length === 1 && !this.sections.some((s) => s.element === parent)) parent.remove();
      }
      this.left += extra;
      this.skipped = true;
    }
    if (this.note) this.note.hidden = !this.skipped;
    this.onCount(this.lines.length, this.left);
  }

  #scrolled() {
    const atEnd = this.root.scrollHeight - this.root.scrollTop - this.root.clientHeight < NEAR_END_PX;
    if (atEnd !== this.following) {
      this.following = atEnd;
      this.button?.setAttribute("aria-pressed", String(atEnd));
    }
  }
}
