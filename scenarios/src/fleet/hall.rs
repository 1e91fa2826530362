//! [`Hall`]: a connection to the fleet's servers, and patience: servers restart, and what was asked is asked again.

use std::fmt::Display;
use std::time::Duration;

use squall_core::transport::{
    ConnectOptions, JetStream, Message, ReadStreamError, Retention, Sequence, StoreAck, StoreError,
    StoreOptions, StoredMessage, Stream as _, StreamConfig, StreamError, Transport as _,
};
use squall_core::{Clock as _, Env, Instant};

use super::FleetError;
use super::words::{Announcement, HUNTS, HUNTS_SUBJECT, read};
use crate::variant::ConnectionOf;

/// How long servers may be away. Longer than it takes to bring one up again by hand.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(250);
/// Copies of each stream where there are as many servers.
const REPLICAS: u8 = 3;
/// "replicas > 1 not supported in non-clustered mode".
const NO_CLUSTER: u64 = 10074;

/// A stream, as this environment has it.
pub(super) type StreamOf<E> = <ConnectionOf<E> as JetStream>::Stream;

/// See the head of this file.
pub(super) struct Hall<E: Env> {
    pub(super) env: E,
    pub(super) connection: ConnectionOf<E>,
}

impl<E: Env> Hall<E> {
    pub(super) async fn enter(
        env: &E,
        servers: Vec<String>,
        name: &str,
    ) -> Result<Self, FleetError> {
        let shown = servers.join(", ");
        let options = ConnectOptions {
            name: format!("squall {name}"),
            servers,
            ..ConnectOptions::default()
        };
        let connected = env.transport().connect(options).await;
        let connection = connected.map_err(|error| FleetError::Unreachable {
            servers: shown,
            error,
        })?;
        let env = env.clone();
        Ok(Self { env, connection })
    }

    pub(super) fn now(&self) -> Instant {
        self.env.clock().now()
    }

    pub(super) async fn pause(&self, pause: Duration) {
        self.env.clock().sleep_until(self.now() + pause).await;
    }

    /// Tries until it is done, or refused in a way that will not change, or nobody was there for [`PATIENCE`].
    pub(super) async fn insist<T, X: Display>(
        &self,
        what: &'static str,
        will_pass: impl Fn(&X) -> bool,
        mut attempt: impl AsyncFnMut() -> Result<T, X>,
    ) -> Result<T, FleetError> {
        let began = self.now();
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) if !will_pass(&error) => {
                    let reason = error.to_string();
                    return Err(FleetError::Refused { what, reason });
                }
                Err(error) if self.now().since(began) > PATIENCE => {
                    return Err(FleetError::Silent {
                        what,
                        patience: PATIENCE,
                        last: error.to_string(),
                    });
                }
                Err(_) => self.pause(PAUSE).await,
            }
        }
    }

    /// Makes a stream of files at the servers, or takes the one that is there.
    pub(super) async fn stream(
        &self,
        name: &str,
        subject: &str,
        settings: impl Fn(&mut StreamConfig),
    ) -> Result<StreamOf<E>, FleetError> {
        let mut config = StreamConfig::new(name);
        config.subjects = vec![subject.to_owned()];
        config.replicas = REPLICAS;
        settings(&mut config);
        self.insist("a stream", may_pass, async || {
            match self.make(&config).await {
                // Made by others, for more servers or fewer: it does as well.
                Err(StreamError::Exists) => self.connection.stream(name),
                made => made,
            }
        })
        .await
    }

    /// Makes a stream, with one copy where there is no cluster.
    async fn make(&self, config: &StreamConfig) -> Result<StreamOf<E>, StreamError> {
        match self.connection.create_stream(config).await {
            Err(StreamError::Rejected(error)) if error.err_code == NO_CLUSTER => {
                let alone = StreamConfig {
                    replicas: 1,
                    ..config.clone()
                };
                self.connection.create_stream(&alone).await
            }
            made => made,
        }
    }

    /// A handle to a stream that somebody has made.
    pub(super) fn known(&self, name: &str) -> Result<StreamOf<E>, FleetError> {
        let known = self.connection.stream(name);
        known.map_err(|error| FleetError::Refused {
            what: "a stream",
            reason: error.to_string(),
        })
    }

    pub(super) async fn hunts(&self) -> Result<StreamOf<E>, FleetError> {
        let one = |config: &mut StreamConfig| config.max_messages_per_subject = 1;
        self.stream(HUNTS, HUNTS_SUBJECT, one).await
    }

    /// The last announcement, if there was one ever.
    pub(super) async fn announced(
        &self,
    ) -> Result<Option<(Announcement, StoredMessage)>, FleetError> {
        let hunts = self.known(HUNTS)?;
        let may_pass =
            |error: &ReadStreamError| !matches!(error, ReadStreamError::InvalidSubject(_));
        let last = self.insist("the hunt under way", may_pass, async || {
            match hunts.last(HUNTS_SUBJECT).await {
                // Nobody has hunted here, or the server is not ready: whoever waits for a hunt asks again.
                Err(ReadStreamError::NoStream) => Ok(None),
                last => last,
            }
        });
        let Some(message) = last.await? else {
            return Ok(None);
        };
        let announcement = read(&message.payload, "the announcement of a hunt")?;
        Ok(Some((announcement, message)))
    }

    /// Stores a message, however often that must be tried. What it demands makes sure that it is stored once.
    pub(super) async fn store(
        &self,
        what: &'static str,
        subject: &str,
        body: Vec<u8>,
        options: &StoreOptions,
    ) -> Result<StoreAck, StoreError> {
        self.store_within(PATIENCE, what, subject, body, options)
            .await
    }

    /// The same, not for longer than this.
    pub(super) async fn store_within(
        &self,
        patience: Duration,
        what: &'static str,
        subject: &str,
        body: Vec<u8>,
        options: &StoreOptions,
    ) -> Result<StoreAck, StoreError> {
        let began = self.now();
        let message = Message::new(subject, body);
        loop {
            let stored = self
                .connection
                .store(message.clone(), options.clone())
                .await;
            match stored {
                Err(error) if passes(&error) && self.now().since(began) < patience => {
                    tracing::debug!(what, %error, "not stored yet");
                    self.pause(PAUSE).await;
                }
                stored => return stored,
            }
        }
    }
}

/// Whether what a stream says may be otherwise a little later.
fn may_pass(error: &StreamError) -> bool {
    match error {
        StreamError::InvalidName(_) | StreamError::Exists | StreamError::Closed => false,
        StreamError::Rejected(error) => error.code >= 500,
        StreamError::NotFound | StreamError::Unavailable | StreamError::TimedOut => true,
    }
}

fn passes(error: &StoreError) -> bool {
    match error {
        // Also while a server is not ready yet.
        StoreError::NoStream | StoreError::TimedOut => true,
        StoreError::Rejected(error) => error.code >= 500,
        StoreError::Publish(_)
        | StoreError::WrongLastSequence { .. }
        | StoreError::WrongLastMessageId { .. }
        | StoreError::ClosedWhileWaiting => false,
    }
}

pub(super) fn refused(what: &'static str) -> impl FnOnce(StoreError) -> FleetError {
    move |error| FleetError::Refused {
        what,
        reason: error.to_string(),
    }
}

/// A work queue: what was done is gone.
pub(super) fn is_queue(config: &mut StreamConfig) {
    config.retention = Retention::WorkQueue;
}

/// Stored after this message, and no other.
pub(super) fn after(last: Sequence) -> StoreOptions {
    StoreOptions {
        expected_last_sequence: Some(last),
        ..StoreOptions::default()
    }
}
