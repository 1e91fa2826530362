//! Scripts drawn at random. A script follows from its number alone, so that a run of many and a run of few begin alike.

use std::ops::Range;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::script::{Begin, Expected, Kept, Op, Script, Step};
use super::stream_generate;
use super::stream_op::StreamOp;

/// What every script follows from.
const SEED: [u8; 32] = *b"the same scripts in every run...";
/// Keys; two share a first token.
pub(super) const KEYS: [&str; 4] = ["a", "b.x", "b.y", "c"];
/// Filters of watches and listings.
pub(super) const FILTERS: [&str; 5] = [">", "b.*", "a", "*", "b.>"];
/// Where messages are published.
const SUBJECTS: [&str; 4] = ["s", "s.a", "s.a.b", "t"];
/// Where they are heard.
const INTERESTS: [&str; 7] = ["s", "s.*", "s.>", "*", "*.a", "s.*.b", "t"];

/// One in so many scripts is about a bucket; the others are about a stream.
const BUCKET_ONE_IN: u32 = 3;
/// One in so many scripts stops the server, which takes a server of its own and a second or more.
const RESTART_ONE_IN: u32 = 40;

/// The scripts of these numbers.
///
/// # Panics
/// Never: nothing is filtered.
pub fn scripts(numbers: Range<u32>) -> Vec<Script> {
    numbers.map(|number| tree(number).current()).collect()
}

/// The script of this number, which can be made smaller.
fn tree(number: u32) -> Box<dyn ValueTree<Value = Script>> {
    let mut seed = SEED;
    seed[28..].copy_from_slice(&number.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let restarts = number % RESTART_ONE_IN == RESTART_ONE_IN - 1;
    let is_about_bucket = number.is_multiple_of(BUCKET_ONE_IN);
    let strategy = script(is_about_bucket, restarts).boxed();
    #[allow(
        clippy::expect_used,
        reason = "nothing is filtered, so nothing is refused"
    )]
    let tree = strategy.new_tree(&mut runner).expect("it is drawn");
    tree
}

/// The smallest form of a script for which `differs` still holds, tried at most `tries` times.
pub fn shrink(number: u32, tries: u32, differs: impl Fn(&Script) -> bool) -> Script {
    let mut tree = tree(number);
    let mut smallest = tree.current();
    let mut is_simpler = tree.simplify();
    for _ in 0..tries {
        if !is_simpler {
            break;
        }
        let script = tree.current();
        is_simpler = if differs(&script) {
            smallest = script;
            tree.simplify()
        } else {
            tree.complicate()
        };
    }
    smallest
}

pub(super) fn one_of(names: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(names).prop_map(str::to_owned)
}

pub(super) fn expected() -> impl Strategy<Value = Expected> {
    prop_oneof![
        4 => Just(Expected::Latest),
        2 => Just(Expected::Stale),
        1 => Just(Expected::None),
        1 => (0..20_u8).prop_map(Expected::Other),
    ]
}

fn key() -> impl Strategy<Value = String> {
    one_of(&KEYS)
}

fn write() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => key().prop_map(Op::Put),
        4 => key().prop_map(Op::Create),
        4 => (key(), expected()).prop_map(|(key, expected)| Op::Update(key, expected)),
        2 => (key(), prop::option::of(expected())).prop_map(|(key, e)| Op::Delete(key, e)),
        2 => (key(), prop::option::of(expected())).prop_map(|(key, e)| Op::Purge(key, e)),
    ]
}

fn read() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => key().prop_map(Op::Entry),
        2 => key().prop_map(Op::History),
        2 => one_of(&FILTERS).prop_map(Op::Entries),
        1 => Just(Op::Info),
    ]
}

fn watch() -> impl Strategy<Value = Op> {
    let begin = prop_oneof![
        2 => Just(Begin::Snapshot),
        1 => Just(Begin::Now),
        2 => (1..20_u8).prop_map(Begin::Revision),
    ];
    prop_oneof![
        3 => (one_of(&FILTERS), begin).prop_map(|(filter, begin)| Op::Watch(filter, begin)),
        1 => (0..4_u8).prop_map(Op::Unwatch),
    ]
}

fn bucket() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (1..=4_u8).prop_map(Op::Keep),
        1 => Just(Op::DeleteBucket),
        2 => Just(Op::CreateBucket),
        1 => Just(Op::Expire),
    ]
}

fn message() -> impl Strategy<Value = Op> {
    let group = prop::option::of(prop::sample::select(&["g", "h"][..]).prop_map(str::to_owned));
    prop_oneof![
        4 => one_of(&SUBJECTS).prop_map(Op::Publish),
        2 => one_of(&SUBJECTS).prop_map(Op::Request),
        4 => (one_of(&INTERESTS), group).prop_map(|(filter, group)| Op::Subscribe(filter, group)),
        1 => (0..4_u8).prop_map(Op::Unsubscribe),
    ]
}

/// What weighs as much as all else, beside which links and the server are treated badly.
fn step(does: BoxedStrategy<Op>, restarts: bool) -> impl Strategy<Value = Step> {
    let by = || 0..3_u8;
    let rare = if restarts {
        Step::Restart
    } else {
        Step::Does(0, Op::Info)
    };
    prop_oneof![
        65 => (by(), does).prop_map(|(by, op)| Step::Does(by, op)),
        1 => by().prop_map(Step::Cut),
        2 => by().prop_map(Step::Hold),
        3 => by().prop_map(Step::Release),
        4 => Just(rare),
    ]
}

fn about_bucket() -> impl Strategy<Value = Op> {
    prop_oneof![36 => write(), 10 => read(), 8 => watch(), 3 => bucket(), 8 => message()]
}

fn about_stream() -> impl Strategy<Value = Op> {
    prop_oneof![20 => stream_generate::op().prop_map(Op::Stream), 1 => about_bucket()]
}

fn script(is_about_bucket: bool, restarts: bool) -> impl Strategy<Value = Script> {
    let kept = if restarts {
        Just(Kept::File).boxed()
    } else {
        prop_oneof![3 => Just(Kept::Memory), 1 => Just(Kept::File)].boxed()
    };
    let steps = |does: BoxedStrategy<Op>| prop::collection::vec(step(does, restarts), 1..40);
    let steps = if is_about_bucket {
        steps(about_bucket().boxed()).boxed()
    } else {
        let rest = steps(about_stream().boxed());
        let joined = |(begin, rest): (Vec<StreamOp>, Vec<Step>)| {
            let begin = begin.into_iter().map(|op| Step::Does(0, Op::Stream(op)));
            begin.chain(rest).collect()
        };
        (stream_generate::begin(), rest).prop_map(joined).boxed()
    };
    (1..=3_u8, kept, prop::bool::weighted(0.3), steps).prop_map(
        |(history, storage, markers, steps)| Script {
            about: String::new(),
            history,
            storage,
            markers,
            steps,
        },
    )
}
