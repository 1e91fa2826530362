//! Operator mode: who is let in, when connections end, and what the server says.

use squall_core::jwt::{Account, Claims, KeyPair as _, Limits, Operator, Realm, Role, User, mint};

use super::*;
use crate::keys::SimKey;
use crate::wire::{INBOX, Presented};

const CAROL: LinkId = LinkId(3);

/// A server with the accounts `app`, `other` and `sys`, and the keys to all of them.
struct House {
    bench: Bench,
    links: u64,
}

fn operator() -> SimKey {
    SimKey::new(Role::Operator, "op")
}

fn account(name: &str) -> SimKey {
    SimKey::new(Role::Account, name)
}

fn user(name: &str) -> SimKey {
    SimKey::new(Role::User, name)
}

/// The token of an account without end, with everything allowed but for `change`.
fn account_token(name: &str, change: impl FnOnce(&mut Account)) -> String {
    mint(&account_claims(name, change), &operator())
}

fn account_claims(name: &str, change: impl FnOnce(&mut Account)) -> Claims {
    let mut granted = Account {
        limits: Some(Limits::NONE),
        ..Account::default()
    };
    change(&mut granted);
    Claims::account(&account(name).public(), UnixTime::EPOCH, granted)
}

/// The token of a user.
fn token(name: &str, by: &SimKey, change: impl FnOnce(&mut Claims)) -> String {
    let mut claims = Claims::user(&user(name).public(), UnixTime::EPOCH, User::default());
    change(&mut claims);
    mint(&claims, by)
}

impl House {
    fn new() -> Self {
        Self::with(|_| account_token("app", |_| {}))
    }

    fn with(app: impl FnOnce(UnixTime) -> String) -> Self {
        let granted = Operator {
            system_account: account("sys").public().to_string(),
            ..Operator::default()
        };
        let claims = Claims::operator(&operator().public(), UnixTime::EPOCH, granted);
        let app = app(UnixTime::from_secs(1_700_000_000));
        let bench = Bench::with(|config| {
            config.realm = Some(Realm {
                operator: mint(&claims, &operator()),
                accounts: vec![
                    app,
                    account_token("other", |_| {}),
                    account_token("sys", |_| {}),
                ],
            });
        });
        let mut house = Self { bench, links: 10 };
        house.bench.close(ALICE);
        house.bench.close(BOB);
        house
    }

    /// The present second, and some.
    fn second(&self, later: i64) -> Option<UnixTime> {
        Some(UnixTime::from_secs(self.bench.now.wall.as_secs() + later))
    }

    fn present(&mut self, link: LinkId, jwt: &str, signer: &str) -> Vec<String> {
        self.bench.open(link);
        self.bench.look();
        let login = Some(Box::new(Presented {
            jwt: jwt.into(),
            signer: user(signer).public(),
        }));
        let name = "".into();
        self.bench.say(link, ClientOp::Connect { name, login });
        self.bench.say(link, ClientOp::Ping);
        self.told()
    }

    /// A new connection presents a token, and what it is told.
    fn knock(&mut self, jwt: &str, signer: &str) -> (LinkId, Vec<String>) {
        self.links += 1;
        let link = LinkId(self.links);
        (link, self.present(link, jwt, signer))
    }

    /// Somebody who is let in.
    fn guest(&mut self, link: LinkId, jwt: &str) {
        let told = self.present(link, jwt, "alice");
        assert_eq!(told, ["PONG"]);
    }

    /// What was sent and closed, in words.
    fn told(&mut self) -> Vec<String> {
        let word = |(_, effect)| match effect {
            Effect::Send { op, .. } => match op {
                ServerOp::Pong => Some("PONG".to_owned()),
                ServerOp::Err(text) => Some(text.to_string()),
                ServerOp::Message { message, .. } => {
                    Some(String::from_utf8_lossy(&message.payload).into_owned())
                }
                _ => None,
            },
            Effect::Close { .. } => Some("closed".to_owned()),
            _ => None,
        };
        self.bench.look().into_iter().filter_map(word).collect()
    }

