//! A link that can be bad: a TCP proxy for one agent, in front of a server; or for the route of one server to another.
//!
//! What a network does to TCP is done here to bytes: they are held back and come late and in order once the link is
//! healed; or they are swallowed, and a connection that has lost some is reset before it carries another; or the
//! connection is reset at once. Each direction is held apart, so
//! that a partition can be one-way: the agent's requests arrive, and the answers do not.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// Chunks under way in one direction: what a network and the kernels hold before a sender notices.
const UNDER_WAY: usize = 1024;
const CHUNK: usize = 16 * 1024;
/// How soon a port that is taken is tried again.
const AGAIN: Duration = Duration::from_millis(5);

/// One of the two ways through a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the agent to its server.
    ToServer,
    /// From the server to its agent.
    ToClient,
}

/// How the link is now. Faults of one kind may overlap, and each is mended by itself: so they are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Link {
    held: [u32; 2],
    swallowed: [u32; 2],
    delay: Duration,
    /// Connections of an earlier number are reset.
    cuts: u64,
}

impl Link {
    fn is_held(&self, direction: Direction) -> bool {
        self.held[direction as usize] > 0
    }

    fn is_swallowed(&self, direction: Direction) -> bool {
        self.swallowed[direction as usize] > 0
    }
}

/// How often a fault of a link has changed anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkBites {
    /// Bytes, ends of streams or new connections that had to wait.
    pub held: u64,
    /// Chunks of bytes that were swallowed.
    pub swallowed: u64,
    /// Chunks of bytes that were delayed.
    pub delayed: u64,
    /// Connections that were reset by a cut.
    pub cut: u64,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    alive: AtomicU64,
    held: AtomicU64,
    swallowed: AtomicU64,
    delayed: AtomicU64,
    cut: AtomicU64,
}

fn one_more(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// A listening proxy; connections and port go with it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    target: watch::Sender<Option<SocketAddr>>,
    refuses: watch::Sender<bool>,
    link: watch::Sender<Link>,
    counts: Arc<Counts>,
    listener: JoinHandle<()>,
}

