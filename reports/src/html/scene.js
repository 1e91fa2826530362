// The timeline on its canvas. What is closer together than a pixel is drawn once: the cost of a frame is bounded by the
// width of the page, not by the number of events.
const GUTTER = 176, AXIS = 30, BAND = 15, STRIP = 20, OPERATION = 7, BELIEF = 16, PADDING = 5;
const canvas = document.getElementById("canvas");
const scroller = document.getElementById("scroller");
const pen = canvas.getContext("2d");
const view = { from: run.view[0], to: run.view[1], arrows: false, cursor: null, chosen: -1, found: null };
let colours = {}, size = { width: 0, height: 0 }, hatch = null;

const faultRows = Math.min(8, run.faults.reduce((rows, fault) => Math.max(rows, fault.row + 1), 0));
let extent = AXIS + faultRows * BAND + 4;
for (const lane of lanes) {
  const deep = Math.min(3, lane.operations.reduce((rows, o) => Math.max(rows, o.row + 1), 0));
  lane.top = extent;
  lane.strip = extent + PADDING;
  lane.calls = lane.strip + STRIP;
  lane.deep = deep;
  // Where many things are believed, a row is a stroke without words.
  lane.bar = lane.rows.length <= 6 ? BELIEF : Math.max(3, 96 / lane.rows.length);
  lane.bars = lane.calls + deep * OPERATION + (deep > 0 ? 2 : 0);
  extent = lane.bars + lane.rows.length * lane.bar + PADDING;
  lane.bottom = extent;
}

// The words of moments stand below the lanes.
if (run.moments.length > 0) extent += 16;

function restyle() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["ground", "raised", "ink", "faint", "line", "good", "warn", "bad", "fault", "call",
    "good-fill", "warn-fill", "bad-fill", "fault-fill", "chosen", "found"]) {
    colours[name] = style.getPropertyValue(`--${name}`).trim();
  }
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const ink = tile.getContext("2d");
  ink.strokeStyle = colours.warn;
  ink.beginPath(); ink.moveTo(0, 6); ink.lineTo(6, 0); ink.stroke();
  hatch = pen.createPattern(tile, "repeat");
}

function resize() {
  const ratio = window.devicePixelRatio || 1;
  const room = Math.max(220, Math.round(window.innerHeight * 0.42));
  size = { width: scroller.clientWidth, height: Math.min(extent + 2, room) };
  scroller.style.height = `${size.height + 2}px`;
  document.getElementById("extent").style.height = `${Math.max(0, extent - size.height)}px`;
  canvas.style.height = `${size.height}px`;
  canvas.width = Math.round(size.width * ratio);
  canvas.height = Math.round(size.height * ratio);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
}

const plot = () => size.width - GUTTER - 8;
const xOf = (at) => GUTTER + ((at - view.from) / (view.to - view.from)) * plot();
const atOf = (x) => view.from + ((x - GUTTER) / plot()) * (view.to - view.from);
const perPixel = () => (view.to - view.from) / plot();

function fitted(text, room) {
  if (room < 14) return "";
  if (pen.measureText(text).width <= room) return text;
  let keep = Math.min(text.length, Math.floor(room / 5));
  while (keep > 0 && pen.measureText(`${text.slice(0, keep)}…`).width > room) keep -= 1;
  return keep > 2 ? `${text.slice(0, keep)}…` : "";
}

function draw() {
  const scrolled = scroller.scrollTop;
  pen.fillStyle = colours.ground;
  pen.fillRect(0, 0, size.width, size.height);
  pen.textBaseline = "middle";
  pen.save();
  pen.translate(0, -scrolled);
  const seen = lanes.filter((lane) => lane.bottom > scrolled && lane.top < scrolled + size.height);
  pen.save();
  pen.beginPath(); pen.rect(GUTTER, scrolled, plot() + 8, size.height); pen.clip();
  for (const lane of seen) ground(lane);
  shade(seen);
  for (const lane of seen) { believed(lane); called(lane); happened(lane); }
  if (view.arrows) arrows();
  pen.restore();
  for (const lane of seen) label(lane);
  pen.restore();
  head();
  violations(scrolled);
  if (view.cursor !== null) rule(xOf(view.cursor), colours.faint, [3, 3]);
}

function ground(lane) {
  if (lane.concerned) {
    pen.globalAlpha = 0.16;
    pen.fillStyle = colours["bad-fill"];
    pen.fillRect(GUTTER, lane.top, plot() + 8, lane.bottom - lane.top);
    pen.globalAlpha = 1;
  }
  pen.fillStyle = colours.line;
  pen.fillRect(GUTTER, lane.bottom - 1, plot() + 8, 1);
}

