//! Whatever happens to a consumer: nothing is lost, nothing is delivered too often, no floor passes what is open.

use proptest::prelude::*;
use squall_core::transport::Ack;

use super::tests::*;
use super::*;

#[derive(Clone, Debug)]
enum Step {
    Store(u8),
    Remove(u8),
    Purge(u8),
    Pull { who: u8, batch: u8, expires: u16 },
    Leave(u8),
    Ack(u8),
    Nak(u8, u16),
    Term(u8),
    Progress(u8),
    Pass(u16),
    Restart { is_orderly: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3_u8).prop_map(Step::Store),
        1 => any::<u8>().prop_map(Step::Remove),
        1 => (0..3_u8).prop_map(Step::Purge),
        6 => (0..4_u8, 1..5_u8, 0..3000_u16)
            .prop_map(|(who, batch, expires)| Step::Pull { who, batch, expires }),
        1 => (0..4_u8).prop_map(Step::Leave),
        5 => any::<u8>().prop_map(Step::Ack),
        2 => (any::<u8>(), 0..2000_u16).prop_map(|(which, delay)| Step::Nak(which, delay)),
        1 => any::<u8>().prop_map(Step::Term),
        1 => any::<u8>().prop_map(Step::Progress),
        4 => (0..1500_u16).prop_map(Step::Pass),
        1 => any::<bool>().prop_map(|is_orderly| Step::Restart { is_orderly }),
    ]
}

#[derive(Clone, Debug)]
struct Setup {
    max_deliver: u32,
    max_ack_pending: i64,
    backoff: bool,
    filtered: bool,
    purges: bool,
    old: bool,
}

fn setup() -> impl Strategy<Value = Setup> {
    let flag = any::<bool>;
    (0..4_u32, -1..4_i64, flag(), flag(), flag(), flag()).prop_map(
        |(max_deliver, max_ack_pending, backoff, filtered, purges, old)| Setup {
            max_deliver,
            max_ack_pending,
            backoff,
            filtered,
            purges,
            old,
        },
    )
}

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    delivered: Vec<Delivered>,
    /// Deliveries of each message that clients were told of.
    times: BTreeMap<u64, u64>,
    settled: std::collections::BTreeSet<u64>,
    given_up: std::collections::BTreeSet<u64>,
    /// Nothing was purged by subject: that loses messages and moves floors too far, as tests of their own tell.
    is_exact: bool,
}

impl Seen {
    fn look(&mut self, bench: &mut Bench, setup: &Setup) -> Result<(), TestCaseError> {
        for (_, said) in std::mem::take(&mut bench.said) {
            match said {
                Said::Delivered(_, delivered) => {
                    let sequence = delivered.message.sequence.0;
                    let times = self.times.entry(sequence).or_default();
                    *times += 1;
                    if setup.max_deliver > 0 {
                        prop_assert!(delivered.deliveries <= u64::from(setup.max_deliver));
                    }
                    let wanted = !setup.filtered || &*delivered.message.subject != "s.0";
                    prop_assert!(wanted, "{}", delivered.message.subject);
                    self.delivered.push(delivered);
                }
                Said::Settled(sequence) => {
                    self.settled.insert(sequence);
                }
                Said::GivenUp { sequence, .. } => {
                    self.given_up.insert(sequence);
                }
                Said::Status(..) | Said::Terminated { .. } | Said::Inactive => {}
            }
        }
        let consumer = &bench.consumer;
        for due in &consumer.due {
            prop_assert!(
                consumer.pending.contains_key(due),
                "{due} is due, not pending"
            );
        }
        let unseen = bench.log.count(consumer.next, &consumer.wanted);
        prop_assert_eq!(consumer.left(), unseen);
        if !self.is_exact {
            return Ok(());
        }
        if let Some((&first, _)) = consumer.pending.first_key_value() {
            prop_assert!(consumer.floor.stream < first, "{consumer:?}");
        }
        if let Some((&first, _)) = consumer.kept.pending.first_key_value() {
            prop_assert!(consumer.kept.floor.stream < first, "{consumer:?}");
        }
        let most = usize::try_from(setup.max_ack_pending).unwrap_or_default();
        if most > 0 {
            prop_assert!(consumer.pending.len() <= most);
        }
        Ok(())
    }

