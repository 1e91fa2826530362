//! Permissions: what a user may not do, and how little of it the user is told.

use std::time::Duration;

use squall_core::transport::{CredentialsCell, Message};
use squall_core::{Bucket as _, Connection as _};

use super::laboratory::{Conn, Laboratory, Setup, Stop, config, connect_with, timed};
use super::logins::{alice, knock, log_in};
use super::transcript::{Transcript, line, rest, told, until_told};

super::facts!("permissions" {
    what_is_denied_is_an_event_and_no_error: "jwt 4 (i) publish, subscribe, request denied"
        with Setup::OPERATOR_MODE,
    a_part_may_be_denied: "jwt 4 (i) allow ok.>, deny ok.secret" with Setup::OPERATOR_MODE,
    a_subscription_is_judged_by_its_subject: "jwt 4 (i) allow and wildcards"
        with Setup::OPERATOR_MODE,
    queue_groups_have_permissions_of_their_own: "jwt 4 (i) queue subscribe"
        with Setup::OPERATOR_MODE,
    a_bucket_without_permission_is_silent: "jwt 4 (i) JS/KV without permission"
        with Setup::OPERATOR_MODE,
    a_flush_needs_the_own_inbox: "the seam: flush is a message to the own inbox"
        with Setup::OPERATOR_MODE,
    a_narrower_token_silences_until_a_wider_one: "jwt 4 (i) narrower JWT on reconnect"
        with Setup::OPERATOR_MODE,
});

fn restricted<L: Laboratory>(lab: &L, allow: &[&str], deny: &[&str]) -> CredentialsCell {
    CredentialsCell::filled(alice(lab, |claims| claims.restrict(allow, deny)))
}

/// Somebody of the same account who may do everything.
async fn free<L: Laboratory>(lab: &L) -> Result<Conn<L>, Stop> {
    let bob = lab.issuer().user("app", "bob", |_| {});
    log_in(lab, "far", &CredentialsCell::filled(bob)).await
}

async fn what_is_denied_is_an_event_and_no_error<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let cell = restricted(lab, &["ok.>", "_INBOX.>"], &[]);
    let near = connect_with(lab, "near", |options| {
        options.credentials = Some(cell);
        options.request_timeout = Duration::from_millis(800);
    })
    .await?;
    let far = free(lab).await?;
    let mut events = near.events();
    let mut heard = far.subscribe("no.>", None).await?;
    far.flush().await?;
    let published = near.publish(Message::new("no.x", "m")).await;
    t.is("publish", told(&published), "done");
    let mut denied = near.subscribe("no.y", None).await?;
    let mut grouped = near.subscribe("no.y", Some("grp")).await?;
    near.flush().await?;
    far.publish(Message::new("no.y", "m")).await?;
    let fact = "server error: Permissions Violation for Publish to \"no.x\", \
                server error: Permissions Violation for Subscription to \"no.y\", \
                server error: Permissions Violation for Subscription to \"no.y\" using queue \"grp\"";
    t.is("said", line(&rest(lab, &mut events).await), fact);
    t.is("heard of it", line(&rest(lab, &mut heard).await), "no.y=m");
    t.is("denied", line(&rest(lab, &mut denied).await), "nothing");
    t.is(
        "denied group",
        line(&rest(lab, &mut grouped).await),
        "nothing",
    );
    let (time, answer) = timed(lab, near.request(Message::new("no.z", "m"))).await;
    t.is("request", told(&answer), "unknown (no answer in time)");
    t.lasts("request", time, 790, 1500);
    let fact = "server error: Permissions Violation for Publish to \"no.z\"";
    t.is("said", line(&rest(lab, &mut events).await), fact);
    t.is("state", format!("{:?}", near.state()), "Connected");
    Ok(())
}

async fn a_part_may_be_denied<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let cell = restricted(lab, &["ok.>", "_INBOX.>"], &["ok.secret"]);
    let near = log_in(lab, "near", &cell).await?;
    let far = free(lab).await?;
    let mut events = near.events();
    let mut heard = near.subscribe("ok.*", None).await?;
    near.flush().await?;
    for subject in ["ok.a", "ok.secret", "ok.b"] {
        far.publish(Message::new(subject, "m")).await?;
    }
    t.is(
        "heard",
        line(&rest(lab, &mut heard).await),
        "ok.a=m, ok.b=m",
    );
    t.is("said", line(&rest(lab, &mut events).await), "nothing");
    near.subscribe("ok.secret", None).await?;
    near.publish(Message::new("ok.secret", "m")).await?;
    let said = rest(lab, &mut events).await;
    let fact = "server error: Permissions Violation for Subscription to \"ok.secret\", \
                server error: Permissions Violation for Publish to \"ok.secret\"";
    t.is("said", line(&said), fact);
    Ok(())
}

async fn a_subscription_is_judged_by_its_subject<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let cell = restricted(lab, &["a.*", "b.>", "c", "_INBOX.>"], &["b.no.>"]);
    let near = log_in(lab, "near", &cell).await?;
    let mut events = near.events();
    for subject in [
        "a.x", "a.*", "a.>", "a", "a.x.y", "b.x", "b.*", "b.>", "b", "b.no", "b.no.x", "b.no.*",
        "b.no.>", "b.*.x", "c", "*", ">", "*.x",
    ] {
        let _subscribed = near.subscribe(subject, None).await?;
        near.flush().await?;
        let said = during_flush(lab, &mut events).await;
        t.note(subject, if said.is_empty() { "allowed" } else { "denied" });
    }
    for subject in ["a.x", "a.*", "a.>", "a.x.y", "b.no", "b.no.x", "b.*", "c"] {
        near.publish(Message::new(subject, "m")).await?;
        near.flush().await?;
        let said = during_flush(lab, &mut events).await;
        t.note(
            &format!("publish {subject}"),
            if said.is_empty() { "allowed" } else { "denied" },
        );
    }
    Ok(())
}

