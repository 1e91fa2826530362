//! Watches at a server of a cluster that is cut off from the others: what their consumers show, and what is told.

use std::time::Duration;

use squall_core::transport::{Watch, WatchStart};
use squall_core::{Bucket as _, Connection as _};

use super::cluster::{at, connect_with, copies, lead, write};
use super::laboratory::{Conn, Kv, Stop, sleep};
use super::transcript::{Transcript, line, rest, until_told};
use super::trio::{Trio, others};

/// Consumers are placed at random: of so many one is at each server, but once in ten thousand times.
const WATCHES: usize = 24;

/// A server that does not lead, what watches there, and who can write where it cannot be heard.
struct Stage<L: Trio> {
    behind: usize,
    _near: Conn<L>,
    watches: Vec<Watch>,
    elsewhere: Kv<L>,
}

/// Watches wait so long for a sign of life.
async fn stage<L: Trio>(lab: &L, heartbeat: Duration) -> Result<Stage<L>, Stop> {
    let first = lead(lab, &copies(3)).await?;
    let [behind, third] = others(first);
    let elsewhere = at(lab, third).await?;
    let near = connect_with(lab, &[behind], |options| {
        options.watch_heartbeat = heartbeat
    })
    .await?;
    let bucket = near.bucket("b")?;
    let mut watches = Vec::new();
    for _ in 0..WATCHES {
        watches.push(bucket.watch("k", WatchStart::Now).await?);
    }
    Ok(Stage {
        behind,
        _near: near,
        watches,
        elsewhere,
    })
}

/// A consumer shows the copy of its server and lives as long as that: what comes and goes elsewhere while it is cut off it
/// never shows, and nothing of it is noticed in less than a heartbeat.
pub(super) async fn a_consumer_goes_on_where_its_server_is_cut_off<L: Trio>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let Stage {
        behind,
        _near,
        mut watches,
        elsewhere,
    } = stage(lab, Duration::from_secs(30)).await?;
    lab.isolate(behind, true);
    write(lab, &elsewhere, "second").await?;
    sleep(lab, Duration::from_secs(1)).await;
    let last = write(lab, &elsewhere, "third").await?.revision;
    sleep(lab, Duration::from_secs(1)).await;
    lab.isolate(behind, false);
    let wanted = format!("k=third@{last}");
    let mut kinds = Vec::new();
    for watch in &mut watches {
        kinds.push(line(&until_told(lab, watch, &wanted).await));
    }
    kinds.sort();
    kinds.dedup();
    let fact = "end, k=second@2, k=third@3; or end, k=third@3";
    t.is("told", kinds.join("; or "), fact);
    Ok(())
}

/// Whoever leads the stream does not answer: after a heartbeat that is told, also where the consumer lives on.
pub(super) async fn a_watch_whose_server_is_cut_off_says_so<L: Trio>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let Stage {
        behind,
        _near,
        mut watches,
        elsewhere,
    } = stage(lab, Duration::from_millis(500)).await?;
    for watch in &mut watches {
        rest(lab, watch).await;
    }
    lab.isolate(behind, true);
    for watch in &mut watches {
        let told = until_told(lab, watch, CUT_OFF).await;
        t.is("cut off", line(&told), CUT_OFF);
    }
    let last = write(lab, &elsewhere, "second").await?.revision;
    lab.isolate(behind, false);
    let wanted = format!("k=second@{last}");
    for watch in &mut watches {
        // Elections that its return brings about may interrupt it again.
        let told = until_told(lab, watch, &wanted).await;
        let often = told.iter().filter(|told| **told == wanted).count();
        t.is("back", often.to_string(), "1");
    }
    Ok(())
}

const CUT_OFF: &str = "interrupted (no sign of life from the server)";
