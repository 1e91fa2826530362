//! Section 1: buckets, revisions, conditions, limits.

use bytes::Bytes;
use squall_core::transport::{BucketConfig, Message, Operation, Revision, Storage};

use super::*;

#[test]
fn revisions_are_shared_by_all_keys_and_failed_writes_take_none() {
    let mut bench = Bench::new();
    bench.bucket(|_| {});
    assert_eq!(bench.put("a", "1"), 1);
    assert_eq!(bench.put("b", "1"), 2);
    let stale = bench.update("a", "2", 2);
    assert_eq!(stale, Response::WrongRevision(Revision(1)));
    assert_eq!(stored(&bench.update("a", "2", 1)), 3);
    assert_eq!(bench.broker.last_revision("b"), Some(Revision(3)));
}

#[test]
fn a_wrong_revision_names_the_latest_of_that_key() {
    let mut bench = Bench::new();
    bench.bucket(|_| {});
    bench.put("other", "1");
    let missing = bench.update("k", "v", 7);
    assert_eq!(missing, Response::WrongRevision(Revision::NONE));
    assert_eq!(stored(&bench.update("k", "v", 0)), 2);
    for wrong in [0, 1, 3] {
        assert_eq!(
            bench.update("k", "v", wrong),
            Response::WrongRevision(Revision(2))
        );
    }
}

#[test]
fn a_tombstone_is_a_record_that_must_be_expected() {
    let mut bench = Bench::new();
    bench.bucket(|_| {});
    bench.put("k", "v");
    assert_eq!(stored(&bench.write("k", Write::Delete, None)), 2);
    let entry = bench.get("k").expect("a tombstone");
    assert_eq!(
        (entry.operation, entry.value),
        (Operation::Delete, Bytes::new())
    );
    assert_eq!(
        bench.update("k", "w", 0),
        Response::WrongRevision(Revision(2))
    );
    assert_eq!(stored(&bench.update("k", "w", 2)), 3);
}

#[test]
fn deleting_what_never_was_makes_a_revision() {
    let mut bench = Bench::new();
    bench.bucket(|_| {});
    assert_eq!(stored(&bench.write("k", Write::Delete, None)), 1);
    assert_eq!(stored(&bench.write("k", Write::Delete, None)), 2);
    assert_eq!(stored(&bench.write("l", Write::Purge, None)), 3);
    let wrong = bench.write("k", Write::Delete, Some(1));
    assert_eq!(wrong, Response::WrongRevision(Revision(2)));
    let wrong = bench.write("k", Write::Purge, Some(1));
    assert_eq!(wrong, Response::WrongRevision(Revision(2)));
}

#[test]
fn the_history_keeps_the_newest_records_and_a_purge_keeps_one() {
    let mut bench = Bench::new();
    bench.bucket(|config| config.history = 2);
    for value in ["1", "2", "3"] {
        bench.put("k", value);
    }
    assert_eq!(bench.removals(), [(1, Cause::Evicted)]);
    assert_eq!(bench.records(), [(2, Operation::Put), (3, Operation::Put)]);
    bench.write("k", Write::Purge, None);
    // The store keeps its limit by itself, before the rest is purged.
    assert_eq!(bench.removals(), [(2, Cause::Evicted), (3, Cause::Purged)]);
    assert_eq!(bench.records(), [(4, Operation::Purge)]);
}

#[test]
fn an_empty_value_is_a_value() {
    let mut bench = Bench::new();
    bench.bucket(|_| {});
    bench.put("k", "");
    assert!(bench.has_value("k"));
}

#[test]
fn keys_with_empty_tokens_have_no_stream() {
    let mut bench = Bench::new();
    bench.bucket(|_| {});
    assert_eq!(bench.write("a..b", put("v"), None), Response::NoResponders);
    let get = Request::Entry {
        bucket: "b".into(),
        key: "a..b".into(),
    };
    assert_eq!(bench.call(get), Response::NoResponders);
}

