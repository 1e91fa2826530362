//! [`Folder`]: where a hunt keeps what it is, how far it has come, and what it found.
//!
//! ```text
//! DIR/lock                  whose it is: held as long as its process lives, and no longer
//! DIR/hunt.json             settings and progress; the first line says by which squall, and guards the rest
//! DIR/findings/NAME/        one for each run that did not pass: plan.toml, history.jsonl, run.json (the model),
//!                           report.html, report.txt, reproduce.txt, and shrunk.toml once it is shrunk
//! DIR/summary.*, junit.xml  what all of it came to, once it has ended
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use squall_reports::html::Pages;
use squall_reports::sweep::Sweep;

use super::file::{clean, write_folder, write_whole};
use super::lock::Lock;
use super::{Ledger, Settings, identity, reproduce};
use crate::history::value_hash;
use crate::report::{self, Written};
use crate::run::Run;

/// What is kept of a hunt, beside its findings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// What is hunted.
    pub settings: Settings,
    /// How long it has taken up to now.
    pub spent: Duration,
    /// What is counted.
    pub ledger: Ledger,
}

/// The first line of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    squall: String,
    checksum: String,
}

/// A folder cannot be used, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The system says no.
    #[error("{path}: {error}", path = path.display())]
    System {
        /// To what.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Somebody else's.
    #[error("{path}: another hunt is at work here{by}", path = path.display())]
    Taken {
        /// The folder.
        path: PathBuf,
        /// Which process, where it is known.
        by: String,
    },
    /// A hunt is kept there, and would be written over.
    #[error(
        "{path}: a hunt is kept here; go on with it by --resume {path}, or name another directory",
        path = path.display()
    )]
    Used {
        /// The folder.
        path: PathBuf,
    },
    /// No hunt is kept there.
    #[error("{path}: no hunt is kept here; --report begins one", path = path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// What is kept was begun by a squall for which a seed means something else.
    #[error(
        "{path}:1: this hunt was begun by squall {theirs}, and this is squall {ours}, for which seeds mean other runs: \
         begin a new one",
        path = path.display()
    )]
    OtherSquall {
        /// The file.
        path: PathBuf,
        /// That one.
        theirs: String,
        /// This one.
        ours: String,
    },
    /// What is kept is not what was written.
    #[error("{path}:{line}: {reason}", path = path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A finding did not happen a second time.
    #[error(
        "{path}: this plan violated {code}, and does not when it is run again: a seed gives two runs, and no result can \
         be trusted until that is found",
        path = path.display()
    )]
    TwoRuns {
        /// The plan.
        path: PathBuf,
        /// What it violated.
        code: String,
    },
}

impl FolderError {
    pub(super) fn system(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |error| Self::System { path, error }
    }
}

/// The folder of one hunt. Nobody else can have it meanwhile.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: Lock,
}

impl Folder {
    /// A folder for a new hunt.
    ///
    /// # Errors
    /// If it cannot be written, belongs to somebody else, or holds a hunt: nothing is changed then.
    pub fn create(path: &Path) -> Result<Self, FolderError> {
        fs::create_dir_all(path).map_err(FolderError::system(path))?;
        let folder = Self {
            path: path.to_owned(),
            _lock: Lock::take(path)?,
        };
        if folder.file().exists() {
            let path = path.to_owned();
            return Err(FolderError::Used { path });
        }
        folder.prepare()?;
        Ok(folder)
    }

    /// The folder of a hunt that goes on, and what is kept of it.
    ///
    /// # Errors
    /// If it cannot be written, belongs to somebody else, holds no hunt, or not one of this squall: nothing is changed
    /// then.
    pub fn open(path: &Path) -> Result<(Self, Kept), FolderError> {
        let file = path.join(FILE);
        if !file.exists() {
            let path = path.to_owned();
            return Err(FolderError::Empty { path });
        }
        let folder = Self {
            path: path.to_owned(),
            _lock: Lock::take(path)?,
        };
        let text = fs::read_to_string(&file).map_err(FolderError::system(&file))?;
        let (head, body) = read_head(&file, &text)?;
        if head.squall != identity() {
            return Err(FolderError::OtherSquall {
                path: file,
                theirs: head.squall,
                ours: identity().to_owned(),
            });
        }
        let kept = read_body(&file, &head, body)?;
        folder.prepare()?;
        Ok((folder, kept))
    }

