// The experiments table: what is ticked survives each refresh, and decides what can be compared.
const MAX_COMPARED = 8;
const picked = new Set();

function scope() {
  return document.getElementById("experiments");
}

function show() {
  const root = scope();
  if (!root) return;
  for (const box of root.querySelectorAll('input[name="id"]')) {
    box.checked = picked.has(box.value);
    box.disabled = !box.checked && picked.size >= MAX_COMPARED;
    box.closest("tr")?.classList.toggle("picked", box.checked);
  }
  const button = document.getElementById("compare");
  if (!button) return;
  button.disabled = picked.size < 2;
  button.textContent = picked.size ? `Compare (${picked.size})` : "Compare";
  const hidden = document.getElementById("compare-elsewhere");
  hidden?.replaceChildren(...[...picked]
    .filter((id) => !root.querySelector(`input[name="id"][value="${CSS.escape(id)}"]`))
    .map((id) => Object.assign(document.createElement("input"), { type: "hidden", name: "id", value: id })));
}

document.addEventListener("change", (event) => {
  const box = event.target;
  if (!(box instanceof HTMLInputElement) || box.name !== "id") return;
  if (box.checked && picked.size < MAX_COMPARED) picked.add(box.value);
  else picked.delete(box.value);
  show();
});

for (const box of document.querySelectorAll('#experiments input[name="id"]:checked')) picked.add(box.value);
document.addEventListener("htmx:afterSwap", show);
show();
