//! [`Book`]: what a hunt keeps while it runs, for all who work on it: what is counted, and what is to be shrunk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use squall_reports::sweep::{Finding, Sweep};

use super::file::write_whole;
use super::folder::{PLAN, SHRUNK};
use super::{Folder, FolderError, Jobs, Kept, Ledger, Limit, Settings, SettingsError, reproduce};
use crate::invariants::Verdict;
use crate::kept;
use crate::parse::parse;
use crate::run::{Run, simulate};
use crate::shrink::shrink;
use crate::stories;

/// What is counted is kept this often, or as seldom as makes keeping it [`SAVING_MAX`] of the time.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// One part in so many.
const SAVING_MAX: u32 = 20;
/// Of each invariant that a scenario violates so many runs are shrunk, the first. The others are kept as they are: they
/// mostly tell the same.
const SHRUNK_MAX: usize = 10;
/// Runs that shrinking one may take.
const SHRINK_RUNS_MAX: u32 = 1000;

/// See the head of this file.
#[derive(Debug)]
pub struct Book {
    settings: Settings,
    jobs: Jobs,
    folder: Option<Folder>,
    /// Spent by those who worked on it before.
    spent: Duration,
    began: Instant,
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    ledger: Ledger,
    /// Findings of the ledger that were looked at, whether they are to be shrunk.
    looked_at: usize,
    seen: BTreeMap<(String, String), usize>,
    to_shrink: VecDeque<(String, u64)>,
    saved: Option<Instant>,
    save_again_after: Duration,
}

impl Book {
    /// An empty book; with a folder it is kept there from now on.
    ///
    /// # Errors
    /// If these settings are those of no hunt, or the folder cannot be written.
    pub fn new(settings: Settings, folder: Option<Folder>) -> Result<Self, BookError> {
        let book = Self::with(settings, folder, Duration::ZERO, Ledger::default())?;
        book.save(&mut book.pages())?;
        Ok(book)
    }

