//! A link that can be bad: a TCP proxy for one agent, in front of a server.
//!
//! What a network does to TCP is done here to bytes: they are held back, never lost in the middle of a stream, and
//! come late and in order once the link is healed; or the connection is reset. Each direction is held apart, so
//! that a partition can be one-way: the agent's requests arrive, and the answers do not.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Chunks under way in one direction: what a network and the kernels hold before a sender notices.
const UNDER_WAY: usize = 1024;
const CHUNK: usize = 16 * 1024;

/// One of the two ways through a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the agent to its server.
    ToServer,
    /// From the server to its agent.
    ToClient,
}

/// How the link is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Link {
    to_server_held: bool,
    to_client_held: bool,
    delay: Duration,
    /// Connections of an earlier number are reset.
    cuts: u64,
}

impl Link {
    fn is_held(&self, direction: Direction) -> bool {
        match direction {
            Direction::ToServer => self.to_server_held,
            Direction::ToClient => self.to_client_held,
        }
    }
}

/// A listening proxy; connections and port go with it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    link: watch::Sender<Link>,
    accepted: Arc<AtomicU64>,
    listener: JoinHandle<()>,
}

impl Proxy {
    /// A good link to `server`.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (link, accepted) = (watch::Sender::new(Link::default()), Arc::default());
        let accept = accept(listener, server, link.subscribe(), Arc::clone(&accepted));
        Ok(Self {
            address,
            link,
            accepted,
            listener: tokio::spawn(accept),
        })
    }

    /// `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Connections that agents have made so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Resets all connections, on both sides, with what is under way in them. New ones are served.
    pub fn cut(&self) {
        self.link.send_modify(|link| link.cuts += 1);
    }

    /// Holds all bytes of one direction, while sockets stay open.
    pub fn blackhole(&self, direction: Direction) {
        self.link.send_modify(|link| match direction {
            Direction::ToServer => link.to_server_held = true,
            Direction::ToClient => link.to_client_held = true,
        });
    }

    /// Holds all bytes of both directions; new connections hear nothing, too.
    pub fn partition(&self) {
        self.link.send_modify(|link| {
            link.to_server_held = true;
            link.to_client_held = true;
        });
    }

    /// Delays every byte by this much, each way.
    pub fn delay(&self, delay: Duration) {
        self.link.send_modify(|link| link.delay = delay);
    }

    /// A good link again: what was held arrives, in order.
    pub fn heal(&self) {
        self.link.send_modify(|link| {
            *link = Link {
                cuts: link.cuts,
                ..Link::default()
            };
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Connections see the sender of `link` go, and end.
        self.listener.abort();
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    link: watch::Receiver<Link>,
    accepted: Arc<AtomicU64>,
) {
    while let Ok((client, _)) = listener.accept().await {
        accepted.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(serve(client, server, link.clone()));
    }
}

/// One connection, until either side ends it, it is cut, or the proxy is gone.
async fn serve(mut client: TcpStream, server: SocketAddr, mut link: watch::Receiver<Link>) {
    let (cuts, at) = (link.borrow().cuts, link.clone());
    let connect = async {
        // Over a held link no connection is made; the agent's own half of the handshake is the kernel's.
        released(at.clone(), Direction::ToServer).await;
        TcpStream::connect(server).await
    };
    let connected = tokio::select! {
        connected = connect => connected,
        _ = link.wait_for(|link| link.cuts != cuts) => return reset(&client),
    };
    let Ok(mut upstream) = connected else {
        return reset(&client);
    };
    let cut = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = upstream.split();
        tokio::select! {
            () = pipe(from_client, to_server, Direction::ToServer, at.clone()) => false,
            () = pipe(from_server, to_client, Direction::ToClient, at) => false,
            _ = link.wait_for(|link| link.cuts != cuts) => true,
        }
    };
    if cut {
        reset(&client);
        reset(&upstream);
    }
}

/// Closing this stream will reset its connection. A connection that is gone already needs none.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// Carries bytes one way, in order, until either end is gone and what was read before has been written.
async fn pipe(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    direction: Direction,
    link: watch::Receiver<Link>,
) {
    let (sender, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let delays = link.clone();
    let read = async move {
        loop {
            let mut chunk = vec![0; CHUNK];
            match from.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(size) => chunk.truncate(size),
            }
            let due = Instant::now() + delays.borrow().delay;
            if sender.send((due, chunk)).await.is_err() {
                return;
            }
        }
    };
    let write = async {
        while let Some((due, chunk)) = under_way.recv().await {
            sleep_until(due).await;
            released(link.clone(), direction).await;
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
        // The end of the stream is held like its bytes.
        released(link.clone(), direction).await;
    };
    // Reading ends by dropping the sender, and writing ends after what is left.
    let read = async {
        read.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
}

/// Ready while the direction is not held; never, if the proxy goes while it is.
async fn released(mut link: watch::Receiver<Link>, direction: Direction) {
    if link
        .wait_for(|link| !link.is_held(direction))
        .await
        .is_err()
    {
        std::future::pending::<()>().await;
    }
}
