//! Taking messages out of a stream by request: purges, and the deletion of one.

use squall_core::transport::{ApiError, Purge, Sequence, Storage};

use super::context::Context;
use super::effect::Cause;
use super::pulls::Gone;
use super::refusal::api_error;
use super::stream::Stream;
use super::subject::Filter;
use crate::wire::Response;

/// What a request takes out of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// What a purge names.
    Purge(Purge),
    /// One message.
    Message(Sequence),
}

impl Removal {
    /// Whether it is one. Looked at before the stream is.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        match self {
            Self::Purge(what) => limits(what).map(|_| ()),
            Self::Message(_) => Ok(()),
        }
    }
}

/// How many to keep, or below which sequence to purge; not both.
fn limits(what: &Purge) -> Result<(Option<u64>, Option<Sequence>), ApiError> {
    let keep = what.keep.filter(|&keep| keep > 0);
    let below = what.below.filter(|&below| below > Sequence::NONE);
    if keep.is_some() && below.is_some() {
        return Err(api_error(400, 10003, "bad request"));
    }
    Ok((keep, below))
}

impl Stream {
    /// Whether the settings let it be taken out. In a cluster it is looked at before it is agreed upon.
    pub(super) fn permits(&self, removal: &Removal) -> Result<(), ApiError> {
        match removal {
            Removal::Purge(_) if self.config.deny_purge => {
                Err(api_error(500, 10110, "stream purge not permitted"))
            }
            Removal::Message(_) if self.config.deny_delete => {
                Err(api_error(500, 10057, "message delete not permitted"))
            }
            _ => Ok(()),
        }
    }

    /// Takes it out, where that is permitted.
    pub(super) fn remove(
        &mut self,
        ctx: &mut Context<'_>,
        removal: &Removal,
    ) -> Result<Response, ApiError> {
        self.permits(removal)?;
        match removal {
            Removal::Purge(what) => self.purge(ctx, what).map(Response::Purged),
            Removal::Message(at) => self.delete_message(ctx, *at).map(|()| Response::Deleted),
        }
    }

    /// Removes what is asked for; gives how many messages that were.
    fn purge(&mut self, ctx: &mut Context<'_>, what: &Purge) -> Result<u64, ApiError> {
        let (keep, below) = limits(what)?;
        let filter = what.filter.as_deref().filter(|filter| !filter.is_empty());
        // Older servers take the first sequence for no limit, but for a whole stream in memory.
        let is_limit = ctx.config.version.is_at_least(2, 14)
            || (filter.is_none() && self.config.storage == Storage::Memory);
        let below = below.filter(|&below| is_limit || below > Sequence(1));
        let Some(filter) = filter else {
            return Ok(self.purge_all(ctx, keep, below));
        };
        // What is no filter matches nothing.
        let text = filter;
        let Some(filter) = Filter::parse(text) else {
            return Ok(0);
        };
        let matching = self.store.from(Sequence::NONE).filter(|record| {
            below.is_none_or(|below| record.sequence < below)
                && filter.matches(self.store.subject_of(record))
        });
        let mut gone: Vec<Sequence> = matching.map(|record| record.sequence).collect();
        let kept = usize::try_from(keep.unwrap_or(0)).unwrap_or(usize::MAX);
        gone.truncate(gone.len().saturating_sub(kept));
        for &sequence in &gone {
            self.drop_at(ctx, sequence, Cause::Purged);
        }
        let purged = gone.len() as u64;
        self.tell_purged(ctx, Some(text), Gone::Each(purged));
        Ok(purged)
    }

    fn purge_all(
        &mut self,
        ctx: &mut Context<'_>,
        keep: Option<u64>,
        below: Option<Sequence>,
    ) -> u64 {
        let end = match (keep, below) {
            (None, None) => self.store.last().next(),
            (Some(keep), _) => {
                let keep = usize::try_from(keep).unwrap_or(usize::MAX);
                let mut newest_first = self.store.from(Sequence::NONE).rev();
                let oldest_kept = newest_first.nth(keep - 1);
                oldest_kept.map_or(Sequence::NONE, |record| record.sequence)
            }
            (None, Some(below)) => below,
        };
        let purged = self.drop_below(ctx, end, Cause::Purged);
        if keep.is_none() && purged > 0 {
            // Its file is written anew.
            self.half_gone.clear();
        }
        if below.is_some() {
            // The counter jumps.
            self.store.skip_to(Sequence(end.0 - 1));
        }
        let gone = match keep {
            Some(_) => Gone::Each(purged),
            None => Gone::Whole(purged),
        };
        self.tell_purged(ctx, None, gone);
        purged
    }

    /// Deletes one message.
    fn delete_message(&mut self, ctx: &mut Context<'_>, at: Sequence) -> Result<(), ApiError> {
        let failed = |why: &str| Err(api_error(500, 10057, why));
        if at > self.store.last() {
            return failed("stream store EOF");
        }
        if at < self.store.first_sequence() {
            return failed("no message found");
        }
        if self.drop_at(ctx, at, Cause::Deleted) {
            return Ok(());
        }
        Err(api_error(400, 10043, format!("sequence {at} not found")))
    }
}
