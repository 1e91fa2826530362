//! Rotation: what a client meets when its token ends, is replaced, or is taken back.

use std::time::Duration;

use squall_core::jwt::{Account, KeyPair as _, Role, mint};
use squall_core::transport::{
    ConnectionEvent, ConnectionState, Credentials, CredentialsCell, Message, WatchStart,
};
use squall_core::{Bucket as _, Clock as _, Connection as _, UnixTime};

use super::laboratory::{Laboratory, Setup, Stop, config, sleep, soon};
use super::logins::{alice, log_in, phase, second};
use super::transcript::{Transcript, during, line, rest, told, until_told};

super::facts!("rotation" {
    a_new_token_is_taken_at_the_kick: "jwt 4 (b) new jwt ready" with Setup::OPERATOR_MODE,
    an_old_token_flaps_and_then_backs_off: "jwt 4 (a) old jwt; (b) new jwt late"
        with Setup::OPERATOR_MODE,
    a_reconnect_takes_the_new_token_before_the_end: "jwt 3, 4 (c) force_reconnect"
        with Setup::OPERATOR_MODE,
    several_reconnects_at_once_are_one: "jwt 3 back-to-back calls" with Setup::OPERATOR_MODE,
    a_revoked_user_is_put_out: "jwt 4 (d) user in revocations" with Setup::OPERATOR_MODE,
    whom_nobody_vouches_for_is_cut_off: "jwt 4 (d) signing key removed" with Setup::OPERATOR_MODE,
    an_account_ends_with_all_its_users: "jwt 4 (d) account JWT expires; 2 the push is not stored" with Setup::OPERATOR_MODE,
});

const KICKED: &str =
    "auth error: User Authentication Expired, disconnected: User Authentication Expired";

/// The system account pushes an account's new token; the server's answer.
pub(super) async fn push<L: Laboratory>(
    lab: &L,
    account: &str,
    change: impl FnOnce(&mut Account, &mut Option<UnixTime>),
) -> Result<String, Stop> {
    let issuer = lab.issuer();
    let admin = issuer.user(crate::issuer::SYSTEM, "admin", |_| {});
    let system = log_in(lab, "system", &CredentialsCell::filled(admin)).await?;
    let token = issuer.account(account, change);
    let answer = system
        .request(Message::new(issuer.update_subject(account), token))
        .await?;
    let answer: serde_json::Value = serde_json::from_slice(&answer.payload)?;
    let said = answer["data"]["message"].as_str();
    Ok(said.map_or_else(|| answer.to_string(), str::to_owned))
}

/// Credentials that end so many seconds after the present one.
fn ending<L: Laboratory>(lab: &L, later: i64) -> (CredentialsCell, UnixTime) {
    let end = second(lab, later);
    let cell = CredentialsCell::filled(alice(lab, |claims| claims.expires = Some(end)));
    (cell, end)
}

async fn a_new_token_is_taken_at_the_kick<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    phase(lab, Duration::from_millis(300)).await;
    let (cell, _) = ending(lab, 2);
    let client = log_in(lab, "near", &cell).await?;
    let mut events = client.events();
    let other = CredentialsCell::filled(alice(lab, |_| {}));
    let other = log_in(lab, "far", &other).await?;
    let mut messages = client.subscribe("s", None).await?;
    client.flush().await?;
    t.is("filled", cell.fill(alice(lab, |_| {})).to_string(), "2");
    let before = client.login();
    let said = until_told(lab, &mut events, "reconnected").await;
    t.is(
        "said",
        line(&said),
        &format!("{KICKED}, logging in with 2, reconnected"),
    );
    t.is(
        "another login",
        (client.login() != before).to_string(),
        "true",
    );
    client.flush().await?;
    other.publish(Message::new("s", "m")).await?;
    t.is(
        "still subscribed",
        line(&rest(lab, &mut messages).await),
        "s=m",
    );
    t.is(
        "quiet since",
        line(&rest(lab, &mut events).await),
        "nothing",
    );
    Ok(())
}

