// What the reader does: zoom, pan, point, choose, search.
const tip = document.getElementById("tip");
const query = document.getElementById("query");
const tally = document.getElementById("tally");
const range = document.getElementById("range");
const FIRST = run.violations.length > 0 ? run.violations[0] : null;
let asked = false;

function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => { asked = false; draw(); });
}

function look(from, to) {
  const span = Math.min(Math.max(to - from, 1000), run.end * 1.1 + 1000);
  const last = Math.max(run.end * 1.05, span);
  view.from = Math.min(Math.max(from, -run.end * 0.05), last - span);
  view.to = view.from + span;
  tellRange();
  redraw();
}

/// What is in sight, in words, for whoever does not see the axis.
function tellRange() {
  const step = (view.to - view.from) / 100, [from, to] = [Math.max(0, view.from), Math.min(run.end, view.to)];
  range.textContent = `${seconds(from, step)} to ${seconds(to, step)} s of ${seconds(run.end, step)} s`;
}

/// What stays where it is when nothing is pointed at: the cursor, if it is in sight.
function middle() {
  const inSight = view.cursor !== null && view.cursor >= view.from && view.cursor <= view.to;
  return inSight ? view.cursor : (view.from + view.to) / 2;
}

function zoom(factor, at = middle()) {
  look(at - (at - view.from) * factor, at + (view.to - at) * factor);
}

function pan(part) {
  const step = (view.to - view.from) * part;
  look(view.from + step, view.to + step);
}

function point(at) { view.cursor = at; redraw(); }

function choose(i, reveal) {
  if (i < 0 || i >= marks.count) return;
  view.chosen = i;
  const at = marks.at[i], span = view.to - view.from;
  if (reveal && (at < view.from || at > view.to)) look(at - span / 2, at + span / 2);
  if (reveal) showLane(lanes[marks.lane[i]]);
  point(at);
  bring(i);
  // The focus stays where it is: this tells a screen reader which row is meant.
  list.setAttribute("aria-activedescendant", `event-${i}`);
}

function showLane(lane) {
  const top = AXIS + faultRows * BAND + 4;
  if (lane.top - top < scroller.scrollTop || lane.bottom > scroller.scrollTop + size.height) scroller.scrollTop = lane.top - top;
}

function step(by) {
  const count = shownCount();
  if (count === 0) return;
  const here = view.chosen < 0 ? firstFrom(marks.at, (at) => at, view.from) : view.chosen;
  const place = placeOf(here);
  const next = view.chosen < 0 || (by > 0 && shownAt(place) > here) ? place : place + by;
  choose(shownAt(Math.min(count - 1, Math.max(0, next))), true);
}

const whole = () => look(-run.end * 0.02, run.end * 1.02);
function violation() {
  look(run.view[0], run.view[1]);
  tell();
}
/// Puts cursor and table to the violation, or to what came last before it, where no event stands for it.
function tell() {
  if (run.proof.length > 0) return choose(run.proof[0], true);
  if (FIRST === null) return;
  point(FIRST.at);
  bring(Math.max(0, firstFrom(marks.at, (at) => at, FIRST.at + 1) - 1));
}
function arrowsOn() {
  view.arrows = !view.arrows;
  document.getElementById("arrows").setAttribute("aria-pressed", view.arrows);
  redraw();
}
function theme() {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  restyle();
  redraw();
}
function find() {
  view.found = search(query.value);
  show(view.found);
  tally.textContent = view.found === null ? "" : `${view.found.length} of ${marks.count} events`;
  redraw();
}

const ACTIONS = { "zoom-in": () => zoom(0.5), "zoom-out": () => zoom(2), whole, violation, arrows: arrowsOn, theme };
for (const [id, action] of Object.entries(ACTIONS)) document.getElementById(id)?.addEventListener("click", action);
const KEYS = {
  "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), 0: whole, Home: whole,
  ArrowLeft: () => pan(-0.15), ArrowRight: () => pan(0.15), ArrowUp: () => step(-1), ArrowDown: () => step(1),
  v: violation, m: () => run.messages.length > 0 && arrowsOn(), t: theme, "/": () => query.focus(),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target === query) {
    if (event.key === "Enter") step(event.shiftKey ? -1 : 1);
    if (event.key === "Escape") { query.value = ""; find(); scroller.focus(); }
    return;
  }
  // A button keeps its own keys; everything else is the timeline's.
  const action = KEYS[event.key];
  if (action === undefined) return;
  event.preventDefault();
  action();
});

let waiting = 0;
query.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(find, 120); });

