//! Whether a stream takes a message: its publisher's conditions, and the stream's limits.
//!
//! Nothing is changed here: a server that has others to ask before it stores may decide first and do it later. Which of
//! several reasons is told depends on the version; the order here was measured, pair by pair, on all five.

use std::time::Duration;

use squall_core::transport::{Discard, Operation, Retention, Revision, Sequence, Storage};

use super::config::Version;
use super::demands::{Demands, Life, Rollup};
use super::head::Head;
use super::refusal::{Refusal, api_error};
use super::store::SubjectId;
use super::stream::{Incoming, Stream};

/// What becomes of a message that is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is stored already, at this sequence.
    Duplicate(Sequence),
    /// It is to be stored.
    Accepted(Accepted),
}

/// What is to be done about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    /// What it counts against `max_bytes`.
    pub(super) size: u64,
    /// How long it lives by its own wish.
    pub(super) life: Life,
    /// Whether that is longer than it wished: then its headers say so.
    pub(super) is_longer: bool,
    /// What it takes the place of.
    pub(super) replaced: Replaced,
    /// Whether anybody wants it; otherwise it only takes its sequence.
    pub(super) is_wanted: bool,
}

/// What a message takes the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replaced {
    /// Nothing, beside what no limit allows.
    Nothing,
    /// All older ones of its subject.
    Subject,
    /// All older ones.
    All,
}

impl Stream {
    pub(super) fn admit(
        &self,
        version: Version,
        incoming: &Incoming<'_>,
    ) -> Result<Admission, Refusal> {
        if let Head::Write {
            operation: Operation::Put,
            expected,
        } = &incoming.head
        {
            return self.admit_value(version, incoming, *expected);
        }
        let demands = Demands::of(&incoming.head);
        let subject = incoming.subject;
        let checks_size_first = version.is_at_least(2, 15);
        if checks_size_first {
            self.check_size(incoming)?;
        }
        if let Some(stream) = demands.stream
            && *stream != *self.identity.name
        {
            let why = "expected stream does not match";
            return Err(Refusal::Error(api_error(400, 10060, why)));
        }
        let life = self.life_allowed(version, demands.life)?;
        if !version.is_at_least(2, 12)
            && let Some(sequence) = self.duplicate_of(&demands)
        {
            return Ok(Admission::Duplicate(sequence));
        }
        self.check_sequences(version, &demands, subject)?;
        if let Some(sequence) = self.duplicate_of(&demands) {
            return Ok(Admission::Duplicate(sequence));
        }
        if let Some(expected) = demands.last_message_id {
            let last = self.ids.last();
            if *last != *expected {
                return Err(Refusal::WrongLastId(last));
            }
        }
        let replaced = self.rollup_allowed(version, demands.rollup)?;
        if !checks_size_first {
            self.check_size(incoming)?;
        }
        if life == Life::Invalid {
            let why = "invalid per-message TTL";
            return Err(Refusal::Error(api_error(400, 10165, why)));
        }
        let is_longer = life != demands.life && matches!(life, Life::For(_));
        self.accept(version, incoming, life, is_longer, replaced)
    }

    /// The same for what demands nothing but perhaps a revision, as nearly all messages do.
    fn admit_value(
        &self,
        version: Version,
        incoming: &Incoming<'_>,
        expected: Option<Revision>,
    ) -> Result<Admission, Refusal> {
        let checks_size_first = version.is_at_least(2, 15);
        if checks_size_first {
            self.check_size(incoming)?;
        }
        if let Some(Revision(expected)) = expected {
            let newest = incoming.subject.map(|subject| self.store.newest(subject));
            let actual = newest.map_or(Sequence::NONE, |record| record.sequence);
            if Sequence(expected) != actual {
                return Err(Refusal::WrongLast(actual));
            }
        }
        if !checks_size_first {
            self.check_size(incoming)?;
        }
        self.accept(version, incoming, Life::Unsaid, false, Replaced::Nothing)
    }

    /// All that the publisher demands holds: if there is room, it is stored.
    fn accept(
        &self,
        version: Version,
        incoming: &Incoming<'_>,
        life: Life,
        is_longer: bool,
        replaced: Replaced,
    ) -> Result<Admission, Refusal> {
        let text = incoming.name.text();
        let is_wanted = self.config.retention != Retention::Interest || self.is_wanted(text);
        let size = self.size_of(incoming.name, &incoming.head, incoming.payload.len());
        if is_wanted {
            self.check_room(version, size, incoming.subject)?;
        }
        Ok(Admission::Accepted(Accepted {
            size,
            life,
            is_longer,
            replaced,
            is_wanted,
        }))
    }