async fn an_old_token_flaps_and_then_backs_off<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    phase(lab, Duration::from_millis(300)).await;
    let (cell, end) = ending(lab, 1);
    let client = log_in(lab, "near", &cell).await?;
    let mut events = client.events();
    let other = CredentialsCell::filled(alice(lab, |_| {}));
    let other = log_in(lab, "far", &other).await?;
    let theirs = other.create_bucket(&config(|_| {})).await?;
    let mine = client.bucket("b")?;
    let mut watch = mine.watch(">", WatchStart::Now).await?;
    let said = until_told(
        lab,
        &mut events,
        "disconnected: User Authentication Expired",
    )
    .await;
    t.is("kicked", line(&said), KICKED);
    // To the end of the poisonous second, and what was under way then.
    let over = end + Duration::from_millis(1050);
    sleep(lab, over.since(lab.clock().wall())).await;
    let mut attempts = 0;
    let mut others = Vec::new();
    while let Some(event) = events.try_next() {
        match event {
            ConnectionEvent::LoggingIn(login) => {
                attempts += 1;
                t.must("every attempt shows its end", login.expires == Some(end));
            }
            ConnectionEvent::AuthError(text) if text.starts_with("User Auth") => {}
            ConnectionEvent::Disconnected(cause) if cause.to_string().starts_with("User") => {}
            ConnectionEvent::Reconnected => {}
            // The second is over, to within its ends.
            ConnectionEvent::AuthError(text) if *text == *"Authorization Violation" => {}
            // Where the server hung up before the client had said anything.
            ConnectionEvent::ReconnectFailed(_) => {}
            ConnectionEvent::Disconnected(cause) if cause.to_string() == "link lost" => {}
            other => others.push(other.to_string()),
        }
    }
    t.is("nothing else", line(&others), "nothing");
    t.counts("attempts in the last second", attempts, 8, 600);
    let said = during(lab, &mut events, Duration::from_millis(1500)).await;
    let violations = said
        .iter()
        .filter(|said| said.contains("Violation"))
        .count();
    t.counts("refusals in the next second and a half", violations, 1, 11);
    let mut kinds = said.clone();
    kinds.sort();
    kinds.dedup();
    t.is(
        "refused",
        line(&kinds),
        "auth error: Authorization Violation, logging in with 1",
    );
    t.is("state", format!("{:?}", client.state()), "Disconnected");
    t.is(
        "publish",
        told(&client.publish(Message::new("late", "m")).await),
        "done",
    );
    let mut late = other.subscribe("late", None).await?;
    t.is("put", told(&theirs.put("k", "v".into()).await), "@1");
    cell.fill(alice(lab, |_| {}));
    let said = until_told(lab, &mut events, "reconnected").await;
    t.is(
        "taken",
        said.iter()
            .any(|said| said == "logging in with 2")
            .to_string(),
        "true",
    );
    t.is(
        "published late",
        line(&until_told(lab, &mut late, "late=m").await),
        "late=m",
    );
    let seen = until_told(lab, &mut watch, "k=v@1").await;
    t.is(
        "the watch caught up",
        seen.last().map_or("", |last| last),
        "k=v@1",
    );
    Ok(())
}

async fn a_reconnect_takes_the_new_token_before_the_end<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    phase(lab, Duration::from_millis(300)).await;
    let (cell, end) = ending(lab, 2);
    let client = log_in(lab, "near", &cell).await?;
    let other = CredentialsCell::filled(alice(lab, |_| {}));
    let other = log_in(lab, "far", &other).await?;
    let mut asked = other.subscribe("ask", None).await?;
    other.flush().await?;
    let mut events = client.events();
    let answer = async {
        let question = soon(lab, "the question", asked.next()).await?;
        sleep(lab, Duration::from_millis(400)).await;
        if let Some(reply) = question.and_then(|question| question.reply) {
            other.publish(Message::new(reply, "answer")).await?;
        }
        Ok::<_, Stop>(())
    };
    let swap = async {
        sleep(lab, Duration::from_millis(150)).await;
        cell.fill(alice(lab, |_| {}));
        client.reconnect().await;
    };
    let (answered, said, ()) = futures_util::join!(
        client.request(Message::new("ask", "question")),
        answer,
        swap
    );
    said?;
    let answered = answered.map(|answer| String::from_utf8_lossy(&answer.payload).into_owned());
    t.is("in flight", answered.unwrap_or_default(), "answer");
    let said = rest(lab, &mut events).await;
    t.is(
        "said",
        line(&said),
        "disconnected: link lost, logging in with 2, reconnected",
    );
    sleep(
        lab,
        (end + Duration::from_millis(1100)).since(lab.clock().wall()),
    )
    .await;
    t.is(
        "at the old end",
        line(&rest(lab, &mut events).await),
        "nothing",
    );
    t.is(
        "state",
        format!("{:?}", client.state() == ConnectionState::Connected),
        "true",
    );
    Ok(())
}

async fn several_reconnects_at_once_are_one<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let cell = CredentialsCell::filled(alice(lab, |_| {}));
    let client = log_in(lab, "near", &cell).await?;
    let mut events = client.events();
    for _ in 0..5 {
        client.reconnect().await;
    }
    let once = "disconnected: link lost, logging in with 1, reconnected";
    t.is("at once", line(&rest(lab, &mut events).await), once);
    for _ in 0..2 {
        client.reconnect().await;
        t.is("one by one", line(&rest(lab, &mut events).await), once);
    }
    client.close().await;
    client.reconnect().await;
    t.is("closed", format!("{:?}", client.state()), "Closed");
    Ok(())
}

