//! Chats in the simulated world: what is said is told to all who watch, once and in order, or a gap is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use squall_core::chat::{
    Chat, Config, End, Event, OpenError, SendError, SubscribeError, Thread, ThreadError,
    TraceParent, Watch,
};
use squall_core::transport::{
    ConnectOptions, Fallible as _, InterruptCause, JetStream as _, Message, Outcome, Sequence,
    StoreOptions, Stream as _, StreamConfig,
};
use squall_core::{Clock as _, Connection as _, Env as _, Transport as _};

use crate::broker::{Loss, ServerConfig, SyncInterval};
use crate::trace::Bite;
use crate::{Direction, HostKey, Latency, ServerKey, SimConnection, SimEnv, Simulation, World};

/// Two names that come to the same id in the project `demo`.
const TWINS: (&str, &str) = ("room-12069", "room-24747");

/// A server, and a host for each agent.
struct Room {
    world: World,
    server: ServerKey,
}

/// An agent and its chat.
struct Agent {
    host: HostKey,
    env: SimEnv,
    connection: SimConnection,
    chat: Chat,
}

fn config(agent: &str) -> Config {
    Config::new("demo", agent, Duration::ZERO)
}

impl Room {
    async fn agent(&self, config: Config) -> Agent {
        let host = self.world.add_host(&config.agent);
        let env = self.world.start_process(host, config.agent.as_str());
        let options = ConnectOptions {
            servers: vec!["nats://a".to_owned()],
            ping_interval: Duration::from_secs(2),
            ..ConnectOptions::default()
        };
        let connection = env.transport().connect(options).await.expect("it connects");
        let chat = Chat::open(&env, &connection, config)
            .await
            .expect("it opens");
        Agent {
            host,
            env,
            connection,
            chat,
        }
    }

    async fn sleep(&self, millis: u64) {
        let time = Duration::from_millis(millis);
        self.world.sleep_until(self.world.now() + time).await;
    }

    async fn restart(&self, loss: Option<Loss>) {
        match loss {
            Some(loss) => self.world.power_loss(self.server, loss),
            None => self.world.stop_server(self.server),
        }
        self.sleep(300).await;
        self.world.start_server(self.server);
    }
}

fn in_room<T>(seed: u64, story: impl AsyncFnOnce(&Room) -> T) -> T {
    let mut simulation = Simulation::new(seed, Latency::default());
    let world = simulation.world().clone();
    let mut server = ServerConfig::new("a");
    server.sync_interval = Some(SyncInterval::Every(Duration::from_secs(120)));
    let server = world.add_server(server);
    simulation.run(story(&Room { world, server }))
}

impl Agent {
    async fn thread(&self, name: &str) -> Thread {
        self.chat.thread(name).await.expect("it is free")
    }

    async fn says(&self, thread: &Thread, body: &str) -> Sequence {
        let sent = self.chat.send(thread, body).await;
        sent.expect("it is stored").sequence
    }

    /// What is told within so long, in words.
    async fn told(&self, watch: &mut Watch, millis: u64) -> Vec<String> {
        let until = self.env.clock().now() + Duration::from_millis(millis);
        let mut told = Vec::new();
        loop {
            let next = tokio::select! {
                biased;
                next = watch.next() => next,
                () = self.env.clock().sleep_until(until) => return told,
            };
            match next {
                Ok(Event::Message(received)) => told.push(received.envelope.body),
                Ok(Event::Gap(gap)) => told.push(format!("gap: {gap}")),
                Ok(Event::Interrupted(_)) => told.push("interrupted".to_owned()),
                Ok(Event::Resumed) => told.push("resumed".to_owned()),
                Ok(Event::Unreadable { .. }) => told.push("unreadable".to_owned()),
                Ok(Event::OtherThread { name, .. }) => told.push(format!("of {name}")),
                Err(end) => {
                    told.push(end.to_string());
                    return told;
                }
            }
        }
    }
}

