//! The hands of a roster: one task for each watch, between the transport, the keeper and a reader that may be slow.

use std::ops::ControlFlow;

use tokio::sync::{mpsc, oneshot};

use super::Event;
use super::entry::Entry;
use super::roster::{Roster, RosterEffect, RosterEvent};
use super::shell::Command;
use crate::env::Env;
use crate::machine::{Shell, drive};
use crate::time::Instant;
use crate::transport::{Revision, Watch};

pub(super) struct RosterShell {
    pub(super) watch: Watch,
    pub(super) renewals: mpsc::UnboundedReceiver<(Revision, Instant)>,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) first_look: Option<oneshot::Sender<Vec<Entry>>>,
    pub(super) reader: mpsc::Sender<Event>,
    /// Events that found no room, oldest first; beyond `waiting_max` they are dropped and counted.
    pub(super) waiting: Vec<Event>,
    pub(super) waiting_max: usize,
    pub(super) missed: u64,
}

pub(super) async fn observe<E: Env>(env: E, mut roster: Roster, mut shell: RosterShell) {
    drive(env.clock(), &mut roster, &mut shell).await;
}

impl RosterShell {
    fn tell(&mut self, event: Event) {
        if self.missed > 0 {
            self.missed += 1;
        } else if !self.waiting.is_empty() || self.reader.capacity() == 0 {
            self.waiting.push(event);
            if self.waiting.len() > self.waiting_max {
                self.missed = self.waiting.len() as u64;
                self.waiting.clear();
            }
        } else {
            // Fails only if the reader is gone, and then `next` ends the watch.
            let _gone = self.reader.try_send(event);
        }
    }
}

impl Shell<Roster> for RosterShell {
    async fn next(&mut self) -> Option<RosterEvent> {
        loop {
            let has_backlog = !self.waiting.is_empty() || self.missed > 0;
            tokio::select! {
                biased;
                () = self.reader.closed() => return None,
                event = self.watch.next() => return event.map(RosterEvent::Watch),
                renewed = self.renewals.recv() => {
                    let (revision, invoked) = renewed?;
                    return Some(RosterEvent::Renewed { revision, invoked });
                }
                room = self.reader.reserve(), if has_backlog => {
                    let room = room.ok()?;
                    if self.missed > 0 {
                        drop(room);
                        let missed = std::mem::take(&mut self.missed);
                        return Some(RosterEvent::Room { missed });
                    }
                    room.send(self.waiting.remove(0));
                }
            }
        }
    }

    async fn perform(&mut self, effect: RosterEffect) -> ControlFlow<()> {
        match effect {
            RosterEffect::Snapshot(entries) => {
                if let Some(first_look) = self.first_look.take() {
                    let _gone = first_look.send(entries);
                }
            }
            RosterEffect::Tell(event) => self.tell(event),
            RosterEffect::Probe => {
                // Where the keeper is gone, `renewals` ends and with it this watch.
                let _gone = self.commands.send(Command::Probe);
            }
        }
        ControlFlow::Continue(())
    }
}
