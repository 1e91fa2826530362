//! What went from lane to lane, as far as a history tells: requests to write on their way to the server, its answers,
//! and what it told those who watch.
//!
//! No link records its traffic, in neither world. But the server's own account says when it stored what, and by whom:
//! between a call and its commit lies the request, between the commit and the end of the call the answer. What a room
//! writes to a bucket within a longer call is a call of its own in the history. Only what is said in a chat is not: its
//! request is taken to be sent when the call begins, which is too early where it had to be sent again. A request that
//! belongs to no call that is known is drawn as it arrives.

use std::collections::BTreeMap;
use std::sync::Arc;

use squall_core::Instant;
use squall_core::transport::{Revision, Sequence};
use squall_reports::model::{LaneId, Message};

use super::{lane_of, time};
use crate::history::{Call, Commit, Reply, Tell, What, chat, state};
use crate::run::Run;

/// A write whose end is not known yet.
struct Request<'a> {
    process: &'a Arc<str>,
    key: &'a Arc<str>,
    sent: Instant,
    stored: Option<(Instant, Revision)>,
}

/// In order of sending.
pub(super) fn messages(run: &Run) -> Vec<Message> {
    let mut post = Post {
        run,
        requests: BTreeMap::new(),
        stored: BTreeMap::new(),
        sends: BTreeMap::new(),
        said: BTreeMap::new(),
        messages: Vec::new(),
    };
    for record in &run.history.0 {
        post.record(record.at, &record.what);
    }
    let mut messages = post.messages;
    messages.sort_by_key(|message| message.sent);
    messages
}

