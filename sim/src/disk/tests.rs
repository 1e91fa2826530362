//! What a disk keeps, and that the simulated one and a real one agree on it.

use std::collections::BTreeSet;
use std::sync::Arc;

use squall_core::UnixTime;
use squall_core::diagnostics::{
    Caller, EVENTS_FILE, EventLog, EventType, NatsEvent, RING_CAPACITY, read_events,
};
use squall_core::files::HomeFiles;
use squall_core::transport::{Fallible as _, Outcome};

use super::*;
use crate::link::Latency;
use crate::simulation::Simulation;

const STATE: &str = "credentials.json";
const OLD: &[u8] = b"{\"jwt\":\"old\"}";
const NEW: &[u8] = b"{\"jwt\":\"the new one\"}";

fn world(seed: u64) -> (Simulation, HostKey) {
    let simulation = Simulation::new(seed, Latency::default());
    let host = simulation.world().add_host("a");
    (simulation, host)
}

/// Both kinds of files behave like this.
fn on_each_disk(story: impl Fn(&dyn Files)) {
    let (simulation, host) = world(0);
    story(&simulation.world().files(host, "home"));
    let folder = tempfile::tempdir().expect("a folder");
    story(&HomeFiles::new(folder.path().join("not/there/yet")));
}

fn read(files: &dyn Files, name: &str) -> Option<String> {
    let bytes = files.read(name).expect("it can be read");
    bytes.map(|bytes| String::from_utf8(bytes).expect("it is text"))
}

#[test]
fn a_file_is_missing_until_it_is_written_and_then_whole() {
    on_each_disk(|files| {
        assert_eq!(files.read(STATE), Ok(None));
        files.write(STATE, OLD).expect("it is written");
        files.write("sessions/7/current", b"").expect("in a folder");
        files.write(STATE, NEW).expect("it is replaced");
        assert_eq!(files.read(STATE), Ok(Some(NEW.to_vec())));
        assert_eq!(read(files, "sessions/7/current").as_deref(), Some(""));
    });
}

#[test]
fn lines_are_added_and_a_torn_one_is_ended_first() {
    on_each_disk(|files| {
        let append = |line: &str| files.append_line("log", line.as_bytes(), None);
        append("one").expect("it is added");
        append("two").expect("it is added");
        files.write("log", b"one\ntw").expect("torn");
        append("three").expect("it is added");
        assert_eq!(read(files, "log").as_deref(), Some("one\ntw\nthree\n"));
    });
}

#[test]
fn a_file_that_is_full_makes_room_twice_and_then_falls_off() {
    let rotation = Some(Rotation {
        bytes_max: 8,
        kept: 2,
    });
    on_each_disk(|files| {
        for line in ["1aa", "1b", "2aaaaaaaaaaaa", "3aa", "3b", "4aaaa"] {
            files
                .append_line("log", line.as_bytes(), rotation)
                .expect("it is added");
        }
        assert_eq!(read(files, "log").as_deref(), Some("4aaaa\n"));
        assert_eq!(read(files, "log.1").as_deref(), Some("3aa\n3b\n"));
        assert_eq!(read(files, "log.2").as_deref(), Some("2aaaaaaaaaaaa\n"));
        assert_eq!(read(files, "log.3"), None);
    });
}

/// What reads after a write that the disk let come so far, once the process has died or the power was lost.
fn after(seed: u64, steps: u32, loses_power: bool) -> (Result<(), Outcome>, Option<Vec<u8>>) {
    let (simulation, host) = world(seed);
    let world = simulation.world();
    let files = world.files(host, "home");
    files.write(STATE, OLD).expect("it is written");
    world.io_error(host, steps);
    let written = files.write(STATE, NEW).map_err(|error| error.outcome());
    if loses_power {
        world.host_power_loss(host);
    }
    world.mend_disk(host);
    (written, files.read(STATE).expect("the disk is mended"))
}

#[test]
fn a_write_that_is_cut_off_at_any_step_leaves_old_or_new() {
    let mut seen = BTreeSet::new();
    for seed in 0..50 {
        for steps in 0..=5 {
            for loses_power in [false, true] {
                let (written, read) = after(seed, steps, loses_power);
                let read = read.expect("it is there");
                assert!(read == OLD || read == NEW, "{steps}: {read:?}");
                match written {
                    Ok(()) => assert_eq!(read, NEW, "what is written is kept"),
                    Err(Outcome::Refused) => assert_eq!(read, OLD, "what is refused is not"),
                    Err(Outcome::Unknown) => assert!(steps >= 3, "only its name is open"),
                }
                seen.insert((steps, loses_power, read == NEW));
            }
        }
    }
    // The rename alone has come about: with the power on it counts, with the power lost it may not.
    assert!(seen.contains(&(4, false, true)) && !seen.contains(&(4, false, false)));
    assert!(seen.contains(&(4, true, true)) && seen.contains(&(4, true, false)));
}

/// That the disk is hard enough to find who does not sync.
#[test]
fn a_file_put_in_its_place_before_it_is_synced_can_read_as_empty() {
    let reads: BTreeSet<Vec<u8>> = (0..200)
        .map(|seed| {
            let mut disk = Disk::new(Rng::new(seed));
            let file = disk.make("new").expect("no fault");
            disk.fill(file, b"ab").expect("no fault");
            disk.change(Change::Rename("new".to_owned(), STATE.to_owned()))
                .and_then(|()| disk.sync_folder())
                .expect("no fault");
            disk.lose_power();
            disk.content(STATE).expect("its name is synced").clone()
        })
        .collect();
    let all: [&[u8]; 5] = [b"", b"\0", b"\0\0", b"a", b"ab"];
    assert_eq!(reads, all.map(<[u8]>::to_vec).into());
}

