// What is wrong with the page for people who do not see it, or not well: names, labels, references, contrast (AA).
() => {
  const faults = [];
  const text = (element) => (element.getAttribute("aria-label") || element.innerText || element.textContent || "").trim();
  for (const one of document.querySelectorAll("a[href], button, summary")) if (!text(one)) faults.push("nameless " + one.outerHTML.slice(0, 80));
  for (const one of document.querySelectorAll("input:not([type=hidden]), select, textarea"))
    if (!one.labels?.length && !one.getAttribute("aria-label")) faults.push("unlabelled " + one.outerHTML.slice(0, 80));
  for (const one of document.querySelectorAll("[aria-labelledby], [aria-describedby]"))
    for (const name of ["aria-labelledby", "aria-describedby"])
      for (const id of (one.getAttribute(name) || "").split(/\s+/).filter(Boolean))
        if (!document.getElementById(id)) faults.push(name + " names nothing: " + id);
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) faults.push("twice: " + id);
  if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
  if (document.querySelectorAll("main").length !== 1) faults.push("not one main");
  if (!document.documentElement.lang) faults.push("no lang");
  const luminance = (rgb) => rgb.map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; })
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const parse = (colour) => { const v = colour.match(/[\d.]+/g).map(Number); return { rgb: v.slice(0, 3), alpha: v[3] ?? 1 }; };
  const behind = (element) => { for (let e = element; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.alpha > 0.9) return c.rgb; } return [255, 255, 255]; };
  const seen = new Set();
  for (const one of document.querySelectorAll("main *, header *, footer *")) {
    if (![...one.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
    if (!one.checkVisibility() || one.closest(":disabled, .visually-hidden, .u-axis")) continue;
    const front = luminance(parse(getComputedStyle(one).color).rgb), back = luminance(behind(one));
    const ratio = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    const key = one.className + ratio.toFixed(1);
    if (ratio < 4.5 && !seen.has(key)) { seen.add(key); faults.push(`contrast ${ratio.toFixed(2)}: ${one.className || one.tagName} "${one.textContent.trim().slice(0, 30)}"`); }
  }
  return faults;
}