function shade(seen) {
  for (const fault of run.faults) {
    const x = xOf(fault.from), w = Math.max(1.5, xOf(fault.to) - x);
    if (!fault.bit || x > size.width || x + w < GUTTER) continue;
    pen.fillStyle = colours["fault-fill"];
    for (const lane of seen) {
      if (fault.lanes.length === 0 || fault.lanes.includes(lanes.indexOf(lane))) {
        pen.fillRect(x, lane.top, w, lane.bottom - lane.top);
      }
    }
  }
}

function believed(lane) {
  pen.font = "11px system-ui, sans-serif";
  const drawn = new Map();
  for (const belief of lane.beliefs) {
    const x = Math.max(GUTTER, xOf(belief.from)), end = Math.min(size.width, xOf(belief.to));
    if (end < GUTTER || x > size.width) continue;
    const y = lane.bars + belief.row * lane.bar, w = Math.max(1, end - x), h = lane.bar - (lane.bar > 6 ? 3 : 1);
    if (w <= 1 && drawn.get(belief.row) === Math.floor(x)) continue;
    drawn.set(belief.row, Math.floor(x));
    const [tone, fill] = [["good", "good-fill"], ["warn", "ground"], ["bad", "ground"]][belief.tone];
    pen.fillStyle = colours[fill];
    pen.fillRect(x, y, w, h);
    if (belief.tone === 1) { pen.globalAlpha = 0.45; pen.fillStyle = hatch; pen.fillRect(x, y, w, h); pen.globalAlpha = 1; }
    if (w < 4 || lane.bar < 7) continue;
    pen.strokeStyle = colours[tone];
    pen.setLineDash(belief.tone === 2 ? [3, 2] : []);
    pen.strokeRect(x + 0.5, y + 0.5, w - 1, h - 1);
    pen.setLineDash([]);
    const text = fitted(belief.state, w - 8);
    if (text === "") continue;
    if (belief.tone === 1) { pen.fillStyle = colours.ground; pen.fillRect(x + 2, y + 2, pen.measureText(text).width + 4, h - 4); }
    pen.fillStyle = colours[tone];
    pen.fillText(text, x + 4, y + h / 2 + 0.5);
  }
}

function called(lane) {
  const drawn = [-1, -1, -1];
  for (const operation of lane.operations) {
    const x = xOf(operation.from), w = xOf(operation.to) - x, row = Math.min(2, operation.row);
    if (x > size.width) break;
    if (x + w < GUTTER || (w < 1 && Math.floor(x) === drawn[row])) continue;
    drawn[row] = Math.floor(x);
    const end = run.kinds[operation.end];
    pen.fillStyle = end === "ok" ? colours.call : end === "refused" ? colours.bad : colours.warn;
    pen.globalAlpha = 0.75;
    pen.fillRect(x, lane.calls + row * OPERATION, Math.max(1.5, w), OPERATION - 2);
    pen.globalAlpha = 1;
  }
}

const INK = { calls: "call", ok: "call", refused: "bad", unknown: "warn", "is told": "ink", commits: "good",
  removes: "warn", process: "fault", link: "faint" };

function happened(lane) {
  const y = lane.strip + STRIP / 2 - 2, at = (i) => marks.at[i], step = perPixel();
  const first = firstFrom(lane.marks, at, view.from - 6 * step), last = firstFrom(lane.marks, at, view.to + 6 * step);
  const crowded = last - first > plot() / 4;
  let drawn = -1;
  const weighty = [];
  for (let n = first; n < last; n += 1) {
    const i = lane.marks[n], x = xOf(marks.at[i]), column = crowded ? Math.floor(x) : Math.floor(x * 2);
    if (marks.weight[i] > CONTEXT || i === view.chosen) { weighty.push(i); continue; }
    if (column === drawn) continue;
    drawn = column;
    const faint = marks.hum[i] === 1;
    pen.fillStyle = colours[faint ? "faint" : INK[kindOf(i)]];
    if (crowded) { pen.fillRect(column, y - (faint ? 3 : 7), 1, faint ? 6 : 14); continue; }
    glyph(kindOf(i), x, y, faint ? 2 : 4);
  }
  if (view.found !== null) {
    pen.fillStyle = colours.bad;
    let column = -1;
    const start = firstFrom(view.found, at, view.from), stop = firstFrom(view.found, at, view.to);
    for (let n = start; n < stop; n += 1) {
      const i = view.found[n], x = xOf(marks.at[i]);
      if (lanes[marks.lane[i]] !== lane || Math.floor(x) === column) continue;
      column = Math.floor(x);
      pen.fillRect(column - 1, lane.top + 1, 3, 4);
    }
  }
  for (const i of weighty) emphasise(i, y);
}

