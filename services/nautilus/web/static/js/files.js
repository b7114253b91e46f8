// The job's folder while it runs: nothing is asked before somebody opens it, nothing while the tab is hidden.

const EVERY_MS = 5000;
const TAIL_BYTES = 64 * 1024;
const MOST_TEXT = 256 * 1024;
const WAIT_S = 20;

const root = document.getElementById("experiment");
const api = `/api/v1/experiments/${root.dataset.id}/files`;
const part = (id) => document.getElementById(id);
const opener = part("files-open");
const [body, list, note, text] = ["files-body", "files-list", "files-note", "file-text"].map(part);

let folder = "";
let hasEnded = false;
let reading = null; // of the file that is shown

const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
function size(bytes) {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${unit ? value.toFixed(1) : value} ${units[unit]}`;
}

function address(path) {
  return `${api}/${path.split("/").map(encodeURIComponent).join("/")}`;
}

function say(words) {
  note.textContent = words;
  note.hidden = !words;
}

function button(words, action, name = "link") {
  const made = document.createElement("button");
  made.type = "button";
  made.className = name;
  made.textContent = words;
  made.addEventListener("click", action);
  return made;
}

async function reason(answer) {
  try {
    return (await answer.json()).message;
  } catch {
    return `The request failed (${answer.status}).`;
  }
}

function showPath() {
  const names = folder ? folder.split("/") : [];
  const steps = [button("project folder", () => enter(""))];
  names.forEach((name, index) => {
    steps.push(document.createTextNode(" / "), button(name, () => enter(names.slice(0, index + 1).join("/"))));
  });
  part("files-path").replaceChildren(...steps);
}

function row(file) {
  const item = document.createElement("li");
  const name = document.createElement("span");
  name.className = "grow mono";
  if (file.kind === "folder") name.append(button(`${file.name}/`, () => enter(file.path)));
  else if (file.kind === "file") name.append(button(file.name, () => open(file.path)));
  else name.textContent = file.link ? `${file.name} → ${file.link}` : `${file.name} (not a file)`;
  const about = document.createElement("span");
  about.className = "muted small number";
  about.textContent = file.size_bytes === null ? "" : size(file.size_bytes);
  item.append(name, about);
  return item;
}

let shown = "";
async function refresh() {
  const asked = folder;
  let answer;
  try {
    answer = await fetch(`${api}?path=${encodeURIComponent(asked)}`);
  } catch {
    return;
  }
  if (asked !== folder || hasEnded) return;
  if (!answer.ok) {
    say(await reason(answer));
    return;
  }
  const found = await answer.json();
  const now = JSON.stringify(found);
  if (now === shown) return;
  shown = now;
  list.replaceChildren(...found.files.map(row));
  say(found.is_cut ? "The folder is too large to list whole." : found.files.length ? "" : "Nothing is here.");
}

function enter(path) {
  folder = path;
  shown = "";
  showPath();
  refresh();
}

function close() {
  reading?.abort();
  reading = null;
  part("file").hidden = true;
}

async function open(path) {
  close();
  const control = reading = new AbortController();
  part("file-name").textContent = path;
  part("file-download").href = address(path);
  part("file-size").textContent = "";
  text.replaceChildren();
  part("file").hidden = false;
  try {
    await follow(path, control.signal);
  } catch (error) {
    if (error.name !== "AbortError") part("file-size").textContent = "The connection is lost: open it again.";
  }
}

/** The file's end, then what is added: each request waits at the server until there is something. */
async function follow(path, signal) {
  let offset = -TAIL_BYTES;
  let decoder = new TextDecoder();
  while (!signal.aborted && !hasEnded) {
    const headers = offset < 0 ? {} : { Prefer: `wait=${WAIT_S}` };
    const answer = await fetch(`${address(path)}?offset=${offset}`, { headers, signal });
    if (!answer.ok) {
      part("file-size").textContent = await reason(answer);
      return;
    }
    const total = Number(answer.headers.get("X-File-Size"));
    const data = new Uint8Array(await answer.arrayBuffer());
    part("file-size").textContent = size(total);
    if (offset >= 0 && total < offset) {
      decoder = new TextDecoder();
      text.append("\n— it was cut short —\n");
      offset = 0;
      continue;
    }
    if (data.includes(0)) {
      text.textContent = "This is no text: download it to see what it is.";
      return;
    }
    offset = Number(answer.headers.get("X-File-Offset")) + data.length;
    add(decoder.decode(data, { stream: true }));
  }
}

function add(words) {
  const isAtEnd = text.scrollHeight - text.scrollTop - text.clientHeight < 40;
  text.append(words);
  if (text.textContent.length > MOST_TEXT) text.textContent = text.textContent.slice(-MOST_TEXT / 2);
  if (isAtEnd) text.scrollTop = text.scrollHeight;
}

async function put(event) {
  event.preventDefault();
  const chosen = part("files-put-file").files[0];
  if (!chosen) return;
  const path = folder ? `${folder}/${chosen.name}` : chosen.name;
  const headers = { "X-CSRF-Token": part("files").dataset.token, "Content-Type": "application/octet-stream" };
  try {
    const answer = await fetch(address(path), { method: "PUT", body: chosen, headers });
    if (!answer.ok) {
      say(await reason(answer));
      return;
    }
  } catch {
    say("Nautilus does not answer: nothing was written.");
    return;
  }
  event.target.reset();
  await refresh();
}

opener.addEventListener("click", () => {
  body.hidden = !body.hidden;
  opener.setAttribute("aria-expanded", String(!body.hidden));
  opener.textContent = body.hidden ? "Look into the job's folder" : "Close the folder";
  if (body.hidden) close();
  else enter(folder);
});
part("file-close").addEventListener("click", close);
part("files-put").addEventListener("submit", put);
document.body.addEventListener("experiment-end", () => {
  hasEnded = true;
  reading?.abort();
  list.replaceChildren();
  part("files-put").hidden = true;
  say("The job has ended; what it kept is among the artifacts.");
});
setInterval(() => { if (!body.hidden && !document.hidden && !hasEnded) refresh(); }, EVERY_MS);
