//! What `squall diagnose` makes of a session's log: the same of a simulated run and of a real one.
//!
//! Each story is a plan in `stories/`, run in both worlds and held to one snapshot. What is normalised, and why that hides
//! nothing:
//!
//! - *times*, because no two runs have the same: the stories are told so that their order is decided all the same;
//! - *connections*, which are counted by the process in one world and by the world in the other: here in the order in
//!   which the log first names them;
//! - *names that servers and clients draw*, of consumers and inboxes, in what a server complains of, and the numbers that
//!   this operating system gives its errors;
//! - *when a connection that was replaced is closed*: once nobody uses it any more, which may be before the next one is
//!   replaced or after. It is told right after its own swap;
//! - *repetitions* of what was told already and changed nothing, because how often something is tried again follows
//!   from waits that are drawn at random. Where two complaints take turns it is their order, too: what follows and what
//!   writes try again each at its own pace. What changes something (every type but `warn`) is told each time, in its place.

use std::collections::BTreeMap;

use squall_core::UnixTime;
use squall_core::diagnostics::{Diagnosis, EventType, Evidence, NatsEvent, NcId, Swap};
use squall_reports::diagnosis as report;
use squall_reports::terminal::{Style, render_diagnosis};
use squall_scenarios::diagnosis::told;
use squall_scenarios::history::{Tell, What};
use squall_scenarios::invariants::Verdict;
use squall_scenarios::parse::parse;
use squall_scenarios::plan::{On, Plan};
use squall_scenarios::run::{Run, simulate};
use squall_scenarios::run_on_nats;

/// Each with its plan.
macro_rules! stories {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("stories/", $name, ".toml")))),*]
    };
}

const STORIES: [(&str, &str); 10] = stories![
    "calm_rotation",
    "kick_before_refresh",
    "revoked_user",
    "revoked_signing_key",
    "issuer_down",
    "skewed_issuer",
    "racing_callers",
    "one_second",
    "server_restart",
    "narrowed_permissions",
];

#[test]
fn simulated_sessions_tell_what_is_expected() {
    for (name, plan) in STORIES {
        let run = simulate(&read(name, plan));
        holds(name, &run);
        insta::assert_snapshot!(name, view(&run));
    }
}

/// A server for each, all at once: most of the time they wait.
#[test]
fn real_sessions_tell_the_same() {
    std::thread::scope(|scope| {
        let runs = STORIES.map(|(name, plan)| {
            let run = move || {
                let mut plan = read(name, plan);
                plan.world.on = On::Nats;
                run_on_nats(&plan).expect("the plan is run")
            };
            (name, scope.spawn(run))
        });
        for (name, run) in runs {
            let run = run.join().expect("it runs");
            holds(name, &run);
            insta::assert_snapshot!(name, view(&run));
        }
    });
}

fn read(name: &str, plan: &str) -> Plan {
    parse(plan).unwrap_or_else(|error| panic!("{name}: line {}: {error}", error.line))
}

/// A right session keeps its promises, and the specimen breaks the one that it is there for.
fn holds(name: &str, run: &Run) {
    match (&run.verdict, &run.plan.specimen) {
        (Verdict::Pass, None) => {}
        (Verdict::Fail(found), Some(_)) if found.iter().all(|found| found.code == "C1") => {}
        (verdict, _) => panic!("{name}: {verdict:#?}\n{}", view(run)),
    }
}

/// What is to be said of each process's log; of several that say the same, once.
fn view(run: &Run) -> String {
    let mut logs: BTreeMap<&str, Vec<NatsEvent>> = BTreeMap::new();
    for record in &run.history.0 {
        if let What::Told {
            process,
            tell: Tell::Logged { event },
        } = &record.what
        {
            logs.entry(process).or_default().push((**event).clone());
        }
    }
    let mut views: Vec<(String, Vec<&str>)> = Vec::new();
    for (process, events) in logs {
        let view = diagnose(&events);
        match views.iter_mut().find(|(told, _)| *told == view) {
            Some((_, processes)) => processes.push(process),
            None => views.push((view, vec![process])),
        }
    }
    let told = views
        .into_iter()
        .map(|(view, processes)| format!("{}\n\n{view}", processes.join(" ")));
    told.collect::<Vec<_>>().join("\n")
}