function emphasise(i, y) {
  const x = xOf(marks.at[i]);
  pen.fillStyle = pen.strokeStyle = marks.weight[i] === VIOLATION ? colours.bad : colours.ink;
  glyph(kindOf(i), x, y, 4.5);
  pen.lineWidth = 2;
  pen.strokeStyle = i === view.chosen ? colours.call : pen.fillStyle;
  pen.beginPath(); pen.arc(x, y, 8, 0, 7); pen.stroke();
  pen.lineWidth = 1;
}

function glyph(kind, x, y, r) {
  pen.beginPath();
  if (kind === "is told") { pen.moveTo(x, y - r - 1); pen.lineTo(x + r + 1, y); pen.lineTo(x, y + r + 1); pen.lineTo(x - r - 1, y); }
  else if (kind === "commits" || kind === "removes") pen.rect(x - r, y - r, 2 * r, 2 * r);
  else if (kind === "process") { pen.moveTo(x, y - r - 1); pen.lineTo(x + r + 1, y + r); pen.lineTo(x - r - 1, y + r); }
  else if (kind === "link") pen.rect(x - 1.5, y - r - 2, 3, 2 * r + 4);
  else pen.arc(x, y, r, 0, 7);
  pen.closePath();
  pen.fill();
  // What was taken away, refused or never answered is hollow.
  if (["removes", "refused", "unknown", "calls"].includes(kind) && r > 2) {
    const ink = pen.fillStyle;
    pen.fillStyle = colours.ground;
    pen.beginPath(); pen.rect(x - r / 2, y - r / 2, r, r); pen.fill();
    pen.fillStyle = ink;
  }
}

function arrows() {
  const drawn = new Set();
  pen.lineWidth = 1;
  for (const message of run.messages) {
    const x = xOf(message.sent), lost = message.arrived === null;
    const end = lost ? x + 18 : xOf(message.arrived);
    if (end < GUTTER || x > size.width) continue;
    const key = `${message.from} ${message.to} ${Math.floor(x)} ${Math.floor(end)}`;
    if (drawn.has(key)) continue;
    drawn.add(key);
    const y = lanes[message.from].strip + STRIP / 2 - 2;
    let to = lanes[message.to].strip + STRIP / 2 - 2;
    // What is lost stops on its way.
    if (lost) to = y + Math.sign(to - y) * Math.min(26, Math.abs(to - y));
    pen.strokeStyle = pen.fillStyle = lost ? colours.bad : colours.call;
    pen.setLineDash(lost ? [4, 3] : []);
    pen.beginPath(); pen.moveTo(x, y); pen.lineTo(end, to); pen.stroke();
    pen.setLineDash([]);
    if (lost) { pen.fillText("✗", end - 4, to); continue; }
    const angle = Math.atan2(to - y, end - x);
    pen.beginPath(); pen.moveTo(end, to);
    pen.lineTo(end - 7 * Math.cos(angle - 0.4), to - 7 * Math.sin(angle - 0.4));
    pen.lineTo(end - 7 * Math.cos(angle + 0.4), to - 7 * Math.sin(angle + 0.4));
    pen.fill();
  }
}

function label(lane) {
  pen.fillStyle = colours.ground;
  pen.fillRect(0, lane.top, GUTTER, lane.bottom - lane.top);
  pen.fillStyle = colours.line;
  pen.fillRect(0, lane.bottom - 1, GUTTER, 1);
  pen.font = "600 13px system-ui, sans-serif";
  pen.fillStyle = lane.concerned ? colours.bad : colours.ink;
  const name = fitted(`${lane.concerned ? "✗ " : ""}${lane.name}`, GUTTER - 20);
  pen.fillText(name, 8, lane.strip + STRIP / 2 - 2);
  const width = pen.measureText(name).width;
  pen.font = "11px system-ui, sans-serif";
  pen.fillStyle = colours.faint;
  pen.fillText(fitted(lane.role, GUTTER - width - 24), 14 + width, lane.strip + STRIP / 2 - 2);
  if (lane.bar < 10) return;
  pen.textAlign = "right";
  lane.rows.forEach((about, row) => {
    pen.fillText(fitted(about, GUTTER - 20), GUTTER - 8, lane.bars + row * lane.bar + lane.bar / 2 - 1);
  });
  pen.textAlign = "left";
}