#[test]
fn a_missing_bucket_is_404_to_the_api_and_nobody_to_writes_and_gets() {
    let mut bench = Bench::new();
    let config = BucketConfig::new("b");
    let bucket = || "b".into();
    let missing = (404, 10059);
    assert_eq!(refusal(bench.update_bucket(config)), missing);
    assert_eq!(refusal(bench.call(info_of("b"))), missing);
    assert_eq!(refusal(bench.call(deletion_of("b"))), missing);
    let watch = consumer("b", 1, ">", ReadStart::All);
    assert_eq!(refusal(bench.call(watch)), missing);
    assert_eq!(bench.write("k", put("v"), None), Response::NoResponders);
    let get = Request::Entry {
        bucket: bucket(),
        key: "k".into(),
    };
    assert_eq!(bench.call(get), Response::NoResponders);
}

#[test]
fn creating_again_is_fine_only_with_the_same_settings() {
    let mut bench = Bench::new();
    let mut config = bench.bucket(|_| {});
    bench.put("k", "v");
    let again = bench.create(config.clone());
    assert!(matches!(again, Response::Stream(info) if info.messages == 1));
    config.history = 5;
    assert_eq!(refusal(bench.create(config.clone())), (400, 10058));
    assert!(matches!(
        bench.update_bucket(config.clone()),
        Response::Stream(_)
    ));
    assert!(matches!(bench.create(config), Response::Stream(_)));
}

#[test]
fn settings_out_of_range_are_refused() {
    let refused = |change: fn(&mut BucketConfig)| {
        let mut config = BucketConfig::new("b");
        change(&mut config);
        refusal(Bench::new().create(config))
    };
    assert_eq!(refused(|config| config.max_age = millis(99)), (500, 10052));
    assert_eq!(
        refused(|config| config.delete_markers = Some(millis(999))),
        (500, 10052)
    );
    assert_eq!(refused(|config| config.replicas = 3), (500, 10074));
    Bench::new().bucket(|config| config.max_age = millis(100));
}

#[test]
fn markers_can_be_added_and_never_removed() {
    let mut bench = Bench::new();
    let mut config = bench.bucket(|config| config.max_age = secs(60));
    config.delete_markers = Some(secs(5));
    assert!(matches!(
        bench.update_bucket(config.clone()),
        Response::Stream(_)
    ));
    config.delete_markers = None;
    assert_eq!(refusal(bench.update_bucket(config.clone())), (500, 10052));
    config.delete_markers = Some(secs(5));
    config.storage = Storage::Memory;
    assert_eq!(refusal(bench.update_bucket(config)), (500, 10052));
}

#[test]
fn version_2_10_ignores_markers() {
    let mut bench = Bench::of_version("2.10.26");
    bench.bucket(|config| config.delete_markers = Some(secs(5)));
    let info = bench.broker.bucket("b").expect("the bucket");
    assert_eq!(info.config.delete_markers, None);
}

#[test]
fn max_value_size_counts_headers() {
    let mut bench = Bench::new();
    bench.bucket(|config| config.max_value_size = 100);
    assert_eq!(bench.put("k", &"x".repeat(100)), 1);
    let too_large = bench.write("k", put(&"x".repeat(101)), None);
    assert_eq!(refusal(too_large), (400, 10054));
    assert_eq!(refusal(bench.update("k", &"x".repeat(49), 1)), (400, 10054));
    assert_eq!(stored(&bench.update("k", &"x".repeat(48), 1)), 2);
}

#[test]
fn a_delete_can_be_larger_than_max_value_size() {
    let mut bench = Bench::new();
    bench.bucket(|config| config.max_value_size = 30);
    bench.put("k", "v");
    assert_eq!(refusal(bench.write("k", Write::Delete, None)), (400, 10054));
    assert!(bench.has_value("k"));
}

