//! Section 6: core messaging.

use squall_core::transport::Message;

use super::*;

const CAROL: LinkId = LinkId(3);

/// Subscriptions that were sent a copy.
fn takers(bench: &mut Bench, subject: &str) -> Vec<u64> {
    bench.look();
    bench.publish(ALICE, Message::new(subject, "m"));
    let sid = |(_, effect)| match effect {
        Effect::Send {
            op: ServerOp::Message { sid, .. },
            ..
        } => Some(sid.0),
        _ => None,
    };
    bench.look().into_iter().filter_map(sid).collect()
}

fn matches(filter: &str, subject: &str) -> bool {
    let mut bench = Bench::new();
    bench.subscribe(BOB, 1, filter);
    !takers(&mut bench, subject).is_empty()
}

#[test]
fn wildcards_match_as_measured() {
    assert!(matches("a.*", "a.b") && !matches("a.*", "a.b.c") && !matches("a.*", "a"));
    assert!(matches("a.>", "a.b.c") && !matches("a.>", "a"));
    assert!(matches(">", "$SYS.x") && matches(">", "_INBOX.x"));
    assert!(matches("a.b*", "a.b*") && !matches("a.b*", "a.bc"));
    assert!(matches("a.>b", "a.>b") && !matches("a.>b", "a.b"));
    assert!(!matches("a.b", "a.B"));
    assert!(!matches("x.>.y", "x.1.y") && !matches("x.>.y", "x.>.y"));
}

#[test]
fn a_published_wildcard_is_a_token_like_any_other() {
    assert!(matches("a.*", "a.*") && matches("a.>", "a.*") && !matches("a.b", "a.*"));
    assert!(!matches(">", "a..b"), "an empty token reaches nobody");
}

#[test]
fn every_subscription_gets_its_copy_in_the_order_they_were_made() {
    let mut bench = Bench::new();
    bench.subscribe(BOB, 1, "a.>");
    bench.subscribe(ALICE, 2, "a.b");
    bench.subscribe(BOB, 3, "a.*");
    assert_eq!(takers(&mut bench, "a.b"), [1, 2, 3], "one's own echo too");
    bench.say(ALICE, ClientOp::Unsubscribe { sid: Sid(2) });
    assert_eq!(takers(&mut bench, "a.b"), [1, 3]);
    bench.close(BOB);
    assert!(takers(&mut bench, "a.b").is_empty());
}

#[test]
fn a_queue_group_gives_each_message_to_one_member_at_random() {
    let mut bench = Bench::new();
    bench.open(CAROL);
    for (link, sid) in [(ALICE, 1), (BOB, 2), (CAROL, 3)] {
        bench.say(link, subscription(sid, "work", Some("group")));
    }
    bench.say(BOB, subscription(4, "*", Some("other")));
    bench.subscribe(CAROL, 5, "work");
    let mut shares = [0; 3];
    for _ in 0..3000 {
        let takers = takers(&mut bench, "work");
        assert_eq!(
            (takers[0], takers[2]),
            (5, 4),
            "a plain one, and one of each group"
        );
        shares[takers[1] as usize - 1] += 1;
    }
    assert!(
        shares.iter().all(|share| (850..1150).contains(share)),
        "{shares:?}"
    );
}

#[test]
fn one_group_name_is_one_group_across_subjects() {
    let mut bench = Bench::new();
    bench.say(ALICE, subscription(1, "work.a", Some("group")));
    bench.say(BOB, subscription(2, "work.*", Some("group")));
    assert_eq!(takers(&mut bench, "work.a").len(), 1);
}

#[test]
fn a_request_that_nobody_hears_is_told_so_at_once() {
    let mut bench = Bench::new();
    bench.publish(ALICE, asking("service", "_INBOX.a"));
    let heard = bench.heard(ALICE);
    assert!(matches!(&heard[..], [ServerOp::NoResponders { reply }] if **reply == *"_INBOX.a"));
    bench.say(BOB, subscription(1, "service", Some("group")));
    bench.publish(ALICE, asking("service", "_INBOX.a"));
    assert!(
        bench.heard(ALICE).is_empty(),
        "a queue member is a responder"
    );
    bench.close(BOB);
    bench.publish(ALICE, asking("service", "_INBOX.a"));
    assert_eq!(bench.heard(ALICE).len(), 1, "gone with its connection");
    bench.publish(ALICE, Message::new("service", ""));
    assert!(bench.heard(ALICE).is_empty(), "no reply subject, no answer");
}

#[test]
fn an_oversized_message_closes_the_connection() {
    let mut bench = Bench::with(|config| config.max_payload = 100);
    bench.subscribe(BOB, 1, "a");
    bench.publish(ALICE, Message::new("a", vec![0; 100]));
    assert_eq!(bench.heard(BOB).len(), 1, "exactly the limit is fine");
    let mut message = Message::new("a", vec![0; 80]);
    message.headers.append("name", "value");
    bench.publish(ALICE, message);
    assert_expelled(&mut bench, "Maximum Payload Violation");
}

#[test]
fn an_oversized_write_closes_the_connection_and_is_not_stored() {
    let mut bench = Bench::with(|config| config.max_payload = 100);
    bench.bucket(|_| {});
    bench.put("k", &"x".repeat(100));
    bench.look();
    bench.ask(
        ALICE,
        Request::Write {
            bucket: "b".into(),
            key: "k".into(),
            write: put(&"x".repeat(49)),
            expected: Some(Revision(1)),
        },
    );
    assert_expelled(&mut bench, "Maximum Payload Violation");
    assert_eq!(bench.broker.last_revision("b"), Some(Revision(1)));
}

#[test]
fn a_huge_key_closes_the_connection() {
    let mut bench = Bench::new();
    bench.bucket(|_| {});
    assert_eq!(bench.put(&"k".repeat(4000), "v"), 1);
    bench.look();
    let key = "k".repeat(4050);
    bench.ask(
        ALICE,
        Request::Write {
            bucket: "b".into(),
            key: key.as_str().into(),
            write: put("v"),
            expected: None,
        },
    );
    assert_expelled(&mut bench, "maximum control line exceeded");
}

/// Alice was told why, her connection was closed, and what she still sends is not heard.
fn assert_expelled(bench: &mut Bench, why: &str) {
    let done = bench.look();
    match &done[..] {
        [
            (
                _,
                Effect::Send {
                    link: ALICE,
                    op: ServerOp::Err(text),
                },
            ),
            (_, Effect::Close { link: ALICE }),
        ] => assert_eq!(**text, *why),
        other => panic!("not expelled: {other:?}"),
    }
    bench.say(ALICE, ClientOp::Ping);
    assert!(bench.look().is_empty());
}

#[test]
#[should_panic(expected = "not modelled")]
fn an_api_request_as_a_core_publish_fails_loudly() {
    let mut bench = Bench::new();
    bench.publish(ALICE, asking("$JS.API.INFO", "_INBOX.a"));
}