    fn pick(&self, which: u8) -> Option<Delivered> {
        let which = usize::from(which).checked_rem(self.delivered.len())?;
        self.delivered.get(which).cloned()
    }
}

fn play(bench: &mut Bench, step: &Step, seen: &Seen) {
    match *step {
        Step::Store(subject) => bench.store(&format!("s.{subject}")),
        Step::Remove(which) => {
            let held: Vec<u64> = bench.log.held.keys().copied().collect();
            if let Some(which) = usize::from(which).checked_rem(held.len()) {
                bench.remove(held[which]);
            }
        }
        Step::Purge(subject) => bench.purge(Some(&format!("s.{subject}")), u64::MAX),
        Step::Pull {
            who,
            batch,
            expires,
        } => {
            bench.deaf.retain(|&deaf| deaf != inbox(who.into()));
            let expires = (expires > 500).then_some(u64::from(expires));
            bench.pull(who.into(), batch.into(), expires);
        }
        Step::Leave(who) => bench.deaf.push(inbox(who.into())),
        Step::Pass(time) => bench.pass(millis(time.into())),
        Step::Restart { is_orderly } => bench.restart(is_orderly, millis(30)),
        Step::Ack(which) | Step::Nak(which, _) | Step::Term(which) | Step::Progress(which) => {
            let Some(delivered) = seen.pick(which) else {
                return;
            };
            let ack = match *step {
                Step::Ack(_) => Ack::Done,
                Step::Nak(_, delay) => Ack::Again((delay > 500).then(|| millis(delay.into()))),
                Step::Term(_) => Ack::Terminate(None),
                _ => Ack::InProgress,
            };
            bench.ack(&delivered, ack);
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_and_nothing_comes_too_often(
        setup in setup(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let version = match setup.old {
            true => Version::new(2, 10, 26),
            false => Version::REFERENCE,
        };
        let mut bench = Bench::of(version, 0, |config| {
            config.ack_wait = millis(1000);
            config.max_deliver = NonZeroU32::new(setup.max_deliver);
            config.max_ack_pending = setup.max_ack_pending;
            if setup.backoff && setup.max_deliver != 1 {
                config.backoff = vec![millis(200), millis(800)];
            }
            if setup.filtered {
                config.filters = vec!["s.1".into(), "s.2".into()];
            }
        });
        let mut seen = Seen {
            is_exact: !setup.purges,
            ..Seen::default()
        };
        for step in steps.iter().filter(|step| setup.purges || !matches!(step, Step::Purge(_))) {
            play(&mut bench, step, &seen);
            seen.look(&mut bench, &setup)?;
        }
        // From here on somebody pulls and settles: everything still held and wanted was settled, given up, or comes.
        bench.deaf.clear();
        for _ in 0..400 {
            bench.pull(7, 5, Some(1000));
            seen.look(&mut bench, &setup)?;
            for delivered in std::mem::take(&mut seen.delivered) {
                bench.ack(&delivered, Ack::Done);
            }
            bench.pass(millis(500));
            seen.look(&mut bench, &setup)?;
        }
        for (sequence, message) in &bench.log.held {
            let is_wanted = seen.is_exact && bench.consumer.wants(&message.subject);
            let is_over = seen.settled.contains(sequence) || seen.given_up.contains(sequence);
            prop_assert!(!is_wanted || is_over, "{sequence} never came: {:?}", bench.consumer);
            if is_wanted {
                prop_assert!(seen.times.contains_key(sequence), "{sequence} was never delivered");
            }
        }
        prop_assert_eq!(bench.consumer.unseen, 0);
        prop_assert_eq!(bench.consumer.pending.len(), 0);
    }
}
