//! Streams over good links: their settings, what they take and refuse, and what they give back.

use std::time::Duration;

use squall_core::nats::{NatsConnection, NatsStream};
use squall_core::transport::{
    Discard, JetStream as _, Leadership, Message, MessageTtl, PublishError, Purge, ReadStreamError,
    Sequence, StoreAck, StoreError, StoreOptions, StoredMessage, Stream as _, StreamConfig,
    StreamError, StreamInfo,
};
use squall_core::{Connection as _, UnixTime};
use squall_scenarios::real::ServerOptions;

use crate::world::{World, soon};

/// The version without message TTLs and batches.
pub(crate) const OLD: &str = "2.10.26";

pub(crate) async fn old_world() -> World {
    let version = Some(OLD.to_owned());
    World::with(ServerOptions {
        version,
        ..ServerOptions::default()
    })
    .await
}

/// A stream `s` over `s.>`.
pub(crate) fn config() -> StreamConfig {
    StreamConfig {
        subjects: vec!["s.>".to_owned()],
        ..StreamConfig::new("s")
    }
}

pub(crate) async fn stream(world: &World) -> (NatsConnection, NatsStream) {
    let near = world.direct().await;
    let created = near.create_stream(&config()).await;
    (near, created.expect("the stream is created"))
}

pub(crate) async fn store(connection: &NatsConnection, subject: &str, body: &str) -> Sequence {
    let message = Message::new(subject, body.to_owned());
    let stored = connection.store(message, StoreOptions::default()).await;
    stored.expect("it is stored").sequence
}

/// `subject=body@sequence`.
pub(crate) fn brief(message: &StoredMessage) -> String {
    let body = String::from_utf8_lossy(&message.payload);
    format!("{}={body}@{}", message.subject, message.sequence)
}

fn code<T>(result: Result<T, StoreError>) -> u64 {
    match result {
        Err(StoreError::Rejected(error)) => error.err_code,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it was taken"),
    }
}

/// Creating twice is fine; with other settings it is refused, and an update changes them at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_are_created_once_and_updated_in_place() {
    for world in [World::new().await, old_world().await] {
        let (near, stream) = stream(&world).await;
        near.create_stream(&config()).await.expect("it is the same");
        for i in 0..5 {
            store(&near, &format!("s.{i}"), "v").await;
        }
        let mut other = StreamConfig {
            max_messages: 2,
            max_age: Duration::from_secs(60),
            duplicate_window: None,
            ..config()
        };
        let exists = near.create_stream(&other).await.err();
        assert_eq!(exists, Some(StreamError::Exists));
        raw_update(&near, "description", "kept").await;
        // To a client of settings that do not name it, it is the same stream.
        near.create_stream(&config()).await.expect("it is the same");
        let info = near.update_stream(&other).await.expect("it is updated");
        other.duplicate_window = Some(Duration::from_secs(60));
        assert_eq!(info.config, other);
        assert_eq!(
            (info.messages, info.first_sequence, info.last_sequence),
            (2, Sequence(4), Sequence(5))
        );
        let again = stream.info().await.expect("it is there");
        assert!(again.now >= info.now, "the server's time goes on");
        let now = info.now;
        assert_eq!(StreamInfo { now, ..again }, info);
        assert_eq!((info.consumers, info.leadership), (0, Leadership::Alone));
        let answer = near
            .request(Message::new("$JS.API.STREAM.INFO.s", ""))
            .await;
        let answer = answer.expect("it is described").payload;
        assert!(String::from_utf8_lossy(&answer).contains("\"description\":\"kept\""));

        near.delete_stream("s").await.expect("it is deleted");
        let missing = near.update_stream(&other).await.err();
        assert_eq!(missing, Some(StreamError::NotFound));
        assert_eq!(near.delete_stream("s").await, Err(StreamError::NotFound));
        assert_eq!(stream.info().await, Err(ReadStreamError::NoStream));
        let purged = stream.purge(Purge::default()).await;
        assert_eq!(purged, Err(StreamError::NotFound));
    }
}

