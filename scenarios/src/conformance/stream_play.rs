//! The stream of a script: what its clients do with it, and what its readers are told.
//!
//! As with watches, after every step each reader is read until it has told the last message that was stored for it, so that
//! a script has one outcome. A reader behind a link that was held may have missed what is gone by then; of what it tells
//! late, only what is still held is compared. Nothing takes the last message away while somebody with a reader is held:
//! whether that had been delivered by then would be a race.

use std::collections::BTreeMap;
use std::time::Duration;

use squall_core::transport::{
    Connection, JetStream, Message, MessageTtl, Purge, ReadStart, Reader, ReaderEvent, Sequence,
    StoreOptions, StoredMessage, Stream, StreamConfig,
};

use super::consumers::TOLD;
use super::laboratory::{Laboratory, Stop, sleep, until, within};
use super::play::{AGE, AGED, PATIENCE, matches};
use super::pull_play::Cursors;
use super::script::{Expected, Kept};
use super::stream_op::{Demand, Setting, Start, StreamOp};
use super::transcript::{Show as _, told, went};

/// The subjects whose last messages are told after something has aged.
const SUBJECTS: [&str; 4] = ["a", "b.x", "b.y", "c"];
/// What is under way is there after this.
const MOMENT: Duration = Duration::from_millis(50);
/// A life of a second is over by then, also on a busy machine.
const LIFE_MAX: Duration = Duration::from_secs(4);
const BIG: usize = 150;

struct OpenReader {
    by: usize,
    number: usize,
    reader: Reader,
    filters: Vec<String>,
    /// Has told, or need not tell, everything up to here.
    told: Sequence,
    caught_up: bool,
    /// The link was held, so that what is gone may be missing.
    lagged: bool,
}

/// The stream of a script, as its clients see it.
pub(super) struct Log<C: JetStream> {
    connections: Vec<C>,
    streams: Vec<C::Stream>,
    storage: Kept,
    /// As it was made last.
    config: StreamConfig,
    /// What all its subjects begin with.
    prefix: String,
    /// Sequences of each subject, oldest first.
    latest: BTreeMap<String, Vec<Sequence>>,
    last: Sequence,
    readers: Vec<OpenReader>,
    readers_opened: usize,
    cursors: Cursors,
    seen: Vec<String>,
}

impl<C: Connection + JetStream> Log<C> {
    /// The stream of a script of this name, which is not there yet.
    pub(super) fn new(connections: &[C], name: &str, storage: Kept) -> Result<Self, Stop> {
        // What ends with a dash is no beginning of another.
        let (stream, prefix) = (format!("S-{name}-"), format!("log-{name}-"));
        let streams: Result<Vec<_>, _> = connections.iter().map(|c| c.stream(&stream)).collect();
        Ok(Self {
            connections: connections.to_vec(),
            streams: streams?,
            storage,
            config: StreamConfig::new(stream),
            prefix,
            latest: BTreeMap::new(),
            last: Sequence::NONE,
            readers: Vec::new(),
            readers_opened: 0,
            cursors: Cursors::default(),
            seen: Vec::new(),
        })
    }

    /// Deletes the stream, which may be gone already.
    pub(super) async fn end(mut self) {
        self.readers.clear();
        let _gone = self.connections[0].delete_stream(&self.config.name).await;
    }

    /// What readers and pulls have told since the last time, in words that are the same for streams of all names.
    pub(super) fn take_seen(&mut self) -> Vec<String> {
        let all = std::mem::take(&mut self.seen);
        all.into_iter().map(|said| self.plain(&said)).collect()
    }

    fn plain(&self, said: &str) -> String {
        said.replace(&format!("{}.", self.prefix), "")
            .replace(&self.config.name, "S")
    }

    fn subject(&self, short: &str) -> String {
        format!("{}.{short}", self.prefix)
    }

    fn subjects(&self, short: &[String]) -> Vec<String> {
        short.iter().map(|short| self.subject(short)).collect()
    }

    /// Does what the step of this number says.
    pub(super) async fn act<L: Laboratory>(
        &mut self,
        lab: &L,
        number: usize,
        by: usize,
        op: &StreamOp,
        held: &[bool],
    ) -> Result<String, Stop> {
        let ends_the_last = matches!(
            op,
            StreamOp::Remove(_) | StreamOp::Purge { .. } | StreamOp::Age
        );
        if ends_the_last && self.readers.iter().any(|reader| held[reader.by]) {
            return Ok("a reader is held".to_owned());
        }
        let said = self.do_it(lab, number, by, op).await?;
        Ok(self.plain(&said))
    }

