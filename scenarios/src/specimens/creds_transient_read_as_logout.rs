//! `creds-transient-read-as-logout`: an I/O error while reloading credentials counts as a logout.
//!
//! Who reloads asks "who is logged in?", and has one answer for a file that is not there, one that is empty and one that
//! cannot be read just now: nobody. A disk that fails for a moment, or a limit of open files, logs its owner out, closes
//! every connection, and a person must log in again.
//!
//! Right: an error says nothing, and what was known stays known. [`squall_core::session::LoginFile`] tells the three apart
//! (`core/src/session/login_file.rs`).

use squall_core::files::Files;
use squall_core::session::{LOGIN_FILE, SavedLogin};

/// As plans write it.
pub(crate) const NAME: &str = "creds-transient-read-as-logout";

/// Who is logged in, by the file.
pub(crate) fn read(files: &dyn Files) -> Option<SavedLogin> {
    // The flaw: the error is dropped.
    let bytes = files.read(LOGIN_FILE).ok()??;
    serde_json::from_slice(&bytes).ok()
}
