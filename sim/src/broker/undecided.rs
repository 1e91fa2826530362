//! What the leader of a stream has proposed, and its group has not agreed upon yet.
//!
//! A condition on the last message of a subject cannot be judged while one is on its way there: the server does not wait
//! for it, it refuses, and says no more than that the last sequence is wrong. The same with the id of a message that is
//! on its way: that it is a duplicate cannot be said of what may never be stored. So on 2.12 and later; 2.10, which lets
//! the second wait, is modelled as well, and 2.11, which lets some wait, as if it did not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::demands::Demands;
use super::refusal::{Refusal, api_error};

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Undecided {
    /// Writes of each subject, and conditions on it.
    subjects: BTreeMap<Arc<str>, u32>,
    ids: BTreeSet<Arc<str>>,
}

impl Undecided {
    pub(super) fn propose(&mut self, subject: &Arc<str>, demands: &Demands<'_>) {
        *self.subjects.entry(Arc::clone(subject)).or_default() += 1;
        if let Some(other) = demands.of_subject {
            *self.subjects.entry(other.into()).or_default() += 1;
        }
        self.ids.extend(demands.message_id.map(Arc::from));
    }

    /// Also of ghosts of an earlier leader, which were not proposed by this one.
    pub(super) fn decide(&mut self, subject: &str, demands: &Demands<'_>) {
        for subject in [Some(subject), demands.of_subject].into_iter().flatten() {
            let Some(left) = self.subjects.get_mut(subject) else {
                continue;
            };
            *left -= 1;
            if *left == 0 {
                self.subjects.remove(subject);
            }
        }
        if let Some(id) = demands.message_id {
            self.ids.remove(id);
        }
    }

    /// Nobody decides any more.
    pub(super) fn clear(&mut self) {
        self.subjects.clear();
        self.ids.clear();
    }

    /// Why a message is refused before anything else about it is looked at, by a server that does not wait.
    pub(super) fn refusal(&self, subject: &str, demands: &Demands<'_>) -> Option<Refusal> {
        let is_under_way = |id| self.ids.contains(id);
        if demands.message_id.is_some_and(is_under_way) {
            let why = "duplicate message id is in process";
            return Some(Refusal::Error(api_error(409, 10158, why)));
        }
        let of = demands.of_subject.unwrap_or(subject);
        (demands.last_of_subject.is_some() && self.subjects.contains_key(of)).then(|| {
            let why = "wrong last sequence";
            Refusal::Error(api_error(400, 10164, why))
        })
    }

    /// Whether a message waits until what is proposed is decided: what it demands depends on the stream as a whole.
    pub(super) fn holds_up(&self, demands: &Demands<'_>) -> bool {
        !self.subjects.is_empty() && (demands.last.is_some() || demands.last_message_id.is_some())
    }
}

#[cfg(test)]
mod tests {
    use squall_core::transport::Sequence;

    use super::*;

    #[test]
    fn what_is_under_way_is_undecided_until_all_of_it_is_decided() {
        let subject: Arc<str> = "s.a".into();
        let plain = Demands::default();
        let conditional = Demands {
            last_of_subject: Some(Sequence(3)),
            ..plain
        };
        let named = Demands {
            message_id: Some("id"),
            ..plain
        };
        let of_another = Demands {
            of_subject: Some("s.a"),
            ..conditional
        };
        let of_all = Demands {
            last: Some(Sequence(3)),
            ..plain
        };
        let mut undecided = Undecided::default();
        let code = |undecided: &Undecided, subject: &str, demands: &Demands<'_>| {
            let refusal = undecided.refusal(subject, demands);
            let error = refusal.and_then(Refusal::error);
            error.map(|error| error.err_code)
        };
        undecided.propose(&subject, &named);
        undecided.propose(&subject, &plain);
        assert_eq!(code(&undecided, "s.a", &plain), None);
        assert_eq!(code(&undecided, "s.a", &conditional), Some(10164));
        assert_eq!(code(&undecided, "s.b", &conditional), None);
        assert_eq!(code(&undecided, "s.b", &of_another), Some(10164));
        assert_eq!(code(&undecided, "s.b", &named), Some(10158));
        assert!(undecided.holds_up(&of_all) && !undecided.holds_up(&conditional));
        undecided.decide("s.a", &named);
        assert_eq!(code(&undecided, "s.a", &named), None);
        assert_eq!(code(&undecided, "s.a", &conditional), Some(10164));
        undecided.decide("s.a", &plain);
        assert_eq!(code(&undecided, "s.a", &conditional), None);
        assert!(!undecided.holds_up(&of_all));
        // A ghost.
        undecided.decide("s.a", &plain);
    }
}
