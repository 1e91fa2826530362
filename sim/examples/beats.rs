use squall_core::transport::*;
use squall_core::{Bucket, Clock, Connection, Env, Instant, Transport};
use squall_sim::*;
use std::time::Duration;
#[allow(clippy::all)]
fn main() {
    for n in [10u64, 100, 1000, 10000] {
        let secs = (30000 / n).max(3);
        let t0 = std::time::Instant::now();
        let rt = madsim::runtime::Runtime::with_seed_and_config(1, madsim::Config::default());
        let beats = rt.block_on(async move {
            let world = World::new(1, Latency::default());
            world.add_server(broker::ServerConfig::new("n1"));
            let mut handles = vec![];
            for i in 0..n {
                let host = world.add_host(&format!("h{i}"));
                let env = world.start_process(host, "p");
                let e2 = env.clone();
                let (tx, rx) = tokio::sync::oneshot::channel();
                env.spawn("a", async move {
                    let env = e2;
                    let c = env
                        .transport()
                        .connect(ConnectOptions {
                            servers: vec!["nats://n1".into()],
                            ..Default::default()
                        })
                        .await
                        .unwrap();
                    let mut cfg = BucketConfig::new("presence");
                    cfg.max_age = Duration::from_secs(30);
                    let b = c.create_bucket(&cfg).await.unwrap();
                    let key = format!("p.agent{i}");
                    let mut rev = b
                        .put(&key, bytes::Bytes::from(vec![b'x'; 100]))
                        .await
                        .unwrap();
                    let mut at = env.clock().now();
                    let mut k = 0u64;
                    for _ in 0..secs {
                        at += Duration::from_secs(1);
                        env.clock().sleep_until(at).await;
                        rev = b
                            .update(&key, bytes::Bytes::from(vec![b'x'; 100]), rev)
                            .await
                            .unwrap();
                        k += 1;
                    }
                    let _ = tx.send(k);
                })
                .detach();
                handles.push(rx);
            }
            let mut total = 0;
            for h in handles {
                total += h.await.unwrap();
            }
            println!("truth {} trace {}", world.take_truth().len(), world.trace());
            total
        });
        let _ = Instant::ZERO;
        let el = t0.elapsed();
        println!(
            "n={n} beats={beats} {:?} {:.0} beats/s {:.0} ns/beat",
            el,
            beats as f64 / el.as_secs_f64(),
            el.as_nanos() as f64 / beats as f64
        );
    }
}
