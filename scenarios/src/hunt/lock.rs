//! [`Lock`]: one process at a time in a directory. It dies with its process, however that dies.

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::path::Path;

use super::FolderError;

/// Held as long as it lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes a directory, which must be there.
    ///
    /// # Errors
    /// If somebody else has it, or nothing can be written there.
    pub fn take(directory: &Path) -> Result<Self, FolderError> {
        let path = directory.join("lock");
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(FolderError::system(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&path).unwrap_or_default();
                return Err(FolderError::Taken {
                    path: directory.to_owned(),
                    by: match holder.trim().parse::<u32>() {
                        Ok(process) => format!(", process {process}"),
                        // It has not said it yet.
                        Err(_) => String::new(),
                    },
                });
            }
            Err(TryLockError::Error(error)) => return Err(FolderError::system(&path)(error)),
        }
        // For people: what counts is the lock.
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(FolderError::system(&path))?;
        Ok(Self { _file: file })
    }
}