/// What was told up to the end of a flush; events come a little later than messages.
async fn during_flush<L: Laboratory>(
    lab: &L,
    events: &mut squall_core::transport::Events,
) -> Vec<String> {
    super::transcript::during(lab, events, Duration::from_millis(30)).await
}

async fn queue_groups_have_permissions_of_their_own<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let everywhere = restricted(lab, &["q workers"], &[]);
    let refused = knock(lab, "near", &everywhere).await?;
    t.is("for publishers too", refused.is_err().to_string(), "true");
    let cell = CredentialsCell::filled(alice(lab, |claims| {
        claims.restrict(&["q workers", "r", "s.> w.*", "_INBOX.>"], &["r banned"]);
        claims.let_publish_anywhere();
    }));
    let near = log_in(lab, "near", &cell).await?;
    let mut events = near.events();
    for (subject, queue) in [
        ("q", None),
        ("q", Some("workers")),
        ("q", Some("others")),
        ("r", None),
        ("r", Some("any")),
        ("r", Some("banned")),
        ("s.x", Some("w.1")),
        ("s.x", Some("w")),
        ("s.x", None),
    ] {
        let _subscribed = near.subscribe(subject, queue).await?;
        near.flush().await?;
        let said = during_flush(lab, &mut events).await;
        let outcome = if said.is_empty() { "allowed" } else { "denied" };
        t.note(&format!("{subject} {queue:?}"), outcome);
    }
    Ok(())
}

async fn a_bucket_without_permission_is_silent<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let far = free(lab).await?;
    let theirs = far.create_bucket(&config(|_| {})).await?;
    theirs.put("k", "v".into()).await?;
    let cell = restricted(
        lab,
        &["$KV.b.mine", "$JS.API.DIRECT.GET.>", "_INBOX.>"],
        &[],
    );
    let near = connect_with(lab, "near", |options| {
        options.credentials = Some(cell);
        options.request_timeout = Duration::from_millis(500);
        options.ack_timeout = Duration::from_millis(500);
    })
    .await?;
    let mut events = near.events();
    let mine = near.bucket("b")?;
    t.is("allowed", told(&mine.put("mine", "v".into()).await), "@2");
    t.is("read", told(&mine.entry("k").await), "k=v@1");
    t.is(
        "nothing yet",
        line(&rest(lab, &mut events).await),
        "nothing",
    );
    t.note("put", told(&mine.put("k", "v".into()).await));
    t.note("info", told(&mine.info().await));
    t.note("delete", told(&near.delete_bucket("b").await));
    let fact = "server error: Permissions Violation for Publish to \"$KV.b.k\", \
                server error: Permissions Violation for Publish to \"$JS.API.STREAM.INFO.KV_b\", \
                server error: Permissions Violation for Publish to \"$JS.API.STREAM.DELETE.KV_b\"";
    t.is("said", line(&rest(lab, &mut events).await), fact);
    t.is("untouched", told(&theirs.entry("k").await), "k=v@1");
    Ok(())
}

async fn a_flush_needs_the_own_inbox<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let cell = restricted(lab, &["ok"], &[]);
    let near = connect_with(lab, "near", |options| {
        options.credentials = Some(cell);
        options.request_timeout = Duration::from_millis(500);
    })
    .await?;
    let mut events = near.events();
    let flushed = near.flush().await;
    t.is(
        "flush",
        told(&flushed),
        "unknown (the server did not answer in time)",
    );
    // The inboxes have names of their own in each world.
    let said = rest(lab, &mut events).await;
    let said = said
        .iter()
        .map(|said| said.split('"').next().unwrap_or_default().to_owned());
    let said: Vec<String> = said.collect();
    let fact = "server error: Permissions Violation for Subscription to , \
                server error: Permissions Violation for Publish to ";
    t.is("said", line(&said), fact);
    Ok(())
}

async fn a_narrower_token_silences_until_a_wider_one<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let cell = restricted(lab, &["a", "b", "_INBOX.>"], &[]);
    let near = log_in(lab, "near", &cell).await?;
    let far = free(lab).await?;
    let mut events = near.events();
    let mut heard = near.subscribe("a", None).await?;
    near.flush().await?;
    let again = |allow: &'static [&'static str]| alice(lab, |claims| claims.restrict(allow, &[]));
    cell.fill(again(&["b", "_INBOX.>"]));
    near.reconnect().await;
    let denial = "server error: Permissions Violation for Subscription to \"a\"";
    let said = until_told(lab, &mut events, denial).await;
    let fact = "disconnected: link lost, logging in with 2, reconnected";
    t.is("narrower", line(&said), &format!("{fact}, {denial}"));
    far.publish(Message::new("a", "1")).await?;
    t.is("silent", line(&rest(lab, &mut heard).await), "nothing");
    cell.fill(again(&["a", "_INBOX.>"]));
    near.reconnect().await;
    let said = until_told(lab, &mut events, "reconnected").await;
    let fact = "disconnected: link lost, logging in with 3, reconnected";
    t.is("wider", line(&said), fact);
    near.flush().await?;
    far.publish(Message::new("a", "2")).await?;
    t.is("alive again", line(&rest(lab, &mut heard).await), "a=2");
    Ok(())
}
