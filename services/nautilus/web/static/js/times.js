// Times in the viewer's own zone: <time datetime="…Z"> keeps UTC in its title; without this script UTC is shown.
// data-style: "ago" (5 min ago), "clock" (date and time), "lasting" (time since, for what still runs).

const absolute = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });
const STEPS = [["second", 1, 60], ["minute", 60, 3600], ["hour", 3600, 86400], ["day", 86400, 30 * 86400]];

/** Words for a span in seconds, as the server writes them: 0.4 s, 12 s, 3 min 5 s, 2 h 4 min, 3 d 1 h. */
export function duration(seconds) {
  if (!Number.isFinite(seconds) || seconds < 0) return "0 s";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min${s % 60 ? ` ${s % 60} s` : ""}`;
  if (s < 86400) return `${Math.floor(s / 3600)} h${Math.floor((s % 3600) / 60) ? ` ${Math.floor((s % 3600) / 60)} min` : ""}`;
  return `${Math.floor(s / 86400)} d${Math.floor((s % 86400) / 3600) ? ` ${Math.floor((s % 86400) / 3600)} h` : ""}`;
}

function ago(date) {
  const seconds = (date.getTime() - Date.now()) / 1000;
  const size = Math.abs(seconds);
  if (size < 5) return "just now";
  for (const [unit, width, limit] of STEPS) {
    if (size < limit) return relative.format(Math.round(seconds / width), unit);
  }
  return absolute.format(date);
}

function show(element) {
  const date = new Date(element.dateTime);
  if (Number.isNaN(date.getTime())) return;
  if (!element.title) element.title = element.dateTime.replace("T", " ").replace(/(\.\d+)?(Z|\+00:00)$/, " UTC");
  const style = element.dataset.style;
  let text;
  if (style === "lasting") text = duration((Date.now() - date.getTime()) / 1000);
  else if (style === "clock") text = absolute.format(date);
  else text = ago(date);
  if (element.textContent !== text) element.textContent = text;
}

/** Rewrites every <time> below root. */
export function localise(root = document) {
  for (const element of root.querySelectorAll("time[datetime]")) show(element);
}

/** Keeps ages current: running spans each second, the rest each half minute. */
export function keepCurrent() {
  localise();
  setInterval(() => {
    if (document.hidden) return;
    for (const element of document.querySelectorAll('time[data-style="lasting"]')) show(element);
  }, 1000);
  setInterval(() => { if (!document.hidden) localise(); }, 30000);
  document.addEventListener("htmx:afterSwap", (event) => localise(event.target.parentElement || document));
}
