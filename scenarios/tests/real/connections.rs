//! Connections: events, round trips, and ends that are ends.

use std::num::NonZeroU32;
use std::time::Duration;

use squall_core::nats::{NatsEnv, NatsTransport};
use squall_core::transport::{
    ConnectError, ConnectOptions, ConnectionEvent, ConnectionState, FlushError, Message,
    PublishError, RequestError, SubscribeError, WriteError,
};
use squall_core::{Bucket as _, Connection as _, Env as _, Transport as _};
use squall_scenarios::real::{Direction, ServerOptions};

use crate::world::{World, heard, soon};

fn is_closed(event: &ConnectionEvent) -> bool {
    *event == ConnectionEvent::Closed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_requests_and_queues() {
    let world = World::new().await;
    let near = world.direct().await;
    let none = near.request(Message::new("nobody", "")).await;
    assert_eq!(none, Err(RequestError::NoResponders));

    let mut members = Vec::new();
    for _ in 0..2 {
        members.push(
            near.subscribe("work.*", Some("team"))
                .await
                .expect("it is subscribed"),
        );
    }
    near.flush().await.expect("it comes back");
    for i in 0..20 {
        near.publish(Message::new("work.x", format!("{i}")))
            .await
            .expect("it is queued");
    }
    near.flush().await.expect("it comes back");
    let [mut one, mut other] = <[_; 2]>::try_from(members).expect("there are two");
    let mut shared_out: Vec<_> = Vec::new();
    while shared_out.len() < 20 {
        let message = soon("each message to one member", async {
            tokio::select! {
                message = one.next() => message,
                message = other.next() => message,
            }
        });
        shared_out.push(message.await.expect("it arrives").payload);
    }
    shared_out.sort();
    shared_out.dedup();
    assert_eq!(shared_out.len(), 20);
    assert_eq!((one.try_next(), other.try_next()), (None, None));

    let mut asked = near.subscribe("ask", None).await.expect("it is subscribed");
    let (answer, ()) = tokio::join!(near.request(Message::new("ask", "?")), async {
        let question = asked.next().await.expect("it arrives");
        let mut answer = Message::new(question.reply.expect("it asks"), "!");
        answer.headers.append("Who", "me");
        near.publish(answer).await.expect("it is queued");
    });
    let answer = answer.expect("it is answered");
    assert_eq!(
        (&answer.payload[..], answer.headers.get("Who")),
        (&b"!"[..], Some("me"))
    );
    drop(asked);
    soon("the subscription is gone", async {
        while near.request(Message::new("ask", "?")).await != Err(RequestError::NoResponders) {}
    })
    .await;

    let mut broken = Message::new("x", "");
    broken.headers.append("a", "b\r\nc");
    assert_eq!(
        near.publish(broken).await,
        Err(PublishError::InvalidHeader("a".into()))
    );
    for subject in ["", "a b"] {
        let error = near.publish(Message::new(subject, "")).await;
        assert_eq!(error, Err(PublishError::InvalidSubject(subject.into())));
    }
    let error = near.subscribe("a..b", None).await.err();
    assert_eq!(error, Some(SubscribeError::InvalidSubject("a..b".into())));
}

/// async-nats's own flush returns in 0.2 ms here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_waits_for_the_server() {
    let world = World::new().await;
    let near = world.direct().await;
    near.flush().await.expect("it comes back");
    world.server.pause().await.expect("it freezes");
    assert_eq!(near.flush().await, Err(FlushError::TimedOut));
    world.server.resume().expect("it thaws");
    near.flush().await.expect("it comes back");
}