    async fn do_it<L: Laboratory>(
        &mut self,
        lab: &L,
        number: usize,
        by: usize,
        op: &StreamOp,
    ) -> Result<String, Stop> {
        let (connection, stream) = (&self.connections[by], &self.streams[by]);
        let at = |sequence: u8| Sequence(u64::from(sequence));
        Ok(match op {
            StreamOp::Create(settings) => {
                let config = self.settings(settings);
                let created = connection.create_stream(&config).await;
                if created.is_ok() {
                    self.config = config;
                }
                went(&created)
            }
            StreamOp::Update(settings) => {
                let config = self.settings(settings);
                let updated = connection.update_stream(&config).await;
                if updated.is_ok() {
                    self.config = config;
                }
                told(&updated)
            }
            StreamOp::Delete => {
                self.readers.clear();
                let deleted = connection.delete_stream(&self.config.name).await;
                self.latest.clear();
                self.last = Sequence::NONE;
                went(&deleted)
            }
            StreamOp::Info => told(&stream.info().await),
            StreamOp::Store(subject, demands) => {
                let said = self.store(lab, number, by, subject, demands).await?;
                if self.cursors.are_any() {
                    sleep(lab, TOLD).await;
                }
                said
            }
            StreamOp::Remove(sequence) => told(&stream.delete_message(at(*sequence)).await),
            StreamOp::Purge {
                filter,
                below,
                keep,
            } => {
                let what = Purge {
                    filter: filter.as_deref().map(|filter| self.subject(filter)),
                    below: below.map(at),
                    keep: keep.map(u64::from),
                };
                told(&stream.purge(what).await)
            }
            StreamOp::Age => self.age(lab, by).await?,
            StreamOp::Get(sequence) => told(&stream.get(at(*sequence)).await),
            StreamOp::Next(from, filter) => {
                told(&stream.next(at(*from), &self.subject(filter)).await)
            }
            StreamOp::Last(filter) => told(&stream.last(&self.subject(filter)).await),
            StreamOp::LastOf(filters) => {
                let filters = self.subjects(filters);
                let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
                told(&stream.last_of(&filters).await)
            }
            StreamOp::Read(start, filters) => self.read(by, *start, filters).await,
            StreamOp::Unread(which) => {
                if let Some(which) = usize::from(*which).checked_rem(self.readers.len()) {
                    self.readers.remove(which);
                    // A reader that is dropped says so in the background.
                    sleep(lab, MOMENT).await;
                }
                "done".to_owned()
            }
            StreamOp::Consume(cursor, wishes) => {
                let start = |start| self.start(start);
                let filter = |filter: &str| self.subject(filter);
                let config = Cursors::settings(*cursor, wishes, start, filter);
                self.cursors.create(stream, *cursor, config).await
            }
            StreamOp::Forget(cursor) => told(&stream.delete_consumer(&cursor.to_string()).await),
            StreamOp::Consumer(cursor) => {
                sleep(lab, MOMENT).await;
                self.cursors.info(stream, *cursor).await?
            }
            StreamOp::Pull(cursor, batch) => {
                self.cursors.pull(lab, stream, *cursor, *batch).await?
            }
            StreamOp::Await(cursor, batch) => {
                let opened = self.cursors.wait(stream, by, *cursor, *batch).await?;
                connection.flush().await?;
                opened
            }
            StreamOp::Ack(cursor, which, word) => {
                self.cursors
                    .ack(lab, stream, *cursor, *which, *word)
                    .await?
            }
            StreamOp::Lapse(cursor) => self.cursors.lapse(lab, stream, *cursor).await?,
        })
    }

    fn settings(&self, settings: &[Setting]) -> StreamConfig {
        let mut config = StreamConfig {
            subjects: vec![self.subject(">")],
            storage: self.storage.into(),
            ..StreamConfig::new(&self.config.name)
        };
        for setting in settings {
            setting.apply(&mut config);
        }
        config
    }

    fn note(&mut self, subject: &str, sequence: Sequence) {
        let known = self.latest.entry(subject.to_owned()).or_default();
        known.push(sequence);
        self.last = self.last.max(sequence);
    }

