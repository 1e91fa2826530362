//! [`DialsEnv`]: any [`Env`], with every connection that is made in it in the history, and with what it has logged in.
//!
//! It stands below a session: where the session shows its users one connection, this tells of each that there was.

use std::sync::Arc;

use squall_core::transport::{
    ConnectError, ConnectOptions, Connection, ConnectionEvent, CredentialsCell, Events, Fallible,
    Login, Transport,
};
use squall_core::{Env, Rng, Task};

use crate::history::{Call, Recorder, Reply, Tell, What, Wire};

/// See the head of this file.
#[derive(Clone, Debug)]
pub(crate) struct DialsEnv<E: Env> {
    inner: E,
    transport: DialsTransport<E>,
}

/// A transport whose connections are in the history.
#[derive(Clone, Debug)]
pub(crate) struct DialsTransport<E> {
    env: E,
    process: Arc<str>,
    recorder: Recorder,
}

impl<E: Env> DialsEnv<E> {
    /// Records what connections `process` makes in `inner`.
    pub(crate) fn new(inner: E, process: Arc<str>, recorder: Recorder) -> Self {
        let transport = DialsTransport {
            env: inner.clone(),
            process,
            recorder,
        };
        Self { inner, transport }
    }
}

impl<E: Env> Env for DialsEnv<E> {
    type Clock = E::Clock;
    type Transport = DialsTransport<E>;

    fn clock(&self) -> &E::Clock {
        self.inner.clock()
    }

    fn transport(&self) -> &Self::Transport {
        &self.transport
    }

    fn rng(&self, purpose: &str) -> Rng {
        self.inner.rng(purpose)
    }

    fn spawn<F>(&self, name: &'static str, future: F) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.inner.spawn(name, future)
    }
}

impl<E: Env> Transport for DialsTransport<E> {
    type Connection = <E::Transport as Transport>::Connection;

    async fn connect(&self, options: ConnectOptions) -> Result<Self::Connection, ConnectError> {
        let id = self.recorder.invoke(&self.process, Call::Dial);
        let cell = options.credentials.clone();
        match self.env.transport().connect(options).await {
            Ok(made) => {
                let listening = Listening {
                    name: self.recorder.name(&made.id().to_string()),
                    process: self.process.clone(),
                    recorder: self.recorder.clone(),
                    cell,
                };
                let connection = listening.name.clone();
                let token = made.login().and_then(|login| listening.token(login));
                let reply = Reply::Dialled { connection, token };
                self.recorder.ended(id, Ok(reply));
                let listens = listening.listen(made.events());
                self.env.spawn("dialled", listens).detach();
                Ok(made)
            }
            Err(error) => {
                let ended = Err((error.outcome(), error.to_string()));
                self.recorder.ended(id, ended);
                Err(error)
            }
        }
    }
}

/// Hears what becomes of one connection.
struct Listening {
    name: Arc<str>,
    process: Arc<str>,
    recorder: Recorder,
    cell: Option<CredentialsCell>,
}

impl Listening {
    /// The name of the token that an attempt found in the cell, where the cell holds it still.
    fn token(&self, login: Login) -> Option<Arc<str>> {
        let (now, credentials) = self.cell.as_ref()?.read();
        let credentials = credentials.filter(|_| now.generation == login.generation)?;
        let name = credentials.claims().map(|claims| claims.name.as_str())?;
        Some(self.recorder.name(name))
    }

    async fn listen(self, mut events: Events) {
        let mut token = None;
        while let Some(event) = events.next().await {
            let wire = match event {
                ConnectionEvent::LoggingIn(login) => {
                    token = self.token(login);
                    continue;
                }
                ConnectionEvent::Reconnected => Wire::Up {
                    token: token.clone(),
                },
                ConnectionEvent::Disconnected(cause) => Wire::Down {
                    cause: cause.to_string(),
                },
                ConnectionEvent::AuthError(text) => Wire::Refused {
                    text: text.to_string(),
                },
                ConnectionEvent::Closed => Wire::Closed,
                _ => continue,
            };
            self.recorder.record(What::Told {
                process: self.process.clone(),
                tell: Tell::Wire {
                    connection: self.name.clone(),
                    wire,
                },
            });
        }
    }
}
