//! `squall chaos`: a hunt, begun or resumed.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use squall_reports::html::Beside;
use squall_reports::sweep::Sweep;
use squall_reports::terminal;

use super::fleet;
use super::nightly::Nights;
use super::progress::Progress;
use super::summary::Summary;
use super::{Unusable, VIOLATION, matching, print, status_of_sweep, steered, style};
use crate::hunt::{
    Book, BookError, Fleet, Folder, FolderError, Limit, Settings, hunt, pages, shrink_all,
};
use crate::invariants::Verdict;

/// Seeds of each scenario, if nothing else is said.
pub(super) const SEEDS_DEFAULT: u64 = 100;

/// What is hunted, and where it is kept.
#[derive(Debug, clap::Args)]
pub(super) struct Wanted {
    /// Only scenarios that match: `*` stands for any text; may be repeated.
    #[arg(long, default_value = "*")]
    scenario: Vec<String>,
    /// Seeds of each scenario.
    #[arg(long, conflicts_with = "for")]
    seeds: Option<u64>,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first_seed: u64,
    /// Goes on for so long instead, such as 10m.
    #[arg(long, value_parser = humantime::parse_duration)]
    r#for: Option<Duration>,
    /// Threads; all cores, if not given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Keeps progress and findings in this directory: plan, shrunk plan, history and report of each; and what all of it
    /// came to, as Markdown, HTML and JUnit XML.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Keeps this night in this directory, beside the others: summary, JUnit XML, findings, regressions and the trend.
    #[arg(long, value_name = "DIR", conflicts_with = "report")]
    nightly: Option<PathBuf>,
    /// Goes on where the hunt that is kept in this directory stopped, with its settings.
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["scenario", "seeds", "first_seed", "for", "report", "nightly", "fleet"]
    )]
    resume: Option<PathBuf>,
    /// Learns from each run where to look next: half of the runs vary earlier ones.
    #[arg(long, conflicts_with_all = ["for", "resume", "nightly", "fleet"])]
    steer: bool,
    /// Shares the work, through this server, or these of one cluster, with everyone who runs `squall worker` there.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    fleet: Vec<String>,
}

impl From<BookError> for Unusable {
    fn from(error: BookError) -> Self {
        Self(error.to_string())
    }
}

impl From<FolderError> for Unusable {
    fn from(error: FolderError) -> Self {
        Self(error.to_string())
    }
}

impl Wanted {
    fn settings(&self) -> Result<Settings, Unusable> {
        let scenarios = matching(&self.scenario)?;
        let mut settings = Settings {
            scenarios: scenarios.iter().map(|it| it.name.to_owned()).collect(),
            first_seed: self.first_seed,
            limit: match self.r#for {
                Some(time) => Limit::For(time),
                None => Limit::Seeds(self.seeds.unwrap_or(SEEDS_DEFAULT)),
            },
            nightly: self.nightly.is_some(),
            fleet: None,
        };
        if !self.fleet.is_empty() {
            settings.fleet = Some(Fleet {
                servers: self.fleet.clone(),
                id: fleet::some_id(),
                part: settings.part(),
            });
        }
        Ok(settings)
    }

    /// The book of the hunt, and the nights that it is one of.
    fn book(&self) -> Result<(Book, Option<Nights>), Unusable> {
        if let Some(directory) = &self.resume {
            let (folder, kept) = Folder::open(directory)?;
            let nights = kept.settings.nightly.then(|| Nights::above(directory));
            return Ok((Book::resume(folder, kept)?, nights.transpose()?));
        }
        let settings = self.settings()?;
        // Nothing is written for settings that are none.
        settings.check().map_err(BookError::from)?;
        let nights = self.nightly.as_deref().map(Nights::open).transpose()?;
        let directory = nights.as_ref().map(Nights::tonight);
        let directory = directory.as_deref().or(self.report.as_deref());
        let folder = directory.map(Folder::create).transpose()?;
        Ok((Book::new(settings, folder)?, nights))
    }
}

/// Hunts, and tells what came out.
pub(super) fn chaos(wanted: &Wanted) -> Result<ExitCode, Unusable> {
    if wanted.jobs == Some(0) {
        return Err(Unusable("--jobs must be at least 1".to_owned()));
    }
    let threads = wanted.jobs.unwrap_or_else(super::cores);
    if wanted.steer {
        let Wanted {
            scenario,
            seeds,
            first_seed,
            report,
            ..
        } = wanted;
        return steered::chaos(scenario, *seeds, *first_seed, threads, report.as_deref());
    }
    let (book, nights) = wanted.book()?;
    let book = Arc::new(book);
    let progress = Progress::new(book.jobs().total(), Instant::now());
    let (done, not_passed) = book.counted();
    progress.resume(done, not_passed);
    let hunted = match &book.settings().fleet {
        None => hunt(&book, threads, &AtomicBool::new(false), |run| {
            progress.step(1, run.verdict == Verdict::Pass);
        })
        .map_err(Unusable::from),
        Some(fleet) => fleet::coordinate(&book, fleet, &progress)
            .and_then(|()| shrink_all(&book, threads).map_err(Unusable::from)),
    };
    progress.end();
    hunted?;
    let sweep = book.sweep();
    print(&terminal::render_sweep(&sweep, style()));
    if let (Some(folder), None) = (book.folder(), &nights) {
        let summary = Summary {
            sweep: &sweep,
            beside: Beside {
                nights: &[],
                pages: &pages(folder.path(), &sweep),
            },
            more: "",
        };
        summary.write(folder.path())?;
    }
    if let Some(folder) = book.folder().filter(|_| has_findings(&sweep)) {
        let directory = folder.path();
        let (findings, page) = (directory.join("findings"), directory.join("summary.html"));
        print(&format!(
            "\nFindings are kept in {}, and {} leads to them\n",
            findings.display(),
            page.display()
        ));
    }
    if book.twice() > 0 {
        let twice = book.twice();
        let parts = if twice == 1 { "part was" } else { "parts were" };
        eprintln!("{twice} {parts} done twice, and counted once");
    }
    let kept_plans_pass = match &nights {
        Some(nights) => nights.conclude(&book, &sweep)?,
        None => true,
    };
    Ok(if kept_plans_pass {
        status_of_sweep(&sweep)
    } else {
        ExitCode::from(VIOLATION)
    })
}

fn has_findings(sweep: &Sweep) -> bool {
    sweep.failures() > 0 || sweep.inconclusive() > 0
}
