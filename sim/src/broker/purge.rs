//! Taking messages out of a stream by request: purges, and the deletion of one.

use squall_core::transport::{ApiError, Purge, Sequence, Storage};

use super::context::Context;
use super::effect::Cause;
use super::refusal::api_error;
use super::stream::Stream;
use super::subject::Filter;

/// How many to keep, or below which sequence to purge; not both. Looked at before the stream is.
pub(super) fn limits(what: &Purge) -> Result<(Option<u64>, Option<Sequence>), ApiError> {
    let keep = what.keep.filter(|&keep| keep > 0);
    let below = what.below.filter(|&below| below > Sequence::NONE);
    if keep.is_some() && below.is_some() {
        return Err(api_error(400, 10003, "bad request"));
    }
    Ok((keep, below))
}

impl Stream {
    /// Removes what is asked for; gives how many messages that were.
    pub(super) fn purge(&mut self, ctx: &mut Context<'_>, what: &Purge) -> Result<u64, ApiError> {
        let (keep, below) = limits(what)?;
        if self.config.deny_purge {
            return Err(api_error(500, 10110, "stream purge not permitted"));
        }
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
        self.tell_purged(ctx, Some(text));
        Ok(gone.len() as u64)
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
        if below.is_some() {
            // The counter jumps.
            self.store.skip_to(Sequence(end.0 - 1));
        }
        self.tell_purged(ctx, None);
        purged
    }

    /// Deletes one message.
    pub(super) fn delete_message(
        &mut self,
        ctx: &mut Context<'_>,
        at: Sequence,
    ) -> Result<(), ApiError> {
        let failed = |why: &str| Err(api_error(500, 10057, why));
        if self.config.deny_delete {
            return failed("message delete not permitted");
        }
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