#[test]
fn what_is_said_is_told_and_kept() {
    in_room(1, async |room| {
        let alice = room.agent(config("alice")).await;
        let bob = room.agent(config("bob")).await;
        let deploy = alice.thread("deploy").await;
        let lunch = alice.thread("lunch").await;
        alice.says(&deploy, "before").await;
        let mut one = bob.chat.watch(&deploy).await.expect("it is watched");
        let mut all = bob.chat.watch_all().await.expect("it is watched");
        let pattern = format!("chat.demo.{}", lunch.id());
        let mut some = bob.chat.watch_pattern(&pattern).await.expect("a pattern");
        let trace = TraceParent::new(7, 8, true).expect("neither is zero");
        let draft = squall_core::chat::Draft::new("a")
            .traced(trace)
            .reply_to("x");
        alice.chat.send(&deploy, draft).await.expect("it is stored");
        alice.says(&lunch, "b").await;
        bob.says(&deploy, "c").await;
        let next = one.next().await.expect("the first");
        let Event::Message(received) = next else {
            panic!("a message is told first, not {next:?}");
        };
        assert_eq!(received.trace, Some(trace));
        assert_eq!(received.envelope.from, "alice");
        assert_eq!(received.envelope.reply_to.as_deref(), Some("x"));
        assert_eq!(received.name.as_deref(), Some("deploy"));
        assert_eq!(bob.told(&mut one, 100).await, ["c"]);
        assert_eq!(bob.told(&mut all, 100).await, ["a", "b", "c"]);
        assert_eq!(bob.told(&mut some, 100).await, ["b"]);
        let threads = bob.chat.list_threads().await.expect("all is read");
        let found: Vec<_> = threads
            .iter()
            .map(|thread| {
                (
                    thread.name.as_deref(),
                    thread.message_count,
                    &*thread.last_body,
                )
            })
            .collect();
        assert_eq!(found, [(Some("deploy"), 3, "c"), (Some("lunch"), 1, "b")]);
        let of_bob = bob.chat.threads_for_agent("bob", 9).await.expect("read");
        assert_eq!(of_bob, threads[..1]);
        let none = bob.chat.threads_for_agent("alice", 0).await.expect("read");
        assert_eq!(none, []);
    });
}

#[test]
fn a_send_whose_acknowledgement_is_lost_is_stored_once() {
    in_room(2, async |room| {
        let alice = room.agent(config("alice")).await;
        let deploy = alice.thread("deploy").await;
        let mut all = alice.chat.watch_all().await.expect("it is watched");
        room.world.lose_reply(alice.host, room.server);
        assert_eq!(alice.says(&deploy, "a").await, Sequence(1));
        assert_eq!(room.world.bites().count(Bite::LoseReply), 1);
        assert_eq!(alice.says(&deploy, "b").await, Sequence(2));
        assert_eq!(alice.told(&mut all, 100).await, ["a", "b"]);
    });
}

#[test]
fn what_nobody_confirmed_can_be_sent_again_and_not_too_late() {
    in_room(3, async |room| {
        let alice = room.agent(config("alice")).await;
        let bob = room.agent(config("bob")).await;
        let deploy = alice.thread("deploy").await;
        let mut all = bob.chat.watch_all().await.expect("it is watched");
        room.world
            .partition(alice.host, room.server, Direction::ToHost);
        let error = alice.chat.send(&deploy, "a").await.expect_err("unknown");
        assert_eq!(error.outcome(), Outcome::Unknown);
        let SendError::Unconfirmed { message, .. } = error else {
            panic!("nobody knows, not {error}");
        };
        room.world.heal(alice.host, room.server, Direction::ToHost);
        room.sleep(10_000).await;
        let sent = alice.chat.send_again(message.as_ref().clone()).await;
        assert_eq!(sent.expect("it is there").sequence, Sequence(1));
        assert_eq!(bob.told(&mut all, 100).await, ["a"]);
        room.sleep(120_000).await;
        let late = alice.chat.send_again(*message).await;
        assert_eq!(late, Err(SendError::TooLate));
    });
}

