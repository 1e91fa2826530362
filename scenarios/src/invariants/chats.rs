//! What a history tells of chats, sorted out once: what was stored, who watched it, and what each watch told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use squall_core::Instant;
use squall_core::transport::Sequence;

use super::facts::{Ended, Facts, Span, without};
use crate::history::chat::{Call, Reply, Tell as ChatTell, Told};
use crate::history::{self, Life, Tell, What};
use crate::parse::PROJECT;

/// One watch of one process.
#[derive(Debug)]
pub(super) struct ChatWatch<'a> {
    pub(super) process: &'a Arc<str>,
    pub(super) agent: &'a str,
    pub(super) number: u32,
    /// The one thread that it watches, by its subject.
    pub(super) subject: Option<&'a str>,
    /// When it was called for.
    pub(super) invoked: Instant,
    /// When it had begun.
    pub(super) from: Instant,
    /// When it was given up, had ended, was closed, or its process was no more.
    pub(super) until: Instant,
    pub(super) tells: Vec<(Instant, &'a Told)>,
}

/// A message that was stored.
#[derive(Debug)]
pub(super) struct ChatStored<'a> {
    /// When, or when at the latest.
    pub(super) at: Instant,
    /// When at the earliest.
    pub(super) since: Instant,
    pub(super) sequence: Sequence,
    pub(super) id: Option<&'a str>,
    pub(super) subject: Option<&'a str>,
    /// When it went away.
    pub(super) gone: Instant,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Chats<'a> {
    pub(super) watches: Vec<ChatWatch<'a>>,
    /// In the order in which it was stored.
    pub(super) stored: Vec<ChatStored<'a>>,
    /// Whether that is the server's own word.
    pub(super) is_truth: bool,
    /// When the end of the stream was lost, and what is the last of what is left.
    pub(super) losses: Vec<(Instant, Sequence)>,
    /// When each chat was closed: from the call to its end.
    pub(super) closes: Vec<(&'a Arc<str>, Span)>,
    /// When each process had its connection closed.
    pub(super) disconnects: Vec<(&'a Arc<str>, Instant)>,
}

/// What is of a chat, in a history of one.
pub(super) fn read<'a>(facts: &Facts<'a>) -> Chats<'a> {
    let mut chats = Chats::default();
    if !facts.plan.has_chat() {
        return chats;
    }
    let mut places = BTreeMap::new();
    for called in &facts.calls {
        let history::Call::Chat(call) = called.call else {
            continue;
        };
        let end = called.ended.map(|(at, _)| at);
        match (call, called.ended) {
            (Call::Watch { watch, subject }, Some((from, Ended::Ok(_)))) => {
                let life = facts.life(called.process);
                places.insert((called.process, *watch), chats.watches.len());
                chats.watches.push(ChatWatch {
                    process: called.process,
                    agent: called.process.split('/').next().unwrap_or_default(),
                    number: *watch,
                    subject: subject.as_deref(),
                    invoked: called.invoked,
                    from,
                    until: life.map_or(facts.end, |life| life.ended),
                    tells: Vec::new(),
                });
            }
            (Call::Close, _) => {
                let span = (called.invoked, end.unwrap_or(facts.end));
                chats.closes.push((called.process, span));
            }
            (
                Call::Send { .. },
                Some((at, Ended::Ok(history::Reply::Chat(Reply::Sent { id, sequence })))),
            ) => chats.stored.push(ChatStored {
                at,
                since: called.invoked,
                sequence: *sequence,
                id: Some(id),
                subject: None,
                gone: Instant::FAR_FUTURE,
            }),
            _ => {}
        }
    }
    let stream = squall_core::chat::stream(PROJECT);
    let mut truth: Vec<ChatStored<'_>> = Vec::new();
    // Where each sequence stands in that which is there; one that was lost is given out again.
    let mut held = BTreeMap::new();
    for record in &facts.history.0 {
        match &record.what {
            What::Told {
                process,
                tell: Tell::Chat(ChatTell { watch, told }),
            } => {
                if let Some(place) = places.get(&(process, *watch)) {
                    let watch = &mut chats.watches[*place];
                    watch.tells.push((record.at, told));
                    if matches!(told, Told::Cancelled | Told::Ended { .. }) {
                        watch.until = watch.until.min(record.at);
                    }
                }
            }
            What::Told {
                process,
                tell: Tell::Connection { event },
            } if event == "closed" => chats.disconnects.push((process, record.at)),
            What::Stored {
                stream: of,
                subject,
                sequence,
                message_id,
                ..
            } if **of == *stream => {
                held.insert(*sequence, truth.len());
                truth.push(ChatStored {
                    at: record.at,
                    since: record.at,
                    sequence: *sequence,
                    id: message_id.as_deref(),
                    subject: Some(subject),
                    gone: Instant::FAR_FUTURE,
                });
            }
            What::Dropped {
                stream: of,
                sequence,
                ..
            } if **of == *stream => {
                if let Some(place) = held.remove(sequence) {
                    truth[place].gone = record.at;
                }
            }
            What::LostTail {
                stream: of, last, ..
            } if **of == *stream => chats.losses.push((record.at, *last)),
            What::Life {
                process,
                event: Life::Crashed,
            } => {
                let watches = chats.watches.iter_mut();
                for watch in watches.filter(|watch| watch.process == process) {
                    watch.until = watch.until.min(record.at);
                }
            }
            _ => {}
        }
    }
    for watch in &mut chats.watches {
        let mut closes = chats.closes.iter();
        if let Some((_, (close, _))) =
            closes.find(|(process, (at, _))| *process == watch.process && *at >= watch.from)
        {
            watch.until = watch.until.min(*close);
        }
    }
    if !truth.is_empty() {
        (chats.stored, chats.is_truth) = (truth, true);
    }
    chats
}

