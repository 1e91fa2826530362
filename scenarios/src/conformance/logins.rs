//! Logins: who is let in, from which second to which, and when a connection ends.

use std::time::Duration;

use squall_core::jwt::{Claims, KeyPair as _, Role, Seed, mint};
use squall_core::transport::{BucketConfig, ConnectError, Credentials, CredentialsCell};
use squall_core::{Bucket as _, Clock as _, Connection as _, UnixTime};

use super::laboratory::{Conn, Laboratory, LinkVerb, Setup, Stop, sleep, try_connect};
use super::transcript::{Transcript, during, line, rest, told, until_told};

super::facts!("logins" {
    only_good_credentials_are_let_in: "jwt 4 (f) wrong key" with Setup::OPERATOR_MODE,
    a_token_is_valid_from_its_first_second: "jwt 4 (e) nbf boundary" with Setup::OPERATOR_MODE,
    a_token_is_valid_to_its_last_second: "jwt 5 boundary" with Setup::OPERATOR_MODE,
    the_kick_comes_at_exp_and_the_phase_of_the_login: "jwt 0.1, 5 kick delay"
        with Setup::OPERATOR_MODE,
    the_servers_clock_is_the_one_that_counts: "jwt 5 boundary; 1 revisions are dated by the server"
        with Setup::OPERATOR_MODE,
    who_does_not_log_in_is_hung_up: "jwt 3 callback takes > 2 s" with Setup::OPERATOR_MODE,
    accounts_share_nothing: "2 operator mode; accounts are apart" with Setup::OPERATOR_MODE,
    limits_are_the_accounts: "jwt 1 account limits" with Setup::OPERATOR_MODE,
});

/// A client that logs in with these credentials.
pub(super) async fn knock<L: Laboratory>(
    lab: &L,
    link: &str,
    credentials: &CredentialsCell,
) -> Result<Result<Conn<L>, ConnectError>, Stop> {
    let cell = Some(credentials.clone());
    try_connect(lab, link, |options| options.credentials = cell).await
}

/// A client that is let in.
pub(super) async fn log_in<L: Laboratory>(
    lab: &L,
    link: &str,
    credentials: &CredentialsCell,
) -> Result<Conn<L>, Stop> {
    Ok(knock(lab, link, credentials).await??)
}

/// The credentials of the user `alice` of `app`, changed.
pub(super) fn alice<L: Laboratory>(lab: &L, change: impl FnOnce(&mut Claims)) -> Credentials {
    lab.issuer().user("app", "alice", change)
}

/// The second that it is now, and some.
pub(super) fn second<L: Laboratory>(lab: &L, later: i64) -> UnixTime {
    UnixTime::from_secs(lab.clock().wall().as_secs() + later)
}

/// Waits until the present second is so old, and not much older.
pub(super) async fn phase<L: Laboratory>(lab: &L, phase: Duration) {
    let nanos = lab.clock().wall().as_nanos().rem_euclid(1_000_000_000);
    let old = Duration::from_nanos(nanos.unsigned_abs());
    let wait = match phase.checked_sub(old) {
        Some(wait) => wait,
        None => phase + Duration::from_secs(1) - old,
    };
    sleep(lab, wait).await;
}

/// What became of a login.
fn outcome<T>(result: &Result<T, ConnectError>) -> String {
    match result {
        Ok(_) => "let in".to_owned(),
        Err(ConnectError::Auth(text)) => format!("refused: {text}"),
        Err(other) => format!("failed: {other}"),
    }
}

const REFUSED: &str = "refused: Authorization Violation";