let dragged = null;
canvas.addEventListener("pointerdown", (event) => {
  dragged = { x: event.clientX, from: view.from, to: view.to, moved: false };
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointerup", (event) => {
  const still = dragged !== null && !dragged.moved;
  dragged = null;
  const i = still ? nearest(event) : -1;
  if (i >= 0) choose(i, false);
});
canvas.addEventListener("pointermove", (event) => {
  if (dragged !== null) {
    const by = event.clientX - dragged.x;
    dragged.moved ||= Math.abs(by) > 3;
    const time = (by / plot()) * (dragged.to - dragged.from);
    if (dragged.moved) look(dragged.from - time, dragged.to - time);
    return;
  }
  hover(event);
});
canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
canvas.addEventListener("dblclick", (event) => zoom(0.4, atOf(event.offsetX)));
scroller.addEventListener("scroll", redraw, { passive: true });
scroller.addEventListener("wheel", (event) => {
  const sideways = event.shiftKey ? event.deltaY : event.deltaX;
  if (event.ctrlKey || event.metaKey) zoom(Math.exp(event.deltaY * 0.002), atOf(event.offsetX));
  else if (sideways !== 0) pan(sideways / plot());
  else return;
  event.preventDefault();
}, { passive: false });

const laneAt = (event) => lanes.find((lane) => {
  const y = event.offsetY + scroller.scrollTop;
  return y >= lane.top && y < lane.bottom;
});

/// The event under the pointer, or -1.
function nearest(event) {
  const lane = laneAt(event);
  if (lane === undefined || lane.marks.length === 0) return -1;
  const at = atOf(event.offsetX), n = firstFrom(lane.marks, (i) => marks.at[i], at);
  const near = [n - 1, n].filter((n) => n >= 0 && n < lane.marks.length).map((n) => lane.marks[n]);
  const far = (i) => Math.abs(marks.at[i] - at);
  const best = near.reduce((a, b) => (far(b) < far(a) ? b : a));
  return far(best) <= 9 * perPixel() ? best : -1;
}

function hover(event) {
  const at = atOf(event.offsetX);
  point(at);
  const place = Math.max(0, firstFrom(marks.at, (time) => time, at) - 1);
  const text = event.offsetX < GUTTER ? "" : told(event, at);
  if (marks.count > 0) list.scrollTop = placeOf(place) * ROW - list.clientHeight / 2 + ROW;
  tip.hidden = text === "";
  tip.textContent = text;
  tip.style.left = `${Math.min(event.clientX + 14, window.innerWidth - 480)}px`;
  tip.style.top = `${event.clientY + 16}px`;
}

/// What is under the pointer, in words.
function told(event, at) {
  const inside = (thing) => thing.from <= at && at <= thing.to + 3 * perPixel();
  const y = event.offsetY + scroller.scrollTop;
  if (event.offsetY >= AXIS && event.offsetY < AXIS + faultRows * BAND) {
    const row = Math.floor((event.offsetY - AXIS) / BAND);
    const fault = run.faults.find((fault) => Math.min(fault.row, faultRows - 1) === row && inside(fault));
    return fault === undefined ? "" : `${fault.name} ${fault.target}, ${seconds(fault.from)} to ${seconds(fault.to)} s, ${
      fault.bit ? "bit" : "did not bite"}`;
  }
  const lane = laneAt(event);
  if (lane === undefined) return "";
  if (y >= lane.bars) {
    const row = Math.floor((y - lane.bars) / lane.bar);
    const belief = lane.beliefs.find((belief) => belief.row === row && inside(belief));
    return belief === undefined ? "" : `${lane.name} about ${belief.about}: ${belief.state}, ${
      seconds(belief.from)} to ${seconds(belief.to)} s`;
  }
  if (y >= lane.calls) {
    const row = Math.floor((y - lane.calls) / OPERATION);
    const call = lane.operations.find((call) => Math.min(2, call.row) === row && inside(call));
    return call === undefined ? "" : `${textOf(call.call)} → ${run.kinds[call.end]}${
      call.answer === null ? ", no answer" : `: ${textOf(call.answer)}`}, ${seconds(call.from)} to ${seconds(call.to)} s`;
  }
  const i = nearest(event);
  return i < 0 ? "" : `${seconds(marks.at[i])} s  ${kindOf(i)}  ${textOf(i)}`;
}

new ResizeObserver(() => { resize(); redraw(); }).observe(document.body);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { restyle(); redraw(); });
restyle();
resize();
draw();
tellRange();
show(null);
tell();
