"use strict";
// Draws the timeline and the bars from the embedded data, over one stretch of the run that both share.
const data = JSON.parse(document.getElementById("data").textContent);
// The fields of a bar and of a moment, by position.
const ROW = 0, START = 1, START_EVENT = 3, BYTES = 5, LAYOUT = 6, OP = 7, PLACE = 8, ROLE = 9, SOURCE = 10, OPEN = 11;
const LIVE = 2, RESERVED = 3, POOLED = 4, DRIVER = 5;
const ROLES = ["activation", "KV cache", "parameter"];
const SOURCES = ["reserve", "arena", "pool", "new allocation"];
const LEFT = 76, GAP = 1, AXIS = 22, MARKS = 16;
const pictures = document.getElementById("pictures");
const timeline = document.getElementById("timeline"), bars = document.getElementById("bars");
const tip = document.getElementById("tip");
let axis = "time", colour = "role", view = [0, 1], hovered = -1, cursor = null;
// The indices of the tensors that are searched for, all of them where nothing is, and the one that was gone to last.
let found = null, foundList = [], foundAt = -1;

const dark = matchMedia("(prefers-color-scheme: dark)");
const style = name => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const hue = (h, s = 58) => `hsl(${h} ${s}% ${dark.matches ? 62 : 48}%)`;
const PALETTE = { role: [hue.bind(null, 216), hue.bind(null, 285), hue.bind(null, 30, 25)],
  source: [hue.bind(null, 153), hue.bind(null, 190), hue.bind(null, 38, 75), hue.bind(null, 6, 70)] };