    fn expected(&self, known: &[Sequence], expected: Expected) -> Sequence {
        let from_end = |back: usize| known.len().checked_sub(back).map(|place| known[place]);
        match expected {
            Expected::Latest => from_end(1).unwrap_or(Sequence::NONE),
            Expected::Stale => from_end(2).unwrap_or(Sequence::NONE),
            Expected::None => Sequence::NONE,
            Expected::Other(number) => Sequence(u64::from(number)),
        }
    }

    async fn store<L: Laboratory>(
        &mut self,
        lab: &L,
        number: usize,
        by: usize,
        subject: &str,
        demands: &[Demand],
    ) -> Result<String, Stop> {
        let mut message = Message::new(self.subject(subject), format!("v{number}"));
        let mut options = StoreOptions::default();
        let id = |id: u8| match id {
            0 => String::new(),
            id => format!("id{id}"),
        };
        for demand in demands {
            match demand {
                Demand::Id(number) => options.message_id = Some(id(*number)),
                Demand::Last(expected) => {
                    let last = [Sequence(self.last.0.saturating_sub(1)), self.last];
                    options.expected_last_sequence = Some(self.expected(&last, *expected));
                }
                Demand::OfSubject(expected) => {
                    let known = self.latest.get(subject).map_or(&[][..], Vec::as_slice);
                    let expected = self.expected(known, *expected);
                    options.expected_last_subject_sequence = Some(expected);
                }
                Demand::LastId(number) => options.expected_last_message_id = Some(id(*number)),
                Demand::Stream(is_this) => {
                    let name = if *is_this { &self.config.name } else { "T" };
                    options.expected_stream = Some(name.to_owned());
                }
                Demand::Life(seconds) => {
                    let life = |seconds: &u16| Duration::from_secs(u64::from(*seconds));
                    let life = seconds.as_ref().map(life);
                    options.ttl = Some(life.map_or(MessageTtl::Never, MessageTtl::For));
                }
                Demand::Rollup(is_all) => {
                    let what = if *is_all { "all" } else { "sub" };
                    message.headers.append("Nats-Rollup", what);
                }
                Demand::Big => message.payload = vec![b'x'; BIG].into(),
            }
        }
        let stored = self.connections[by].store(message, options).await;
        if let Ok(ack) = &stored
            && !ack.duplicate
        {
            self.note(subject, ack.sequence);
            if demands.contains(&Demand::Life(Some(1))) {
                self.outlive(lab, by, ack.sequence).await?;
            }
        }
        Ok(told(&stored))
    }

    /// Waits until a message of one second is gone, where it goes at all.
    async fn outlive<L: Laboratory>(
        &mut self,
        lab: &L,
        by: usize,
        sequence: Sequence,
    ) -> Result<(), Stop> {
        let stream = &self.streams[by];
        let gone = async {
            while stream.get(sequence).await?.is_some() {
                sleep(lab, MOMENT).await;
            }
            Ok::<(), Stop>(())
        };
        within(lab, LIFE_MAX, gone).await.transpose()?;
        sleep(lab, MOMENT).await;
        self.note_markers(by).await?;
        Ok(())
    }

    /// Takes note of what has come by itself; gives the last message of each subject.
    async fn note_markers(&mut self, by: usize) -> Result<Vec<StoredMessage>, Stop> {
        let mut left = Vec::new();
        for subject in SUBJECTS {
            let found = self.streams[by].last(&self.subject(subject)).await?;
            let Some(message) = found else { continue };
            if self.latest.get(subject).and_then(|known| known.last()) != Some(&message.sequence) {
                self.note(subject, message.sequence);
            }
            left.push(message);
        }
        Ok(left)
    }

    async fn age<L: Laboratory>(&mut self, lab: &L, by: usize) -> Result<String, Stop> {
        let (connection, stream) = (&self.connections[by], &self.streams[by]);
        sleep(lab, AGED).await;
        let aged = StreamConfig {
            max_age: AGE,
            ..self.config.clone()
        };
        let updated = connection.update_stream(&aged).await;
        if updated.is_err() {
            return Ok(went(&updated));
        }
        let is_over = |found: &Result<Option<StoredMessage>, _>| match found {
            Ok(Some(message)) => message.headers.iter().any(|(name, value)| {
                name == "Nats-Marker-Reason" || (name == "Nats-TTL" && value == "never")
            }),
            Ok(None) | Err(_) => true,
        };
        for subject in SUBJECTS {
            let subject = self.subject(subject);
            until(lab, "a message expires", || stream.last(&subject), is_over).await?;
        }
        // Ids that the shorter window lets go are forgotten in the background.
        sleep(lab, MOMENT * 4).await;
        let lifted = connection.update_stream(&self.config).await;
        let left = self.note_markers(by).await?;
        Ok(format!("{}, {}", went(&lifted), left.show()))
    }

