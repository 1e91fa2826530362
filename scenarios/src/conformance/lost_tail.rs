//! A loss of power: what was acknowledged and not synced is gone, and its sequences are given out again.
//!
//! On a real server the store is put back to a copy of what it was earlier: that is what a machine finds on its disk, had
//! its files been synced then and never since. (To kill the process loses nothing: the kernel keeps what was written.)

use squall_core::transport::{
    Bucket as _, JetStream as _, Message, ReadStart, Revision, StoreOptions, Stream as _,
    WatchStart,
};

use super::laboratory::{Laboratory, ServerVerb, Stop, bucket, config, until};
use super::streams::{self, id, store, stream};
use super::transcript::{Transcript, line, rest, told, until_told};

super::facts!("lost_tail" {
    a_lost_tail_gives_its_revisions_out_again: "8 loss of power",
    a_watch_over_a_lost_tail_hears_what_is_there: "8 loss of power, a watch",
    a_lost_tail_forgets_its_message_ids: "8 loss of power, message ids",
    a_reader_of_a_lost_tail_begins_again: "8 loss of power, a reader",
    a_watch_from_beyond_the_end_waits_for_its_revision: "3 watch_from_revision(N>last)",
});

/// Brings all to disk that is stored so far.
async fn sync<L: Laboratory>(lab: &L) -> Result<(), Stop> {
    lab.server(ServerVerb::Stop).await?;
    lab.server(ServerVerb::Sync).await?;
    lab.server(ServerVerb::Start).await
}

async fn lose_power<L: Laboratory>(lab: &L) -> Result<(), Stop> {
    lab.server(ServerVerb::LosePower).await?;
    lab.server(ServerVerb::Start).await
}

/// Over-written records are back, and who remembers a revision is told another.
async fn a_lost_tail_gives_its_revisions_out_again<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_near, b) = bucket(lab, &config(|_| {})).await?;
    b.put("a", "1".into()).await?;
    b.put("k", "old".into()).await?;
    sync(lab).await?;
    until(lab, "it is read", || b.entry("k"), Result::is_ok).await?;
    t.is("kept", told(&b.put("k", "new".into()).await), "@3");
    t.is("more", told(&b.put("b", "x".into()).await), "@4");
    t.is("deleted", told(&b.delete("a", None).await), "@5");
    lose_power(lab).await?;
    until(lab, "it is read", || b.entry("k"), Result::is_ok).await?;
    t.is("left", told(&b.entries(">").await), "[a=1@1 k=old@2]");
    t.is("info", told(&b.info().await), "2 records, last @2");
    t.is(
        "over what was told",
        told(&b.update("k", "newer".into(), Revision(3)).await),
        "refused (the latest revision of the key is 2)",
    );
    t.is("again", told(&b.put("c", "y".into()).await), "@3");
    t.is(
        "over what is there",
        told(&b.update("k", "newer".into(), Revision(2)).await),
        "@4",
    );
    Ok(())
}

/// The watch was told revisions up to 5. What is given out as 3 now is news.
async fn a_watch_over_a_lost_tail_hears_what_is_there<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_near, b) = bucket(lab, &config(|_| {})).await?;
    b.put("a", "1".into()).await?;
    b.put("k", "old".into()).await?;
    sync(lab).await?;
    until(lab, "it is read", || b.entry("k"), Result::is_ok).await?;
    let mut watch = b.watch(">", WatchStart::Snapshot).await?;
    for value in ["3", "4", "5"] {
        b.put("k", value.into()).await?;
    }
    let before = until_told(lab, &mut watch, "k=5@5").await;
    t.is(
        "first",
        before.first().cloned().unwrap_or_default(),
        "a=1@1",
    );
    lose_power(lab).await?;
    let told = until_told(lab, &mut watch, "k=old@2").await;
    t.is(
        "afterwards",
        line(&told),
        "interrupted (disconnected), resumed (new bucket), a=1@1, k=old@2",
    );
    b.put("k", "other".into()).await?;
    t.is("then", line(&rest(lab, &mut watch).await), "k=other@3");
    Ok(())
}

async fn a_lost_tail_forgets_its_message_ids<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, s) = stream(lab, &streams::config(|_| {})).await?;
    t.is("kept", store(&near, "s.a", id("kept")).await, "S@1");
    sync(lab).await?;
    until(lab, "it is described", || s.info(), Result::is_ok).await?;
    t.is("lost", store(&near, "s.a", id("lost")).await, "S@2");
    t.is(
        "lost again",
        store(&near, "s.a", id("lost")).await,
        "S@2 again",
    );
    lose_power(lab).await?;
    until(lab, "it is described", || s.info(), Result::is_ok).await?;
    t.is(
        "kept again",
        store(&near, "s.a", id("kept")).await,
        "S@1 again",
    );
    let last = StoreOptions {
        expected_last_message_id: Some("kept".into()),
        ..id("lost")
    };
    t.is("lost once more", store(&near, "s.a", last).await, "S@2");
    Ok(())
}

async fn a_reader_of_a_lost_tail_begins_again<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, s) = stream(lab, &streams::config(|_| {})).await?;
    let say = async |text: &'static str| {
        let message = Message::new("s.a", text);
        near.store(message, StoreOptions::default()).await
    };
    say("1").await?;
    sync(lab).await?;
    until(lab, "it is described", || s.info(), Result::is_ok).await?;
    let mut reader = s.read(&[], ReadStart::All).await?;
    say("2").await?;
    say("3").await?;
    until_told(lab, &mut reader, "s.a=3@3").await;
    lose_power(lab).await?;
    let told = until_told(lab, &mut reader, "s.a=1@1").await;
    t.is(
        "afterwards",
        line(&told),
        "interrupted (disconnected), resumed (another stream), first held 1, s.a=1@1",
    );
    say("other").await?;
    t.is("then", line(&rest(lab, &mut reader).await), "s.a=other@2");
    Ok(())
}

/// As a program does that keeps its place elsewhere, and comes back to a stream that has forgotten it.
async fn a_watch_from_beyond_the_end_waits_for_its_revision<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_near, b) = bucket(lab, &config(|c| c.history = 10)).await?;
    for value in ["1", "2"] {
        b.put("k", value.into()).await?;
    }
    let mut watch = b.watch(">", WatchStart::Revision(Revision(5))).await?;
    t.note("at first", line(&rest(lab, &mut watch).await));
    for value in ["3", "4", "5", "6"] {
        b.put("k", value.into()).await?;
    }
    t.note("then", line(&rest(lab, &mut watch).await));
    Ok(())
}