function bytes(n) {
  if (n < 1024) return `${Math.round(n)} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let unit = -1;
  do { n /= 1024; unit++; } while (n >= 1024 && unit < 3);
  return `${n.toFixed(1)} ${units[unit]}`;
}
function duration(ns) {
  if (ns < 1e3) return `${Math.round(ns)} ns`;
  if (ns < 1e6) return `${+(ns / 1e3).toFixed(1)} µs`;
  if (ns < 1e9) return `${+(ns / 1e6).toFixed(2)} ms`;
  return `${+(ns / 1e9).toFixed(3)} s`;
}
function barColour(bar) {
  if (colour === "op") return hue((bar[OP] * 137.5) % 360, 50);
  return PALETTE[colour][colour === "role" ? bar[ROLE] : bar[SOURCE]]();
}

// The end of the run on the axis, and the position of a bar's edge (0: start, 1: end) or of a moment on it.
const whole = () => Math.max(1, data.end[axis === "time" ? 0 : 1]);
const edge = (bar, which) => bar[(axis === "time" ? START : START_EVENT) + which];
const at = moment => moment[axis === "time" ? 0 : 1];
const toX = (value, width) => LEFT + (value / whole() - view[0]) / (view[1] - view[0]) * (width - LEFT);
const fromX = (x, width) => ((x - LEFT) / (width - LEFT) * (view[1] - view[0]) + view[0]) * whole();

const rowHeight = bits => 3 + Math.max(0, Math.min(bits, 30) - 5) * 0.7;
const rowTops = [0];
for (const bits of data.rows) rowTops.push(rowTops[rowTops.length - 1] + rowHeight(bits) + GAP);
const rowBars = data.rows.map(() => []);
data.bars.forEach((bar, index) => rowBars[bar[ROW]].push(index));

function prepare(canvas, height) {
  const ratio = devicePixelRatio || 1, width = canvas.clientWidth;
  canvas.style.height = height + "px";
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const draw = canvas.getContext("2d");
  draw.setTransform(ratio, 0, 0, ratio, 0, 0);
  draw.clearRect(0, 0, width, height);
  draw.font = "11px system-ui, sans-serif";
  return [draw, width];
}
// Round steps, about this many, up to this value.
function ticks(from, to, count) {
  const rough = (to - from) / count, power = 10 ** Math.floor(Math.log10(rough || 1));
  const step = [1, 2, 5, 10].map(n => n * power).find(n => n >= rough) || power;
  const list = [];
  for (let value = Math.ceil(from / step) * step; value <= to; value += step) list.push(value);
  return list;
}
// The ends of steps in view: all as lines where they lie far enough apart, else every n-th, and those with a number on
// them.
function marks(width) {
  const steps = data.steps.map((step, index) => [step, index + 1]);
  const shown = steps.filter(([step]) => at(step) / whole() >= view[0] && at(step) / whole() <= view[1]);
  const gap = (width - LEFT) / Math.max(1, shown.length), last = steps[steps.length - 1];
  const digits = last ? `${last[0][2]}`.length : 1;
  let every = 1;
  for (let i = 0; gap * every < 10 + 7 * digits && every < shown.length; i++) every *= i % 3 === 1 ? 2.5 : 2;
  const named = shown.filter(([, ordinal]) => ordinal % every === 0);
  return { lines: (gap >= 5 ? shown : named).map(([step]) => step), named: named.map(([step]) => step) };
}
function drawMarks(draw, width, top, bottom) {
  draw.fillStyle = style("mark");
  for (const step of marks(width).lines) draw.fillRect(Math.round(toX(at(step), width)), top, 1, bottom - top);
}
function byteTicks(most) {
  let step = 2 ** Math.ceil(Math.log2(Math.max(1, most) / 5)), list = [];
  for (let value = 0; value <= most; value += step) list.push(value);
  return list;
}

function drawTimeline() {
  const height = 220, base = height - AXIS, head = data.steps.length ? MARKS : 0;
  const [draw, width] = prepare(timeline, height);
  const most = data.moments.reduce((most, moment) => Math.max(most, moment[DRIVER], moment[LIVE]), 1) * 1.06;
  const y = value => base - value / most * (base - 8 - head);
  draw.textAlign = "right";
  for (const value of byteTicks(most)) {
    draw.fillStyle = style("line");
    draw.fillRect(LEFT, Math.round(y(value)), width - LEFT, 1);
    draw.fillStyle = style("faint");
    draw.fillText(bytes(value), LEFT - 8, y(value) + 4);
  }
  // Of each column of the picture the most of every layer and the least that was live: a peak of a moment is seen.
  const tops = [m => m[DRIVER], m => m[LIVE] + m[RESERVED] + m[POOLED], m => m[LIVE] + m[RESERVED], m => m[LIVE]];
  const count = Math.max(1, Math.ceil(width - LEFT)), least = new Float64Array(count).fill(Infinity);
  const highest = tops.map(() => new Float64Array(count));
  data.moments.forEach((moment, index) => {
    const next = data.moments[index + 1], from = Math.floor(toX(at(moment), width) - LEFT);
    const to = Math.min(count - 1, Math.floor(toX(next ? at(next) : whole(), width) - LEFT));
    const values = tops.map(top => top(moment));
    for (let column = Math.max(0, from); column <= to; column++) {
      values.forEach((value, layer) => { highest[layer][column] = Math.max(highest[layer][column], value); });
      least[column] = Math.min(least[column], moment[LIVE]);
    }
  });
  const fill = (values, colour) => {
    draw.fillStyle = colour;
    draw.beginPath();
    draw.moveTo(LEFT, base);
    values.forEach((value, column) => {
      const top = y(Number.isFinite(value) ? value : 0);
      draw.lineTo(LEFT + column, top);
      draw.lineTo(LEFT + column + 1, top);
    });
    draw.lineTo(LEFT + count, base);
    draw.fill();
  };
  draw.save();
  draw.beginPath();
  draw.rect(LEFT, 0, width - LEFT, height);
  draw.clip();
  ["waste", "pooled", "reserved", "peaks"].forEach((name, layer) => fill(highest[layer], style(name)));
  fill(least, style("live"));
  drawMarks(draw, width, head, base);
  if (head) {
    draw.fillStyle = style("faint");
    draw.textAlign = "right";
    let free = LEFT;
    for (const step of marks(width).named) {
      const x = toX(at(step), width), label = `${step[2]}`, left = x - 3 - draw.measureText(label).width;
      if (left < free) continue;
      draw.fillText(label, x - 3, 11);
      draw.fillRect(Math.round(x), 0, 1, head);
      free = x + 5;
    }
  }
  if (cursor !== null) {
    draw.fillStyle = style("ink");
    draw.fillRect(toX(cursor, width), 0, 1, base);
  }
  draw.restore();
  draw.fillStyle = style("faint");
  draw.textAlign = "center";
  if (head) {
    draw.textAlign = "right";
    draw.fillText(data.step, LEFT - 8, 11);
    draw.textAlign = "center";
  }
  const [from, to] = view.map(part => part * whole());
  for (const value of ticks(from, to, Math.max(2, (width - LEFT) / 110))) {
    const x = toX(value, width);
    draw.fillRect(x, base, 1, 4);
    draw.fillText(axis === "time" ? duration(value) : `event ${value}`, Math.min(x, width - 34), height - 5);
  }
}

function drawBars() {
  const height = rowTops[rowTops.length - 1] + 14;
  const [draw, width] = prepare(bars, height);
  draw.textAlign = "right";
  draw.fillStyle = style("faint");
  let lastLabel = -20;
  drawMarks(draw, width, 0, height);
  draw.fillStyle = style("faint");
  data.rows.forEach((bits, row) => {
    if (bits !== data.rows[row - 1] && rowTops[row] - lastLabel >= 12) {
      draw.fillText("≥ " + bytes(2 ** bits), LEFT - 8, rowTops[row] + 10);
      lastLabel = rowTops[row];
    }
  });
  for (let index = 0; index < data.bars.length; index++) {
    const bar = data.bars[index];
    const x = Math.max(LEFT, toX(edge(bar, 0), width)), end = Math.min(width, toX(edge(bar, 1), width));
    if (end < LEFT || x > width) continue;
    draw.globalAlpha = found === null || found.has(index) ? 1 : 0.1;
    draw.fillStyle = index === hovered ? style("ink") : barColour(bar);
    draw.fillRect(x, rowTops[bar[ROW]], Math.max(0.75, end - x - (end - x > 3 ? 0.5 : 0)), rowHeight(data.rows[bar[ROW]]));
  }
}

// The bar at a position of the canvas, -1 where there is none; the nearest within two pixels counts.
function hit(x, y) {
  const width = bars.clientWidth;
  if (x < LEFT) return -1;
  let low = 0, high = data.rows.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (rowTops[middle] <= y) low = middle; else high = middle - 1;
  }
  let best = -1, nearest = 2.5;
  for (const index of rowBars[low] || []) {
    const start = toX(edge(data.bars[index], 0), width), end = toX(edge(data.bars[index], 1), width);
    const distance = x < start ? start - x : x > end ? x - end : 0;
    if (distance < nearest) [best, nearest] = [index, distance];
  }
  return best;
}
// The step that an event is in: the first that ends behind it. Of a long run not every step is known.
function stepOf(event) {
  const at = data.steps.findIndex(step => step[1] > event), last = data.steps.length - 1;
  if (at < 0) return last < 0 ? "" : `after ${data.step} ${data.steps[last][2]}`;
  const number = data.steps[at][2], before = at > 0 ? data.steps[at - 1][2] : 0;
  return number - before > 1 ? `between ${data.step} ${before + 1} and ${number}` : `in ${data.step} ${number}`;
}
function describe(bar) {
  const lines = [`${data.ops[bar[OP]]}: ${data.layouts[bar[LAYOUT]]}`, `${bytes(bar[BYTES])} (${bar[BYTES]} bytes)`];
  if (bar[PLACE] >= 0) lines.push(data.places[bar[PLACE]]);
  lines.push(`${ROLES[bar[ROLE]]}, from ${SOURCES[bar[SOURCE]]}`);
  const until = bar[OPEN] ? "to the end" : `for ${duration(bar[START + 1] - bar[START])}`;
  lines.push(`at ${duration(bar[START])}, ${until}, events ${bar[START_EVENT]} to ${bar[START_EVENT + 1]}`);
  const step = stepOf(bar[START_EVENT]);
  if (step) lines.push(step);
  return lines.join("\n");
}
function momentAt(value) {
  let low = 0, high = data.moments.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (at(data.moments[middle]) <= value) low = middle; else high = middle - 1;
  }
  return data.moments[low];
}
function describeMoment(moment) {
  const other = moment[DRIVER] - moment[LIVE] - moment[RESERVED] - moment[POOLED];
  const step = stepOf(moment[1]);
  return [`at ${duration(moment[0])}, event ${moment[1]}${step ? ", " + step : ""}`, `live ${bytes(moment[LIVE])}`,
    `reserved and free ${bytes(moment[RESERVED])}`, `pooled ${bytes(moment[POOLED])}`, `waste ${bytes(Math.max(0, other))}`, `from the system ${bytes(moment[DRIVER])}`].join("\n");
}
function showTip(text, x, y) {
  tip.textContent = text;
  tip.hidden = false;
  tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - tip.offsetWidth - 8)) + "px";
  tip.style.top = Math.max(4, Math.min(y + 14, innerHeight - tip.offsetHeight - 8)) + "px";
}

// Finds tensors: those of which operation, layout and place together have every word.
function find(text) {
  const words = text.toLowerCase().split(/\s+/).filter(word => word);
  // A number at the end of a word is a whole one: line 1 is not line 12.
  const has = (name, word) => {
    for (let from = name.indexOf(word); from >= 0; from = name.indexOf(word, from + 1)) {
      if (!/\d$/.test(word) || !/\d/.test(name[from + word.length] || "")) return true;
    }
    return false;
  };
  const names = new Map();
  const matches = bar => {
    const key = `${bar[OP]} ${bar[LAYOUT]} ${bar[PLACE]}`;
    if (!names.has(key)) {
      const place = bar[PLACE] >= 0 ? data.places[bar[PLACE]] : "";
      const name = `${data.ops[bar[OP]]} ${data.layouts[bar[LAYOUT]]} ${place}`.toLowerCase();
      names.set(key, words.every(word => has(name, word)));
    }
    return names.get(key);
  };
  found = null;
  foundList = [];
  foundAt = -1;
  let said = "";
  if (words.length) {
    foundList = data.bars.map((_, index) => index).filter(index => matches(data.bars[index]));
    found = new Set(foundList);
    const total = foundList.reduce((sum, index) => sum + data.bars[index][BYTES], 0);
    const count = `${foundList.length} of ${data.bars.length} drawn tensors`;
    said = foundList.length ? `${count}, ${bytes(total)} together` : "no drawn tensor";
  }
  document.getElementById("found").textContent = said;
  document.getElementById("next").hidden = foundList.length === 0;
  for (const row of document.querySelectorAll(".found tbody tr")) {
    const name = row.cells[0].textContent.toLowerCase();
    row.classList.toggle("hit", words.length > 0 && words.every(word => has(name, word)));
  }
  redraw();
}
// Goes to the next tensor that was found.
function goOn() {
  if (!foundList.length) return;
  foundAt = (foundAt + 1) % foundList.length;
  const bar = data.bars[foundList[foundAt]], middle = (edge(bar, 0) + edge(bar, 1)) / 2 / whole();
  const span = view[1] - view[0];
  if (middle < view[0] || middle > view[1]) show(middle - span / 2, middle + span / 2);
  pointAt(bar);
}
// Shows a bar as if the pointer were on it.
function pointAt(bar) {
  const top = rowTops[bar[ROW]], height = rowHeight(data.rows[bar[ROW]]), above = timeline.parentElement.offsetHeight;
  const visible = pictures.clientHeight - above;
  if (top < pictures.scrollTop || top + height > pictures.scrollTop + visible) pictures.scrollTop = top - visible / 2;
  const box = bars.getBoundingClientRect(), width = bars.clientWidth;
  const from = Math.max(LEFT, toX(edge(bar, 0), width)), to = Math.min(width, toX(edge(bar, 1), width));
  hovered = data.bars.indexOf(bar);
  cursor = (edge(bar, 0) + edge(bar, 1)) / 2;
  showTip(describe(bar), box.left + (from + to) / 2, box.top + top + height);
  redraw();
}

let isQueued = false;
function redraw() {
  if (isQueued) return;
  isQueued = true;
  requestAnimationFrame(() => { isQueued = false; drawTimeline(); drawBars(); });
}
function show(from, to) {
  const span = Math.min(1, Math.max(1e-7, to - from));
  const start = Math.max(0, Math.min(1 - span, from));
  view = [start, start + span];
  redraw();
}
function legend() {
  const fill = (id, entries) => {
    const list = document.getElementById(id);
    list.textContent = "";
    for (const [name, value] of entries) {
      const entry = document.createElement("span"), box = document.createElement("i");
      box.style.background = value;
      entry.append(box, name);
      list.append(entry);
    }
  };
  fill("timeline-legend", [["live", style("live")], ["live for moments", style("peaks")],
    ["reserved and free", style("reserved")], ["pooled", style("pooled")], ["waste; the top of all is what the system gave", style("waste")]]);
  const names = { role: ROLES, source: SOURCES, op: data.ops }[colour];
  const field = { role: ROLE, source: SOURCE, op: OP }[colour];
  const seen = [...new Set(data.bars.map(bar => bar[field]))].sort((a, b) => a - b).slice(0, 24);
  fill("bars-legend", seen.map(value => {
    const bar = [];
    bar[field] = value;
    return [names[value], barColour(bar)];
  }));
}

for (const canvas of [timeline, bars]) {
  let drag = null;
  canvas.addEventListener("pointerdown", event => {
    drag = [event.clientX, view[0]];
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointerup", () => { drag = null; });
  canvas.addEventListener("pointercancel", () => { drag = null; });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; hovered = -1; cursor = null; redraw(); });
  canvas.addEventListener("pointermove", event => {
    const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    if (drag) {
      const moved = (event.clientX - drag[0]) / (canvas.clientWidth - LEFT) * (view[1] - view[0]);
      show(drag[1] - moved, drag[1] - moved + view[1] - view[0]);
      return;
    }
    hover(canvas, x, y, event.clientX, event.clientY);
  });
  canvas.addEventListener("wheel", event => {
    // There may be more rows than are seen at once: over the bars, the wheel alone goes through them.
    if (canvas === bars && !event.ctrlKey) return;
    event.preventDefault();
    const part = fromX(event.clientX - canvas.getBoundingClientRect().left, canvas.clientWidth) / whole();
    const factor = Math.exp(event.deltaY * 0.0015);
    show(part - (part - view[0]) * factor, part + (view[1] - part) * factor);
  }, { passive: false });
}
function hover(canvas, x, y, pageX, pageY) {
  cursor = x >= LEFT ? Math.max(0, Math.min(whole(), fromX(x, canvas.clientWidth))) : null;
  hovered = canvas === bars ? hit(x, y) : -1;
  if (hovered >= 0) showTip(describe(data.bars[hovered]), pageX, pageY);
  else if (canvas === timeline && cursor !== null && data.moments.length) showTip(describeMoment(momentAt(cursor)), pageX, pageY);
  else tip.hidden = true;
  redraw();
}

document.getElementById("axis").addEventListener("change", event => { axis = event.target.value; view = [0, 1]; redraw(); });
document.getElementById("colour").addEventListener("change", event => { colour = event.target.value; legend(); redraw(); });
const search = document.getElementById("find");
search.addEventListener("input", () => find(search.value));
search.addEventListener("keydown", event => { if (event.key === "Enter") goOn(); });
document.getElementById("next").addEventListener("click", goOn);
document.getElementById("all").addEventListener("click", () => show(0, 1));
addEventListener("resize", redraw);
dark.addEventListener("change", () => { legend(); redraw(); });

// What is to be seen at first may stand behind the page's address:
// #axis=order&colour=source&from=0.2&to=0.4&find=softmax&bar=17.
const wanted = new URLSearchParams(location.hash.slice(1));
if (wanted.has("axis")) document.getElementById("axis").value = axis = wanted.get("axis") === "order" ? "order" : "time";
if (["source", "op"].includes(wanted.get("colour"))) document.getElementById("colour").value = colour = wanted.get("colour");
legend();
show(Number(wanted.get("from") || 0), Number(wanted.get("to") || 1));
drawTimeline();
drawBars();
if (wanted.has("find")) find(search.value = wanted.get("find"));
const chosen = data.bars[Number(wanted.get("bar") ?? -1)];
if (chosen) pointAt(chosen);