    /// The system account pushes an account's token; the server's answer.
    fn push(&mut self, name: &str, token: &str) -> Vec<String> {
        let sys = LinkId(99);
        if self.bench.broker.links().all(|link| link != sys) {
            let jwt = self::token("admin", &account("sys"), |_| {});
            assert_eq!(self.present(sys, &jwt, "admin"), ["PONG"]);
            self.bench.subscribe(sys, 1, "_INBOX.sys");
        }
        let key = account(name).public();
        let subject = format!("$SYS.REQ.ACCOUNT.{key}.CLAIMS.UPDATE");
        let mut message = Message::new(subject, token.to_owned());
        message.reply = Some("_INBOX.sys".into());
        self.bench.publish(sys, message);
        self.told()
    }
}

#[test]
fn only_who_fits_in_every_respect_is_let_in() {
    let mut house = House::new();
    let app = account("app");
    let good = token("alice", &app, |_| {});
    let tampered = {
        let other = token("alice", &app, |claims| claims.name = "x".to_owned());
        let [header, _, signature] = good.split('.').collect::<Vec<_>>()[..] else {
            panic!("a token has three parts");
        };
        let payload = other.split('.').nth(1).expect("a token has three parts");
        format!("{header}.{payload}.{signature}")
    };
    let refused = ["Authorization Violation", "closed"];
    let wrong = [
        (tampered, "alice"),
        (token("alice", &account("nobody"), |_| {}), "alice"),
        (token("alice", &user("alice"), |_| {}), "alice"),
        (good.clone(), "bob"),
        ("garbage".to_owned(), "alice"),
        (String::new(), "alice"),
        (account_token("app", |_| {}), "alice"),
    ];
    for (jwt, signer) in wrong {
        assert_eq!(house.knock(&jwt, signer).1, refused, "{jwt}");
    }
    assert_eq!(house.knock(&good, "alice").1, ["PONG"]);
    house.bench.open(CAROL);
    house.bench.look();
    house.bench.say(CAROL, ClientOp::Ping);
    assert_eq!(house.told(), refused, "nothing before CONNECT");
}

#[test]
fn a_token_is_valid_from_its_first_second_to_its_last() {
    let mut house = House::new();
    house.bench.pass(millis(400));
    let app = account("app");
    let from = |house: &House, later| {
        let begin = house.second(later);
        token("alice", &app, |claims| claims.not_before = begin)
    };
    let jwt = from(&house, 0);
    assert_eq!(house.knock(&jwt, "alice").1, ["PONG"]);
    let jwt = from(&house, 1);
    assert_eq!(house.knock(&jwt, "alice").1[0], "Authorization Violation");
    let past = house.second(-1);
    let jwt = token("alice", &app, |claims| claims.expires = past);
    assert_eq!(house.knock(&jwt, "alice").1[0], "Authorization Violation");
}

#[test]
fn the_last_second_lets_in_and_throws_out_again() {
    let mut house = House::new();
    let last = house.second(0);
    let jwt = token("alice", &account("app"), |claims| claims.expires = last);
    let told: Vec<Vec<String>> = (0..60).map(|_| house.knock(&jwt, "alice").1).collect();
    let out = ["User Authentication Expired", "closed"];
    let in_and_out = ["PONG", "User Authentication Expired", "closed"];
    let was_in = told.iter().filter(|told| **told == in_and_out).count();
    assert_eq!(
        told.iter().filter(|told| **told == out).count(),
        60 - was_in
    );
    assert!((15..45).contains(&was_in), "a toss, not {was_in} of 60");
}

#[test]
fn a_connection_ends_at_exp_plus_the_fraction_it_came_with() {
    for phase in [0, 1, 499, 999] {
        let mut house = House::new();
        house.bench.pass(millis(phase));
        let end = house.second(3);
        let jwt = token("alice", &account("app"), |claims| claims.expires = end);
        house.guest(ALICE, &jwt);
        house.bench.pass(millis(2999));
        assert!(house.told().is_empty(), "phase {phase}");
        house.bench.pass(millis(1));
        assert_eq!(house.told(), ["User Authentication Expired", "closed"]);
        let late = house.bench.now.wall.as_nanos() - end.expect("set").as_nanos();
        assert_eq!(late, i64::try_from(phase).expect("small") * 1_000_000);
    }
}

