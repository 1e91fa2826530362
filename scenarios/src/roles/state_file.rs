//! The login of an agent as it stands on its disk: saved when it changes, read again at the agent's pace, as a program
//! does that is told of changes by nobody. What is saved and what is read goes into the history.

use std::sync::Arc;

use squall_core::files::Files;
use squall_core::session::{LOGIN_FILE, LoginFile, SavedLogin};
use squall_core::transport::{Fallible as _, Outcome};

use super::actor::Actor;
use crate::authority::ACCOUNTS;
use crate::history::{Call, Reply, value_hash};
use crate::specimens::creds_transient_read_as_logout;

pub(super) struct StateFile {
    actor: Actor,
    files: Arc<dyn Files>,
    file: LoginFile,
    /// Only a specimen's: what it believes of the file.
    is_forgotten: bool,
}

impl StateFile {
    pub(super) fn new(actor: Actor, files: Arc<dyn Files>) -> Self {
        Self {
            file: LoginFile::new(Arc::clone(&files)),
            actor,
            files,
            is_forgotten: false,
        }
    }

    /// The account that the file names, after a start.
    pub(super) fn account(&mut self) -> Option<&'static str> {
        self.reload();
        let name = &self.file.known()?.account.name;
        ACCOUNTS.into_iter().find(|account| **account == **name)
    }

    /// True if the file says, unlike before, that nobody is logged in.
    pub(super) fn reload(&mut self) -> bool {
        if self.file.is_behind() {
            return false;
        }
        let call = Call::Load {
            file: LOGIN_FILE.into(),
        };
        let id = self.actor.recorder.invoke(&self.actor.process, call);
        let read = if self.actor.specimen.as_deref() == Some(creds_transient_read_as_logout::NAME) {
            let known = creds_transient_read_as_logout::read(&*self.files);
            let is_news = known.is_none() && self.file.known().is_some() && !self.is_forgotten;
            self.is_forgotten = known.is_none();
            Ok((known, is_news))
        } else {
            let read = self.file.reload();
            read.map(|is_news| (self.file.known().cloned(), is_news))
        };
        let is_out = matches!(&read, Ok((None, true)));
        let ended = match read {
            Ok((login, _)) => Ok(Reply::Loaded {
                login: login.as_ref().map(hash),
            }),
            Err(error) => Err((Outcome::Refused, error.to_string())),
        };
        self.actor.recorder.ended(id, ended);
        is_out
    }

    /// Writes down again what could not be written.
    pub(super) fn catch_up(&mut self) {
        if self.file.is_behind() {
            self.save(self.file.known().cloned());
        }
    }

    /// Writes down who is logged in, where that is not what stands there.
    pub(super) fn save(&mut self, login: Option<SavedLogin>) {
        if self.file.known() == login.as_ref() && !self.file.is_behind() {
            return;
        }
        let call = Call::Save {
            file: LOGIN_FILE.into(),
            login: login.as_ref().map(hash),
        };
        let id = self.actor.recorder.invoke(&self.actor.process, call);
        let ended = match self.file.save(login) {
            Ok(()) => Ok(Reply::Done),
            Err(error) => Err((error.outcome(), error.to_string())),
        };
        self.actor.recorder.ended(id, ended);
    }
}

fn hash(login: &SavedLogin) -> u64 {
    value_hash(login.jwt.as_bytes())
}