async fn only_good_credentials_are_let_in<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let issuer = lab.issuer();
    let good = alice(lab, |_| {});
    let signed_by = |role, name: &str| {
        let token = mint(&issuer.claims("alice"), &issuer.key(role, name));
        Credentials::new(token, good.seed().clone())
    };
    let vouched = {
        let mut claims = issuer.claims("alice");
        claims.vouch_for(&issuer.key(Role::Account, "app").public());
        let token = mint(&claims, &issuer.key(Role::Account, "unknown"));
        Credentials::new(token, good.seed().clone())
    };
    let tampered = {
        let other = alice(lab, |claims| claims.name = "root".to_owned());
        let parts: Vec<&str> = good.jwt().split('.').collect();
        let payload = other.jwt().split('.').nth(1).unwrap_or_default();
        let token = [parts[0], payload, parts[2]].join(".");
        Credentials::new(token, good.seed().clone())
    };
    let other_seed = issuer.key(Role::User, "bob").seed();
    let wrong = [
        ("another account's", signed_by(Role::Account, "foreign")),
        ("an unknown signing key's", vouched),
        ("signed by a user", signed_by(Role::User, "alice")),
        ("tampered", tampered),
        (
            "another's seed",
            Credentials::new(good.jwt().clone(), other_seed),
        ),
        ("garbage", Credentials::new("garbage", good.seed().clone())),
        ("empty", Credentials::new("", good.seed().clone())),
        (
            "an account's",
            Credentials::new(issuer.account("app", |_, _| {}), good.seed().clone()),
        ),
    ];
    for (what, credentials) in wrong {
        let cell = CredentialsCell::filled(credentials);
        t.is(what, outcome(&knock(lab, "near", &cell).await?), REFUSED);
    }
    let empty = CredentialsCell::new();
    t.is(
        "nobody",
        outcome(&knock(lab, "near", &empty).await?),
        REFUSED,
    );
    let without = try_connect(lab, "near", |_| {}).await?;
    t.is("no cell", outcome(&without), REFUSED);
    let garbled = CredentialsCell::filled(Credentials::new(good.jwt().clone(), Seed::new("SUX")));
    let garbled = knock(lab, "near", &garbled).await?;
    t.is(
        "no seed",
        outcome(&garbled).split(':').next().unwrap_or(""),
        "refused",
    );
    let cell = CredentialsCell::filled(good);
    let near = knock(lab, "near", &cell).await?;
    t.is("good", outcome(&near), "let in");
    let near = near?;
    let login = near.login().map(|login| login.to_string());
    t.is("login", login.unwrap_or_default(), "generation 1");
    t.is("flush", told(&near.flush().await), "done");
    Ok(())
}

/// What comes of a login in one and the same second of the server; asked again where the second ended meanwhile.
async fn in_one_second<L: Laboratory>(
    lab: &L,
    change: impl Fn(&mut Claims, UnixTime),
) -> Result<(String, Vec<String>), Stop> {
    for _ in 0..10 {
        phase(lab, Duration::from_millis(100)).await;
        let now = second(lab, 0);
        let cell = CredentialsCell::filled(alice(lab, |claims| change(claims, now)));
        let knocked = knock(lab, "near", &cell).await?;
        if second(lab, 0) != now {
            continue;
        }
        let said = match &knocked {
            Ok(near) => during(lab, &mut near.events(), Duration::from_millis(50)).await,
            Err(_) => Vec::new(),
        };
        return Ok((outcome(&knocked), said));
    }
    Err(Stop("no login was done within one second".to_owned()))
}

async fn a_token_is_valid_from_its_first_second<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    for (later, fact) in [(0, "let in"), (1, REFUSED), (30, REFUSED)] {
        let (outcome, said) = in_one_second(lab, |claims, now| {
            claims.not_before = Some(now + Duration::from_secs(later));
        })
        .await?;
        t.is(&format!("{later} s early"), outcome, fact);
        t.is("then", line(&said), "nothing");
    }
    let (outcome, _) = in_one_second(lab, |claims, now| {
        claims.issued = now + Duration::from_secs(60);
    })
    .await?;
    t.is("issued in the future", outcome, "let in");
    Ok(())
}

