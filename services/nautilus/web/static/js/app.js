// What every page does: local times, copy buttons, menus, and how htmx behaves when something goes wrong.
import { keepCurrent } from "./times.js";

document.documentElement.classList.replace("no-js", "js");
keepCurrent();

// MLflow's client prints addresses of its own pages (/#/experiments/1/runs/…): they lead to ours.
const run = /^#\/experiments\/\d+\/runs\/([0-9a-f]{32})/.exec(location.hash);
if (run && location.pathname === "/") location.replace(`/runs/${run[1]}`);
else if (location.hash.startsWith("#/experiments")) location.replace("/experiments");

const status = document.getElementById("status");

function announce(text, kind = "bad") {
  if (!status) return;
  status.className = `notice ${kind}`;
  status.textContent = text;
  status.hidden = !text;
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  if (!source) return;
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    // Plain http on another host has no clipboard: select the text, so that the keyboard can copy it.
    getSelection().selectAllChildren(source);
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = before; }, 1600);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-copy]");
  if (button) copy(button);
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !confirm(question)) event.preventDefault();
});

// A tab that nobody looks at asks for nothing.
document.addEventListener("htmx:beforeRequest", (event) => {
  const trigger = event.detail.elt.getAttribute("hx-trigger") || "";
  if (document.hidden && trigger.includes("every")) event.preventDefault();
});

document.addEventListener("htmx:sendError", () => announce("Nautilus does not answer. The page tries again by itself."));
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful && status && !status.hidden && !status.dataset.kept) announce("");
});

document.addEventListener("htmx:responseError", (event) => {
  const answer = event.detail.xhr;
  if (answer.status === 401) {
    location.reload();
    return;
  }
  let message = "";
  try {
    message = JSON.parse(answer.responseText).message;
  } catch {
    message = "";
  }
  announce(message || `The request failed (${answer.status}).`);
});