    /// What is kept of a hunt, of this squall or another, whether or not it still goes on; `None` where none is kept.
    /// Nothing is changed.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn look(path: &Path) -> Result<Option<Kept>, FolderError> {
        let file = path.join(FILE);
        if !file.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&file).map_err(FolderError::system(&file))?;
        let (head, body) = read_head(&file, &text)?;
        read_body(&file, &head, body).map(Some)
    }

    fn prepare(&self) -> Result<(), FolderError> {
        let findings = self.findings();
        fs::create_dir_all(&findings).map_err(FolderError::system(&findings))?;
        for folder in [&self.path, &findings] {
            clean(folder).map_err(FolderError::system(folder))?;
        }
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn file(&self) -> PathBuf {
        self.path.join(FILE)
    }

    fn findings(&self) -> PathBuf {
        self.path.join(FINDINGS)
    }

    /// Where what was found with this seed is kept.
    pub fn finding(&self, scenario: &str, seed: u64) -> PathBuf {
        self.path.join(finding(scenario, seed))
    }

    /// Keeps settings and progress.
    pub(super) fn save(&self, kept: &Kept) -> Result<(), FolderError> {
        let file = self.file();
        let system = || FolderError::system(&file);
        let body = serde_json::to_string_pretty(kept).map_err(|error| system()(error.into()))?;
        let head = Head {
            squall: identity().to_owned(),
            checksum: checksum(&body),
        };
        let head = serde_json::to_string(&head).map_err(|error| system()(error.into()))?;
        write_whole(&file, format!("{head}\n{body}\n").as_bytes()).map_err(system())
    }

    /// Keeps everything of a run that did not pass.
    pub(super) fn keep(&self, run: &Run) -> Result<(), FolderError> {
        let (scenario, seed) = (&run.plan.scenario, run.plan.seed);
        let path = self.finding(scenario, seed);
        let system = || FolderError::system(&path);
        let command = reproduce(scenario, seed);
        let model = report::model(run, command.clone());
        let written = Written::new(run, &model, HISTORY).map_err(system())?;
        let commands = format!(
            "{command}\ncargo squall replay {}\n",
            path.join(PLAN).display()
        );
        let files: [(&str, &[u8]); 6] = [
            (PLAN, written.plan.as_bytes()),
            (HISTORY, &written.history),
            ("run.json", &written.model),
            (PAGE, written.page.as_bytes()),
            ("report.txt", written.text.as_bytes()),
            ("reproduce.txt", commands.as_bytes()),
        ];
        write_folder(&path, &files).map_err(system())
    }
}

const FILE: &str = "hunt.json";
const FINDINGS: &str = "findings";
const HISTORY: &str = "history.jsonl";
/// The page of a finding.
const PAGE: &str = "report.html";
/// The plan of a finding.
pub(super) const PLAN: &str = "plan.toml";
/// The same, made smaller.
pub const SHRUNK: &str = "shrunk.toml";

/// Where what was found with this seed is kept, in the folder of the hunt.
fn finding(scenario: &str, seed: u64) -> PathBuf {
    Path::new(FINDINGS).join(format!("{}.{seed}", scenario.replace('/', "-")))
}

/// The pages of what was found, as they are linked from the folder of the hunt.
pub fn pages(folder: &Path, sweep: &Sweep) -> Pages {
    let failed = sweep.findings.iter();
    let failed = failed.map(|it| (&it.scenario, it.seed, &it.reproduce));
    let undecided = sweep.undecided.iter();
    let undecided = undecided.map(|it| (&it.scenario, it.seed, &it.reproduce));
    let page = |(scenario, seed, command): (&String, Option<u64>, &String)| {
        let page = finding(scenario, seed?).join(PAGE);
        let is_there = folder.join(&page).is_file();
        is_there.then(|| (command.clone(), page.to_string_lossy().into_owned()))
    };
    failed.chain(undecided).filter_map(page).collect()
}

fn checksum(body: &str) -> String {
    format!("{:016x}", value_hash(body.trim_end().as_bytes()))
}

/// Reads the first line; the rest is not looked at.
fn read_head<'a>(path: &Path, text: &'a str) -> Result<(Head, &'a str), FolderError> {
    let (head, body) = text.split_once('\n').unwrap_or((text, ""));
    let head = serde_json::from_str(head)
        .map_err(|error| corrupt(path, 1, format!("not the head of a hunt: {error}")))?;
    Ok((head, body))
}

/// Reads what is kept; a file that was cut or changed is refused as a whole.
fn read_body(path: &Path, head: &Head, body: &str) -> Result<Kept, FolderError> {
    let kept = serde_json::from_str(body)
        .map_err(|error| corrupt(path, error.line() + 1, format!("not a hunt: {error}")))?;
    if checksum(body) != head.checksum {
        let reason = "the checksum is another: somebody has changed the lines below";
        return Err(corrupt(path, 1, reason.to_owned()));
    }
    Ok(kept)
}

fn corrupt(path: &Path, line: usize, reason: String) -> FolderError {
    let path = path.to_owned();
    FolderError::Corrupt { path, line, reason }
}