impl<'a> Chats<'a> {
    /// When this process closed its chat after some time, if it did.
    pub(super) fn closes_after(&self, process: &str, at: Instant) -> Option<Instant> {
        let mut closes = self.closes.iter();
        let found = closes.find(|(who, (from, _))| ***who == *process && *from > at);
        found.map(|(_, (from, _))| *from)
    }

    /// Whether the end of the stream was lost in this span, and with it this message.
    pub(super) fn is_lost(&self, sequence: Sequence, (from, until): Span) -> bool {
        let mut losses = self.losses.iter();
        losses.any(|(at, last)| (from..=until).contains(at) && sequence > *last)
    }

    /// Whether a message of this id was stored, and lost, before the end of this span.
    pub(super) fn is_lost_between(&self, (from, until): Span, id: &str) -> bool {
        let mut stored = self.stored.iter().filter(|stored| stored.id == Some(id));
        stored.any(|stored| {
            let since = stored.since.min(from);
            self.is_lost(stored.sequence, (since, until))
        })
    }

    /// The watches of an agent, of all its lives.
    pub(super) fn of_agent<'b>(
        &'b self,
        agent: &'b str,
    ) -> impl Iterator<Item = &'b ChatWatch<'a>> + 'b {
        self.watches
            .iter()
            .filter(move |watch| watch.agent == agent)
    }
}

impl<'a> ChatWatch<'a> {
    /// When it said that it saw, and its process ran.
    pub(super) fn seeing(&self, facts: &Facts<'_>) -> Vec<Span> {
        let mut blind: Vec<Span> = Vec::new();
        for (at, told) in &self.tells {
            match told {
                Told::Interrupted { .. } => blind.push((*at, self.until)),
                Told::Resumed => {
                    if let Some(last) = blind.last_mut() {
                        last.1 = last.1.min(*at);
                    }
                }
                _ => {}
            }
        }
        if let Some(life) = facts.life(self.process) {
            blind.extend(life.frozen.iter().copied());
        }
        without((self.from, self.until), blind)
    }

    /// When this message was told of, or a gap that it lies in.
    pub(super) fn told_of(&self, stored: &ChatStored<'_>) -> Option<Instant> {
        let sequence = stored.sequence;
        let is_told = |told: &Told| match told {
            Told::Got {
                id, sequence: at, ..
            } => match stored.id {
                Some(stored) => **id == *stored,
                None => *at == sequence,
            },
            Told::Else { sequence: at, .. } => *at == sequence,
            Told::Expired { first, last } | Told::Slow { first, last, .. } => {
                (*first..=*last).contains(&sequence)
            }
            Told::TailLost { last } => sequence <= *last,
            Told::Recreated => true,
            Told::Interrupted { .. } | Told::Resumed | Told::Cancelled | Told::Ended { .. } => {
                false
            }
        };
        let mut tells = self.tells.iter();
        let found = tells.find(|(at, told)| *at >= stored.since && is_told(told));
        found.map(|(at, _)| *at)
    }

    /// How long its reader may take to read what is unread.
    pub(super) fn reading(&self, facts: &Facts<'_>) -> Duration {
        let plan = facts.plan.agent(self.agent);
        let chat = plan.and_then(|plan| plan.chat.as_ref());
        chat.map_or(Duration::ZERO, crate::plan::ChatPlan::reading)
    }
}
