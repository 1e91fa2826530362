// All events as a table that follows the cursor. Only the rows in sight are elements.
const ROW = 22;
// Browsers give up above some tens of millions of pixels.
const ROWS_MAX = 700000;
const list = document.getElementById("events");
const filler = list.firstElementChild;
const rows = [];
let shown = null;

const shownCount = () => (shown === null ? marks.count : shown.length);
const shownAt = (n) => (shown === null ? n : shown[n]);
/// Where the event `i`, or else the last one before it, is among those shown.
const placeOf = (i) => (shown === null ? i : Math.max(0, firstFrom(shown, (n) => n, i + 1) - 1));

function show(found) {
  shown = found;
  filler.style.height = `${Math.min(ROWS_MAX, shownCount()) * ROW}px`;
  list.setAttribute("aria-rowcount", shownCount());
  list.scrollTop = 0;
  fill();
}

function fill() {
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 4);
  const wanted = Math.min(shownCount() - first, Math.ceil(list.clientHeight / ROW) + 8);
  while (rows.length < wanted) rows.push(list.appendChild(newRow()));
  rows.forEach((row, n) => {
    row.hidden = n >= wanted;
    if (row.hidden) row.removeAttribute("id"); else write(row, first + n);
  });
}

function newRow() {
  const row = document.createElement("div");
  row.className = "row";
  row.setAttribute("role", "row");
  for (let n = 0; n < 5; n += 1) row.appendChild(document.createElement("span")).setAttribute("role", "gridcell");
  row.children[1].className = "number";
  row.addEventListener("click", () => choose(Number(row.dataset.event), true));
  row.addEventListener("mousemove", () => point(marks.at[Number(row.dataset.event)]));
  return row;
}

function write(row, n) {
  const i = shownAt(n);
  row.style.top = `${n * ROW}px`;
  row.dataset.event = i;
  row.id = `event-${i}`;
  row.setAttribute("aria-rowindex", n + 1);
  row.setAttribute("aria-selected", i === view.chosen);
  row.classList.toggle("hum", marks.hum[i] === 1);
  row.classList.toggle("weighty", marks.weight[i] > CONTEXT);
  row.classList.toggle("bad", marks.weight[i] === VIOLATION);
  const cells = [["", "▸", "✗"][marks.weight[i]], seconds(marks.at[i]), lanes[marks.lane[i]].name, kindOf(i), textOf(i)];
  cells.forEach((text, column) => { row.children[column].textContent = text; });
  row.title = textOf(i);
}

/// Brings the event into the middle of the table.
function bring(i) {
  list.scrollTop = placeOf(i) * ROW - list.clientHeight / 2 + ROW;
  fill();
}

list.addEventListener("scroll", fill, { passive: true });