#[test]
fn a_jump_of_the_wall_clock_moves_no_end_but_judges_new_ones() {
    let mut house = House::new();
    let end = house.second(10);
    let jwt = token("alice", &account("app"), |claims| claims.expires = end);
    house.guest(ALICE, &jwt);
    house.bench.now.wall = house.bench.now.wall + secs(60);
    house.bench.pass(secs(9));
    assert!(house.told().is_empty(), "the timer runs on the other clock");
    assert_eq!(house.knock(&jwt, "alice").1[0], "Authorization Violation");
    house.bench.pass(secs(1));
    assert_eq!(house.told(), ["User Authentication Expired", "closed"]);
}

#[test]
fn who_does_not_log_in_is_hung_up_after_two_seconds() {
    let mut house = House::new();
    house.bench.open(ALICE);
    house.bench.look();
    house.bench.pass(millis(1999));
    assert!(house.told().is_empty());
    house.bench.pass(millis(1));
    assert_eq!(house.told(), ["Authentication Timeout", "closed"]);
}

#[test]
fn accounts_neither_hear_each_other_nor_share_buckets() {
    let mut house = House::new();
    house.guest(ALICE, &token("alice", &account("app"), |_| {}));
    house.guest(BOB, &token("alice", &account("other"), |_| {}));
    house.guest(CAROL, &token("alice", &account("other"), |_| {}));
    for link in [ALICE, BOB, CAROL] {
        house.bench.subscribe(link, 1, "x");
    }
    house.bench.publish(BOB, Message::new("x", "hello"));
    assert_eq!(house.told(), ["hello", "hello"]);
    house.bench.bucket(|_| {});
    house.bench.look();
    let info = |link| (link, info_of("b"));
    for ((link, request), is_there) in [(info(ALICE), true), (info(BOB), false)] {
        house.bench.ask(link, request);
        let answer = house.bench.heard(link);
        let found = matches!(
            answer[..],
            [ServerOp::Response {
                response: Response::Stream(_),
                ..
            }]
        );
        assert_eq!(found, is_there, "{answer:?}");
    }
}

#[test]
fn an_update_turns_out_who_is_revoked_or_no_longer_vouched_for() {
    let signer = account("signer");
    let vouched = |account: &mut Account| {
        account
            .signing_keys
            .insert(self::account("signer").public().to_string());
    };
    let mut house = House::with(|_| account_token("app", vouched));
    let by_signer = token("alice", &signer, |claims| {
        claims.vouch_for(&account("app").public());
    });
    house.guest(ALICE, &by_signer);
    house.guest(BOB, &token("alice", &account("app"), |_| {}));
    let updated = |house: &mut House, token: &str| {
        let mut told = house.push("app", token);
        assert!(told.pop().is_some_and(|last| last.contains("jwt updated")));
        told
    };
    let told = updated(&mut house, &account_token("app", |_| {}));
    assert_eq!(told, ["closed"], "a signer that is gone is told nothing");
    let revoked = account_token("app", |account| {
        let key = user("alice").public().to_string();
        account.revocations.insert(key, 5);
    });
    let told = updated(&mut house, &revoked);
    assert_eq!(told, ["User Authentication Revoked", "closed"]);
    let old = token("alice", &account("app"), |claims| {
        claims.issued = UnixTime::from_secs(5)
    });
    assert_eq!(house.knock(&old, "alice").1[0], "Authorization Violation");
    let new = token("alice", &account("app"), |claims| {
        claims.issued = UnixTime::from_secs(6)
    });
    assert_eq!(house.knock(&new, "alice").1, ["PONG"]);
    let told = house.push("app", "garbage");
    assert!(told[0].contains("jwt update resulted in error"), "{told:?}");
    let told = house.push("other", &account_token("other", |_| {}));
    assert!(
        told[0].contains("jwt update skipped"),
        "it is not in use: {told:?}"
    );
}

