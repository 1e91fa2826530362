//! What the shell does with connections: dials them, moves over to them, lets them go.

use std::sync::Arc;

use super::{Candidate, ConnectionOf, Done, InUse, KeeperShell, before};
use crate::env::Env;
use crate::session::auth::AuthService;
use crate::session::config::PROBE_TIMEOUT;
use crate::session::keeper::KeeperEvent;
use crate::session::line::Link;
use crate::session::refresher::Generation;
use crate::session::swapper::{Dial, SwapperEffect, SwapperEvent};
use crate::time::Clock;
use crate::transport::{
    ConnectError, ConnectOptions, Connection, ConnectionEvent, ConnectionId, ConnectionState,
    CredentialsCell, DisconnectCause, Events, FlushError, Transport,
};

impl<E: Env, A: AuthService> KeeperShell<E, A> {
    /// Dials with a cell of its own, filled once: this connection will never log in with anything else.
    fn dial(&mut self, dial: Dial, generation: Generation) {
        let Some((newest, issued)) = &self.newest else {
            return;
        };
        assert!(*newest == generation, "a dial is made with the newest");
        self.dialling = Some(dial);
        let options = ConnectOptions {
            credentials: Some(CredentialsCell::filled(issued.credentials().clone())),
            ..self.settings.connect.clone()
        };
        let transport = self.env.transport().clone();
        self.under_way.push(Box::pin(async move {
            Done::Connected(dial, generation, transport.connect(options).await)
        }));
    }

    fn connected(
        &mut self,
        dial: Dial,
        generation: Generation,
        result: Result<ConnectionOf<E>, ConnectError>,
    ) -> Option<KeeperEvent> {
        if self.dialling != Some(dial) {
            // Nobody wants it any more, and it closes with its last handle.
            return None;
        }
        let result = result.map(|connection| {
            let id = connection.id();
            self.listen(id, connection.events());
            let mut login = connection.login().unwrap_or_default();
            // Its cell counts from 1, as every cell does.
            login.generation = generation.0;
            self.links += 1;
            let (link, released) = Link::new(connection, self.links, generation, login);
            self.candidate = Some(Candidate {
                dial,
                link,
                released,
            });
            id
        });
        Some(KeeperEvent::Swapper(SwapperEvent::Dialled(dial, result)))
    }

    fn listen(&self, id: ConnectionId, mut events: Events) {
        self.under_way.push(Box::pin(async move {
            let event = events.next().await;
            Done::Heard(id, event, events)
        }));
    }

    fn arm(&mut self, dial: Dial) {
        let Some(candidate) = self.candidate.as_ref().filter(|it| it.dial == dial) else {
            return;
        };
        let link = Arc::clone(&candidate.link);
        let answered = self.trunk.as_ref().map(|trunk| trunk.offer(&link));
        let clock = self.env.clock().clone();
        let deadline = clock.now() + PROBE_TIMEOUT;
        self.under_way.push(Box::pin(async move {
            if let Some(mut answered) = answered {
                // Who cannot move now goes on trying by itself; and to a connection that is lost nobody can.
                let all = async {
                    let _ended = answered.recv().await;
                };
                let over = async {
                    tokio::select! {
                        biased;
                        () = lost(link.connection.events()) => {}
                        () = clock.sleep_until(deadline) => {}
                    }
                };
                before(all, over).await;
            }
            let flushed = round_trip(&clock, &link.connection).await;
            Done::Swapper(SwapperEvent::Armed(dial, flushed))
        }));
    }

    fn install(&mut self, dial: Dial) {
        self.dialling = None;
        let Some(candidate) = self.candidate.take_if(|it| it.dial == dial) else {
            return;
        };
        let Candidate { link, released, .. } = candidate;
        let connection = link.connection.clone();
        let id = connection.id();
        // It may have ended since its round trip, when nobody asked for its events.
        let missed = match connection.state() {
            ConnectionState::Connected => None,
            ConnectionState::Disconnected => {
                Some(ConnectionEvent::Disconnected(DisconnectCause::Lost))
            }
            ConnectionState::Closed => Some(ConnectionEvent::Closed),
        };
        let missed = missed.map(|event| KeeperEvent::Swapper(SwapperEvent::Heard(id, event)));
        self.queue.extend(missed);
        let released = Some(released);
        self.in_use.insert(
            id,
            InUse {
                connection,
                released,
            },
        );
        let generation = link.generation;
        self.share(|shared| {
            shared.status.connection = Some((id, generation));
            shared.status.connects += 1;
        });
        if let Some(trunk) = &self.trunk {
            trunk.install(link);
        }
        if let (Some(waiting), Some((_, issued))) = (self.logging_in.take(), &self.newest) {
            let _gone = waiting.send(Ok(issued.account().clone()));
        }
    }

