//! How far long work has come: a bar on a terminal, a line now and then elsewhere.

use std::cell::Cell;
use std::fmt;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::linear;
use crate::shrink::Shrunk;

/// How far a sweep has come: a bar on a terminal, a line now and then elsewhere.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    total: Option<u64>,
    began: Instant,
    state: std::sync::Mutex<(u64, u64, Instant)>,
}

impl Progress {
    const LINE_EVERY: Duration = Duration::from_secs(10);

    pub(super) fn new(total: Option<u64>, began: Instant) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            let template = "{wide_bar} {pos}/{len} runs, {speed}, {eta} left, {msg}";
            let template = if total.is_some() {
                template
            } else {
                "{spinner} {pos} runs in {elapsed}, {speed}, {msg}"
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                let speed = |state: &ProgressState, to: &mut dyn fmt::Write| {
                    // Nobody hears of a terminal that is gone.
                    let _gone = write!(to, "{:.0}/s", state.per_sec());
                };
                bar.set_style(style.with_key("speed", speed));
            }
            bar.set_message("no violation");
            bar
        });
        Self {
            bar,
            total,
            began,
            state: std::sync::Mutex::new((0, 0, began)),
        }
    }

    /// So many more runs are done; all of them passed, or not.
    pub(super) fn step(&self, runs: u64, passed: bool) {
        let Ok(mut state) = self.state.lock() else {
            return;
        };
        let (done, failed, told) = &mut *state;
        *done += runs;
        *failed += u64::from(!passed);
        if let Some(bar) = &self.bar {
            bar.inc(runs);
            if *failed > 0 {
                bar.set_message(format!("{failed} not passed"));
            }
        } else if told.elapsed() >= Self::LINE_EVERY {
            *told = Instant::now();
            let of = self
                .total
                .map_or_else(String::new, |total| format!(" of {total}"));
            let seconds = self.began.elapsed().as_secs();
            eprintln!("{done}{of} runs in {seconds} s, {failed} not passed");
        }
    }

    /// Says a sentence, above the bar where there is one.
    pub(super) fn say(&self, sentence: &str) {
        match &self.bar {
            Some(bar) => bar.println(sentence),
            None => eprintln!("{sentence}"),
        }
    }

    /// So many runs were done before, of which so many did not pass.
    pub(super) fn resume(&self, done_before: u64, not_passed: u64) {
        let Ok(mut state) = self.state.lock() else {
            return;
        };
        (state.0, state.1) = (done_before, not_passed);
        if let Some(bar) = &self.bar {
            bar.set_position(done_before);
            bar.reset_eta();
            if not_passed > 0 {
                bar.set_message(format!("{not_passed} not passed"));
            }
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A bar, or a line now and then, of work that one thread does. Its work may go back, and so may the bar.
struct Meter {
    bar: Option<ProgressBar>,
    began: Instant,
    told: Cell<Instant>,
}

impl Meter {
    fn new(bar: fn() -> ProgressBar, template: &str, began: Instant) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = bar();
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        });
        Self {
            bar,
            began,
            told: Cell::new(began),
        }
    }

    /// Draws on the bar, or says in a line what has come about in so many seconds.
    fn step(&self, draw: impl FnOnce(&ProgressBar), line: impl FnOnce(u64) -> String) {
        if let Some(bar) = &self.bar {
            draw(bar);
        } else if self.told.get().elapsed() >= Progress::LINE_EVERY {
            self.told.set(Instant::now());
            eprintln!("{}", line(self.began.elapsed().as_secs()));
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How far a search for an order has come.
pub(super) struct Searching(Meter);

impl Searching {
    pub(super) fn new(began: Instant) -> Self {
        let template = "{wide_bar} {pos}/{len} explained, {msg}";
        Self(Meter::new(|| ProgressBar::new(0), template, began))
    }

    pub(super) fn step(&self, progress: linear::Progress) {
        let linear::Progress {
            explained,
            of,
            steps,
        } = progress;
        self.0.step(
            |bar| {
                bar.set_length(of as u64);
                bar.set_position(explained as u64);
                bar.set_message(format!("{steps} steps"));
            },
            |seconds| format!("{explained} of {of} explained in {seconds} s, {steps} steps"),
        );
    }

    pub(super) fn end(&self) {
        self.0.end();
    }
}

/// How far shrinking has come.
pub(super) struct Shrinking(Meter);

impl Shrinking {
    pub(super) fn new(began: Instant) -> Self {
        let template = "{spinner} {pos} runs, {per_sec}, {msg}";
        Self(Meter::new(ProgressBar::new_spinner, template, began))
    }

    pub(super) fn step(&self, best: &Shrunk) {
        let (faults, agents) = (best.plan.faults.len(), best.plan.agents.len());
        let (runs, left) = (
            best.runs,
            format!("{faults} faults and {agents} agents left"),
        );
        self.0.step(
            |bar| {
                bar.set_position(u64::from(runs));
                bar.set_message(left.clone());
            },
            |seconds| format!("{runs} runs in {seconds} s, {left}"),
        );
    }

    pub(super) fn end(&self) {
        self.0.end();
    }
}