#[test]
fn an_account_ends_at_the_phase_at_which_it_was_read() {
    let mut house = House::with(|now| {
        let mut claims = account_claims("app", |_| {});
        claims.expires = Some(now + secs(5));
        mint(&claims, &operator())
    });
    house.bench.pass(millis(300));
    let jwt = token("alice", &account("app"), |_| {});
    house.guest(ALICE, &jwt);
    house.bench.pass(millis(4999));
    assert!(house.told().is_empty());
    house.bench.pass(millis(1));
    assert_eq!(house.told(), ["Account Authentication Expired", "closed"]);
    assert_eq!(house.knock(&jwt, "alice").1[0], "Authorization Violation");
    house.push("app", &account_token("app", |_| {}));
    assert_eq!(house.knock(&jwt, "alice").1, ["PONG"]);
}

#[test]
fn what_is_not_permitted_is_refused_by_its_subject() {
    let mut house = House::new();
    let jwt = token("alice", &account("app"), |claims| {
        claims.restrict(&["ok.>"], &["ok.secret"]);
    });
    house.guest(ALICE, &jwt);
    house.guest(BOB, &token("alice", &account("app"), |_| {}));
    house.bench.publish(ALICE, Message::new("no.x", "m"));
    let key = Request::Entry {
        bucket: "b".into(),
        key: "k".into(),
    };
    house.bench.ask(ALICE, key);
    house.bench.subscribe(ALICE, 1, "no.y");
    let queue = Some("grp".into());
    let (sid, subject) = (Sid(2), "no.y".into());
    house.bench.say(
        ALICE,
        ClientOp::Subscribe {
            sid,
            subject,
            queue,
        },
    );
    let told = [
        r#"Permissions Violation for Publish to "no.x""#,
        r#"Permissions Violation for Publish to "$JS.API.DIRECT.GET.KV_b.$KV.b.k""#,
        r#"Permissions Violation for Subscription to "no.y""#,
        r#"Permissions Violation for Subscription to "no.y" using queue "grp""#,
    ];
    assert_eq!(house.told(), told);
    house.bench.subscribe(ALICE, 3, "ok.*");
    for subject in ["ok.secret", "ok.a", "no.y"] {
        house.bench.publish(BOB, Message::new(subject, subject));
    }
    assert_eq!(house.told(), ["ok.a"]);
}

#[test]
fn answers_need_a_subscription_where_there_are_permissions() {
    let mut house = House::new();
    let jwt = token("alice", &account("app"), |claims| {
        claims.restrict(&["$JS.>", "$KV.>", "_INBOX.ok"], &[]);
    });
    house.guest(ALICE, &jwt);
    assert!(house.bench.try_call(creation_of("b")).is_none());
    assert!(
        house.bench.broker.bucket("b").is_some(),
        "done, and not told"
    );
    house.bench.subscribe(ALICE, INBOX.0, "_INBOX.ok");
    assert!(house.bench.try_call(info_of("b")).is_some());
}

#[test]
fn limits_are_the_accounts() {
    let limited = |change: fn(&mut Limits)| {
        House::with(|_| {
            account_token("app", |account| {
                let mut limits = Limits::NONE;
                change(&mut limits);
                account.limits = Some(limits);
            })
        })
    };
    let jwt = token("alice", &account("app"), |_| {});
    let mut house = limited(|limits| limits.conn = 1);
    house.guest(ALICE, &jwt);
    let told = house.knock(&jwt, "alice").1;
    assert_eq!(told[0], "maximum account active connections exceeded");
    let mut house = limited(|limits| (limits.mem_storage, limits.disk_storage) = (0, 0));
    house.guest(ALICE, &jwt);
    let created = house.bench.create(BucketConfig::new("b"));
    assert!(matches!(created, Response::Error(error) if error.err_code == 10039));
}