#[test]
fn a_watch_outlives_its_server_without_a_gap() {
    for seed in 0..20 {
        in_room(seed, async |room| {
            let alice = room.agent(config("alice")).await;
            let bob = room.agent(config("bob")).await;
            let deploy = alice.thread("deploy").await;
            alice.says(&deploy, "before").await;
            let mut all = bob.chat.watch_all().await.expect("it is watched");
            // Its first message comes after the restart: it must not begin anew at what is new then.
            room.world
                .partition(bob.host, room.server, Direction::ToHost);
            room.restart(None).await;
            for body in ["a", "b"] {
                alice.says(&deploy, body).await;
            }
            room.sleep(10_000).await;
            room.world.heal(bob.host, room.server, Direction::ToHost);
            alice.says(&deploy, "c").await;
            let told = bob.told(&mut all, 30_000).await;
            assert_eq!(told, ["interrupted", "resumed", "a", "b", "c"], "{seed}");
        });
    }
}

#[test]
fn what_expires_under_an_outage_is_a_gap() {
    in_room(4, async |room| {
        let short = Config {
            max_retention_age: Duration::from_secs(5),
            ..config("alice")
        };
        let alice = room.agent(short.clone()).await;
        let bob = room
            .agent(Config {
                agent: "bob".to_owned(),
                ..short
            })
            .await;
        let deploy = alice.thread("deploy").await;
        let mut all = bob.chat.watch_all().await.expect("it is watched");
        alice.says(&deploy, "a").await;
        assert_eq!(bob.told(&mut all, 100).await, ["a"]);
        room.world
            .partition(bob.host, room.server, Direction::ToHost);
        room.world
            .partition(bob.host, room.server, Direction::ToServer);
        alice.says(&deploy, "lost").await;
        room.sleep(20_000).await;
        alice.says(&deploy, "b").await;
        room.world.heal(bob.host, room.server, Direction::ToHost);
        room.world.heal(bob.host, room.server, Direction::ToServer);
        let told = bob.told(&mut all, 4_000).await;
        let expected = ["interrupted", "gap: 2 to 2 have expired", "resumed", "b"];
        assert_eq!(told, expected);
    });
}

#[test]
fn a_lost_tail_is_told_also_where_others_have_written_since() {
    in_room(5, async |room| {
        let alice = room.agent(config("alice")).await;
        let bob = room.agent(config("bob")).await;
        let deploy = alice.thread("deploy").await;
        for body in ["1", "2"] {
            alice.says(&deploy, body).await;
        }
        room.world.sync_server(room.server);
        let mut all = bob.chat.watch_all().await.expect("it is watched");
        for body in ["3", "4"] {
            alice.says(&deploy, body).await;
        }
        assert_eq!(bob.told(&mut all, 100).await, ["3", "4"]);
        // Bob comes back when the places of what he was told have been given out again.
        room.world
            .partition(bob.host, room.server, Direction::ToServer);
        room.restart(Some(Loss::All)).await;
        for body in ["three", "four", "five"] {
            alice.says(&deploy, body).await;
        }
        room.sleep(3_000).await;
        room.world.heal(bob.host, room.server, Direction::ToServer);
        let told = bob.told(&mut all, 30_000).await;
        let expected = [
            "interrupted",
            "gap: the tail up to 4 was lost",
            "resumed",
            "five",
        ];
        assert_eq!(told, expected);
        // And when they have not been.
        for body in ["six", "seven"] {
            alice.says(&deploy, body).await;
        }
        assert_eq!(bob.told(&mut all, 100).await, ["six", "seven"]);
        room.restart(Some(Loss::All)).await;
        alice.says(&deploy, "again").await;
        let told = bob.told(&mut all, 30_000).await;
        assert_eq!(told[0], "interrupted");
        assert!(told[1].starts_with("gap: the tail up to "), "{told:?}");
        assert!(!told.iter().any(|told| told == "1" || told == "five"));
    });
}

#[test]
fn a_stream_that_is_made_anew_is_told_and_followed() {
    in_room(6, async |room| {
        let alice = room.agent(config("alice")).await;
        let bob = room.agent(config("bob")).await;
        let deploy = alice.thread("deploy").await;
        for body in ["1", "2"] {
            alice.says(&deploy, body).await;
        }
        let mut all = bob.chat.watch_all().await.expect("it is watched");
        alice
            .connection
            .delete_stream("chat-demo")
            .await
            .expect("it goes");
        room.sleep(20).await;
        // The send makes it anew.
        assert_eq!(alice.says(&deploy, "first").await, Sequence(1));
        let told = bob.told(&mut all, 30_000).await;
        let notices: Vec<_> = told.iter().filter(|told| *told != "interrupted").collect();
        assert_eq!(
            notices,
            ["gap: the stream was made anew", "resumed", "first"]
        );
    });
}

