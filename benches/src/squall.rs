//! The exchange on squall: each beat is a conditional write of a record in a JetStream bucket, acknowledged.
//!
//! Everything is on that a storm has on: a broker with revisions, history and ages; a client with time-outs, pings and
//! buffers; a clock for each host; every call and every commit in the history; and at the end, within the measured time,
//! all invariants over it. Each agent has a host and a process of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use squall_core::transport::{
    Bucket, BucketConfig, ConnectOptions, Connection, Revision, Transport,
};
use squall_core::{Clock, Env};
use squall_scenarios::history::{Life, What};
use squall_scenarios::invariants::{self, Verdict};
use squall_scenarios::plan::{AgentPlan, Plan, WorldPlan};
use squall_scenarios::{RecordedEnv, SimTestbed, Testbed, run};
use tokio::sync::mpsc;

use crate::{Exchange, INTERVAL, Measured, REQUEST_BYTES, START};

const SEED: u64 = 1;
const BUCKET: &str = "presence";

/// By `Bucket::update`, as a presence beats.
pub fn update(exchange: Exchange) -> Measured {
    let plan = plan(exchange);
    let (mut simulation, testbed, recorder) = SimTestbed::new(&plan);
    let (done, mut finished) = mpsc::unbounded_channel();
    let mut tasks = Vec::new();
    simulation.run(async {
        for agent in 0..exchange.agents {
            let host = plan.agents[agent as usize].name.clone();
            let process: Arc<str> = format!("{host}/1").into();
            let (env, servers) = testbed.start(&host, &process);
            recorder.record(What::Life {
                process: process.clone(),
                event: Life::Started,
            });
            let env = RecordedEnv::new(env, process, recorder.clone());
            let beating = beat(env.clone(), servers, exchange, agent, done.clone());
            tasks.push(env.spawn("agent", beating));
        }
        testbed
            .sleep_until(squall_core::Instant::ZERO + START)
            .await;
    });
    drop(done);

    let clock = std::time::Instant::now();
    let (beats, simulated) = simulation.run(async {
        let began = testbed.now();
        let mut beats = 0;
        while let Some(made) = finished.recv().await {
            beats += made;
        }
        (beats, testbed.now().since(began))
    });
    let history = run::gather(&testbed, &recorder);
    if let Verdict::Fail(violations) = invariants::judge(&plan, &history) {
        panic!("a bench in which nothing is done to anybody violates {violations:?}");
    }
    let took = clock.elapsed();
    Measured {
        beats,
        simulated,
        took,
    }
}

fn plan(exchange: Exchange) -> Plan {
    let agents = (0..exchange.agents).map(|agent| AgentPlan::new(format!("a{agent}"), INTERVAL));
    Plan {
        scenario: "presence/calm".to_owned(),
        seed: SEED,
        duration: INTERVAL * exchange.seconds,
        settle: Duration::ZERO,
        world: WorldPlan::default(),
        auth: None,
        agents: agents.collect(),
        faults: Vec::new(),
        specimen: None,
        expect: None,
        foreign: Vec::new(),
    }
}

async fn beat<E: Env>(
    env: E,
    servers: Vec<String>,
    exchange: Exchange,
    agent: u32,
    done: mpsc::UnboundedSender<u64>,
) {
    let start = env.clock().now() + START + exchange.phase(agent);
    let options = ConnectOptions {
        servers,
        ..ConnectOptions::default()
    };
    let config = BucketConfig {
        max_age: INTERVAL * 3,
        ..BucketConfig::new(BUCKET)
    };
    let connection = env
        .transport()
        .connect(options)
        .await
        .expect("nothing is in the way");
    let bucket = connection
        .create_bucket(&config)
        .await
        .expect("nothing is in the way");
    let key = format!("demo.a{agent}");
    let mut over = Revision::NONE;
    let mut made = 0;
    env.clock().sleep_until(start).await;
    for beat in 0..exchange.seconds {
        let mut value = vec![0; REQUEST_BYTES];
        value[..4].copy_from_slice(&beat.to_le_bytes());
        value[4..8].copy_from_slice(&agent.to_le_bytes());
        match bucket.update(&key, Bytes::from(value), over).await {
            Ok(revision) => (over, made) = (revision, made + 1),
            Err(_unanswered) => break,
        }
        env.clock().sleep_until(env.clock().now() + INTERVAL).await;
    }
    // The receiver outlives every agent.
    let _sent = done.send(made);
}
