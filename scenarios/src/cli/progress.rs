//! How far long work has come: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

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
            let template = "{wide_bar} {pos}/{len} runs, {per_sec}, {msg}";
            let template = if total.is_some() {
                template
            } else {
                "{spinner} {pos} runs, {per_sec}, {msg}"
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
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

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
