//! The log of a session on a disk that fails, in processes that die.

use squall_core::diagnostics::{EVENTS_FILE, EventLog, read_events};
use squall_core::files::Files as _;

use super::*;

/// Each life of the process begins with what the ones before have told; what the disk refuses is missing there, and
/// nothing else is.
#[test]
fn a_log_outlives_the_process_and_a_failing_disk() {
    for seed in 0..20 {
        in_town(seed, async |town| {
            let host = town.world.add_host("alice");
            let mut told: Vec<NatsEvent> = Vec::new();
            let mut missing = 0;
            for life in 0..4 {
                let env = town.world.start_process(host, format!("alice/{life}"));
                let (log, _broken) = EventLog::open(Arc::new(env.files("home"))).expect("a disk");
                let known = log.snapshot();
                assert_eq!(known.len() + missing, told.len(), "life {life}");
                assert!(is_subsequence(&known, &told), "life {life}: {known:?}");
                let (sink, tally) = (log.clone(), Arc::new(Mutex::new((Vec::new(), 0))));
                let shared = Arc::clone(&tally);
                let session = town.open_telling(&env, move |event| {
                    let refused = sink.record(event.clone()).is_err();
                    let mut tally = shared.lock().expect("no panic");
                    tally.0.push(event.clone());
                    tally.1 += usize::from(refused);
                });
                session
                    .login(ApiKey::new("key"))
                    .await
                    .expect("it is let in");
                town.world.torn_write(host);
                session.force_refresh();
                town.sleep(Duration::from_millis(500 + 83 * seed)).await;
                town.world.whole_writes(host);
                town.world.io_error(host, life);
                session.force_refresh();
                town.sleep(Duration::from_millis(400)).await;
                town.world.mend_disk(host);
                session.force_refresh();
                town.sleep(Duration::from_millis(300)).await;
                town.world.crash(env.process());
                drop(session);
                let (events, refused) = std::mem::take(&mut *tally.lock().expect("no panic"));
                told.extend(events);
                missing += refused;
                town.sleep(Duration::from_secs(1)).await;
            }
            assert!(missing > 0, "the disk has failed");
            let files = town.world.files(host, "home");
            let log = files.read(EVENTS_FILE).expect("a disk").expect("a log");
            let read = read_events(&log);
            assert!(is_subsequence(&read.events, &told));
            assert!(read.broken.len() <= missing, "{:?}", read.broken);
        });
    }
}

fn is_subsequence(part: &[NatsEvent], whole: &[NatsEvent]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|event| whole.any(|other| other == event))
}