async fn a_token_is_valid_to_its_last_second<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (outcome, _) = in_one_second(lab, |claims, now| {
        claims.expires = Some(UnixTime::from_secs(now.as_secs() - 1));
    })
    .await?;
    t.is("a second late", outcome, REFUSED);
    let mut was_in = 0;
    for _ in 0..6 {
        let (outcome, said) = in_one_second(lab, |claims, now| claims.expires = Some(now)).await?;
        was_in += usize::from(outcome == "let in");
        let is_kicked = match &*outcome {
            // What came between the connect and the first look at its events was missed.
            "let in" => said.iter().all(|event| !event.contains("Violation")),
            "refused: User Authentication Expired" => true,
            _ => false,
        };
        t.is("the last second", is_kicked.to_string(), "true");
    }
    // A toss, decided by the server's threads.
    t.counts("let in first", was_in, 0, 6);
    Ok(())
}

async fn the_kick_comes_at_exp_and_the_phase_of_the_login<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let phases = [50, 250, 500, 750, 900].map(Duration::from_millis);
    let watched = phases.map(|at| async move {
        phase(lab, at).await;
        let end = second(lab, 2);
        let cell = CredentialsCell::filled(alice(lab, |claims| claims.expires = Some(end)));
        let begun = lab.clock().wall();
        let client = log_in(lab, &format!("at {at:?}"), &cell).await?;
        let taken = lab.clock().wall().since(begun);
        let mut events = client.events();
        // The next one may do.
        cell.fill(alice(lab, |_| {}));
        let said = until_told(
            lab,
            &mut events,
            "disconnected: User Authentication Expired",
        )
        .await;
        let late = lab.clock().wall().since(end);
        let phase = Duration::from_nanos(begun.as_nanos().rem_euclid(1_000_000_000).unsigned_abs());
        Ok::<_, Stop>((said, late, phase, taken))
    });
    for watched in futures_util::future::join_all(watched).await {
        let (said, late, phase, taken) = watched?;
        let fact = "auth error: User Authentication Expired, \
                    disconnected: User Authentication Expired";
        t.is("said", line(&said), fact);
        t.is(
            "not early",
            (late + Duration::from_millis(2) >= phase).to_string(),
            "true",
        );
        let slack = late.saturating_sub(phase).saturating_sub(taken);
        t.lasts("after the phase", slack, 0, 150);
    }
    Ok(())
}

async fn the_servers_clock_is_the_one_that_counts<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let ahead = Duration::from_secs(3600);
    let half = Duration::from_secs(1800);
    lab.set_ahead("far", ahead);
    let theirs = lab.wall("far");
    // Ended half an hour ago, and valid from now on, by the clock of whoever issued it.
    for (what, end, begin, fact) in [
        ("ended there", Some(theirs - half), None, "let in"),
        ("begun there", None, Some(theirs), REFUSED),
    ] {
        let cell = CredentialsCell::filled(alice(lab, |claims| {
            claims.issued = theirs;
            (claims.expires, claims.not_before) = (end, begin);
        }));
        let knocked = knock(lab, "far", &cell).await?;
        t.is(what, outcome(&knocked), fact);
    }
    let far = log_in(lab, "far", &CredentialsCell::filled(alice(lab, |_| {}))).await?;
    let bucket = far.create_bucket(&BucketConfig::new("b")).await?;
    bucket.put("k", "v".into()).await?;
    let entry = bucket.entry("k").await?;
    let entry = entry.ok_or_else(|| Stop("there is no record".to_owned()))?;
    let age = lab.wall("far").since(entry.created);
    t.lasts(
        "a record just put is old by that clock",
        age,
        3_599_000,
        3_620_000,
    );
    Ok(())
}