struct Post<'a> {
    run: &'a Run,
    requests: BTreeMap<u64, Request<'a>>,
    /// When the server stored what.
    stored: BTreeMap<(&'a Arc<str>, Revision), Instant>,
    /// What is being said in a chat: who, and since when.
    sends: BTreeMap<u64, (&'a Arc<str>, Instant)>,
    /// When the server stored what was said.
    said: BTreeMap<Sequence, Instant>,
    messages: Vec<Message>,
}

impl<'a> Post<'a> {
    fn record(&mut self, at: Instant, what: &'a What) {
        match what {
            What::Invoke {
                id,
                process,
                call: Call::Write { key, .. },
            } => {
                let request = Request {
                    process,
                    key,
                    sent: at,
                    stored: None,
                };
                self.requests.insert(*id, request);
            }
            What::Invoke {
                id,
                process,
                call: Call::Chat(chat::Call::Send { .. }),
            } => {
                self.sends.insert(*id, (process, at));
            }
            What::Committed(commit) => self.stored(at, commit),
            What::Stored {
                subject,
                sequence,
                by,
                ..
            } => self.said(at, subject, *sequence, by.as_deref()),
            What::Ok {
                id,
                reply: Reply::Chat(chat::Reply::Sent { sequence, .. }),
            } => {
                if let (Some((process, _)), Some(stored)) =
                    (self.sends.remove(id), self.said.get(sequence))
                {
                    let text = format!("stored as sequence {sequence}");
                    let to = lane_of(self.run, process);
                    self.send(self.server(), to, (*stored, Some(at)), text);
                }
            }
            What::Ok { id, reply } => {
                if let Some(request) = self.requests.remove(id)
                    && let (Some((stored, _)), Reply::Stored { revision }) = (request.stored, reply)
                {
                    self.answer(request.process, stored, *revision, Some(at));
                }
            }
            What::Unknown { id, .. } => {
                self.sends.remove(id);
                if let Some(request) = self.requests.remove(id) {
                    match request.stored {
                        Some((stored, revision)) => {
                            self.answer(request.process, stored, revision, None);
                        }
                        None => self.request(request.process, request.key, request.sent, None),
                    }
                }
            }
            What::Refused { id, .. } => {
                self.requests.remove(id);
                self.sends.remove(id);
            }
            What::Told {
                process,
                tell:
                    Tell::Saw { key, revision }
                    | Tell::State(
                        state::Tell::Put { key, revision, .. }
                        | state::Tell::Deleted { key, revision },
                    ),
            } => self.seen(at, process, key, *revision),
            What::Told {
                process,
                tell:
                    Tell::Chat(chat::Tell {
                        told: chat::Told::Got { sequence, .. },
                        ..
                    }),
            } => {
                if let Some(stored) = self.said.get(sequence) {
                    let text = format!("sequence {sequence}");
                    let to = lane_of(self.run, process);
                    self.send(self.server(), to, (*stored, Some(at)), text);
                }
            }
            _ => {}
        }
    }

    fn stored(&mut self, at: Instant, commit: &'a Commit) {
        self.stored.insert((&commit.key, commit.revision), at);
        let Some(by) = &commit.by else {
            return;
        };
        let mut requests = self.requests.values_mut();
        let request = requests.find(|request| {
            request.process == by && request.key == &commit.key && request.stored.is_none()
        });
        let sent = match request {
            Some(request) => {
                request.stored = Some((at, commit.revision));
                request.sent
            }
            None => at,
        };
        self.request(by, &commit.key, sent, Some(at));
    }

    /// A message of a chat is stored.
    fn said(&mut self, at: Instant, subject: &str, sequence: Sequence, by: Option<&str>) {
        self.said.insert(sequence, at);
        let Some(by) = by else {
            return;
        };
        // Of several at a time it is not known which this is.
        let mut sends = self.sends.values().filter(|(process, _)| &***process == by);
        let sent = match (sends.next(), sends.next()) {
            (Some((_, since)), None) => *since,
            _ => at,
        };
        let text = format!("say in {subject}");
        let from = lane_of(self.run, by);
        self.send(from, self.server(), (sent, Some(at)), text);
    }

    fn request(&mut self, by: &str, key: &str, sent: Instant, arrived: Option<Instant>) {
        let text = format!("write {key}");
        self.send(lane_of(self.run, by), self.server(), (sent, arrived), text);
    }

    fn answer(&mut self, to: &str, sent: Instant, revision: Revision, arrived: Option<Instant>) {
        let text = format!("stored as revision {revision}");
        self.send(self.server(), lane_of(self.run, to), (sent, arrived), text);
    }

    fn seen(&mut self, at: Instant, process: &str, key: &'a Arc<str>, revision: Revision) {
        if let Some(stored) = self.stored.get(&(key, revision)) {
            let (times, text) = ((*stored, Some(at)), format!("revision {revision} of {key}"));
            let to = lane_of(self.run, process);
            self.send(self.server(), to, times, text);
        }
    }

    const fn server(&self) -> LaneId {
        LaneId(self.run.plan.agents.len())
    }

    fn send(
        &mut self,
        from: LaneId,
        to: LaneId,
        (sent, arrived): (Instant, Option<Instant>),
        text: String,
    ) {
        // Agents of no lane, such as operators, write as well.
        if from != to {
            self.messages.push(Message {
                from,
                to,
                sent: time(sent),
                arrived: arrived.map(time),
                text,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use squall_core::transport::Operation;
    use squall_reports::model::TrueTime;

    use super::*;
    use crate::history::{History, Record};
    use crate::run::simulate;
    use crate::stories;

    fn run(scenario: &str) -> Run {
        let scenario = stories::find(scenario).expect("there is such a scenario");
        simulate(&scenario.draw(1))
    }

    #[test]
    fn every_beat_goes_to_the_server_and_is_answered() {
        let run = run("presence/calm");
        let messages = messages(&run);
        let server = LaneId(run.plan.agents.len());
        let count = |is_wanted: &dyn Fn(&Message) -> bool| {
            messages.iter().filter(|message| is_wanted(message)).count()
        };
        let by = |what: &What| matches!(what, What::Committed(commit) if commit.by.is_some());
        let stored = run.history.0.iter().filter(|record| by(&record.what));
        let requests = count(&|message| message.to == server && message.arrived.is_some());
        assert_eq!(requests, stored.count());
        assert!(count(&|message| message.from == server && message.arrived.is_some()) > 0);
        let is_forward = |message: &Message| message.arrived.is_none_or(|it| it >= message.sent);
        assert!(messages.iter().all(is_forward));
        assert!(messages.is_sorted_by_key(|message| message.sent));
    }

    #[test]
    fn what_is_said_goes_to_the_server_and_to_those_who_watch() {
        let run = run("chat/calm");
        let messages = messages(&run);
        let server = LaneId(run.plan.agents.len());
        let stored = |what: &What| matches!(what, What::Stored { by: Some(_), .. });
        let heard = |what: &What| {
            let What::Told { tell, .. } = what else {
                return false;
            };
            matches!(tell, Tell::Chat(tell) if matches!(tell.told, chat::Told::Got { .. }))
        };
        let count = |is: &dyn Fn(&What) -> bool| {
            let records = run.history.0.iter();
            records.filter(|record| is(&record.what)).count()
        };
        let sent = messages.iter().filter(|it| it.text.starts_with("say in "));
        let told = messages
            .iter()
            .filter(|it| it.text.starts_with("sequence "));
        let (sent, told): (Vec<_>, Vec<_>) = (sent.collect(), told.collect());
        assert_eq!((sent.len(), told.len()), (count(&stored), count(&heard)));
        assert!(!sent.is_empty() && !told.is_empty());
        assert!(
            sent.iter()
                .all(|it| it.to == server && it.arrived > Some(it.sent))
        );
        assert!(
            told.iter()
                .all(|it| it.from == server && it.arrived > Some(it.sent))
        );
    }

    #[test]
    fn what_is_lost_on_the_way_never_arrives() {
        let alice: Arc<str> = "alice/1".into();
        let key: Arc<str> = "p.alice".into();
        let call = |id| What::Invoke {
            id,
            process: Arc::clone(&alice),
            call: Call::Write {
                bucket: "presence".into(),
                key: Arc::clone(&key),
                operation: Operation::Put,
                expected: None,
                value: 7,
            },
        };
        let unknown = |id| What::Unknown {
            id,
            error: "no answer".to_owned(),
        };
        let commit = What::Committed(Commit {
            bucket: "presence".into(),
            key: Arc::clone(&key),
            revision: Revision(3),
            operation: Operation::Put,
            by: Some(Arc::clone(&alice)),
            incarnation: None,
            ttl: None,
            value: 7,
        });
        let what = [call(1), commit, unknown(1), call(2), unknown(2)];
        let records = (1..).zip(what).map(|(nanos, what)| Record {
            at: Instant::from_nanos(nanos),
            what,
        });
        let run = Run {
            history: History(records.collect()),
            ..run("presence/calm")
        };
        let server = LaneId(run.plan.agents.len());
        let told = messages(&run).into_iter();
        let told: Vec<_> = told.map(|it| (it.from, it.to, it.arrived)).collect();
        let (alice, at) = (LaneId(0), TrueTime::from_nanos);
        assert_eq!(
            told,
            [
                (alice, server, Some(at(2))),
                (server, alice, None),
                (alice, server, None),
            ]
        );
    }
}
