//! A run in the trace event format of Chrome, which Perfetto and its like open.
//!
//! A process for each lane, and one for the faults. In it, a thread for what happened (instants), one for each thing
//! believed (slices), as many as it takes for operations that overlap, and one for messages (flows between short
//! slices). Times are microseconds, with nanoseconds as decimals. Events are in order of time, as viewers want them that
//! read while a file is still being loaded.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::excerpt::lasts;
use crate::headline::verb;
use crate::model::{LaneId, Run, Tone, TrueTime};
use crate::packing;
use crate::words::clean;

/// Threads of a lane: what happened, messages, then operations, then beliefs.
const EVENTS: usize = 1;
const MESSAGES: usize = 2;
const OPERATIONS: usize = 10;
const BELIEFS: usize = 1000;
/// How long a message is seen at either end.
const TOUCH: u64 = 1000;

/// One run as the text of a JSON file.
pub fn render(run: &Run) -> String {
    let mut trace = Trace::new(run);
    trace.marks();
    trace.operations();
    trace.beliefs();
    trace.faults();
    trace.messages();
    trace.moments();
    trace.finish()
}

struct Trace<'a> {
    run: &'a Run,
    /// The threads that something happened in, with their names.
    threads: BTreeMap<(usize, usize), String>,
    events: Vec<(TrueTime, Value)>,
}

impl<'a> Trace<'a> {
    fn new(run: &'a Run) -> Self {
        let (threads, events) = (BTreeMap::new(), Vec::new());
        Self {
            run,
            threads,
            events,
        }
    }

    /// The process of a lane: numbers begin at 1, since 0 has a meaning of its own for viewers.
    fn process(lane: LaneId) -> usize {
        lane.0.saturating_add(1)
    }

    /// The process of the faults, after all lanes.
    fn faults_process(&self) -> usize {
        self.run.lanes.len() + 1_000_000
    }

    fn add(&mut self, thread: (usize, usize), thread_name: &str, at: TrueTime, event: Value) {
        let mut event = event;
        if let Some(fields) = event.as_object_mut() {
            fields.insert("ts".to_owned(), micros(at.as_nanos()));
            fields.insert("pid".to_owned(), json!(thread.0));
            fields.insert("tid".to_owned(), json!(thread.1));
        }
        let name = || thread_name.to_owned();
        self.threads.entry(thread).or_insert_with(name);
        self.events.push((at, event));
    }

    fn marks(&mut self) {
        for mark in &self.run.marks {
            let name = clean(&mark.text);
            let event = json!({ "ph": "i", "s": "t", "name": name, "cat": verb(mark.kind) });
            self.add((Self::process(mark.lane), EVENTS), "events", mark.at, event);
        }
        for violation in self.run.violations() {
            let invariant = &violation.invariant;
            let name = clean(&format!("✗ {} {}", invariant.code, invariant.name));
            let what = clean(&violation.what_happened);
            let property = clean(&invariant.property);
            let args = json!({ "promised": property, "happened": what });
            for lane in &violation.lanes {
                let event =
                    json!({ "ph": "i", "s": "p", "name": name, "cat": "violation", "args": args });
                self.add(
                    (Self::process(*lane), EVENTS),
                    "events",
                    violation.at,
                    event,
                );
            }
        }
    }

    fn operations(&mut self) {
        let mut operations = self.run.operations();
        operations.sort_by_key(|operation| (operation.lane, operation.from));
        for of_lane in operations.chunk_by(|a, b| a.lane == b.lane) {
            let rows = packing::rows(of_lane.iter().map(|one| (one.from, one.to)));
            for (operation, row) in of_lane.iter().zip(rows) {
                let text = |id| self.run.mark(id).map(|mark| clean(&mark.text));
                let event = json!({
                    "ph": "X",
                    "name": text(operation.call),
                    "cat": "operation",
                    "dur": micros(nanos(operation.from, operation.to)),
                    "args": {
                        "ended": verb(operation.end),
                        "answer": operation.answer.and_then(text),
                    },
                });
                // Beyond the room for operations, the deepest share a thread.
                let thread = OPERATIONS + row.min(BELIEFS - OPERATIONS - 1);
                let name = format!("operations {}", row + 1);
                self.add(
                    (Self::process(operation.lane), thread),
                    &name,
                    operation.from,
                    event,
                );
            }
        }
    }

