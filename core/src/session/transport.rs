//! [`SessionEnv`]: the surroundings of rooms that run on a session.
//!
//! Clock, chance and tasks are those of the world; the way to NATS is the session. So a room that is written for an
//! [`Env`] needs to know nothing of credentials.

use std::fmt;
use std::sync::Arc;

use super::Handle;
use super::connection::SessionConnection;
use crate::env::{Env, Rng, Task};
use crate::time::Clock;
use crate::transport::{ConnectError, ConnectOptions, Transport};

/// The surroundings of rooms that run on a session.
pub struct SessionEnv<E: Env> {
    env: E,
    transport: SessionTransport<E>,
}

/// The way to NATS over a session.
pub struct SessionTransport<E: Env>(Arc<Handle<E>>);

impl<E: Env> SessionEnv<E> {
    pub(super) fn new(env: E, session: Arc<Handle<E>>) -> Self {
        let transport = SessionTransport(session);
        Self { env, transport }
    }
}

impl<E: Env> Clone for SessionEnv<E> {
    fn clone(&self) -> Self {
        Self {
            env: self.env.clone(),
            transport: self.transport.clone(),
        }
    }
}

impl<E: Env> Clone for SessionTransport<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E: Env> fmt::Debug for SessionEnv<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionEnv")
    }
}

impl<E: Env> fmt::Debug for SessionTransport<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionTransport")
    }
}

impl<E: Env> Env for SessionEnv<E> {
    type Clock = E::Clock;
    type Transport = SessionTransport<E>;

    fn clock(&self) -> &E::Clock {
        self.env.clock()
    }

    fn transport(&self) -> &SessionTransport<E> {
        &self.transport
    }

    fn rng(&self, purpose: &str) -> Rng {
        self.env.rng(purpose)
    }

    fn spawn<F>(&self, name: &'static str, future: F) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.env.spawn(name, future)
    }
}

impl<E: Env> Transport for SessionTransport<E> {
    type Connection = SessionConnection<E>;

    /// The connection of the present login, once it has one; waits at most `connect_timeout`. All else in `options` is the
    /// session's own.
    async fn connect(&self, options: ConnectOptions) -> Result<SessionConnection<E>, ConnectError> {
        let out = || ConnectError::Auth("nobody is logged in".into());
        let connection = self.0.connection().ok_or_else(out)?;
        let clock = self.0.env.clock();
        let deadline = clock.now() + options.connect_timeout;
        tokio::select! {
            biased;
            link = connection.line().link(0) => link.map(drop).ok_or_else(out)?,
            () = clock.sleep_until(deadline) => return Err(ConnectError::TimedOut),
        }
        Ok(connection)
    }
}
