//! The exchange directly on madsim, in two ways: tagged datagrams of its `net::Endpoint`, and its `net::TcpStream`.
//!
//! Each agent has a node of its own: that is what madsim kills, pauses and cuts off. As tasks of one node agents ran as
//! fast up to 1 000 of them, and within a fifth of it, either way, at 10 000. The network is madsim's default: 1 to 10 ms
//! each way, nothing lost.
//!
//! Both ways are timed because neither is the faster for every number of agents. An endpoint sleeps at least 1 ms, that
//! is, one timer, at each send and each receive; a stream does not, but each side polls a boxed stream of its own. What
//! a stream stands on (`Endpoint::connect1`) ran up to a third faster, but is hidden from madsim's documentation.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use madsim::net::{Endpoint, TcpListener, TcpStream};
use madsim::runtime::Runtime;
use madsim::time::{sleep, sleep_until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{Exchange, INTERVAL, Measured, REPLY_BYTES, REQUEST_BYTES, START};

const SEED: u64 = 1;
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 4222);
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Tags of datagrams, by direction.
const BEAT: u64 = 1;
const ANSWER: u64 = 2;

/// Tasks of the server that receive and answer. One answers at most 500 beats a second, as it sleeps 1 ms at each receive
/// and each send: too few would let beats pile up. 32 and 256 ran alike, and a socket for each agent no faster.
const ANSWERERS: usize = 64;

/// By `Endpoint::send_to` and `recv_from`. Their `_raw` twins, which madsim asks applications not to use, save one copy
/// and ran up to 8 % faster.
pub fn endpoint(exchange: Exchange) -> Measured {
    let server = async {
        let endpoint = Endpoint::bind(SERVER).await?;
        for _ in 1..ANSWERERS {
            madsim::task::spawn(answer_datagrams(endpoint.clone()));
        }
        answer_datagrams(endpoint).await
    };
    run(exchange, server, |agent| async move {
        let endpoint = Endpoint::bind(ANY_PORT).await?;
        agent.ready().await;
        let mut answer = [0; REPLY_BYTES];
        for _ in 0..agent.beats {
            endpoint.send_to(SERVER, BEAT, &[0; REQUEST_BYTES]).await?;
            endpoint.recv_from(ANSWER, &mut answer).await?;
            sleep(INTERVAL).await;
        }
        Ok(())
    })
}

async fn answer_datagrams(endpoint: Endpoint) -> io::Result<()> {
    let mut beat = [0; REQUEST_BYTES];
    loop {
        let (_, from) = endpoint.recv_from(BEAT, &mut beat).await?;
        endpoint.send_to(from, ANSWER, &[0; REPLY_BYTES]).await?;
    }
}

/// By `TcpStream`, one for each agent, as a NATS client has.
pub fn tcp(exchange: Exchange) -> Measured {
    let server = async {
        let listener = TcpListener::bind(SERVER).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            madsim::task::spawn(answer_stream(stream));
        }
    };
    run(exchange, server, |agent| async move {
        let mut stream = TcpStream::connect(SERVER).await?;
        agent.ready().await;
        let mut answer = [0; REPLY_BYTES];
        for _ in 0..agent.beats {
            stream.write_all(&[0; REQUEST_BYTES]).await?;
            stream.flush().await?;
            stream.read_exact(&mut answer).await?;
            sleep(INTERVAL).await;
        }
        Ok(())
    })
}

async fn answer_stream(mut stream: TcpStream) -> io::Result<()> {
    let mut beat = [0; REQUEST_BYTES];
    loop {
        stream.read_exact(&mut beat).await?;
        stream.write_all(&[0; REPLY_BYTES]).await?;
        stream.flush().await?;
    }
}

/// One agent's part.
struct Agent {
    start: Instant,
    beats: u32,
}

impl Agent {
    async fn ready(&self) {
        sleep_until(self.start).await;
    }
}

fn run<F>(
    exchange: Exchange,
    server: impl Future<Output = io::Result<()>> + Send + 'static,
    agent: fn(Agent) -> F,
) -> Measured
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let runtime = Runtime::with_seed_and_config(SEED, madsim::Config::default());
    let server_node = runtime.create_node().ip(SERVER.ip()).build();
    server_node.spawn(server);
    let agents: Vec<_> = (0..exchange.agents)
        .map(|i| {
            let ip = Ipv4Addr::from_bits(Ipv4Addr::new(10, 1, 0, 0).to_bits() + i);
            let node = runtime.create_node().ip(ip.into()).build();
            node.spawn(async move {
                let phase = exchange.phase(i);
                let start = Instant::now() + START + phase;
                // The server binds first, and does not take all in at once.
                sleep(Duration::from_millis(100) + phase).await;
                let beats = exchange.seconds;
                agent(Agent { start, beats }).await.map(|()| beats)
            })
        })
        .collect();
    runtime.block_on(async { sleep(START).await });

    let clock = Instant::now();
    let (beats, simulated) = runtime.block_on(async {
        // In here `Instant` is madsim's, by interposition.
        let began = Instant::now();
        let mut beats = 0;
        for agent in agents {
            let joined = agent.await.expect("no agent is cancelled");
            beats += u64::from(joined.expect("links lose nothing"));
        }
        (beats, began.elapsed())
    });
    Measured {
        beats,
        simulated,
        took: clock.elapsed(),
    }
}