/// A record in a file counts 30 bytes, its subject and its value; with headers 4 bytes and the headers more.
#[test]
fn a_full_bucket_refuses_new_keys_and_takes_smaller_records_of_old_ones() {
    let size = 30 + "$KV.b.k1".len() + 100;
    let mut bench = Bench::new();
    bench.bucket(|config| config.max_bytes = 2 * size as i64);
    let value = "x".repeat(100);
    bench.put("k1", &value);
    bench.put("k2", &value);
    let full = bench.write("k3", put("x"), None);
    assert_eq!(refusal(full), (503, 10077));
    assert_eq!(bench.broker.last_revision("b"), Some(Revision(2)));
    assert_eq!(bench.put("k1", &value), 3, "the same size is fine");
    let larger = bench.write("k1", put(&"x".repeat(101)), None);
    assert_eq!(refusal(larger), (503, 10077));
    assert_eq!(stored(&bench.write("k1", Write::Delete, None)), 4);
    assert_eq!(stored(&bench.write("k2", Write::Purge, None)), 5);
}

#[test]
fn a_tombstone_larger_than_its_value_does_not_fit_into_a_full_bucket() {
    let mut bench = Bench::new();
    bench.bucket(|config| config.max_bytes = 30 + 7 + 10);
    bench.put("k", "0123456789");
    assert_eq!(refusal(bench.write("k", Write::Delete, None)), (503, 10077));
    assert_eq!(refusal(bench.write("k", Write::Purge, None)), (503, 10077));
    assert!(bench.has_value("k"));
}

#[test]
fn of_a_wrong_revision_and_a_value_too_large_2_15_tells_the_latter() {
    let both_wrong = |version| {
        let mut bench = Bench::of_version(version);
        bench.bucket(|config| config.max_value_size = 60);
        bench.put("k", "v");
        bench.update("k", &"x".repeat(100), 9)
    };
    assert_eq!(refusal(both_wrong("2.15.1")), (400, 10054));
    assert_eq!(both_wrong("2.14.6"), Response::WrongRevision(Revision(1)));
}

#[test]
fn up_to_2_12_a_full_bucket_refuses_an_overwrite_of_the_same_size() {
    let mut bench = Bench::of_version("2.12.8");
    let size = 30 + "$KV.b.k".len() + 100;
    bench.bucket(|config| config.max_bytes = size as i64);
    let exactly = bench.write("k", put(&"x".repeat(100)), None);
    assert_eq!(refusal(exactly), (503, 10077), "nor is the last byte used");
    let mut bench = Bench::of_version("2.12.8");
    bench.bucket(|config| config.max_bytes = size as i64 + 1);
    bench.put("k", &"x".repeat(100));
    let same = bench.write("k", put(&"y".repeat(100)), None);
    assert_eq!(refusal(same), (503, 10077));
    assert_eq!(bench.put("k", &"y".repeat(99)), 2);
}

#[test]
fn in_memory_a_record_counts_sixteen_bytes_more_than_its_text() {
    let mut bench = Bench::new();
    let size = 16 + "$KV.b.k".len() + 10;
    bench.bucket(|config| {
        config.storage = Storage::Memory;
        config.max_bytes = size as i64;
    });
    assert_eq!(bench.put("k", "0123456789"), 1);
    let mut smaller = Bench::new();
    smaller.bucket(|config| {
        config.storage = Storage::Memory;
        config.max_bytes = size as i64 - 1;
    });
    let full = smaller.write("k", put("0123456789"), None);
    assert_eq!(refusal(full), (503, 10077));
}

#[test]
fn a_shorter_history_trims_at_once() {
    for version in ["2.10.26", "2.15.1"] {
        let mut bench = Bench::of_version(version);
        let mut config = bench.bucket(|config| config.history = 3);
        for value in ["1", "2", "3"] {
            bench.put("k", value);
        }
        config.history = 1;
        bench.update_bucket(config);
        assert_eq!(bench.records().len(), 1);
    }
}

#[test]
fn up_to_2_12_a_full_bucket_in_memory_takes_an_overwrite_of_the_same_size() {
    let mut bench = Bench::of_version("2.12.8");
    let size = 16 + "$KV.b.k".len() + 100;
    bench.bucket(|config| {
        config.storage = Storage::Memory;
        config.max_bytes = size as i64 + 1;
    });
    assert_eq!(bench.put("k", &"x".repeat(100)), 1);
    assert_eq!(bench.put("k", &"y".repeat(100)), 2);
    let larger = bench.write("k", put(&"x".repeat(101)), None);
    assert_eq!(refusal(larger), (503, 10077));
}