impl Proxy {
    /// A good link to `server`.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        let proxy = Self::start_aimless().await?;
        proxy.aim(server);
        Ok(proxy)
    }

    /// A good link to a server that is not there yet: until it is [aimed](Self::aim), it lets its callers wait.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start_aimless() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (link, counts) = (watch::Sender::new(Link::default()), Arc::default());
        let (target, refuses) = (watch::Sender::new(None), watch::Sender::new(false));
        let accept = accept(
            listener,
            refuses.subscribe(),
            target.subscribe(),
            link.subscribe(),
            Arc::clone(&counts),
        );
        Ok(Self {
            address,
            target,
            refuses,
            link,
            counts,
            listener: tokio::spawn(accept),
        })
    }

    /// From now on, connections are made to this address. Those that there are stay as they are.
    pub fn aim(&self, server: SocketAddr) {
        self.target.send_replace(Some(server));
    }

    /// Whether callers are refused, as where nobody listens: so it is with a server that is gone.
    pub fn refuse(&self, refuses: bool) {
        self.refuses.send_replace(refuses);
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Connections that agents have made so far.
    pub fn accepted(&self) -> u64 {
        self.counts.accepted.load(Ordering::Relaxed)
    }

    /// How often what is done to this link has changed anything so far.
    pub fn bites(&self) -> LinkBites {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        LinkBites {
            held: read(&self.counts.held),
            swallowed: read(&self.counts.swallowed),
            delayed: read(&self.counts.delayed),
            cut: read(&self.counts.cut),
        }
    }

    /// Resets all connections, on both sides, with what is under way in them. New ones are served.
    pub fn cut(&self) {
        let alive = self.counts.alive.load(Ordering::Relaxed);
        self.counts.cut.fetch_add(alive, Ordering::Relaxed);
        self.link.send_modify(|link| link.cuts += 1);
    }

    /// Holds all bytes of one direction back, while sockets stay open, until one [`release`](Self::release) for each.
    pub fn hold(&self, direction: Direction) {
        self.link
            .send_modify(|link| link.held[direction as usize] += 1);
    }

    /// Ends one [`hold`](Self::hold): what was held arrives, in order.
    pub fn release(&self, direction: Direction) {
        self.link.send_modify(|link| {
            let held = &mut link.held[direction as usize];
            *held = held.saturating_sub(1);
        });
    }

    /// Loses all bytes of one direction, while sockets stay open, until one [`fill`](Self::fill) for each.
    pub fn swallow(&self, direction: Direction) {
        self.link
            .send_modify(|link| link.swallowed[direction as usize] += 1);
    }

    /// Ends one [`swallow`](Self::swallow): connections that have lost bytes are reset.
    pub fn fill(&self, direction: Direction) {
        self.link.send_modify(|link| {
            let swallowed = &mut link.swallowed[direction as usize];
            *swallowed = swallowed.saturating_sub(1);
        });
    }

    /// Delays every byte by this much more, each way.
    pub fn slow(&self, by: Duration) {
        self.link.send_modify(|link| link.delay += by);
    }

    /// Ends one [`slow`](Self::slow) of the same length.
    pub fn restore(&self, by: Duration) {
        self.link
            .send_modify(|link| link.delay = link.delay.saturating_sub(by));
    }

    /// Holds all bytes of one direction, while sockets stay open.
    pub fn blackhole(&self, direction: Direction) {
        self.hold(direction);
    }

    /// Holds all bytes of both directions; new connections hear nothing, too.
    pub fn partition(&self) {
        self.hold(Direction::ToServer);
        self.hold(Direction::ToClient);
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
    mut listener: TcpListener,
    mut refuses: watch::Receiver<bool>,
    target: watch::Receiver<Option<SocketAddr>>,
    link: watch::Receiver<Link>,
    counts: Arc<Counts>,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            _ = refuses.wait_for(|refuses| *refuses) => None,
            accepted = listener.accept() => Some(accepted),
        };
        let client = match accepted {
            Some(Ok((client, _))) => client,
            Some(Err(_)) => return,
            None => match unlisten(listener, &mut refuses).await {
                Some(again) => {
                    listener = again;
                    continue;
                }
                None => return,
            },
        };
        one_more(&counts.accepted);
        let (target, link, counts) = (target.clone(), link.clone(), Arc::clone(&counts));
        tokio::spawn(async move {
            one_more(&counts.alive);
            serve(client, target, link, &counts).await;
            counts.alive.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Does not listen until it is to do so again, on the same port; `None` once the proxy is gone.
async fn unlisten(
    listener: TcpListener,
    refuses: &mut watch::Receiver<bool>,
) -> Option<TcpListener> {
    let address = listener.local_addr().ok()?;
    drop(listener);
    refuses.wait_for(|refuses| !*refuses).await.ok()?;
    loop {
        // For a moment another's outgoing connection may have it.
        match TcpListener::bind(address).await {
            Ok(listener) => return Some(listener),
            Err(_) => sleep(AGAIN).await,
        }
    }
}

/// One connection, until either side ends it, it is cut, or the proxy is gone.
async fn serve(
    mut client: TcpStream,
    mut target: watch::Receiver<Option<SocketAddr>>,
    mut link: watch::Receiver<Link>,
    counts: &Counts,
) {
    let (cuts, at) = (link.borrow().cuts, link.clone());
    let connect = async {
        // Over a held link no connection is made; the agent's own half of the handshake is the kernel's.
        released(at.clone(), Direction::ToServer, counts).await;
        match target.wait_for(Option::is_some).await.map(|aim| *aim) {
            Ok(Some(server)) => TcpStream::connect(server).await,
            // The proxy is gone, and its connections with it.
            Ok(None) | Err(_) => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    };
    let connected = tokio::select! {
        connected = connect => connected,
        _ = link.wait_for(|link| link.cuts != cuts) => return reset(&client),
    };
    let Ok(mut upstream) = connected else {
        return reset(&client);
    };
    let torn = AtomicBool::new(false);
    let broken = |link: &Link| {
        let swallows =
            link.is_swallowed(Direction::ToServer) || link.is_swallowed(Direction::ToClient);
        link.cuts != cuts || (torn.load(Ordering::Relaxed) && !swallows)
    };
    let cut = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = upstream.split();
        let way = |direction| Way {
            direction,
            link: at.clone(),
            counts,
            torn: &torn,
        };
        tokio::select! {
            () = pipe(from_client, to_server, way(Direction::ToServer)) => false,
            () = pipe(from_server, to_client, way(Direction::ToClient)) => false,
            _ = link.wait_for(broken) => true,
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

/// One direction of one connection.
struct Way<'a> {
    direction: Direction,
    link: watch::Receiver<Link>,
    counts: &'a Counts,
    /// Bytes of the connection were swallowed.
    torn: &'a AtomicBool,
}

/// Carries bytes one way, in order, until either end is gone and what was read before has been written.
async fn pipe(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, way: Way<'_>) {
    let (sender, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let read = async {
        loop {
            let mut chunk = vec![0; CHUNK];
            match from.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(size) => chunk.truncate(size),
            }
            let delay = way.link.borrow().delay;
            if !delay.is_zero() {
                one_more(&way.counts.delayed);
            }
            if sender.send((Instant::now() + delay, chunk)).await.is_err() {
                break;
            }
        }
        // Reading ends by dropping the sender, and writing ends after what is left.
        drop(sender);
        std::future::pending::<()>().await;
    };
    let write = async {
        while let Some((due, chunk)) = under_way.recv().await {
            sleep_until(due).await;
            released(way.link.clone(), way.direction, way.counts).await;
            if way.link.borrow().is_swallowed(way.direction) {
                one_more(&way.counts.swallowed);
                way.torn.store(true, Ordering::Relaxed);
            } else if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
        // The end of the stream is held like its bytes.
        released(way.link.clone(), way.direction, way.counts).await;
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
}

/// Ready while the direction is not held; never, if the proxy goes while it is.
async fn released(mut link: watch::Receiver<Link>, direction: Direction, counts: &Counts) {
    if link.borrow().is_held(direction) {
        one_more(&counts.held);
    }
    if link
        .wait_for(|link| !link.is_held(direction))
        .await
        .is_err()
    {
        std::future::pending::<()>().await;
    }
}
