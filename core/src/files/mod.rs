//! Files that outlive a program: the state of a daemon, and its log.
//!
//! [`Files`] stands at the height of what such files need and no deeper. A state file is written whole or not at all
//! ([`Files::write`]): after a crash at any point it reads as it was before or as it should be, never as empty but
//! valid (S1). A log grows by lines ([`Files::append_line`]): a crash may cost its last line, and no other.
//!
//! There are two of them: [`HomeFiles`] on a real disk, and the simulated disk of `squall-sim`, which crashes and
//! fails as the seed says. Calls are short and block; none waits for another program.

mod home;

use std::io;

pub use self::home::HomeFiles;
use crate::transport::{Fallible, Outcome};

/// The files of one program in one folder of their own. Only their owner may read them (mode 0600).
pub trait Files: Send + Sync {
    /// The whole file; `None` where there is none.
    ///
    /// # Errors
    /// Whether it is there is not known: an error is no missing file.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, FileError>;

    /// Makes these bytes the whole file, for good: once this returns, a loss of power keeps them.
    ///
    /// # Errors
    /// The file is as it was; where the [outcome](FileError::outcome) is unknown, it is as it was or as it should be.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FileError>;

    /// Adds a line to the end of a file, which it makes where there is none. Where another left the last line torn, it
    /// is ended first. Several programs may append at once; a line holds together. A loss of power may cost the last
    /// lines.
    ///
    /// With a [`Rotation`], a file that would grow too large makes room for a new one first.
    ///
    /// # Errors
    /// The line is there, or is not, or is there in part; all lines before it are there, some perhaps still in the file
    /// that was to make room.
    fn append_line(
        &self,
        name: &str,
        line: &[u8],
        rotation: Option<Rotation>,
    ) -> Result<(), FileError>;
}

/// How a file that grows is kept small: `name` becomes `name.1`, that becomes `name.2`, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The file holds no more bytes than this, unless one line alone is longer.
    pub bytes_max: u64,
    /// How many older files are kept.
    pub kept: u32,
}

/// What was being done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileStep {
    /// It was read.
    Read,
    /// The temporary file that would take its place was made, filled or brought to disk.
    Prepare,
    /// The temporary file was put in its place, and this brought to disk.
    Replace,
    /// A line was added.
    Append,
    /// It was made to give way to a new one.
    Rotate,
}

impl FileStep {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "cannot be read",
            Self::Prepare | Self::Replace => "cannot be written",
            Self::Append => "cannot be added to",
            Self::Rotate => "cannot be rotated",
        }
    }
}

/// Something could not be done with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} {}: {text}", step.as_str())]
pub struct FileError {
    /// Which file.
    pub name: String,
    /// What was being done.
    pub step: FileStep,
    /// What kind of error.
    pub kind: io::ErrorKind,
    /// What the system says.
    pub text: String,
}

impl FileError {
    /// The system refused this. For implementations of [`Files`].
    pub fn new(name: &str, step: FileStep, error: &io::Error) -> Self {
        Self {
            name: name.to_owned(),
            step,
            kind: error.kind(),
            text: error.to_string(),
        }
    }
}

impl Fallible for FileError {
    fn outcome(&self) -> Outcome {
        match self.step {
            FileStep::Read | FileStep::Prepare => Outcome::Refused,
            FileStep::Replace | FileStep::Append | FileStep::Rotate => Outcome::Unknown,
        }
    }
}