#[test]
fn a_bucket_made_anew_begins_at_revision_one_with_another_incarnation() {
    let mut bench = Bench::new();
    bench.bucket(|_| {});
    bench.put("k", "v");
    let first = bench.broker.incarnation("b");
    bench.look();
    let deleted = bench.call(deletion_of("b"));
    assert_eq!(deleted, Response::Deleted);
    assert_eq!(bench.removals(), [(1, Cause::BucketDeleted)]);
    bench.pass(millis(5));
    bench.bucket(|_| {});
    assert_eq!(bench.put("k", "v"), 1);
    assert_ne!(bench.broker.incarnation("b"), first);
}

#[test]
fn a_bucket_name_with_a_dot_gets_no_answer() {
    let mut bench = Bench::new();
    assert_eq!(bench.try_call(creation_of("a.b")), None);
    assert_eq!(bench.try_call(info_of("a.b")), None);
}

#[test]
fn commits_say_what_was_stored_and_by_whom() {
    let mut bench = Bench::new();
    bench.bucket(|_| {});
    let asked = bench.ask(
        BOB,
        Request::Write {
            bucket: "b".into(),
            key: "k".into(),
            write: put("v"),
            expected: Some(Revision::NONE),
        },
    );
    let commits = bench.commits();
    assert_eq!(commits.len(), 1);
    assert_eq!(commits[0].by, Some((BOB, asked)));
    let entry = bench.broker.entry("b", "k");
    assert_eq!(Some(&commits[0].entry), entry.as_ref());
    assert_eq!(commits[0].entry.created, bench.now.wall);
}

#[test]
fn a_core_publish_to_a_key_is_stored_with_or_without_a_reply() {
    let mut bench = Bench::new();
    bench.bucket(|_| {});
    bench.publish(BOB, Message::new("$KV.b.k", "raw"));
    assert_eq!(
        bench.get("k").map(|entry| entry.value),
        Some(Bytes::from("raw"))
    );
    bench.subscribe(BOB, 1, "_INBOX.bob");
    bench.look();
    let mut conditional = asking("$KV.b.k", "_INBOX.bob");
    bench.publish(BOB, conditional.clone());
    assert_eq!(payloads(bench.heard(BOB)), [r#"{"stream":"KV_b","seq":2}"#]);
    conditional
        .headers
        .append("Nats-Expected-Last-Subject-Sequence", "1");
    bench.publish(BOB, conditional);
    let refused = r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 2"},"stream":"KV_b","seq":0}"#;
    assert_eq!(payloads(bench.heard(BOB)), [refused]);
    assert_eq!(bench.records(), [(2, Operation::Put)]);
}

#[test]
fn core_subscriptions_hear_writes_of_keys() {
    let mut bench = Bench::new();
    bench.bucket(|_| {});
    bench.subscribe(BOB, 1, "$KV.b.>");
    bench.put("k", "v");
    bench.write("k", Write::Delete, Some(1));
    let heard = bench.heard(BOB);
    let operations: Vec<Option<String>> = heard
        .iter()
        .map(|op| match op {
            ServerOp::Message { message, .. } => {
                message.headers.get("KV-Operation").map(str::to_owned)
            }
            other => panic!("not a message: {other:?}"),
        })
        .collect();
    assert_eq!(operations, [None, Some("DEL".to_owned())]);
}

#[test]
fn up_to_2_11_an_acknowledgement_has_a_space() {
    let mut bench = Bench::of_version("2.11.11");
    bench.bucket(|_| {});
    bench.subscribe(BOB, 1, "_INBOX.bob");
    bench.publish(BOB, asking("$KV.b.k", "_INBOX.bob"));
    assert_eq!(
        payloads(bench.heard(BOB)),
        [r#"{"stream":"KV_b", "seq":1}"#]
    );
}

fn payloads(heard: Vec<ServerOp>) -> Vec<String> {
    let payload = |op| match op {
        ServerOp::Message { message, .. } => {
            Some(String::from_utf8_lossy(&message.payload).into_owned())
        }
        _ => None,
    };
    heard.into_iter().filter_map(payload).collect()
}
