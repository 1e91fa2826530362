//! The exchange directly on turmoil, over its TCP.
//!
//! All agents are tasks of one host, each with a stream of its own. A host for each agent, which turmoil's faults would
//! need, is out of the question here: every tick visits every host, and for each of them every link of the whole world,
//! so that 100 hosts made 62 beats a second where one host with 100 tasks made 51 000. Faults between agents
//! are what this arm gives up for its speed.

use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::spawn_local;
use tokio::time::{sleep, sleep_until};
use turmoil::net::{TcpListener, TcpStream};

use crate::{Exchange, INTERVAL, Measured, REPLY_BYTES, REQUEST_BYTES, START};

const SEED: u64 = 1;

/// The default, and the resolution of the latencies below. Time moves in such ticks whether anything happens or not, and
/// messages arrive only on a tick: 10 ms would be 9 times as fast for 10 agents and twice for 1 000, but would make all
/// latencies one.
const TICK: Duration = Duration::from_millis(1);

/// As madsim's default, each way.
const LATENCY_MIN: Duration = Duration::from_millis(1);
const LATENCY_MAX: Duration = Duration::from_millis(10);

/// Connections that wait to be accepted. turmoil panics at one more than its default of 64.
const BACKLOG: usize = 1024;

/// By `TcpStream`, one for each agent, as a NATS client has.
pub fn tcp(exchange: Exchange) -> Measured {
    let mut sim = turmoil::Builder::new()
        .rng_seed(SEED)
        .tick_duration(TICK)
        .min_message_latency(LATENCY_MIN)
        .max_message_latency(LATENCY_MAX)
        .tcp_capacity(BACKLOG)
        .simulation_duration(Duration::MAX)
        .build();
    sim.host("server", || async {
        let listener = TcpListener::bind("0.0.0.0:4222").await?;
        loop {
            let (stream, _) = listener.accept().await?;
            spawn_local(answer(stream));
        }
    });
    let (report, reported) = std::sync::mpsc::channel();
    sim.client("agents", async move {
        let agents: Vec<_> = (0..exchange.agents)
            .map(|i| spawn_local(agent(exchange, i)))
            .collect();
        let mut beats = 0;
        for agent in agents {
            beats += u64::from(agent.await??);
        }
        report.send(beats)?;
        Ok(())
    });
    while sim.elapsed() < START {
        sim.step().expect("all connect");
    }

    let clock = Instant::now();
    sim.run().expect("links lose nothing");
    let took = clock.elapsed();
    Measured {
        beats: reported.recv().expect("the agents are done"),
        simulated: sim.elapsed() - START,
        took,
    }
}

async fn agent(exchange: Exchange, i: u32) -> io::Result<u32> {
    let phase = exchange.phase(i);
    let start = tokio::time::Instant::now() + START + phase;
    // The server binds first, and does not take all in at once.
    sleep(Duration::from_millis(100) + phase).await;
    let mut stream = TcpStream::connect("server:4222").await?;
    sleep_until(start).await;
    let mut answer = [0; REPLY_BYTES];
    for _ in 0..exchange.seconds {
        stream.write_all(&[0; REQUEST_BYTES]).await?;
        stream.read_exact(&mut answer).await?;
        sleep(INTERVAL).await;
    }
    Ok(exchange.seconds)
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut beat = [0; REQUEST_BYTES];
    loop {
        stream.read_exact(&mut beat).await?;
        stream.write_all(&[0; REPLY_BYTES]).await?;
    }
}
