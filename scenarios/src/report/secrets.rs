//! No face shows a secret, wherever in a run it was written down.

use std::sync::Arc;

use squall_core::UnixTime;
use squall_core::diagnostics::{Caller, EventType, NatsEvent};
use squall_core::transport::{Revision, Sequence};
use squall_reports::html::{Beside, Pages};
use squall_reports::sweep::Sweep;
use squall_reports::terminal::{self, Style};
use squall_reports::{html, junit, markdown, spacetime, trace};

use super::{model, outline};
use crate::history::{Agent, Record, Tell, What, Wire, chat, lock, state};
use crate::invariants::{Verdict, Violation};
use crate::run::{Run, simulate};
use crate::stories;

/// Of each shape that secrets of NATS have, and one behind a name.
const SECRETS: [&str; 4] = [
    "eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ.eyJqdGkiOiJBQkMiLCJpYXQiOjF9.c2lnbmF0dXJlc2lnbmF0dXJl",
    "SUAIBDPBAUTWCWBKIO6XHQNINK5FWJW4OHLXC3HQ2KFE4PEJUA44CNHTC4",
    "hunter2",
    "tr0ub4dor",
];

/// What a program says that knows no better.
fn leak() -> String {
    let [jwt, seed, password, other] = SECRETS;
    format!("of {jwt}, signed by {seed}, for nats://amy:{password}@host:4222, password={other}")
}

/// Everything that is told with words of its own.
fn told() -> Vec<What> {
    let key: Arc<str> = "deploy".into();
    let agent = Agent {
        agent: "bob".into(),
        incarnation: "1".into(),
    };
    let event = NatsEvent::new(EventType::Closed, UnixTime::from_secs(1), Caller::CLIENT);
    let heard = |told| Tell::Chat(chat::Tell { watch: 1, told });
    let tells = [
        Tell::Down {
            agent,
            reason: leak(),
        },
        Tell::Blind { reason: leak() },
        Tell::Evicted { reason: leak() },
        Tell::Connection { event: leak() },
        Tell::Interrupted { reason: leak() },
        Tell::Wire {
            connection: "c1".into(),
            wire: Wire::Down { cause: leak() },
        },
        Tell::Wire {
            connection: "c1".into(),
            wire: Wire::Refused { text: leak() },
        },
        Tell::Lock(lock::Tell::Lost {
            key,
            token: 1,
            reason: leak(),
        }),
        Tell::State(state::Tell::Gap { reason: leak() }),
        Tell::State(state::Tell::Failed { reason: leak() }),
        Tell::Logged {
            event: Box::new(event.of("c1").because(leak())),
        },
        heard(chat::Told::Got {
            id: "1".into(),
            sequence: Sequence(1),
            body: leak().into(),
        }),
        heard(chat::Told::Interrupted { reason: leak() }),
    ];
    let process: Arc<str> = "alice/1".into();
    let mut all: Vec<What> = tells
        .into_iter()
        .map(|tell| What::Told {
            process: Arc::clone(&process),
            tell,
        })
        .collect();
    all.extend([
        What::Removed {
            bucket: "presence".into(),
            key: leak().into(),
            revision: Revision(1),
            cause: leak(),
        },
        What::Dropped {
            stream: "chat".into(),
            sequence: Sequence(1),
            cause: leak(),
        },
        What::Unsettled { pending: leak() },
        What::Panicked { message: leak() },
    ]);
    all
}

/// A run whose every word is a leak.
fn leaky() -> Run {
    let scenario = stories::find("lock/storm").expect("there is such a scenario");
    let mut run = simulate(&scenario.draw(1));
    for record in &mut run.history.0 {
        if let What::Refused { error, .. } | What::Unknown { error, .. } = &mut record.what {
            *error = leak();
        }
    }
    let at = run.simulated / 2;
    let at = squall_core::Instant::ZERO + at;
    run.history
        .0
        .extend(told().into_iter().map(|what| Record { at, what }));
    run.history.0.sort_by_key(|record| record.at);
    run.verdict = Verdict::Fail(vec![Violation {
        code: "L1".to_owned(),
        at,
        processes: vec!["alice/1".into()],
        text: leak(),
    }]);
    run
}

fn faces(model: &model::Run) -> Vec<(&'static str, String)> {
    let style = Style {
        color: false,
        width: 200,
    };
    let mut sweep = Sweep::default();
    sweep.record(model);
    let beside = Beside {
        nights: &[],
        pages: &Pages::new(),
    };
    let json = |value: serde_json::Result<String>| value.expect("JSON");
    vec![
        ("terminal", terminal::render(model, style)),
        ("html", html::render(model)),
        ("markdown", markdown::render(model)),
        ("svg", spacetime::render(model).unwrap_or_default()),
        ("trace", trace::render(model)),
        ("json", json(serde_json::to_string(model))),
        ("junit", junit::render_sweep(&sweep).expect("XML")),
        ("terminal of a sweep", terminal::render_sweep(&sweep, style)),
        ("html of a sweep", html::render_sweep(&sweep, &beside)),
        ("markdown of a sweep", markdown::render_sweep(&sweep)),
        ("json of a sweep", json(serde_json::to_string(&sweep))),
    ]
}

#[test]
fn no_face_shows_a_secret() {
    let run = leaky();
    let mut undecided = leaky();
    undecided.verdict = Verdict::Inconclusive(leak());
    let models = [
        model(&run, leak()),
        outline(&run, leak()),
        model(&undecided, leak()),
    ];
    for model in models {
        for (face, text) in faces(&model) {
            for secret in SECRETS {
                assert!(!text.contains(secret), "{face} shows {secret}");
            }
        }
    }
    // The words around them are there: it was not left out altogether.
    let page = html::render(&model(&run, leak()));
    assert!(page.matches("[redacted]").count() > 20, "{page}");
}