/// async-nats would dial on and one day connect as a ghost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_closed_while_it_fails_never_dials_again() {
    let mut world = World::new().await;
    for dropped in [false, true] {
        let far = world.linked().await;
        let mut subscription = far.subscribe("x", None).await.expect("it is subscribed");
        let mut events = far.events();
        world.server.kill().await.expect("it dies");
        heard(&mut events, "a failed attempt", |event| {
            matches!(event, ConnectionEvent::ReconnectFailed(_))
        })
        .await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(far.state(), ConnectionState::Disconnected);
        if dropped {
            drop(far);
        } else {
            far.close().await;
            assert_eq!(far.state(), ConnectionState::Closed);
        }
        let closed = heard(&mut events, "closed", is_closed);
        let closed = tokio::time::timeout(Duration::from_millis(100), closed).await;
        closed.expect("it is told at once");
        assert_eq!(events.next().await, None);
        assert_eq!(
            soon("the subscription ends", subscription.next()).await,
            None
        );
        let dialled = world.proxy.accepted();
        world.server.restart().await.expect("it starts");
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(world.proxy.accepted(), dialled, "a ghost has dialled");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_gives_up_after_its_attempts_and_is_closed() {
    let mut world = World::new().await;
    let near = world
        .connect_with(ConnectOptions {
            servers: vec![world.server.url()],
            reconnects_max: NonZeroU32::new(3),
            ..World::options()
        })
        .await;
    let mut events = near.events();
    let mut subscription = near.subscribe("x", None).await.expect("it is subscribed");
    world.server.kill().await.expect("it dies");
    let all = heard(&mut events, "closed", is_closed).await;
    let failed = |event: &&ConnectionEvent| matches!(event, ConnectionEvent::ReconnectFailed(_));
    assert_eq!(all.iter().filter(failed).count(), 3, "{all:?}");
    assert_eq!(all.iter().filter(|event| is_closed(event)).count(), 1);
    assert_eq!(subscription.next().await, None);
    assert_eq!(
        near.publish(Message::new("x", "")).await,
        Err(PublishError::Closed)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_end_everything_says_closed() {
    let world = World::new().await;
    let (near, bucket, far, _) = world.bucket().await;
    let mut inbox = near.subscribe("x", None).await.expect("it is subscribed");
    near.flush().await.expect("it comes back");
    for i in 0..100 {
        far.publish(Message::new("x", format!("{i}")))
            .await
            .expect("it is queued");
    }
    let mut events = far.events();
    far.drain().await.expect("what is queued is sent");
    assert_eq!(heard(&mut events, "closed", is_closed).await.len(), 1);
    for i in 0..100 {
        let message = soon("each message", inbox.next())
            .await
            .expect("it arrives");
        assert_eq!(message.payload, format!("{i}"));
    }
    assert_eq!(far.drain().await, Err(FlushError::Closed));
    far.close().await;
    assert_eq!(far.state(), ConnectionState::Closed);
    assert_eq!(far.flush().await, Err(FlushError::Closed));
    let asked = far.request(Message::new("x", "")).await;
    assert_eq!(asked, Err(RequestError::Publish(PublishError::Closed)));
    assert_eq!(
        far.subscribe("x", None).await.err(),
        Some(SubscribeError::Closed)
    );
    assert_eq!(far.events().next().await, Some(ConnectionEvent::Closed));

    // Closed while a write waits: nobody knows.
    world.server.pause().await.expect("it freezes");
    let (written, ()) = tokio::join!(bucket.put("k", "v".into()), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        near.close().await;
    });
    assert_eq!(written, Err(WriteError::ClosedWhileWaiting));
    assert_eq!(bucket.put("k", "v".into()).await, Err(WriteError::Closed));
    world.server.resume().expect("it thaws");
}

/// async-nats drops events when 128 wait: the transitions are told all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_server_errors_hides_no_disconnect() {
    let config = r#"
        no_auth_user: guest
        authorization { users: [ { user: guest, password: x,
            permissions: { publish: { deny: "no.>" } } } ] }"#;
    let mut world = World::with(ServerOptions {
        config: config.into(),
        ..ServerOptions::default()
    })
    .await;
    let near = world.direct().await;
    let mut events = near.events();
    for _ in 0..500 {
        near.publish(Message::new("no.x", ""))
            .await
            .expect("it is queued");
    }
    near.flush().await.expect("it comes back");
    world.server.kill().await.expect("it dies");
    let all = heard(&mut events, "disconnected", |event| {
        matches!(event, ConnectionEvent::Disconnected(_))
    })
    .await;
    let denied = all.iter().filter(|event| {
        matches!(event, ConnectionEvent::ServerError(text) if text.starts_with("Permissions"))
    });
    assert!(denied.count() > 0, "{all:?}");
    world.server.restart().await.expect("it starts");
    heard(&mut events, "reconnected", |event| {
        *event == ConnectionEvent::Reconnected
    })
    .await;
    assert_eq!(near.state(), ConnectionState::Connected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_connect_says_why_and_leaves_nothing() {
    let config = "authorization { user: a, password: b }";
    let world = World::with(ServerOptions {
        config: config.into(),
        ..ServerOptions::default()
    })
    .await;
    let connect = |servers: Vec<String>| {
        let options = ConnectOptions {
            servers,
            connect_timeout: Duration::from_millis(300),
            ..ConnectOptions::default()
        };
        async { NatsTransport::new().connect(options).await.err() }
    };
    let refused = connect(vec![world.server.url()]).await;
    assert_eq!(
        refused,
        Some(ConnectError::Auth("Authorization Violation".into()))
    );
    assert_eq!(
        connect(vec![]).await,
        Some(ConnectError::InvalidAddress(String::new()))
    );
    let nonsense = connect(vec!["http://x".into()]).await;
    assert_eq!(
        nonsense,
        Some(ConnectError::InvalidAddress("http://x".into()))
    );
    world.proxy.partition();
    assert_eq!(
        connect(vec![world.proxy.url()]).await,
        Some(ConnectError::TimedOut)
    );
    let nobody = connect(vec!["nats://127.0.0.1:1".into()]).await;
    assert!(
        matches!(nobody, Some(ConnectError::Unreachable(_))),
        "{nobody:?}"
    );
}

/// async-nats delays a tick of its pings that it has missed, and does not catch up with those behind it: a client that
/// stood still for many of them loses nothing. (The runtime stands still here, as a process does that was stopped.)
#[test]
fn a_client_that_stood_still_keeps_its_connection() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime starts");
    let world = runtime.block_on(World::new());
    let client = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    let options = ConnectOptions {
        servers: vec![world.server.url()],
        ping_interval: Duration::from_millis(200),
        ..World::options()
    };
    client.block_on(async {
        let env = NatsEnv::new(2);
        let near = env.transport().connect(options).await;
        let near = near.expect("the server accepts");
        let mut events = near.events();
        near.flush().await.expect("it is answered");
        for _ in 0..3 {
            std::thread::sleep(Duration::from_secs(2));
            near.flush().await.expect("it is answered");
            tokio::time::sleep(Duration::from_millis(900)).await;
        }
        assert_eq!(events.try_next(), None);
        near.close().await;
    });
}

/// What a server says shows that it is there, and not that it hears: only answers to pings do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hears_nothing_is_found_dead_though_it_speaks() {
    let world = World::new().await;
    let other = world.direct().await;
    let options = ConnectOptions {
        servers: vec![world.proxy.url()],
        ping_interval: Duration::from_millis(400),
        ..World::options()
    };
    let far = world.connect_with(options).await;
    let mut events = far.events();
    let mut messages = far.subscribe("s", None).await.expect("it is subscribed");
    far.flush().await.expect("it comes back");
    world.proxy.hold(Direction::ToServer);
    // Each comes when a ping has been sent since the one before.
    let says = async {
        loop {
            tokio::time::sleep(Duration::from_millis(520)).await;
            other.publish(Message::new("s", "m")).await.expect("sent");
        }
    };
    let lost = heard(&mut events, "disconnected", |event| {
        matches!(event, ConnectionEvent::Disconnected(_))
    });
    tokio::select! {
        () = says => unreachable!("it never ends"),
        _lost = lost => {}
    }
    let mut count = 0;
    while messages.try_next().is_some() {
        count += 1;
    }
    assert!(count >= 2, "{count} messages came before");
}