    /// The book of a hunt that goes on.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn resume(folder: Folder, kept: Kept) -> Result<Self, BookError> {
        let book = Self::with(kept.settings, Some(folder), kept.spent, kept.ledger)?;
        book.look_for_findings(&mut book.pages());
        Ok(book)
    }

    fn with(
        settings: Settings,
        folder: Option<Folder>,
        spent: Duration,
        ledger: Ledger,
    ) -> Result<Self, BookError> {
        Ok(Self {
            jobs: Jobs::try_from(&settings)?,
            settings,
            folder,
            spent,
            began: Instant::now(),
            pages: Mutex::new(Pages {
                ledger,
                ..Pages::default()
            }),
        })
    }

    /// What is to be done.
    pub const fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// As they were given.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where it is kept.
    pub const fn folder(&self) -> Option<&Folder> {
        self.folder.as_ref()
    }

    /// How long the hunt has taken up to now.
    pub fn spent(&self) -> Duration {
        self.spent + self.began.elapsed()
    }

    /// Whether the time of the hunt is over, if only time bounds it.
    pub fn is_over(&self) -> bool {
        matches!(self.settings.limit, Limit::For(limit) if self.spent() >= limit)
    }

    /// How many jobs are counted, and how many runs of them did not pass.
    pub fn counted(&self) -> (u64, u64) {
        let pages = self.pages();
        let total = pages.ledger.total();
        (pages.ledger.jobs(), total.failures() + total.inconclusive())
    }

    /// The first job that is not counted.
    pub fn next(&self) -> u64 {
        self.pages().ledger.next()
    }

    /// Whether this job is counted.
    pub fn is_counted(&self, number: u64) -> bool {
        self.pages().ledger.is_counted(number)
    }

    /// How many parts came again.
    pub fn twice(&self) -> u64 {
        self.pages().ledger.twice()
    }

    /// Everything that is counted, and how long it took.
    pub fn sweep(&self) -> Sweep {
        self.pages().ledger.told(self.spent())
    }

    /// Keeps what a run found, then counts it: as this sweep of one.
    ///
    /// # Errors
    /// If something cannot be written: then it is not counted.
    pub fn record(&self, number: u64, run: &Run, counted: Sweep) -> Result<(), FolderError> {
        self.keep(run)?;
        self.count(number, 1, counted).map(drop)
    }

    /// Keeps a run that did not pass.
    pub(super) fn keep(&self, run: &Run) -> Result<(), FolderError> {
        match &self.folder {
            Some(folder) if run.verdict != Verdict::Pass => folder.keep(run),
            _ => Ok(()),
        }
    }

    /// Counts so many jobs from this one on, whose findings are kept; `false` where they were counted before.
    ///
    /// # Errors
    /// If what is counted cannot be kept. Whoever goes on with the hunt counts them again.
    pub fn count(&self, first: u64, jobs: u64, sweep: Sweep) -> Result<bool, FolderError> {
        let mut pages = self.pages();
        let is_new = pages.ledger.count(first, jobs, sweep);
        self.look_for_findings(&mut pages);
        let is_due = |saved: Instant| saved.elapsed() >= pages.save_again_after;
        if pages.saved.is_none_or(is_due) {
            self.save(&mut pages)?;
        }
        Ok(is_new)
    }

    /// Counts a part that a fleet has done, which is the report of this number; first the findings in it are made again
    /// here, and kept. `false` where they were counted before.
    ///
    /// # Errors
    /// As [`count`](Self::count).
    pub fn count_report(
        &self,
        report: u64,
        first: u64,
        jobs: u64,
        sweep: Sweep,
    ) -> Result<bool, FolderError> {
        if self.folder.is_some() && sweep.failures() + sweep.inconclusive() > 0 {
            let failed = sweep.findings.iter().map(|it| (&it.scenario, it.seed));
            let undecided = sweep.undecided.iter().map(|it| (&it.scenario, it.seed));
            let found: BTreeSet<_> = failed.chain(undecided).collect();
            for (scenario, seed) in found {
                if let (Some(scenario), Some(seed)) = (stories::find(scenario), seed) {
                    self.keep(&simulate(&scenario.draw(seed)))?;
                }
            }
        }
        self.pages().ledger.read_reports(report);
        self.count(first, jobs, sweep)
    }

    /// Up to which number the reports of a fleet are counted.
    pub fn reports_read(&self) -> u64 {
        self.pages().ledger.reports_read()
    }

    /// The reports of the fleet are numbered anew.
    pub fn read_reports_again(&self) {
        self.pages().ledger.read_reports(0);
    }

    /// Keeps what is counted.
    ///
    /// # Errors
    /// If it cannot be kept.
    pub fn close(&self) -> Result<(), FolderError> {
        self.save(&mut self.pages())
    }

    fn save(&self, pages: &mut Pages) -> Result<(), FolderError> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let began = Instant::now();
        folder.save(&Kept {
            settings: self.settings.clone(),
            spent: self.spent(),
            ledger: pages.ledger.clone(),
        })?;
        pages.save_again_after = SAVE_EVERY.max(began.elapsed() * SAVING_MAX);
        pages.saved = Some(Instant::now());
        Ok(())
    }

    /// Which of the findings that have had their turn are to be shrunk: that depends on their order alone.
    fn look_for_findings(&self, pages: &mut Pages) {
        let Some(folder) = &self.folder else {
            return;
        };
        let findings = pages.ledger.sweep().findings.get(pages.looked_at..);
        for finding in findings.unwrap_or_default() {
            pages.looked_at += 1;
            let Finding {
                scenario,
                seed: Some(seed),
                invariant,
                ..
            } = finding
            else {
                continue;
            };
            let kind = (scenario.clone(), invariant.code.clone());
            let seen = pages.seen.entry(kind).or_default();
            *seen += 1;
            let is_shrunk = folder.finding(scenario, *seed).join(SHRUNK).exists();
            let one = (scenario.clone(), *seed);
            if *seen <= SHRUNK_MAX && !is_shrunk && !pages.to_shrink.contains(&one) {
                pages.to_shrink.push_back(one);
            }
        }
    }

    /// Shrinks one of the findings that are to be shrunk; `false` where there is none.
    ///
    /// # Errors
    /// If it cannot be read or written, or does not happen again.
    pub fn shrink_one(&self) -> Result<bool, FolderError> {
        let next = self.pages().to_shrink.pop_front();
        let (Some((scenario, seed)), Some(folder)) = (next, &self.folder) else {
            return Ok(false);
        };
        let finding = folder.finding(&scenario, seed);
        let path = finding.join(PLAN);
        let system = |path: &PathBuf, error| FolderError::System {
            path: path.clone(),
            error,
        };
        if !finding.exists() {
            // Somebody has removed it: the seed still has it.
            let drawn = stories::find(&scenario).map(|scenario| scenario.draw(seed));
            drawn.map_or(Ok(()), |plan| folder.keep(&simulate(&plan)))?;
        }
        let text = std::fs::read_to_string(&path).map_err(|error| system(&path, error))?;
        let plan = parse(&text).map_err(|error| FolderError::Corrupt {
            path: path.clone(),
            line: error.line,
            reason: error.reason,
        })?;
        let Verdict::Fail(violations) = simulate(&plan).verdict else {
            let code = "an invariant".to_owned();
            return Err(FolderError::TwoRuns { path, code });
        };
        let code = violations.first().map_or("", |violation| &violation.code);
        let Some(shrunk) = shrink(&plan, code, SHRINK_RUNS_MAX) else {
            let code = code.to_owned();
            return Err(FolderError::TwoRuns { path, code });
        };
        let command = reproduce(&scenario, seed);
        let comments = format!("{}\nShrunk from: {command}", shrunk.violation);
        let text = kept::text(&comments, &shrunk.plan, &shrunk.violation.code);
        let path = finding.join(SHRUNK);
        write_whole(&path, text.as_bytes()).map_err(|error| system(&path, error))?;
        Ok(true)
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// There can be no such book.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The settings are those of no hunt.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
}