async fn a_revoked_user_is_put_out<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let now = second(lab, 0);
    let issued_at = |later: u64| {
        alice(lab, |claims| {
            claims.issued = now + Duration::from_secs(later)
        })
    };
    let cell = CredentialsCell::filled(issued_at(0));
    let client = log_in(lab, "near", &cell).await?;
    let bob = CredentialsCell::filled(lab.issuer().user("app", "bob", |_| {}));
    let bob = log_in(lab, "far", &bob).await?;
    let (mut events, mut unconcerned) = (client.events(), bob.events());
    let key = lab.issuer().key(Role::User, "alice").public();
    let pushed = push(lab, "app", |account, _| {
        account.revocations.insert(key.to_string(), now.as_secs());
    });
    t.is("pushed", pushed.await?, "jwt updated");
    let said = until_told(lab, &mut events, "auth error: Authorization Violation").await;
    let fact = "auth error: User Authentication Revoked, \
                disconnected: User Authentication Revoked, \
                logging in with 1, auth error: Authorization Violation";
    t.is("said", line(&said), fact);
    let said = during(lab, &mut events, Duration::from_millis(600)).await;
    let refusals = said
        .iter()
        .filter(|said| said.contains("Violation"))
        .count();
    t.counts("refusals in 0.6 s", refusals, 4, 10);
    cell.fill(issued_at(1));
    let said = until_told(lab, &mut events, "reconnected").await;
    t.is(
        "a later token",
        said.last().map_or("", |last| last),
        "reconnected",
    );
    t.is(
        "the others",
        line(&rest(lab, &mut unconcerned).await),
        "nothing",
    );
    Ok(())
}

async fn whom_nobody_vouches_for_is_cut_off<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let issuer = lab.issuer();
    let direct = CredentialsCell::filled(alice(lab, |_| {}));
    // An account is read, and can be updated, from the first login on.
    let first = log_in(lab, "far", &direct).await?;
    let signer = issuer.key(Role::Account, "signer");
    let key = signer.public().to_string();
    let pushed = push(lab, "app", |account, _| {
        account.signing_keys.insert(key);
    });
    t.is("pushed", pushed.await?, "jwt updated");
    let mut claims = issuer.claims("alice");
    claims.vouch_for(&issuer.key(Role::Account, "app").public());
    let seed = issuer.key(Role::User, "alice").seed();
    let cell = CredentialsCell::filled(Credentials::new(mint(&claims, &signer), seed));
    let client = log_in(lab, "near", &cell).await?;
    let (mut events, mut unconcerned) = (client.events(), first.events());
    t.is("removed", push(lab, "app", |_, _| {}).await?, "jwt updated");
    let said = until_told(lab, &mut events, "auth error: Authorization Violation").await;
    let fact = "disconnected: link lost, logging in with 1, auth error: Authorization Violation";
    t.is("said", line(&said), fact);
    t.is(
        "the others",
        line(&rest(lab, &mut unconcerned).await),
        "nothing",
    );
    t.is(
        "other account",
        push(lab, "other", |_, _| {}).await?,
        "jwt update skipped",
    );
    Ok(())
}

async fn an_account_ends_with_all_its_users<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let cell = CredentialsCell::filled(alice(lab, |_| {}));
    let client = log_in(lab, "near", &cell).await?;
    let mut events = client.events();
    phase(lab, Duration::from_millis(400)).await;
    let end = second(lab, 2);
    let pushed = push(lab, "app", |_, expires| *expires = Some(end)).await?;
    let taken = lab.clock().wall().since(end - Duration::from_millis(1600));
    t.is("pushed", pushed, "jwt updated");
    let kicked = "disconnected: Account Authentication Expired";
    let said = until_told(lab, &mut events, kicked).await;
    let late = lab.clock().wall().since(end);
    t.is(
        "said",
        line(&said),
        &format!("auth error: Account Authentication Expired, {kicked}"),
    );
    t.is(
        "not early",
        (late >= Duration::from_millis(395)).to_string(),
        "true",
    );
    let slack = late
        .saturating_sub(Duration::from_millis(400))
        .saturating_sub(taken);
    t.lasts("after the phase of the push", slack, 0, 150);
    // The next login reads the account's token anew, and what was pushed is not where the server looks.
    let said = until_told(lab, &mut events, "reconnected").await;
    t.is("then", line(&said), "logging in with 1, reconnected");
    Ok(())
}