/// The axis and the faults: always at the top, however far the lanes are scrolled.
function head() {
  const bottom = AXIS + faultRows * BAND + 3;
  pen.fillStyle = colours.ground;
  pen.fillRect(0, 0, size.width, bottom);
  pen.fillStyle = colours.line;
  pen.fillRect(0, bottom, size.width, 1);
  pen.font = "11px system-ui, sans-serif";
  pen.fillStyle = colours.faint;
  pen.fillText("seconds", 8, AXIS - 9);
  const rough = perPixel() * 90, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  for (let at = Math.ceil(view.from / step) * step; at <= view.to; at += step) {
    const x = xOf(at);
    pen.fillStyle = colours.line;
    pen.fillRect(x, AXIS - 4, 1, 4);
    pen.fillStyle = colours.faint;
    pen.fillText(seconds(at, step), x + 3, AXIS - 9);
  }
  if (faultRows > 0) pen.fillText("faults", 8, AXIS + BAND / 2);
  pen.save();
  pen.beginPath(); pen.rect(GUTTER, 0, plot() + 8, size.height); pen.clip();
  for (const fault of run.faults) {
    const x = Math.max(GUTTER, xOf(fault.from)), end = xOf(fault.to), y = AXIS + Math.min(fault.row, faultRows - 1) * BAND;
    if (end < GUTTER || x > size.width) continue;
    const w = Math.max(3, Math.min(end, size.width) - x);
    if (fault.bit) { pen.fillStyle = colours["fault-fill"]; pen.fillRect(x, y + 1, w, BAND - 2); }
    pen.strokeStyle = fault.bit ? colours.fault : colours.faint;
    pen.setLineDash(fault.bit ? [] : [3, 2]);
    pen.strokeRect(x + 0.5, y + 1.5, w - 1, BAND - 3);
    pen.setLineDash([]);
    pen.fillStyle = fault.bit ? colours.fault : colours.faint;
    const name = `${fault.name} ${fault.target}${fault.bit ? "" : " (did not bite)"}`;
    pen.fillText(fitted(name, w - 6), x + 4, y + BAND / 2 + 0.5);
  }
  let free = GUTTER;
  for (const moment of run.moments) {
    const x = xOf(moment.at);
    rule(x, colours.faint, [1, 3]);
    // Where two moments are too close, the first has the word.
    if (x < free || x > size.width) continue;
    free = x + pen.measureText(moment.text).width + 8;
    pen.fillStyle = colours.ground;
    pen.fillRect(x + 2, size.height - 15, pen.measureText(moment.text).width + 4, 14);
    pen.fillStyle = colours.faint;
    pen.fillText(moment.text, x + 4, size.height - 8);
  }
  pen.restore();
}

function violations(scrolled) {
  pen.save();
  pen.beginPath(); pen.rect(GUTTER - 6, 0, plot() + 14, size.height); pen.clip();
  const taken = [];
  run.violations.forEach((violation, n) => {
    const x = xOf(violation.at);
    if (x < GUTTER - 6 || x > size.width) return;
    rule(x, colours.bad, n === 0 ? [] : [4, 4]);
    const text = `✗ ${violation.code}  ${seconds(violation.at)}`;
    pen.font = "600 12px system-ui, sans-serif";
    const width = pen.measureText(text).width + 10, left = Math.min(Math.max(GUTTER, x - width / 2), size.width - width - 2);
    // Where labels would cover each other, the earlier violation has the word: the page is about the first.
    if (taken.every(([from, to]) => left + width < from || left > to)) {
      taken.push([left, left + width]);
      pen.fillStyle = colours.bad;
      pen.fillRect(left, 1, width, 15);
      pen.fillStyle = colours.ground;
      pen.fillText(text, left + 5, 9);
    }
    pen.fillStyle = colours.bad;
    for (const lane of violation.lanes) pen.fillRect(x - 2, lanes[lane].top - scrolled, 4, lanes[lane].bottom - lanes[lane].top);
  });
  pen.restore();
}

function rule(x, colour, dash) {
  if (x < GUTTER || x > size.width) return;
  pen.strokeStyle = colour;
  pen.setLineDash(dash);
  pen.beginPath(); pen.moveTo(Math.round(x) + 0.5, AXIS - 12); pen.lineTo(Math.round(x) + 0.5, size.height); pen.stroke();
  pen.setLineDash([]);
}
