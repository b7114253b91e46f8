// Terminal text into DOM nodes: SGR colours and weights become classes, every other control sequence is dropped.
// Only textContent is ever set, so nothing that a job prints can become markup.

// CSI, OSC, other two-byte escapes, and control characters except tab, newline, carriage return.
const CONTROL = /\x1b\[([0-9;:?]*)([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]|\x1b\[?[0-9;:?]*$|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/g;

export const PLAIN = Object.freeze({ fg: -1, bg: -1, bold: false, dim: false, italic: false, underline: false, strike: false });

const CUBE = [0, 95, 135, 175, 215, 255];

/** One of the 16 colours that is nearest in hue to an RGB colour (0–255 each). */
function nearest(red, green, blue) {
  const top = Math.max(red, green, blue);
  if (top - Math.min(red, green, blue) < 40) return top < 64 ? 0 : top < 144 ? 8 : top < 216 ? 7 : 15;
  const bit = (value) => (value > top * 0.6 ? 1 : 0);
  return bit(red) + 2 * bit(green) + 4 * bit(blue) + (top > 200 ? 8 : 0);
}

function indexed(index) {
  if (index < 16) return index;
  if (index >= 232) return nearest(...Array(3).fill(8 + 10 * (index - 232)));
  const cell = index - 16;
  return nearest(CUBE[Math.floor(cell / 36)], CUBE[Math.floor(cell / 6) % 6], CUBE[cell % 6]);
}

/** The style after one SGR sequence; codes is the text between "ESC[" and "m". */
export function applyStyle(style, codes) {
  const next = { ...style };
  const numbers = codes.split(/[;:]/).map((code) => Number(code) || 0);
  for (let i = 0; i < numbers.length; i += 1) {
    const code = numbers[i];
    if (code === 0) Object.assign(next, PLAIN);
    else if (code === 1) next.bold = true;
    else if (code === 2) next.dim = true;
    else if (code === 3) next.italic = true;
    else if (code === 4) next.underline = true;
    else if (code === 9) next.strike = true;
    else if (code === 22) { next.bold = false; next.dim = false; }
    else if (code === 23) next.italic = false;
    else if (code === 24) next.underline = false;
    else if (code === 29) next.strike = false;
    else if (code >= 30 && code <= 37) next.fg = code - 30;
    else if (code >= 90 && code <= 97) next.fg = code - 82;
    else if (code >= 40 && code <= 47) next.bg = code - 40;
    else if (code >= 100 && code <= 107) next.bg = code - 92;
    else if (code === 39) next.fg = -1;
    else if (code === 49) next.bg = -1;
    else if (code === 38 || code === 48) {
      const side = code === 38 ? "fg" : "bg";
      if (numbers[i + 1] === 5) { next[side] = indexed(Math.min(255, numbers[i + 2] || 0)); i += 2; }
      else if (numbers[i + 1] === 2) { next[side] = nearest(numbers[i + 2] || 0, numbers[i + 3] || 0, numbers[i + 4] || 0); i += 4; }
    }
  }
  return next;
}

function classes(style) {
  const names = [];
  if (style.fg >= 0) names.push(`fg-${style.fg}`);
  if (style.bg >= 0) names.push(`bg-${style.bg}`);
  for (const name of ["bold", "dim", "italic", "underline", "strike"]) if (style[name]) names.push(`ansi-${name}`);
  return names.join(" ");
}

const ADDRESS = /https?:\/\/[^\s<>"'`]*[^\s<>"'`.,;:!?)\]}]/g;

/** Appends plain text with its web addresses as links. */
function putText(parent, text) {
  let last = 0;
  for (const match of text.matchAll(ADDRESS)) {
    parent.append(text.slice(last, match.index));
    const link = document.createElement("a");
    link.href = match[0];
    link.target = "_blank";
    link.rel = "noopener noreferrer";
    link.textContent = match[0];
    parent.append(link);
    last = match.index + match[0].length;
  }
  parent.append(text.slice(last));
}

/** Appends text to parent as styled spans; returns the style that the next text starts with. */
export function paint(parent, text, style) {
  let last = 0;
  let now = style;
  const put = (piece) => {
    if (!piece) return;
    const name = classes(now);
    if (!name) {
      putText(parent, piece);
      return;
    }
    const span = document.createElement("span");
    span.className = name;
    putText(span, piece);
    parent.append(span);
  };
  for (const match of text.matchAll(CONTROL)) {
    put(text.slice(last, match.index));
    if (match[2] === "m" && !match[1].includes("?")) now = applyStyle(now, match[1]);
    last = match.index + match[0].length;
  }
  put(text.slice(last));
  return now;
}

/** The text with every control sequence taken out. */
export function strip(text) {
  return text.replace(CONTROL, "");
}
