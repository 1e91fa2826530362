//! [`LoginFile`]: what a program keeps of its login on disk, so that the next process need not be logged in again.
//!
//! What is wrong with a file says nothing about the login: only a file that is missing, or empty, means that nobody is
//! logged in. Where it cannot be read, or not understood, what was known before stays known. And it is written whole or
//! not at all ([`Files::write`]), so that a crash leaves the login before or the one after, never an empty file that
//! would log its owner out.
//!
//! Like a name on a door: who cannot read it for the dark does not conclude that nobody lives there.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::auth::{Account, ApiKey, Issued};
use crate::files::{FileError, Files};

/// The file. Only its owner may read it.
pub const LOGIN_FILE: &str = "credentials.json";

/// A login, with its secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedLogin {
    /// Where the auth service is.
    pub url: String,
    /// What was logged in with.
    pub api_key: String,
    /// Whose.
    pub account: Account,
    /// The newest token.
    pub jwt: String,
    /// Its seed.
    pub seed: String,
}

impl fmt::Debug for SavedLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SavedLogin({})", self.account.name)
    }
}

impl SavedLogin {
    /// What was issued last, for this key, by the service there.
    pub fn new(url: impl Into<String>, api_key: &ApiKey, issued: &Issued) -> Self {
        let credentials = issued.credentials();
        Self {
            url: url.into(),
            api_key: api_key.reveal().to_owned(),
            account: issued.account().clone(),
            jwt: credentials.jwt().to_string(),
            seed: credentials.seed().reveal().to_owned(),
        }
    }
}

/// The file says nothing: what was known stays known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// It cannot be read just now.
    #[error(transparent)]
    Unread(#[from] FileError),
    /// What stands in it is no login.
    #[error("{LOGIN_FILE} holds no login")]
    Garbled,
    /// What is known is newer: it could not be written yet.
    #[error("{LOGIN_FILE} is behind what is known")]
    Behind,
}

/// See the head of this file.
pub struct LoginFile {
    files: Arc<dyn Files>,
    known: Option<SavedLogin>,
    is_behind: bool,
}

impl fmt::Debug for LoginFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoginFile({:?})", self.known)
    }
}

impl LoginFile {
    /// Among these files. Nothing is known of it before the first [`reload`](Self::reload).
    pub fn new(files: Arc<dyn Files>) -> Self {
        Self {
            files,
            known: None,
            is_behind: false,
        }
    }

    /// Who is logged in, as far as is known.
    pub const fn known(&self) -> Option<&SavedLogin> {
        self.known.as_ref()
    }

    /// Whether what is known could not be written yet.
    pub const fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// From now on this is known; `None`: nobody is logged in.
    ///
    /// # Errors
    /// It is known all the same, and [behind](Self::is_behind) on disk until it is saved again.
    pub fn save(&mut self, login: Option<SavedLogin>) -> Result<(), FileError> {
        self.is_behind = true;
        // What consists of texts can be written as JSON.
        let json = login
            .as_ref()
            .and_then(|login| serde_json::to_vec(login).ok());
        self.known = login;
        self.files.write(LOGIN_FILE, &json.unwrap_or_default())?;
        self.is_behind = false;
        Ok(())
    }

    /// Reads it again; true if it says something else than before. For a start, SIGHUP, and whenever it may have changed.
    ///
    /// # Errors
    /// What was known stays known.
    pub fn reload(&mut self) -> Result<bool, ReloadError> {
        if self.is_behind {
            return Err(ReloadError::Behind);
        }
        let found = match self.files.read(LOGIN_FILE)? {
            None => None,
            Some(bytes) if bytes.trim_ascii().is_empty() => None,
            Some(bytes) => {
                let login = serde_json::from_slice(&bytes);
                Some(login.map_err(|_| ReloadError::Garbled)?)
            }
        };
        let is_news = found != self.known;
        self.known = found;
        Ok(is_news)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use super::*;
    use crate::files::{FileStep, Rotation};

    /// One file, which fails when it is told to.
    #[derive(Default)]
    struct OneFile(Mutex<(Option<Vec<u8>>, bool)>);

    impl OneFile {
        fn set(&self, bytes: Option<&[u8]>, fails: bool) {
            *self.0.lock().expect("no panic") = (bytes.map(<[u8]>::to_vec), fails);
        }

        fn fail(&self, step: FileStep) -> Result<(), FileError> {
            let error = io::Error::other("no space");
            match self.0.lock().expect("no panic").1 {
                true => Err(FileError::new(LOGIN_FILE, step, &error)),
                false => Ok(()),
            }
        }
    }

    impl Files for OneFile {
        fn read(&self, _: &str) -> Result<Option<Vec<u8>>, FileError> {
            self.fail(FileStep::Read)?;
            Ok(self.0.lock().expect("no panic").0.clone())
        }

        fn write(&self, _: &str, bytes: &[u8]) -> Result<(), FileError> {
            self.fail(FileStep::Prepare)?;
            self.0.lock().expect("no panic").0 = Some(bytes.to_vec());
            Ok(())
        }

        fn append_line(&self, _: &str, _: &[u8], _: Option<Rotation>) -> Result<(), FileError> {
            self.fail(FileStep::Append)
        }
    }

    fn login(name: &str) -> SavedLogin {
        SavedLogin {
            url: "https://auth".to_owned(),
            api_key: "key".to_owned(),
            account: Account {
                id: "A".into(),
                name: name.into(),
            },
            jwt: "a.b.c".to_owned(),
            seed: "SU".to_owned(),
        }
    }

    #[test]
    fn only_a_missing_or_an_empty_file_is_a_logout() {
        let files = Arc::new(OneFile::default());
        let shared: Arc<dyn Files> = files.clone();
        let mut file = LoginFile::new(shared);
        assert_eq!(file.reload(), Ok(false), "missing");
        assert_eq!(file.save(Some(login("app"))), Ok(()));
        assert_eq!(file.reload(), Ok(false));
        let saved = files.read(LOGIN_FILE).expect("it is read");

        files.set(saved.as_deref(), true);
        assert!(matches!(file.reload(), Err(ReloadError::Unread(_))));
        files.set(Some(b"{\"url\":"), false);
        assert_eq!(file.reload(), Err(ReloadError::Garbled));
        assert_eq!(
            file.known(),
            Some(&login("app")),
            "what was known stays known"
        );
        for empty in [None, Some(&b""[..]), Some(&b" \n"[..])] {
            files.set(saved.as_deref(), false);
            file.reload().expect("it is read");
            files.set(empty, false);
            assert_eq!((file.reload(), file.known()), (Ok(true), None));
        }
    }

    #[test]
    fn what_could_not_be_written_is_not_undone_by_what_is_there() {
        let files = Arc::new(OneFile::default());
        let shared: Arc<dyn Files> = files.clone();
        let mut file = LoginFile::new(shared);
        files.set(None, true);
        assert!(file.save(Some(login("app"))).is_err());
        files.set(None, false);
        assert_eq!(file.reload(), Err(ReloadError::Behind));
        assert_eq!(file.known(), Some(&login("app")));
        assert!(file.is_behind());
        assert_eq!(file.save(Some(login("app"))), Ok(()));
        assert_eq!((file.reload(), file.is_behind()), (Ok(false), false));
    }

    #[test]
    fn secrets_do_not_show() {
        let shown = format!("{:?}", login("app"));
        assert_eq!(shown, "SavedLogin(app)");
    }
}