#[test]
fn a_slow_reader_is_told_what_it_missed() {
    in_room(7, async |room| {
        let alice = room.agent(config("alice")).await;
        let bob = room
            .agent(Config {
                watch_buffer: 2,
                ..config("bob")
            })
            .await;
        let deploy = alice.thread("deploy").await;
        let mut all = bob.chat.watch_all().await.expect("it is watched");
        for number in 1..=7 {
            alice.says(&deploy, &number.to_string()).await;
        }
        room.sleep(100).await;
        let told = bob.told(&mut all, 100).await;
        assert_eq!(told, ["1", "2", "gap: 5 from 3 to 7 found no room"]);
    });
}

#[test]
fn places_are_few_and_become_free() {
    in_room(8, async |room| {
        let alice = room
            .agent(Config {
                max_subscribers: 2,
                ..config("alice")
            })
            .await;
        let first = alice.chat.watch_all().await.expect("one");
        let mut second = alice.chat.watch_all().await.expect("two");
        let full = alice.chat.watch_all().await.expect_err("three");
        assert_eq!(full, SubscribeError::TooMany { max: 2 });
        drop(first);
        let _third = alice.chat.watch_all().await.expect("one is free");
        room.sleep(100).await;
        let stream = alice.connection.stream("chat-demo").expect("a name");
        assert_eq!(stream.info().await.expect("it is there").consumers, 2);
        alice.chat.close().await;
        alice.chat.close().await;
        assert_eq!(second.next().await, Err(End::Closed));
        assert_eq!(second.next().await, Err(End::Closed));
        let closed = alice.chat.watch_all().await.expect_err("closed");
        assert_eq!(closed, SubscribeError::Closed);
        assert!(stream.info().await.is_ok(), "the stream stays");
    });
}

#[test]
fn a_lost_connection_is_no_close() {
    in_room(9, async |room| {
        let alice = room.agent(config("alice")).await;
        let mut all = alice.chat.watch_all().await.expect("it is watched");
        alice.connection.close().await;
        let end = loop {
            if let Err(end) = all.next().await {
                break end;
            }
        };
        assert_eq!(end, End::ConnectionLost);
    });
}

#[test]
fn threads_of_one_id_are_not_merged() {
    in_room(10, async |room| {
        let alice = room.agent(config("alice")).await;
        let bob = room.agent(config("bob")).await;
        // Neither has said anything yet, so nobody can know.
        let one = alice.thread(TWINS.0).await;
        let other = bob.thread(TWINS.1).await;
        assert_eq!(one.id(), other.id());
        let mut watch = alice.chat.watch(&one).await.expect("it is watched");
        alice.says(&one, "mine").await;
        bob.says(&other, "theirs").await;
        let told = alice.told(&mut watch, 100).await;
        assert_eq!(told, ["mine".to_owned(), format!("of {}", TWINS.1)]);
        let threads = alice.chat.list_threads().await.expect("all is read");
        assert_eq!(threads.len(), 2);
        let carol = room.agent(config("carol")).await;
        let refused = carol.chat.thread(TWINS.0).await;
        assert!(matches!(refused, Err(ThreadError::Collides { .. })));
        let refused = alice.chat.thread(TWINS.1).await;
        assert!(matches!(refused, Err(ThreadError::Collides { .. })));
    });
}

