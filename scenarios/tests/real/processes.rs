//! Server processes themselves: versions, ports, failures to start.

use std::time::Duration;

use squall_core::transport::{BucketConfig, BucketError};
use squall_core::{Bucket as _, Connection as _};
use squall_scenarios::real::{NatsServer, ServerError, ServerOptions, VERSIONS};

use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_start_says_why() {
    let options = ServerOptions {
        config: "nonsense: [".into(),
        ..ServerOptions::default()
    };
    let error = NatsServer::start(options)
        .await
        .expect_err("its configuration is nonsense");
    assert!(
        matches!(&error, ServerError::Ended { log, .. } if log.contains("Parse error")),
        "{error}"
    );
    assert_eq!(error.to_string().lines().count(), 1);
}

/// Stopped, killed or restarted, it comes back on its port with what it had acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_keeps_port_and_store_across_restarts() {
    let mut world = World::new().await;
    let (_near, bucket, ..) = world.bucket().await;
    bucket.put("k", "v".into()).await.expect("it is written");
    let url = world.server.url();
    world.server.stop().await.expect("it stops");
    world.server.restart().await.expect("it starts");
    world.server.kill().await.expect("it dies");
    world.server.restart().await.expect("it starts");
    world.server.pause().await.expect("it freezes");
    world
        .server
        .restart()
        .await
        .expect("a frozen one is stopped and started");
    assert_eq!(world.server.url(), url);
    let near = world.direct().await;
    let entry = near
        .bucket("b")
        .expect("the name is valid")
        .entry("k")
        .await;
    assert_eq!(entry.expect("it is read").expect("it is kept").value, "v");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_said_to_be() {
    let mut world = World::new().await;
    world.server.kill().await.expect("it dies");
    let squatter = std::net::TcpListener::bind(world.server.address()).expect("the port is free");
    let error = world.server.restart().await.expect_err("the port is taken");
    assert_eq!(error, ServerError::PortInUse(world.server.address().port()));
    drop(squatter);
    world.server.restart().await.expect("it is free again");
}

/// The oldest version that is pinned serves buckets as well, except for what it does not know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_server_refuses_markers_instead_of_ignoring_them() {
    let oldest = VERSIONS[VERSIONS.len() - 1];
    let world = World::with(ServerOptions {
        version: Some(oldest.to_owned()),
        ..ServerOptions::default()
    })
    .await;
    let (near, bucket, ..) = world.bucket().await;
    bucket.put("k", "v".into()).await.expect("it is written");
    assert_eq!(bucket.entries(">").await.map(|listed| listed.len()), Ok(1));
    let mut config = BucketConfig::new("marked");
    config.max_age = Duration::from_secs(10);
    config.delete_markers = Some(Duration::from_secs(5));
    let refused = near.create_bucket(&config).await.err();
    assert!(
        matches!(refused, Some(BucketError::Rejected(_))),
        "{refused:?}"
    );
}
