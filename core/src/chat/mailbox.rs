//! [`Mailbox`]: what a watch has told and its reader has not read yet. When it is full, what comes is dropped and counted,
//! and the gap stands in its place in the order.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::event::{End, Event, Gap};
use crate::transport::Sequence;

#[derive(Debug)]
pub(super) struct Mailbox {
    shelf: Mutex<Shelf>,
    arrived: Notify,
}

#[derive(Debug)]
struct Shelf {
    events: VecDeque<Event>,
    /// How many of them are messages, of whatever kind, and how many may be.
    messages: usize,
    messages_max: usize,
    end: Option<End>,
}

impl Mailbox {
    pub(super) fn new(messages_max: usize) -> Self {
        Self {
            shelf: Mutex::new(Shelf {
                events: VecDeque::new(),
                messages: 0,
                messages_max,
                end: None,
            }),
            arrived: Notify::new(),
        }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event in, or the note that there was no room for it. After the end nothing is taken in.
    pub(super) fn put(&self, event: Event) {
        self.shelf().put(event);
        self.arrived.notify_one();
    }

    /// Ends it, once and for all: what is in it can still be read.
    pub(super) fn end(&self, why: End) {
        self.shelf().end.get_or_insert(why);
        self.arrived.notify_one();
    }

    /// The next event; once there is none and will be none, why. For one reader; cancel-safe.
    pub(super) async fn next(&self) -> Result<Event, End> {
        loop {
            if let Some(next) = self.shelf().take() {
                return next;
            }
            self.arrived.notified().await;
        }
    }
}

impl Shelf {
    fn put(&mut self, event: Event) {
        if self.end.is_some() {
            return;
        }
        let Some(sequence) = place(&event) else {
            return self.put_notice(event);
        };
        if self.messages < self.messages_max {
            self.messages += 1;
            self.events.push_back(event);
        } else {
            self.put_notice(Event::Gap(Gap::Slow {
                missed: 1,
                first: sequence,
                last: sequence,
            }));
        }
    }

    /// Notices are never dropped; those that nobody reads become few.
    fn put_notice(&mut self, event: Event) {
        match &event {
            Event::Gap(gap) if self.absorb(*gap) => {}
            // It goes on, as far as anybody has heard.
            Event::Interrupted(_) if self.events.back() == Some(&Event::Resumed) => {
                self.events.pop_back();
            }
            _ => self.events.push_back(event),
        }
    }

    /// Makes it one with the latest gap, if no message and no other gap came since.
    fn absorb(&mut self, gap: Gap) -> bool {
        let notices = self.events.iter_mut().rev();
        for event in notices.take_while(|event| place(event).is_none()) {
            if let Event::Gap(known) = event {
                return known.absorb(gap);
            }
        }
        false
    }

    fn take(&mut self) -> Option<Result<Event, End>> {
        match self.events.pop_front() {
            Some(event) => {
                self.messages -= usize::from(place(&event).is_some());
                Some(Ok(event))
            }
            None => self.end.map(Err),
        }
    }
}

/// The place of a message, of whatever kind; `None` for a notice.
fn place(event: &Event) -> Option<Sequence> {
    match event {
        Event::Message(received) => Some(received.sequence),
        Event::Unreadable { sequence, .. } | Event::OtherThread { sequence, .. } => Some(*sequence),
        Event::Interrupted(_) | Event::Resumed | Event::Gap(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::InterruptCause;

    fn message(sequence: u64) -> Event {
        Event::Unreadable {
            subject: "s".into(),
            sequence: Sequence(sequence),
        }
    }

    fn slow(missed: u64, first: u64, last: u64) -> Event {
        Event::Gap(Gap::Slow {
            missed,
            first: Sequence(first),
            last: Sequence(last),
        })
    }

    fn read(mailbox: &Mailbox) -> Option<Result<Event, End>> {
        mailbox.shelf().take()
    }

    #[test]
    fn what_finds_no_room_is_told_in_its_place() {
        let mailbox = Mailbox::new(2);
        for sequence in [1, 2, 4, 7] {
            mailbox.put(message(sequence));
        }
        assert_eq!(read(&mailbox), Some(Ok(message(1))));
        mailbox.put(message(9));
        mailbox.end(End::Closed);
        mailbox.end(End::ConnectionLost);
        mailbox.put(message(10));
        assert_eq!(read(&mailbox), Some(Ok(message(2))));
        assert_eq!(read(&mailbox), Some(Ok(slow(2, 4, 7))));
        assert_eq!(read(&mailbox), Some(Ok(message(9))));
        assert_eq!(read(&mailbox), Some(Err(End::Closed)));
        assert_eq!(read(&mailbox), Some(Err(End::Closed)), "for ever");
    }

    #[test]
    fn notices_are_kept_and_do_not_pile_up() {
        let mailbox = Mailbox::new(1);
        mailbox.put(message(1));
        for round in 0..1000 {
            mailbox.put(message(2 + round));
            mailbox.put(Event::Interrupted(InterruptCause::Disconnected));
            mailbox.put(Event::Resumed);
        }
        let mut events = Vec::new();
        while let Some(Ok(event)) = read(&mailbox) {
            events.push(event);
        }
        assert_eq!(events.len(), 4, "{events:?}");
        assert_eq!(events[0], message(1));
        assert_eq!(events[1], slow(1000, 2, 1001));
        assert_eq!(events[3], Event::Resumed);
    }

    #[test]
    fn nothing_is_there_until_it_is_put_there() {
        let mailbox = Mailbox::new(1);
        assert_eq!(read(&mailbox), None);
        mailbox.put(Event::Resumed);
        assert_eq!(read(&mailbox), Some(Ok(Event::Resumed)));
    }
}
