//! The pull consumers of a script. Nothing here depends on when: waits for acknowledgements are longer than any script, and
//! a step that lets one end waits for that.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use squall_core::transport::{
    Ack, AckPolicy, Connection, ConsumerConfig, Delivered, PullConsumer as _, PullEvent, Pulled,
    ReadStart, Stream,
};

use super::consumers::{all, batch, deliveries};
use super::laboratory::{Laboratory, Stop, sleep, within};
use super::stream_op::{Cursor, Start, Wish, Word};
use super::transcript::{Show as _, told, went};

/// Longer than any script.
const LONG: Duration = Duration::from_secs(3600);
/// A wait for acknowledgements that ends within a step.
const SHORT: Duration = Duration::from_millis(100);
/// A delay that ends within a step, and the time by which what was delayed is due again.
const DELAY: Duration = Duration::from_millis(300);
const DELAYED: Duration = Duration::from_millis(700);
/// A pull that takes what is there has taken it by then.
const LULL: Duration = Duration::from_secs(2);
/// What consumers deliver by themselves has come by then.
const MOMENT: Duration = Duration::from_millis(150);

struct Waiting {
    by: usize,
    number: usize,
    cursor: Cursor,
    pulled: Pulled,
}

/// See the head of this file.
#[derive(Default)]
pub(super) struct Cursors {
    /// The settings that each was last given.
    configs: BTreeMap<String, ConsumerConfig>,
    /// All that each ever delivered, as far as it was read.
    delivered: BTreeMap<String, Vec<Delivered>>,
    waiting: Vec<Waiting>,
    pulls: usize,
}

impl Cursors {
    pub(super) fn are_any(&self) -> bool {
        !self.configs.is_empty()
    }

    /// What a consumer of a script is asked to be.
    pub(super) fn settings(
        cursor: Cursor,
        wishes: &[Wish],
        start: impl Fn(Start) -> ReadStart,
        filter: impl Fn(&str) -> String,
    ) -> ConsumerConfig {
        let mut config = ConsumerConfig::durable(cursor.to_string());
        config.ack_wait = LONG;
        for wish in wishes {
            match wish {
                Wish::Brief => {
                    config.durable = false;
                    config.inactive_threshold = Some(LONG);
                }
                Wish::InMemory => config.memory_storage = true,
                Wish::Filter(short) => config.filters.push(filter(short)),
                Wish::From(from) => config.start = start(*from),
                Wish::Acks(true) => config.ack_policy = AckPolicy::All,
                Wish::Acks(false) => config.ack_policy = AckPolicy::None,
                Wish::Deliver(most) => config.max_deliver = NonZeroU32::new(u32::from(*most)),
                Wish::Pending(most) => config.max_ack_pending = i64::from(*most),
                Wish::Waiting(most) => config.max_waiting = i64::from(*most),
            }
        }
        config
    }

    pub(super) async fn create<S: Stream>(
        &mut self,
        stream: &S,
        cursor: Cursor,
        config: ConsumerConfig,
    ) -> String {
        let created = stream.create_consumer(&config).await;
        if created.is_ok() {
            self.configs.insert(cursor.to_string(), config);
        }
        went(&created)
    }

    pub(super) async fn info<S: Stream>(&self, stream: &S, cursor: Cursor) -> Result<String, Stop> {
        Ok(told(&stream.consumer(&cursor.to_string())?.info().await))
    }

    fn waits(&self, cursor: Cursor) -> bool {
        self.waiting.iter().any(|waiting| waiting.cursor == cursor)
    }

    /// Whether it delivers only so much before it is acknowledged.
    fn is_limited(&self, cursor: Cursor) -> bool {
        let config = self.configs.get(&cursor.to_string());
        config.is_some_and(|config| config.max_ack_pending > 0)
    }

    fn keep(&mut self, cursor: Cursor, events: &[PullEvent]) {
        let delivered = self.delivered.entry(cursor.to_string()).or_default();
        delivered.extend(deliveries(events));
    }

    /// Takes what is there.
    pub(super) async fn pull<L: Laboratory, S: Stream>(
        &mut self,
        lab: &L,
        stream: &S,
        cursor: Cursor,
        size: u8,
    ) -> Result<String, Stop> {
        if self.waits(cursor) {
            // The server would not answer it.
            return Ok("somebody waits".to_owned());
        }
        let consumer = stream.consumer(&cursor.to_string())?;
        let mut pulled = consumer.pull(batch(u32::from(size), None)).await?;
        let mut events = Vec::new();
        // The server does not end it while too much is unsettled: after a lull it is given up.
        while let Some(Some(event)) = within(lab, LULL, pulled.next()).await {
            events.push(event);
        }
        drop(pulled);
        sleep(lab, Duration::from_millis(5)).await;
        self.keep(cursor, &events);
        Ok(all(&events))
    }