#[test]
fn a_read_that_fails_is_no_missing_file() {
    let (simulation, host) = world(1);
    let files = simulation.world().files(host, "home");
    simulation.world().io_error(host, 0);
    simulation.world().io_error(host, 7);
    let error = files.read(STATE).expect_err("the disk fails");
    assert_eq!(
        (error.step, error.outcome()),
        (FileStep::Read, Outcome::Refused)
    );
    simulation.world().mend_disk(host);
    assert!(files.read(STATE).is_err(), "for another reason still");
    simulation.world().mend_disk(host);
    assert_eq!(files.read(STATE), Ok(None));
    assert_eq!(simulation.world().bites().count(Bite::Disk), 2);
}

fn event(number: i64) -> NatsEvent {
    let at = UnixTime::from_secs(1_780_000_000 + number);
    NatsEvent::new(EventType::Warn, at, Caller::PROBE).because(number.to_string())
}

fn open(files: &(impl Files + Clone + 'static)) -> (EventLog, Vec<usize>) {
    let (log, broken) = EventLog::open(Arc::new(files.clone())).expect("it can be read");
    (log, broken.iter().map(|line| line.number).collect())
}

#[test]
fn a_torn_event_costs_itself_alone() {
    for seed in 0..20 {
        let (simulation, host) = world(seed);
        let files = simulation.world().files(host, "home");
        let (log, _) = open(&files);
        log.record(event(1)).expect("it is added");
        simulation.world().torn_write(host);
        let error = log.record(event(2)).expect_err("it is torn");
        assert_eq!(
            (error.step, error.outcome()),
            (FileStep::Append, Outcome::Unknown)
        );
        log.record(event(3)).expect("it is added");
        simulation.world().whole_writes(host);
        assert_eq!(log.snapshot(), [event(1), event(2), event(3)], "in memory");
        let (again, broken) = open(&files);
        let left = again.snapshot();
        // Nothing of it, a part of it, or all of it but its end.
        match broken[..] {
            [] if left.len() == 3 => assert_eq!(left, [event(1), event(2), event(3)]),
            [] | [2] => assert_eq!(left, [event(1), event(3)]),
            _ => panic!("{broken:?}"),
        }
    }
}

#[test]
fn a_log_that_the_power_cut_off_reads_as_its_beginning() {
    for seed in 0..50 {
        let (simulation, host) = world(seed);
        let files = simulation.world().files(host, "home");
        let (log, _) = open(&files);
        let all: Vec<NatsEvent> = (0..10).map(event).collect();
        for event in &all {
            log.record(event.clone()).expect("it is added");
        }
        simulation.world().host_power_loss(host);
        let (again, broken) = open(&files);
        let left = again.snapshot();
        assert_eq!(left, all[..left.len()]);
        assert!(broken.len() <= 1, "{broken:?}");
        again.record(event(99)).expect("it goes on");
        assert_eq!(open(&files).0.snapshot().last(), Some(&event(99)));
    }
}

#[test]
fn two_writers_lose_nothing_of_each_other() {
    let (simulation, host) = world(3);
    let files = simulation.world().files(host, "home");
    let (one, _) = open(&files);
    let (other, _) = open(&files);
    for number in 0..100 {
        let log = if number % 3 == 0 { &one } else { &other };
        log.record(event(number)).expect("it is added");
    }
    let all: Vec<NatsEvent> = (0..100).map(event).collect();
    assert_eq!(open(&files).0.snapshot(), all);
    assert_eq!(one.snapshot().len() + other.snapshot().len(), 100);
}

#[test]
fn a_log_begins_anew_with_what_its_older_files_hold() {
    let (simulation, host) = world(4);
    let files = simulation.world().files(host, "home");
    // Lines of 1 MB, so that ten of them fill a file.
    let filler = "x".repeat(999_800);
    let (log, _) = open(&files);
    let all: Vec<NatsEvent> = (0..25)
        .map(|number| event(number).because(format!("{number} {filler}")))
        .collect();
    for event in &all {
        log.record(event.clone()).expect("it is added");
    }
    assert_eq!(open(&files).0.snapshot(), all, "of three files");
    let sizes = ["", ".1", ".2", ".3"].map(|ending| {
        let log = files.read(&format!("{EVENTS_FILE}{ending}"));
        let log = log.expect("it can be read").unwrap_or_default();
        assert!(log.len() <= 10_000_000);
        read_events(&log).events.len()
    });
    assert_eq!(sizes, [5, 10, 10, 0]);
    for number in 0..300 {
        log.record(event(number)).expect("it is added");
    }
    let (again, _) = open(&files);
    assert_eq!(again.snapshot().len(), RING_CAPACITY);
    assert_eq!(again.snapshot(), log.snapshot());
}

#[test]
fn a_log_that_cannot_be_read_is_not_taken_for_an_empty_one() {
    let (simulation, host) = world(5);
    let files = simulation.world().files(host, "home");
    simulation.world().io_error(host, 0);
    assert!(EventLog::open(Arc::new(files)).is_err());
}

#[test]
fn the_same_seed_loses_the_same() {
    let left = |seed| {
        let (simulation, host) = world(seed);
        let files = simulation.world().files(host, "home");
        for number in 0..100 {
            let line = format!("line {number}");
            files
                .append_line("log", line.as_bytes(), None)
                .expect("no fault");
        }
        simulation.world().host_power_loss(host);
        files.read("log").expect("it can be read")
    };
    let all: BTreeSet<_> = (0..20).map(left).collect();
    // Half of them lose the file's very name.
    assert!(all.len() > 5, "seeds differ");
    assert!((0..20).all(|seed| left(seed) == left(seed)));
}