/// What the command says of a log, without what no two runs have in common.
fn diagnose(events: &[NatsEvent]) -> String {
    let now = events.last().map_or(UnixTime::EPOCH, |event| event.at);
    let mut diagnosis = Diagnosis::of(&Evidence::of_log(events), now, None);
    let mut known = Vec::new();
    for event in &mut diagnosis.nats_events {
        name_connections(event, &mut known);
        if let Some(reason) = &mut event.reason {
            *reason = without_drawn_names(reason);
        }
    }
    forget_repetitions(&mut diagnosis.nats_events);
    close_what_was_replaced(&mut diagnosis.nats_events);
    let mut report = told(&diagnosis, "the log".to_owned(), now, None);
    report.count = report.events.len() as u64;
    report.since = None;
    report.end = Some(TIME.to_owned());
    for time in [&mut report.refreshed, &mut report.refresh_due] {
        *time = time.take().map(|_| TIME.to_owned());
    }
    for report::Event { at, .. } in &mut report.events {
        TIME.clone_into(at);
    }
    for report::Pattern { at, detail, .. } in &mut report.patterns {
        TIME.clone_into(at);
        *detail = without_spans(detail);
    }
    let style = Style {
        color: false,
        width: 160,
    };
    render_diagnosis(&report, style)
}

/// Stands for any.
const TIME: &str = "<time>";

/// Numbers connections as they are named.
fn name_connections(event: &mut NatsEvent, known: &mut Vec<NcId>) {
    let mut name = |id: &NcId| {
        let place = known.iter().position(|other| other == id);
        let place = place.unwrap_or_else(|| {
            known.push(id.clone());
            known.len() - 1
        });
        NcId::from(&*format!("#{}", place + 1))
    };
    if let Some(Swap { old, new }) = event.swapped() {
        let (old, new) = (old.as_ref().map(&mut name), new.as_ref().map(&mut name));
        event.reason = Some(Swap { old, new }.to_string());
    }
    event.nc_id = event.nc_id.as_ref().map(name);
    // How long a swap took is as different as its time.
    event.others.remove("took_ms");
}

/// Subjects of the API end with the name of a consumer, and what is awaited with that of an inbox.
fn without_drawn_names(reason: &str) -> String {
    let drawn = ["$JS.API.CONSUMER.CREATE.KV_work.", "_INBOX."];
    let mut text = match reason.split_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => reason.to_owned(),
    };
    for prefix in drawn {
        if let Some(at) = text.find(prefix) {
            let from = at + prefix.len();
            let length = text[from..].find(['.', '"', ' ']);
            let length = length.unwrap_or(text.len() - from);
            text.replace_range(from..from + length, "<drawn>");
        }
    }
    text
}

/// Warnings that were told before without anything else in between but warnings.
fn forget_repetitions(events: &mut Vec<NatsEvent>) {
    let mut told: Vec<(Option<NcId>, Option<String>)> = Vec::new();
    events.retain(|event| {
        if event.kind != EventType::Warn {
            told.clear();
            return true;
        }
        let this = (event.nc_id.clone(), event.reason.clone());
        let is_new = !told.contains(&this);
        told.push(this);
        is_new
    });
    for warnings in
        events.chunk_by_mut(|one, next| one.kind == EventType::Warn && next.kind == EventType::Warn)
    {
        warnings.sort_by(|one, other| one.reason.cmp(&other.reason));
    }
}

/// Moves the end of each connection that was replaced to its swap.
fn close_what_was_replaced(events: &mut Vec<NatsEvent>) {
    let is_end = |event: &NatsEvent| {
        event.kind == EventType::Closed && event.reason.as_deref() == Some("replaced")
    };
    let (mut ends, others): (Vec<_>, Vec<_>) = events.drain(..).partition(is_end);
    for event in others {
        let old = event.swapped().and_then(|swap| swap.old);
        events.push(event);
        ends.retain(|end| {
            let is_its = old.is_some() && end.nc_id == old;
            if is_its {
                events.push(end.clone());
            }
            !is_its
        });
    }
    events.append(&mut ends);
}

/// How long something took.
fn without_spans(detail: &str) -> String {
    let is_span = |word: &str| {
        let number = word.trim_end_matches(|c: char| c.is_alphabetic());
        number.len() < word.len() && number.parse::<f64>().is_ok()
    };
    let words = detail.split(' ').map(|word| {
        let bare = word.trim_end_matches([':', ',', ';', '.']);
        match is_span(bare) {
            true => format!("<span>{}", &word[bare.len()..]),
            false => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}
