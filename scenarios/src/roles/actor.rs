//! [`Actor`]: one life of an agent, whatever its role: what it is told, and how it tells the history.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use squall_core::transport::Fallible;

use super::presence;
use crate::history::{Call, Recorder, Reply, Tell, What};
use crate::plan::AgentPlan;

/// What the runner tells an agent.
#[derive(Debug)]
pub(crate) enum Order {
    /// Close, and end.
    Close,
}

/// What every process has been told last: what the second act compares with what is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board(Arc<Mutex<BTreeMap<Arc<str>, Standing>>>);

/// What one process has been told last: what is of its role, and whether it is over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    pub(crate) ended: bool,
    pub(super) presence: presence::Standing,
}

impl Board {
    pub(crate) fn all(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the head of this file.
#[derive(Clone)]
pub(crate) struct Actor {
    pub(crate) plan: AgentPlan,
    pub(crate) process: Arc<str>,
    pub(crate) servers: Vec<String>,
    pub(crate) specimen: Option<String>,
    pub(crate) recorder: Recorder,
    pub(crate) board: Board,
}

impl Actor {
    pub(super) fn name(&self) -> Arc<str> {
        self.plan.name.as_str().into()
    }

    pub(super) fn note(&self, change: impl FnOnce(&mut Standing)) {
        change(self.board.all().entry(self.process.clone()).or_default());
    }

    pub(super) fn tell(&self, tell: Tell) {
        self.recorder.record(What::Told {
            process: self.process.clone(),
            tell,
        });
    }

    pub(super) async fn call<T, E: Fallible + ToString>(
        &self,
        call: Call,
        doing: impl Future<Output = Result<T, E>> + Send,
        reply: impl FnOnce(&T) -> Reply,
    ) -> Option<T> {
        let id = self.recorder.invoke(&self.process, call);
        let result = doing.await;
        let ended = match &result {
            Ok(value) => Ok(reply(value)),
            Err(error) => Err((error.outcome(), error.to_string())),
        };
        self.recorder.ended(id, ended);
        result.ok()
    }
}