    fn start(&self, start: Start) -> ReadStart {
        match start {
            Start::All => ReadStart::All,
            Start::New => ReadStart::New,
            Start::Last => ReadStart::Last,
            Start::LastOfEach => ReadStart::LastPerSubject,
            // From the first to the one after the last.
            Start::At(from) => {
                ReadStart::Sequence(Sequence(1 + u64::from(from) % (self.last.0 + 1)))
            }
        }
    }

    async fn read(&mut self, by: usize, start: Start, filters: &[String]) -> String {
        let start = self.start(start);
        let wanted = self.subjects(filters);
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let opened = self.streams[by].read(&wanted, start).await;
        let said = format!("{start:?} {}", went(&opened));
        let Ok(reader) = opened else { return said };
        let told = match start {
            ReadStart::New => self.last,
            ReadStart::Sequence(first) => Sequence(first.0 - 1),
            _ => Sequence::NONE,
        };
        self.readers.push(OpenReader {
            by,
            number: self.readers_opened,
            reader,
            filters: filters.to_vec(),
            told,
            caught_up: false,
            lagged: false,
        });
        self.readers_opened += 1;
        said
    }

    /// The link of this client is held.
    pub(super) fn hold(&mut self, whose: usize) {
        for reader in &mut self.readers {
            reader.lagged |= reader.by == whose;
        }
    }

    /// Before the server is stopped: what consumers know is written a little later than it is said.
    pub(super) async fn rest<L: Laboratory>(&self, lab: &L) {
        if self.cursors.are_any() {
            sleep(lab, Duration::from_millis(400)).await;
        }
    }

    /// This client is back: so are its readers.
    pub(super) async fn reconnected<L: Laboratory>(
        &mut self,
        lab: &L,
        whose: usize,
    ) -> Result<(), Stop> {
        for open in self.readers.iter_mut().filter(|open| open.by == whose) {
            let mut is_first = true;
            loop {
                let event = within(lab, PATIENCE, open.reader.next()).await.flatten();
                let event = event.ok_or_else(|| Stop("a reader does not come back".to_owned()))?;
                // How often it asks before the server is ready depends on when.
                if is_first || !matches!(event, ReaderEvent::Interrupted(_)) {
                    let said = format!("reader {}: {}", open.number, event.show());
                    self.seen.push(said);
                }
                is_first = false;
                if matches!(event, ReaderEvent::Resumed { .. }) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Hears readers and pulls out, but those of held links.
    pub(super) async fn catch_up<L: Laboratory>(
        &mut self,
        lab: &L,
        held: &[bool],
    ) -> Result<(), Stop> {
        let Some(free) = held.iter().position(|held| !held) else {
            return Ok(());
        };
        for open in self.readers.iter_mut().filter(|open| !held[open.by]) {
            let wants = |subject: &str| {
                let mut filters = open.filters.iter();
                open.filters.is_empty() || filters.any(|filter| matches(filter, subject))
            };
            let concerned = self.latest.iter().filter(|(subject, _)| wants(subject));
            let due = concerned.filter_map(|(_, known)| known.last()).max();
            let due = due.copied().unwrap_or(Sequence::NONE);
            while !open.caught_up || open.told < due {
                let event = within(lab, PATIENCE, open.reader.next()).await.flatten();
                let number = open.number;
                let missing = || Stop(format!("reader {number} does not tell of {due}"));
                let event = event.ok_or_else(missing)?;
                match &event {
                    ReaderEvent::Message(message) => {
                        let sequence = message.sequence;
                        open.told = sequence;
                        let is_last = sequence == due;
                        if open.lagged
                            && !is_last
                            && self.streams[free].get(sequence).await?.is_none()
                        {
                            continue;
                        }
                    }
                    ReaderEvent::CaughtUp => {
                        open.caught_up = true;
                        open.told = open.told.max(due);
                    }
                    ReaderEvent::Interrupted(_) | ReaderEvent::Resumed { .. } => {}
                }
                self.seen.push(format!("reader {number}: {}", event.show()));
            }
            open.lagged = false;
        }
        let pulled = self.cursors.hear(lab, &self.connections, held).await?;
        self.seen.extend(pulled);
        Ok(())
    }
}
