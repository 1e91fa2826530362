//! What is told of chats.

use squall_core::chat::{ThreadId, stream, subject};
use squall_core::transport::Sequence;

use super::Tale;
use crate::history::{Call, Reply, Tell, What, chat};
use crate::parse::PROJECT;
use crate::plan::Role;

/// The thread of these tales.
const THREAD: &str = "general";

impl Tale {
    /// One process that chats, without credentials.
    pub(crate) fn of_chat(process: &str) -> Self {
        let mut tale = Self::of(process);
        tale.plan.auth = None;
        for agent in &mut tale.plan.agents {
            agent.role = Role::Chat;
        }
        tale
    }

    pub(crate) fn watches(&mut self, process: &str, watch: u32) -> &mut Self {
        let subject = None;
        let call = Call::Chat(chat::Call::Watch { watch, subject });
        self.call(process, call, Reply::Done)
    }

    fn told(&mut self, process: &str, watch: u32, told: chat::Told) -> &mut Self {
        self.tell(process, Tell::Chat(chat::Tell { watch, told }))
    }

    /// It says its own id.
    pub(crate) fn got(&mut self, process: &str, watch: u32, id: &str, sequence: u64) -> &mut Self {
        let told = chat::Told::Got {
            id: id.into(),
            sequence: Sequence(sequence),
            body: id.into(),
        };
        self.told(process, watch, told)
    }

    pub(crate) fn missed(&mut self, process: &str, watch: u32, first: u64, last: u64) -> &mut Self {
        let (first, last) = (Sequence(first), Sequence(last));
        self.told(process, watch, chat::Told::Expired { first, last })
    }

    pub(crate) fn tail_lost(&mut self, process: &str, watch: u32, last: u64) -> &mut Self {
        let last = Sequence(last);
        self.told(process, watch, chat::Told::TailLost { last })
    }

    pub(crate) fn ended(&mut self, process: &str, watch: u32, closed: bool) -> &mut Self {
        self.told(process, watch, chat::Told::Ended { closed })
    }

    pub(crate) fn closes_chat(&mut self, process: &str) -> &mut Self {
        self.call(process, Call::Chat(chat::Call::Close), Reply::Done)
    }

    pub(crate) fn connection_closed(&mut self, process: &str) -> &mut Self {
        let event = "closed".to_owned();
        self.tell(process, Tell::Connection { event })
    }

    fn send(body: &str) -> Call {
        Call::Chat(chat::Call::Send {
            thread: THREAD.into(),
            body: body.into(),
        })
    }

    pub(crate) fn sent(&mut self, process: &str, id: &str, sequence: u64) -> &mut Self {
        let reply = chat::Reply::Sent {
            id: id.into(),
            sequence: Sequence(sequence),
        };
        self.call(process, Self::send(id), Reply::Chat(reply))
    }

    pub(crate) fn refused_to_send(&mut self, process: &str, body: &str) -> &mut Self {
        self.refused(process, Self::send(body), "it is full")
    }

    pub(crate) fn said(&mut self, id: &str, sequence: u64) -> &mut Self {
        self.add(What::Stored {
            stream: stream(PROJECT).into(),
            subject: subject(PROJECT, &ThreadId::of(PROJECT, THREAD)).into(),
            sequence: Sequence(sequence),
            message_id: Some(id.into()),
            by: None,
        })
    }

    pub(crate) fn expired(&mut self, sequence: u64) -> &mut Self {
        self.add(What::Dropped {
            stream: stream(PROJECT).into(),
            sequence: Sequence(sequence),
            cause: "it expired".to_owned(),
        })
    }

    pub(crate) fn scanned(&mut self, process: &str, threads: &[(&str, u64)]) -> &mut Self {
        let threads = threads.iter();
        let threads = threads.map(|(name, count)| ((*name).into(), *count));
        let threads = threads.collect();
        let call = Call::Chat(chat::Call::Scan { agent: None });
        let reply = chat::Reply::Threads { threads };
        self.call(process, call, Reply::Chat(reply))
    }

    pub(crate) fn loses_tail(&mut self, last: u64) -> &mut Self {
        self.add(What::LostTail {
            stream: stream(PROJECT).into(),
            bucket: None,
            last: Sequence(last),
            back: Vec::new(),
        })
    }

    pub(crate) fn consumers(&mut self, process: &str, count: u64) -> &mut Self {
        let reply = Reply::Chat(chat::Reply::Consumers { count });
        self.call(process, Call::Chat(chat::Call::Consumers), reply)
    }
}