    /// Takes what is there, and what comes.
    pub(super) async fn wait<S: Stream>(
        &mut self,
        stream: &S,
        by: usize,
        cursor: Cursor,
        size: u8,
    ) -> Result<String, Stop> {
        let consumer = stream.consumer(&cursor.to_string())?;
        let pulled = consumer.pull(batch(u32::from(size), Some(LONG))).await?;
        self.waiting.push(Waiting {
            by,
            number: self.pulls,
            cursor,
            pulled,
        });
        self.pulls += 1;
        Ok("done".to_owned())
    }

    pub(super) async fn ack<L: Laboratory, S: Stream>(
        &self,
        lab: &L,
        stream: &S,
        cursor: Cursor,
        which: u8,
        word: Word,
    ) -> Result<String, Stop> {
        let known = self.delivered.get(&cursor.to_string());
        let known = known.map_or(&[][..], Vec::as_slice);
        let Some(place) = usize::from(which).checked_rem(known.len()) else {
            return Ok("nothing was delivered".to_owned());
        };
        let delivered = &known[place];
        let ack = match word {
            Word::Done => Ack::Done,
            Word::Again => Ack::Again(None),
            Word::Later => Ack::Again(Some(DELAY)),
            Word::MuchLater => Ack::Again(Some(LONG)),
            Word::Working => Ack::InProgress,
            Word::Never => Ack::Terminate(None),
        };
        let consumer = stream.consumer(&cursor.to_string())?;
        let said = told(&consumer.ack_confirmed(delivered, ack).await);
        if word == Word::Later {
            sleep(lab, DELAYED).await;
        }
        Ok(format!("{}: {said}", delivered.show()))
    }

    /// Lets the wait for acknowledgements end.
    pub(super) async fn lapse<L: Laboratory, S: Stream>(
        &self,
        lab: &L,
        stream: &S,
        cursor: Cursor,
    ) -> Result<String, Stop> {
        let Some(config) = self.configs.get(&cursor.to_string()) else {
            return Ok("there is none".to_owned());
        };
        if self.waits(cursor) {
            // How often it would get a message again depends on when.
            return Ok("somebody waits".to_owned());
        }
        // Of what was delivered a moment ago, too.
        sleep(lab, SHORT * 2).await;
        let short = ConsumerConfig {
            ack_wait: SHORT,
            ..config.clone()
        };
        let shortened = stream.create_consumer(&short).await;
        sleep(lab, SHORT * 5).await;
        let lengthened = stream.create_consumer(config).await;
        Ok(format!("{}, {}", went(&shortened), went(&lengthened)))
    }

    /// What has come to pulls that wait, but those of held links, in words.
    pub(super) async fn hear<L: Laboratory, C: Connection>(
        &mut self,
        lab: &L,
        connections: &[C],
        held: &[bool],
    ) -> Result<Vec<String>, Stop> {
        if self.waiting.is_empty() {
            return Ok(Vec::new());
        }
        sleep(lab, MOMENT).await;
        for (connection, _) in connections.iter().zip(held).filter(|(_, held)| !**held) {
            connection.flush().await?;
        }
        let mut said = Vec::new();
        for mut waiting in std::mem::take(&mut self.waiting) {
            let mut events = Vec::new();
            if !held[waiting.by] {
                events.extend(std::iter::from_fn(|| waiting.pulled.try_next()));
            }
            if self.is_limited(waiting.cursor) {
                forget_counts(&mut events);
            }
            self.keep(waiting.cursor, &events);
            if !events.is_empty() {
                said.push(format!("pull {}: {}", waiting.number, all(&events)));
            }
            let is_over = matches!(events.last(), Some(PullEvent::Ended(_)));
            if !is_over {
                self.waiting.push(waiting);
            }
        }
        Ok(said)
    }
}

/// Where a new message drives out one that a full consumer has delivered, the place that is free goes to another: real
/// servers have counted the new one by then, or not. So the count of what is to come is not compared there.
fn forget_counts(events: &mut [PullEvent]) {
    for event in events {
        if let PullEvent::Message(delivered) = event {
            delivered.pending = 0;
        }
    }
}