    fn beliefs(&mut self) {
        let mut rows: BTreeMap<LaneId, Vec<&str>> = BTreeMap::new();
        for belief in &self.run.beliefs {
            let abouts = rows.entry(belief.lane).or_default();
            let known = abouts.iter().position(|about| *about == belief.about);
            let row = known.unwrap_or_else(|| {
                abouts.push(&belief.about);
                abouts.len() - 1
            });
            let tone = match belief.tone {
                Tone::Well => "well",
                Tone::Unsure => "unsure",
                Tone::Over => "over",
            };
            let event = json!({
                "ph": "X",
                "name": clean(&belief.state),
                "cat": "belief",
                "dur": micros(nanos(belief.from, belief.to)),
                "args": { "tone": tone },
            });
            let name = format!("about {}", clean(&belief.about));
            let thread = (Self::process(belief.lane), BELIEFS + row);
            self.add(thread, &name, belief.from, event);
        }
    }

    fn faults(&mut self) {
        let mut faults: Vec<_> = self.run.faults.iter().collect();
        faults.sort_by_key(|fault| fault.from);
        let rows = packing::rows(faults.iter().map(|fault| (fault.from, fault.to)));
        for (fault, row) in faults.into_iter().zip(rows) {
            let name = clean(&format!("{} {}", fault.name, fault.target));
            let args = json!({ "bit": fault.bit });
            let event = if lasts(fault) {
                let lasted = micros(nanos(fault.from, fault.to));
                json!({ "ph": "X", "name": name, "cat": "fault", "dur": lasted, "args": args })
            } else {
                json!({ "ph": "i", "s": "t", "name": name, "cat": "fault", "args": args })
            };
            let thread = (self.faults_process(), row + 1);
            self.add(thread, &format!("faults {}", row + 1), fault.from, event);
        }
    }

    fn messages(&mut self) {
        for (id, message) in self.run.messages.iter().enumerate() {
            let name = clean(&message.text);
            let lost = message.arrived.is_none();
            let touch = |lost: bool| {
                json!({
                    "ph": "X",
                    "name": name,
                    "cat": "message",
                    "dur": micros(TOUCH),
                    "args": { "lost": lost },
                })
            };
            let from = (Self::process(message.from), MESSAGES);
            self.add(from, "messages", message.sent, touch(lost));
            let Some(arrived) = message.arrived else {
                continue;
            };
            let to = (Self::process(message.to), MESSAGES);
            let flow =
                |ph: &str| json!({ "ph": ph, "bp": "e", "id": id, "name": name, "cat": "message" });
            self.add(from, "messages", message.sent, flow("s"));
            self.add(to, "messages", arrived, touch(lost));
            self.add(to, "messages", arrived, flow("f"));
        }
    }

    fn moments(&mut self) {
        for moment in &self.run.moments {
            let name = clean(&moment.text);
            let event = json!({ "ph": "i", "s": "g", "name": name, "cat": "moment" });
            let thread = (self.faults_process(), 0);
            self.add(thread, "moments", moment.at, event);
        }
    }

    fn finish(mut self) -> String {
        let mut all = Vec::new();
        let mut process = None;
        let label = |what: &str, (pid, tid): (usize, usize), args: Value| json!({ "ph": "M", "name": what, "pid": pid, "tid": tid, "args": args });
        for (thread, name) in &self.threads {
            if process != Some(thread.0) {
                process = Some(thread.0);
                let name = if thread.0 == self.faults_process() {
                    "faults".to_owned()
                } else {
                    clean(&self.run.lane_name(LaneId(thread.0 - 1)))
                };
                all.push(label("process_name", *thread, json!({ "name": name })));
                let order = json!({ "sort_index": thread.0 });
                all.push(label("process_sort_index", *thread, order));
            }
            all.push(label("thread_name", *thread, json!({ "name": name })));
            let order = json!({ "sort_index": thread.1 });
            all.push(label("thread_sort_index", *thread, order));
        }
        // Stable: a flow stays behind the slice that it is bound to.
        self.events.sort_by_key(|(at, _)| *at);
        all.extend(self.events.into_iter().map(|(_, event)| event));
        let mut facts = Map::new();
        facts.insert("scenario".to_owned(), json!(clean(&self.run.scenario)));
        facts.insert("reproduce".to_owned(), json!(clean(&self.run.reproduce)));
        json!({ "displayTimeUnit": "ms", "otherData": facts, "traceEvents": all }).to_string()
    }
}

fn nanos(from: TrueTime, to: TrueTime) -> u64 {
    to.as_nanos().saturating_sub(from.as_nanos())
}

/// Nanoseconds as microseconds; the decimals of a float are exact enough for runs of days.
fn micros(nanos: u64) -> Value {
    json!(nanos as f64 / 1000.0)
}