    fn retire(&mut self, id: ConnectionId) {
        let Some(in_use) = self.in_use.get_mut(&id) else {
            return;
        };
        let connection = in_use.connection.clone();
        let released = in_use.released.take();
        let clock = self.env.clock().clone();
        let deadline = clock.now() + self.settings.refresh_margin / 2;
        self.under_way.push(Box::pin(async move {
            if let Some(mut released) = released {
                let all = async {
                    let _ended = released.recv().await;
                };
                before(all, clock.sleep_until(deadline)).await;
            }
            let end = clock.now() + PROBE_TIMEOUT;
            // Closed in any case: where the round trip fails, there is nobody to send the rest to.
            let _flushed = before(connection.drain(), clock.sleep_until(end)).await;
            connection.close().await;
            Done::Swapper(SwapperEvent::Retired(id))
        }));
    }

    fn heard(
        &mut self,
        id: ConnectionId,
        event: Option<ConnectionEvent>,
        events: Events,
    ) -> Option<KeeperEvent> {
        let event = event?;
        if let Some(trunk) = &self.trunk {
            trunk.tell(id, &event);
        }
        if event != ConnectionEvent::Closed {
            self.listen(id, events);
        }
        Some(KeeperEvent::Swapper(SwapperEvent::Heard(id, event)))
    }

    pub(super) fn done(&mut self, done: Done<ConnectionOf<E>>) -> Option<KeeperEvent> {
        match done {
            Done::Connected(dial, generation, result) => self.connected(dial, generation, result),
            Done::Heard(id, event, events) => self.heard(id, event, events),
            Done::Swapper(event) => {
                if let SwapperEvent::Retired(id) = &event {
                    self.in_use.remove(id);
                }
                Some(KeeperEvent::Swapper(event))
            }
        }
    }

    /// Closing waits for nobody.
    pub(super) async fn swap(&mut self, effect: SwapperEffect) {
        match effect {
            SwapperEffect::Dial(dial, generation) => self.dial(dial, generation),
            SwapperEffect::Arm(dial) => self.arm(dial),
            SwapperEffect::Install(dial) => self.install(dial),
            SwapperEffect::Retire(id) => self.retire(id),
            SwapperEffect::Close(id) => {
                if let Some(trunk) = &self.trunk {
                    trunk.lose(id);
                }
                self.share(|shared| {
                    if shared.status.connection.is_some_and(|(now, _)| now == id) {
                        shared.status.connection = None;
                    }
                });
                if let Some(in_use) = self.in_use.remove(&id) {
                    in_use.connection.close().await;
                }
            }
            SwapperEffect::Abandon(dial) => {
                self.dialling = None;
                if let Some(candidate) = self.candidate.take_if(|it| it.dial == dial) {
                    candidate.link.connection.close().await;
                }
            }
            SwapperEffect::Probe(id) => {
                if let Some(in_use) = self.in_use.get(&id) {
                    let (connection, clock) = (in_use.connection.clone(), self.env.clock().clone());
                    self.under_way.push(Box::pin(async move {
                        let result = round_trip(&clock, &connection).await;
                        Done::Swapper(SwapperEvent::Probed(id, result))
                    }));
                }
            }
            SwapperEffect::Over => {
                if let Some(trunk) = &self.trunk {
                    trunk.close();
                }
            }
            // The keeper has done these by itself.
            SwapperEffect::Refresh(_) | SwapperEffect::Tell(_) => {}
        }
    }
}

async fn round_trip(clock: &impl Clock, connection: &impl Connection) -> Result<(), FlushError> {
    let deadline = clock.now() + PROBE_TIMEOUT;
    let flushed = before(connection.flush(), clock.sleep_until(deadline)).await;
    flushed.unwrap_or(Err(FlushError::TimedOut))
}

/// Ready once a connection has lost its link, or is over.
async fn lost(mut events: Events) {
    while let Some(event) = events.next().await {
        if matches!(
            event,
            ConnectionEvent::Disconnected(_) | ConnectionEvent::Closed
        ) {
            return;
        }
    }
}