    fn duplicate_of(&self, demands: &Demands<'_>) -> Option<Sequence> {
        self.ids.find(demands.message_id?)
    }

    fn check_sequences(
        &self,
        version: Version,
        demands: &Demands<'_>,
        subject: Option<SubjectId>,
    ) -> Result<(), Refusal> {
        let filter = demands.of_subject.filter(|_| version.is_at_least(2, 11));
        if let Some(expected) = demands.last_of_subject {
            let actual = match filter {
                Some(filter) => self.last_matching(filter),
                None => subject.map(|subject| self.store.newest(subject)),
            };
            let actual = actual.map_or(Sequence::NONE, |record| record.sequence);
            if expected != actual {
                return Err(Refusal::WrongLast(actual));
            }
        } else if filter.is_some() && version.is_at_least(2, 12) {
            let why = "missing sequence for expected last sequence per subject";
            return Err(Refusal::Error(api_error(400, 10193, why)));
        }
        match demands.last {
            Some(expected) if expected != self.store.last() => {
                Err(Refusal::WrongLast(self.store.last()))
            }
            _ => Ok(()),
        }
    }

    /// A life that the stream allows, not shorter than that of its delete markers: or else two of one subject could
    /// expire at once, and be told as one. What is no life at all is refused later.
    fn life_allowed(&self, version: Version, wished: Life) -> Result<Life, Refusal> {
        if !version.is_at_least(2, 11) {
            return Ok(Life::Unsaid);
        }
        if matches!(wished, Life::For(_) | Life::Never) && !self.config.allow_message_ttl {
            let why = "per-message TTL is disabled";
            return Err(Refusal::Error(api_error(400, 10166, why)));
        }
        Ok(match (wished, self.config.subject_delete_markers) {
            (Life::For(life), Some(marker)) if self.config.max_messages_per_subject != 1 => {
                Life::For(life.max(Duration::from_secs(marker.as_secs())))
            }
            _ => wished,
        })
    }

    fn rollup_allowed(&self, version: Version, wished: Rollup<'_>) -> Result<Replaced, Refusal> {
        let refused = |why: &str| Err(Refusal::Error(api_error(500, 10111, why)));
        match wished {
            Rollup::None => Ok(Replaced::Nothing),
            _ if !self.config.allow_rollup || self.config.deny_purge => {
                refused("rollup not permitted")
            }
            Rollup::Subject => Ok(Replaced::Subject),
            Rollup::All => Ok(Replaced::All),
            Rollup::Invalid(_) if !version.is_at_least(2, 11) => Err(Refusal::Silence),
            Rollup::Invalid(value) => refused(&format!("rollup value invalid: {value:?}")),
        }
    }

    fn check_size(&self, incoming: &Incoming<'_>) -> Result<(), Refusal> {
        let bytes = || incoming.head.wire_len() + incoming.payload.len();
        if usize::try_from(self.config.max_message_size).is_ok_and(|limit| bytes() > limit) {
            let why = "message size exceeds maximum allowed";
            return Err(Refusal::Error(api_error(400, 10054, why)));
        }
        Ok(())
    }

    /// Whether a stream that drops nothing for a new message has room for it. A full one still takes a message that
    /// pushes an old one of its subject out, if it fits there. Up to 2.12 a stream is full one byte earlier, and in
    /// a file such a message must be smaller than what it pushes out.
    fn check_room(
        &self,
        version: Version,
        size: u64,
        subject: Option<SubjectId>,
    ) -> Result<(), Refusal> {
        if self.config.discard == Discard::Old {
            return Ok(());
        }
        let full = |why: &str| Err(Refusal::Error(api_error(503, 10077, why)));
        let kept = usize::try_from(self.config.max_messages_per_subject).unwrap_or(usize::MAX);
        let pushed_out = subject.filter(|&subject| self.store.records_of(subject) >= kept);
        if pushed_out.is_some() && self.config.discard_new_per_subject {
            return full("maximum messages per subject exceeded");
        }
        let messages = usize::try_from(self.config.max_messages).unwrap_or(usize::MAX);
        if self.store.len() >= messages && pushed_out.is_none() {
            return full("maximum messages exceeded");
        }
        let Ok(bytes) = u64::try_from(self.config.max_bytes) else {
            return Ok(());
        };
        let is_old = !version.is_at_least(2, 13);
        let needed = size + u64::from(is_old);
        let freed = pushed_out.map_or(0, |subject| self.store.oldest(subject).size);
        let must_be_smaller = is_old && self.config.storage == Storage::File;
        let fits = size + u64::from(must_be_smaller) <= freed;
        if self.store.bytes() + needed > bytes && !fits {
            return full("maximum bytes exceeded");
        }
        Ok(())
    }
}