async fn who_does_not_log_in_is_hung_up<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let cell = CredentialsCell::filled(alice(lab, |_| {}));
    log_in(lab, "near", &cell).await?.close().await;
    lab.link("near", LinkVerb::HoldAnswers);
    let knocking = async {
        try_connect(lab, "near", |options| {
            options.credentials = Some(cell.clone());
            options.connect_timeout = Duration::from_secs(10);
        })
        .await
    };
    let release = async {
        sleep(lab, Duration::from_millis(2500)).await;
        lab.link("near", LinkVerb::ReleaseAnswers);
    };
    let (knocked, ()) = futures_util::future::join(knocking, release).await;
    t.is(
        "outcome",
        outcome(&knocked?),
        "refused: Authentication Timeout",
    );
    Ok(())
}

async fn accounts_share_nothing<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let of = |account: &str| {
        let credentials = lab.issuer().user(account, "alice", |_| {});
        CredentialsCell::filled(credentials)
    };
    let (app, other) = (of("app"), of("other"));
    let near = log_in(lab, "near", &app).await?;
    let far = log_in(lab, "far", &other).await?;
    let mut here = near.subscribe(">", None).await?;
    let mut there = far.subscribe("x.*", None).await?;
    near.flush().await?;
    far.flush().await?;
    let hello = squall_core::transport::Message::new("x.y", "hello");
    far.publish(hello.clone()).await?;
    t.is("its own", line(&rest(lab, &mut there).await), "x.y=hello");
    let heard = rest(lab, &mut here).await;
    let strange = heard.iter().filter(|heard| !heard.starts_with("_INBOX"));
    t.is("the other's", strange.count().to_string(), "0");
    drop(here);
    // The drop is noticed by a task beside.
    rest(lab, &mut there).await;
    near.flush().await?;
    t.is(
        "nobody there",
        told(&near.request(hello).await),
        "refused (no responders)",
    );
    let config = super::laboratory::config(|_| {});
    let mine = near.create_bucket(&config).await?;
    let other = far.bucket("b")?;
    t.note(
        "not its bucket",
        told(&squall_core::Bucket::put(&other, "k", "v".into()).await),
    );
    let theirs = far.create_bucket(&config).await?;
    for (bucket, value) in [(&mine, "mine"), (&theirs, "theirs")] {
        let put = squall_core::Bucket::put(bucket, "k", value.into()).await;
        t.is("put", told(&put), "@1");
    }
    for (bucket, fact) in [(&mine, "k=mine@1"), (&theirs, "k=theirs@1")] {
        t.is(
            "entry",
            told(&squall_core::Bucket::entry(bucket, "k").await),
            fact,
        );
    }
    far.delete_bucket("b").await?;
    t.is(
        "still there",
        told(&squall_core::Bucket::entry(&mine, "k").await),
        "k=mine@1",
    );
    Ok(())
}

async fn limits_are_the_accounts<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let cell = CredentialsCell::filled(alice(lab, |_| {}));
    let near = log_in(lab, "near", &cell).await?;
    let mut events = near.events();
    let pushed = super::rotation::push(lab, "app", |account, _| {
        if let Some(limits) = &mut account.limits {
            limits.conn = 1;
        }
    });
    t.is("pushed", pushed.await?, "jwt updated");
    let second = knock(lab, "far", &cell).await?;
    let text = match &second {
        Err(ConnectError::Unreachable(text)) => text.to_string(),
        other => outcome(other),
    };
    t.is(
        "one too many",
        text,
        "maximum account active connections exceeded",
    );
    t.note(
        "the first",
        line(&during(lab, &mut events, Duration::from_millis(700)).await),
    );
    if let Ok(far) = &second {
        t.note(
            "far",
            line(&during(lab, &mut far.events(), Duration::from_millis(700)).await),
        );
    }
    let pushed = super::rotation::push(lab, "app", |account, _| {
        if let Some(limits) = &mut account.limits {
            (limits.mem_storage, limits.disk_storage) = (0, 0);
        }
    });
    t.is("pushed", pushed.await?, "jwt updated");
    let config = super::laboratory::config(|_| {});
    let made = near.create_bucket(&config).await;
    t.is(
        "without JetStream",
        super::transcript::went(&made),
        "refused (JetStream not enabled for account (code 503, error code 10039))",
    );
    Ok(())
}