/// Changes one setting that a `StreamConfig` does not name.
async fn raw_update(connection: &NatsConnection, name: &str, value: &str) {
    let info = Message::new("$JS.API.STREAM.INFO.s", "");
    let info = connection.request(info).await.expect("it is described");
    let mut info: serde_json::Value = serde_json::from_slice(&info.payload).expect("it is JSON");
    info["config"][name] = value.into();
    let update = Message::new("$JS.API.STREAM.UPDATE.s", info["config"].to_string());
    let answer = connection.request(update).await.expect("it is updated");
    assert!(!String::from_utf8_lossy(&answer.payload).contains("\"error\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_cannot_be_are_refused() {
    let world = World::new().await;
    let near = world.direct().await;
    for name in ["", "a.b", "a b", "a*"] {
        let invalid = StreamError::InvalidName(name.to_owned());
        assert_eq!(near.stream(name).err(), Some(invalid.clone()));
        let created = near.create_stream(&StreamConfig::new(name)).await;
        assert_eq!(created.err(), Some(invalid));
    }
    near.create_stream(&config()).await.expect("it is created");
    let base = StreamConfig {
        subjects: vec!["t.>".to_owned()],
        ..StreamConfig::new("t")
    };
    let refused = [
        (10065, config().subjects, base.clone()),
        (10074, base.subjects.clone(), {
            let replicas = 3;
            StreamConfig {
                replicas,
                ..base.clone()
            }
        }),
        (10052, base.subjects.clone(), {
            let max_age = Duration::from_millis(50);
            StreamConfig {
                max_age,
                ..base.clone()
            }
        }),
        (10052, base.subjects.clone(), {
            let max_age = Duration::from_secs(1);
            let duplicate_window = Some(Duration::from_secs(2));
            StreamConfig {
                max_age,
                duplicate_window,
                ..base.clone()
            }
        }),
    ];
    for (err_code, subjects, config) in refused {
        let created = near
            .create_stream(&StreamConfig { subjects, ..config })
            .await;
        match created {
            Err(StreamError::Rejected(error)) => assert_eq!(error.err_code, err_code),
            other => panic!("{err_code}: {other:?}"),
        }
    }
    // Markers bring with them what they need.
    let markers = StreamConfig {
        subject_delete_markers: Some(Duration::from_secs(5)),
        ..base.clone()
    };
    let marked = near.create_stream(&markers).await.expect("it is created");
    let info = marked.info().await.expect("it is described");
    assert!(info.config.allow_message_ttl && info.config.allow_rollup);
    near.create_stream(&markers).await.expect("it is the same");
    let without = near.update_stream(&base).await;
    assert!(
        matches!(without, Err(StreamError::Rejected(_))),
        "{without:?}"
    );

    // A server that knows neither would leave them out without a word.
    let old_world = old_world().await;
    let old = old_world.direct().await;
    let refused = old.create_stream(&markers).await.err();
    assert!(
        matches!(refused, Some(StreamError::Rejected(_))),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_stream_is_named_as_such() {
    let world = World::new().await;
    let near = world.direct().await;
    let stored = near.store(Message::new("nowhere", "v"), StoreOptions::default());
    assert_eq!(stored.await, Err(StoreError::NoStream));
    let stream = near.stream("nowhere").expect("the name is valid");
    assert_eq!(stream.info().await, Err(ReadStreamError::NoStream));
    let got = stream.get(Sequence(1)).await;
    assert_eq!(got, Err(ReadStreamError::NoStream));
    assert_eq!(stream.last_of(&["a"]).await, Err(ReadStreamError::NoStream));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn demands_are_judged_by_the_server() {
    for world in [World::new().await, old_world().await] {
        let (near, _stream) = stream(&world).await;
        let send = |subject: &str, options: StoreOptions| {
            let message = Message::new(subject, "v");
            let near = near.clone();
            async move { near.store(message, options).await }
        };
        let none = StoreOptions::default;
        let id = |id: &str| StoreOptions {
            message_id: Some(id.to_owned()),
            ..StoreOptions::default()
        };
        let ack = |sequence, duplicate| {
            Ok(StoreAck {
                stream: "s".into(),
                sequence: Sequence(sequence),
                duplicate,
            })
        };
        assert_eq!(send("s.a", id("one")).await, ack(1, false));
        assert_eq!(send("s.b", id("one")).await, ack(1, true));

        let expected = |sequence| StoreOptions {
            expected_last_sequence: Some(Sequence(sequence)),
            ..none()
        };
        let wrong = |actual| {
            let actual = Sequence(actual);
            Err(StoreError::WrongLastSequence { actual })
        };
        assert_eq!(send("s.b", expected(7)).await, wrong(1));
        assert_eq!(send("s.b", expected(1)).await, ack(2, false));
        let expected = |sequence| StoreOptions {
            expected_last_subject_sequence: Some(Sequence(sequence)),
            ..none()
        };
        assert_eq!(send("s.a", expected(2)).await, wrong(1));
        assert_eq!(send("s.c", expected(2)).await, wrong(0));
        assert_eq!(send("s.c", expected(0)).await, ack(3, false));

        let expected = |id: &str| StoreOptions {
            expected_last_message_id: Some(id.to_owned()),
            ..none()
        };
        let other_id = |id: &str| Err(StoreError::WrongLastMessageId { actual: id.into() });
        assert_eq!(send("s.a", expected("one")).await, other_id(""));
        assert_eq!(send("s.a", id("four")).await, ack(4, false));
        assert_eq!(send("s.a", expected("one")).await, other_id("four"));
        assert_eq!(send("s.a", expected("four")).await, ack(5, false));

        let elsewhere = StoreOptions {
            expected_stream: Some("other".to_owned()),
            ..none()
        };
        assert_eq!(code(send("s.a", elsewhere).await), 10060);
        assert_eq!(send("t.a", none()).await, Err(StoreError::NoStream));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_or_too_much_is_refused() {
    let world = World::new().await;
    let near = world.direct().await;
    let small = StreamConfig {
        max_message_size: 10,
        max_messages: 1,
        discard: Discard::New,
        ..config()
    };
    near.create_stream(&small).await.expect("it is created");
    let send = |subject: &str, size: usize| {
        let message = Message::new(subject, vec![0; size]);
        near.store(message, StoreOptions::default())
    };
    assert_eq!(code(send("s.a", 11).await), 10054);
    assert!(send("s.a", 10).await.is_ok());
    assert_eq!(code(send("s.a", 1).await), 10077);

    let limit = 1024 * 1024;
    let size = limit + 1;
    let too_large = PublishError::TooLarge { size, limit };
    assert_eq!(send("s.a", size).await, Err(too_large.into()));
    let invalid = PublishError::InvalidSubject("s a".into());
    assert_eq!(send("s a", 1).await, Err(invalid.into()));
    let id = Some("a\nb".to_owned());
    let options = StoreOptions {
        message_id: id,
        ..StoreOptions::default()
    };
    let stored = near.store(Message::new("s.a", ""), options).await;
    let invalid = PublishError::InvalidHeader("Nats-Msg-Id".into());
    assert_eq!(stored, Err(invalid.into()));

    near.close().await;
    let closed = StoreError::Publish(PublishError::Closed);
    assert_eq!(send("s.a", 1).await, Err(closed));
    assert_eq!(near.delete_stream("s").await, Err(StreamError::Closed));
}

/// A message goes when its own time is up; where the server does not obey, nothing is stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_lives_as_long_as_it_says() {
    let world = World::new().await;
    let near = world.direct().await;
    let ttl = |ttl| StoreOptions {
        ttl: Some(ttl),
        ..StoreOptions::default()
    };
    let short = MessageTtl::For(Duration::from_millis(300));
    let stream = near.create_stream(&config()).await.expect("it is created");
    let refused = near.store(Message::new("s.a", "v"), ttl(short)).await;
    assert_eq!(code(refused.clone()), 10166);

    let obeying = StreamConfig {
        allow_message_ttl: true,
        ..config()
    };
    near.update_stream(&obeying).await.expect("it is updated");
    for (subject, ttl) in [("s.a", ttl(short)), ("s.b", ttl(MessageTtl::Never))] {
        let stored = near.store(Message::new(subject, "v"), ttl).await;
        stored.expect("it is stored");
    }
    let first = stream.get(Sequence(1)).await.expect("it is read");
    let headers = first.expect("it is there").headers;
    assert_eq!(headers.get("Nats-TTL"), Some("1"));
    soon("it goes", async {
        while stream.get(Sequence(1)).await.expect("it is read").is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let info = stream.info().await.expect("it is described");
    assert_eq!((info.messages, info.first_sequence), (1, Sequence(2)));

    let old_world = old_world().await;
    let old = old_world.direct().await;
    old.create_stream(&config()).await.expect("it is created");
    let on_old = old.store(Message::new("s.a", "v"), ttl(short)).await;
    assert_eq!(on_old, refused, "as newer ones say it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_stored_is_read_back() {
    for world in [World::new().await, old_world().await] {
        let (near, stream) = stream(&world).await;
        let mut message = Message::new("s.a", "1");
        for (name, value) in [("B", "2"), ("A", "1"), ("B", "3")] {
            message.headers.append(name, value);
        }
        let options = StoreOptions {
            message_id: Some("id".to_owned()),
            ..StoreOptions::default()
        };
        near.store(message, options).await.expect("it is stored");
        store(&near, "s.b", "2").await;
        store(&near, "s.a", "3").await;

        let first = stream.get(Sequence(1)).await.expect("it is read");
        let first = first.expect("it is there");
        assert_eq!(brief(&first), "s.a=1@1");
        let headers: Vec<_> = first.headers.iter().collect();
        let stored = [("A", "1"), ("B", "2"), ("B", "3"), ("Nats-Msg-Id", "id")];
        assert_eq!(headers, stored);
        assert!(first.time > UnixTime::EPOCH);

        let found = |read: Result<Option<StoredMessage>, ReadStreamError>| {
            read.expect("it is read").as_ref().map(brief)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(found(stream.get(Sequence(9)).await), None);
        let next = stream.next(Sequence(2), "s.a").await;
        assert_eq!(found(next), some("s.a=3@3"));
        assert_eq!(
            found(stream.next(Sequence(0), "s.*").await),
            some("s.a=1@1")
        );
        assert_eq!(found(stream.next(Sequence(4), ">").await), None);
        assert_eq!(found(stream.last("s.b").await), some("s.b=2@2"));
        assert_eq!(found(stream.last("s.*").await), some("s.a=3@3"));
        assert_eq!(found(stream.last("s.c").await), None);
        let empty = stream.get(Sequence::NONE).await;
        assert!(matches!(empty, Err(ReadStreamError::Rejected(error)) if error.code == 408));
        let invalid = stream.last("s..a").await;
        assert_eq!(invalid, Err(ReadStreamError::InvalidSubject("s..a".into())));
        let invalid = stream.next(Sequence(1), "").await;
        assert_eq!(invalid, Err(ReadStreamError::InvalidSubject("".into())));

        let indirect = StreamConfig {
            allow_direct: false,
            ..config()
        };
        near.update_stream(&indirect).await.expect("it is updated");
        let refused = stream.get(Sequence(1)).await;
        assert_eq!(refused, Err(ReadStreamError::NoStream));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_deleted_and_purged() {
    let world = World::new().await;
    let (near, stream) = stream(&world).await;
    for i in 1..=8 {
        store(&near, if i % 2 == 1 { "s.odd" } else { "s.even" }, "v").await;
    }
    assert_eq!(stream.delete_message(Sequence(3)).await, Ok(true));
    for gone in [3, 99, 0] {
        let deleted = stream.delete_message(Sequence(gone)).await;
        assert_eq!(deleted, Ok(false), "{gone}");
    }
    let keep_one = Purge {
        filter: Some("s.odd".to_owned()),
        keep: Some(1),
        ..Purge::default()
    };
    assert_eq!(stream.purge(keep_one).await, Ok(2), "1 and 5");
    let below = |below| Purge {
        below: Some(Sequence(below)),
        ..Purge::default()
    };
    assert_eq!(stream.purge(below(5)).await, Ok(2), "2 and 4");
    let both = Purge {
        keep: Some(1),
        ..below(7)
    };
    match stream.purge(both).await {
        Err(StreamError::Rejected(error)) => assert_eq!(error.err_code, 10003),
        other => panic!("{other:?}"),
    }
    assert_eq!(stream.purge(Purge::default()).await, Ok(3));
    let info = stream.info().await.expect("it is described");
    assert_eq!(
        (info.first_sequence, info.last_sequence),
        (Sequence(9), Sequence(8))
    );
    assert_eq!(stream.purge(below(20)).await, Ok(0));
    assert_eq!(store(&near, "s.a", "v").await, Sequence(20));

    let denying = StreamConfig {
        deny_delete: true,
        deny_purge: true,
        ..config()
    };
    near.update_stream(&denying).await.expect("it is updated");
    let deleted = stream.delete_message(Sequence(20)).await;
    assert!(matches!(deleted, Err(StreamError::Rejected(error)) if error.err_code == 10057));
    let purged = stream.purge(Purge::default()).await;
    assert!(
        matches!(purged, Err(StreamError::Rejected(_))),
        "{purged:?}"
    );
}

/// The last of many subjects in one round trip, and only ever all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_of_many_subjects_come_at_once() {
    let world = World::new().await;
    let (near, stream) = stream(&world).await;
    for (subject, body) in [("s.a", "1"), ("s.b", "2"), ("s.a", "3"), ("s.c", "4")] {
        store(&near, subject, body).await;
    }
    let brief = |read: Result<Vec<StoredMessage>, ReadStreamError>| {
        let read = read.expect("they are read");
        read.iter().map(brief).collect::<Vec<_>>()
    };
    let two = stream.last_of(&["s.a", "s.b", "s.none"]).await;
    assert_eq!(brief(two), ["s.b=2@2", "s.a=3@3"]);
    let all = stream.last_of(&[">"]).await;
    assert_eq!(brief(all), ["s.b=2@2", "s.a=3@3", "s.c=4@4"]);
    assert_eq!(stream.last_of(&["s.none"]).await, Ok(Vec::new()));
    let invalid = stream.last_of(&["s.a", "s a"]).await;
    assert_eq!(invalid, Err(ReadStreamError::InvalidSubject("s a".into())));
    let code = |read: Result<Vec<StoredMessage>, ReadStreamError>| match read {
        Err(ReadStreamError::Rejected(error)) => error.code,
        Err(other) => panic!("another error: {other}"),
        Ok(messages) => panic!("{} messages", messages.len()),
    };
    assert_eq!(code(stream.last_of(&[]).await), 408);

    for i in 0..1024 {
        let message = Message::new(format!("s.many.{i}"), "v");
        near.publish(message).await.expect("it is sent");
    }
    // Stored in turn: with this one the others are.
    store(&near, "s.many.last", "v").await;
    assert_eq!(code(stream.last_of(&["s.many.*"]).await), 413);
    let purge = Purge {
        filter: Some("s.many.0".to_owned()),
        ..Purge::default()
    };
    assert_eq!(stream.purge(purge).await, Ok(1));
    let many = stream.last_of(&["s.many.*"]).await;
    assert_eq!(brief(many).len(), 1024);

    let old_world = old_world().await;
    let (_near, old) = self::stream(&old_world).await;
    assert_eq!(code(old.last_of(&["s.a"]).await), 408);
}