#[test]
fn retention_is_changed_in_place_and_nothing_else_is() {
    in_room(11, async |room| {
        let alice = room.agent(config("alice")).await;
        let deploy = alice.thread("deploy").await;
        alice.says(&deploy, "old").await;
        room.sleep(3_000).await;
        let stream = alice.connection.stream("chat-demo").expect("a name");
        let theirs = StreamConfig {
            max_messages: 77,
            ..stream.info().await.expect("it is there").config
        };
        alice
            .connection
            .update_stream(&theirs)
            .await
            .expect("changed");
        let short = Config {
            max_retention_age: Duration::from_secs(2),
            ..config("bob")
        };
        let bob = room.agent(short).await;
        let found = stream.info().await.expect("it is there").config;
        let expected = StreamConfig {
            max_age: Duration::from_secs(2),
            duplicate_window: Some(Duration::from_secs(2)),
            ..theirs
        };
        assert_eq!(found, expected);
        room.sleep(1_500).await;
        assert_eq!(bob.chat.list_threads().await.expect("read"), []);
        let foreign = StreamConfig {
            subjects: vec!["other.>".to_owned()],
            ..StreamConfig::new("chat-other")
        };
        bob.connection.create_stream(&foreign).await.expect("made");
        let config = Config::new("other", "bob", Duration::ZERO);
        let refused = Chat::open(&bob.env, &bob.connection, config).await;
        assert!(matches!(refused, Err(OpenError::Foreign { .. })));
    });
}

#[test]
fn a_scan_under_expiry_is_complete_and_soon_over() {
    in_room(12, async |room| {
        let short = Config {
            max_retention_age: Duration::from_secs(1),
            ..config("alice")
        };
        let alice = room.agent(short).await;
        let deploy = alice.thread("deploy").await;
        for number in 0..500 {
            alice.says(&deploy, &number.to_string()).await;
            if number % 10 == 0 {
                let began = room.world.now();
                let threads = alice.chat.list_threads().await.expect("it is complete");
                assert!(room.world.now().since(began) < Duration::from_secs(11));
                assert!(threads.len() <= 1);
            }
        }
        // Servers are a little late to let go.
        room.sleep(2_000).await;
        assert_eq!(alice.chat.list_threads().await, Ok(Vec::new()));
    });
}

#[test]
fn what_is_no_envelope_harms_nobody() {
    in_room(13, async |room| {
        let alice = room.agent(config("alice")).await;
        let deploy = alice.thread("deploy").await;
        let mut watch = alice.chat.watch(&deploy).await.expect("it is watched");
        let subject = format!("chat.demo.{}", deploy.id());
        let garbage = Message::new(subject, "garbage");
        let stored = alice.connection.store(garbage, StoreOptions::default());
        stored.await.expect("it is stored");
        alice.says(&deploy, "a").await;
        assert_eq!(alice.told(&mut watch, 100).await, ["unreadable", "a"]);
        let threads = alice.chat.list_threads().await.expect("all is read");
        assert_eq!((threads.len(), threads[0].message_count), (1, 1));
    });
}

#[test]
fn who_answers_can_stop_to() {
    in_room(14, async |room| {
        let alice = room.agent(config("alice")).await;
        let bob = room.agent(config("bob")).await;
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let subject = squall_core::chat::ask_subject("demo", "bob");
        assert_eq!(subject, "demo.ask.bob");
        let responder = bob
            .chat
            .respond(&subject, move |request: Message| {
                counter.fetch_add(1, Ordering::Relaxed);
                async move {
                    match &*request.payload {
                        b"no" => Err("it will not"),
                        _ => Ok(request.payload),
                    }
                }
            })
            .await
            .expect("it answers");
        let second = Duration::from_secs(1);
        let answer = alice.chat.request(&subject, "yes", second).await;
        assert_eq!(answer.expect("an answer"), "yes");
        let began = room.world.now();
        let silent = alice.chat.request(&subject, "no", second).await;
        assert_eq!(silent, Err(squall_core::chat::AskError::TimedOut));
        assert_eq!(room.world.now().since(began), second);
        responder.unsubscribe().await;
        responder.unsubscribe().await;
        room.sleep(20).await;
        let nobody = alice.chat.request(&subject, "yes", second).await;
        let error = nobody.expect_err("nobody is there");
        assert_eq!(error.outcome(), Outcome::Refused);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_deaf_link_is_told() {
    in_room(15, async |room| {
        let alice = room.agent(config("alice")).await;
        let mut all = alice.chat.watch_all().await.expect("it is watched");
        room.world
            .blackhole(alice.host, room.server, Direction::ToHost);
        let event = all.next().await.expect("it is told");
        assert!(matches!(
            event,
            Event::Interrupted(InterruptCause::Disconnected | InterruptCause::MissedHeartbeat)
        ));
    });
}
