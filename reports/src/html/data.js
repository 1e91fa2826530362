// What the page carries, decoded once: columns of numbers, as a hundred thousand events ask for.
const run = JSON.parse(document.getElementById("data").textContent);
const CONTEXT = 0, EVIDENCE = 1, VIOLATION = 2;
const marks = {
  count: run.marks.at.length,
  at: new Float64Array(run.marks.at),
  lane: Uint16Array.from(run.marks.lane),
  kind: Uint8Array.from(run.marks.kind),
  text: Uint32Array.from(run.marks.text),
  hum: Uint8Array.from(run.marks.hum),
  weight: new Uint8Array(run.marks.at.length),
};
// Times are written as steps, which are short.
for (let i = 1; i < marks.count; i += 1) marks.at[i] += marks.at[i - 1];
for (const i of run.evidence) marks.weight[i] = EVIDENCE;
for (const i of run.proof) marks.weight[i] = VIOLATION;

const lanes = run.lanes.map((lane) => ({ ...lane, marks: [], operations: [], beliefs: [], rows: [] }));
for (let i = 0; i < marks.count; i += 1) lanes[marks.lane[i]].marks.push(i);
for (const [lane, row, from, to, end, call, answer] of run.operations) {
  lanes[lane].operations.push({ row, from, to, end, call, answer });
}
for (const belief of run.beliefs) {
  const { rows, beliefs } = lanes[belief.lane];
  let row = rows.indexOf(belief.about);
  if (row < 0) row = rows.push(belief.about) - 1;
  beliefs.push({ ...belief, row });
}

const textOf = (i) => run.texts[marks.text[i]];
const kindOf = (i) => run.kinds[marks.kind[i]];

/// The first position in sorted `list` whose time is not before `at`.
function firstFrom(list, timeOf, at) {
  let low = 0, high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (timeOf(list[middle]) < at) low = middle + 1; else high = middle;
  }
  return low;
}

/// Seconds, with as many digits as a step of `step` nanoseconds needs.
function seconds(at, step = 1e6) {
  const digits = Math.min(9, Math.max(0, Math.ceil(9 - Math.log10(Math.max(1, step)))));
  // Cut, not rounded, as on the other faces: the same instant is written in the same way.
  const unit = 10 ** (9 - digits);
  return (Math.floor(at / unit + 1e-6) * unit / 1e9).toFixed(digits);
}

/// The events whose text, lane or kind holds every word of `query`; all of them for an empty one.
let lowered = null;
function search(query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return null;
  lowered ??= run.texts.map((text) => text.toLowerCase());
  const names = lanes.map((lane) => lane.name.toLowerCase());
  const found = [];
  for (let i = 0; i < marks.count; i += 1) {
    const has = (word) => lowered[marks.text[i]].includes(word)
      || names[marks.lane[i]].includes(word) || kindOf(i).includes(word);
    if (words.every(has)) found.push(i);
  }
  return found;
}
