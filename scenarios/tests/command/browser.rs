//! Pages as a browser shows them: nothing is complained of, what matters is in sight at once, and every tool does what it
//! says. Where there is no Chromium, one line says so; `SQUALL_SCREENSHOTS=DIR` keeps a picture of each page, light and dark.

use std::path::{Path, PathBuf};
use std::process::Command;

use squall_reports::model::{LaneId, Mark, MarkId, MarkKind, Run, TrueTime};

use super::chromium::Chromium;

/// So large may the page of a hundred thousand events be, in bytes.
const PAGE_MAX: u64 = 15 * 1024 * 1024;

/// Runs the program, and gives the only page that it has left in `directory`.
fn page(directory: &Path, arguments: &[&str]) -> PathBuf {
    let ran = Command::new(env!("CARGO_BIN_EXE_squall"))
        .args(arguments)
        .arg("--report")
        .arg(directory)
        .output()
        .expect("the program runs");
    assert!(
        ran.status.code() < Some(2),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let files = std::fs::read_dir(directory).expect("a folder");
    let files = files.map(|file| file.expect("an entry").path());
    let mut pages = files.filter(|path| path.extension().is_some_and(|it| it == "html"));
    let page = pages.next().expect("a page");
    assert_eq!(pages.next(), None);
    page
}

fn kept(name: &str) -> String {
    format!("{}/plans/specimens/{name}.toml", env!("CARGO_MANIFEST_DIR"))
}

/// Whether an element is in sight as a whole, without scrolling.
fn in_sight(selector: &str) -> String {
    format!(
        "(() => {{ const box = document.querySelector({selector:?}).getBoundingClientRect();
           return box.height > 0 && box.top >= 0 && box.bottom <= innerHeight; }})()"
    )
}

/// How many points of the canvas have the colour that violations are marked with.
const MARKED: &str = "(() => {
    const canvas = document.getElementById('canvas'), pen = canvas.getContext('2d');
    pen.save();
    pen.fillStyle = getComputedStyle(document.documentElement).getPropertyValue('--bad');
    const bad = pen.fillStyle;
    pen.restore();
    const wanted = [1, 3, 5].map((n) => parseInt(bad.slice(n, n + 2), 16));
    const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
    let count = 0;
    for (let i = 0; i < data.length; i += 4) if (wanted.every((c, n) => data[i + n] === c)) count += 1;
    return count;
})()";

/// What can be used, and what a screen reader stops at, without a name.
const NAMELESS: &str =
    "[...document.querySelectorAll('button, input, canvas, section, [role=grid], [tabindex]')]
    .filter((it) => !it.ariaLabel && !it.textContent.trim() && !it.getAttribute('aria-labelledby'))
    .map((it) => it.outerHTML)";

/// From when until when the timeline shows the run, and how long that is, in seconds.
fn range(browser: &mut Chromium) -> (f64, f64) {
    let text = browser.read("document.getElementById('range').textContent");
    let mut numbers = text.split(' ').filter_map(|word| word.parse().ok());
    let mut number = || {
        numbers
            .next()
            .unwrap_or_else(|| panic!("two times in {text:?}"))
    };
    (number(), number())
}

/// Opens a page, and sees that the violation is in sight; then uses every tool.
fn inspect(browser: &mut Chromium, page: &Path, name: &str) {
    browser.open(page);
    browser.settle();
    browser.picture(name);
    assert_eq!(browser.complaints(), Vec::<String>::new());
    let is_violated = browser.is("document.querySelector('.violation') !== null");
    if is_violated {
        for what in [
            ".verdict",
            ".violation .happened",
            "#canvas",
            "#events [aria-selected='true'], #events",
        ] {
            let is_seen = in_sight(what);
            assert!(browser.is(&is_seen), "{name}: {what} is out of sight");
        }
        // The label alone has some hundreds; the line and the signs of the lanes as many again.
        let marked = browser.ask(MARKED);
        assert!(marked.as_u64() > Some(500), "{name}: {marked} points");
    }
    assert!(
        browser.is("document.documentElement.scrollWidth <= innerWidth"),
        "{name} is too wide"
    );
    let nameless = browser.read(NAMELESS);
    assert_eq!(nameless, "[]", "{name}: what can be used has a name");
    use_tools(browser, name, is_violated);
    assert_eq!(browser.complaints(), Vec::<String>::new(), "{name}");
    without_scripts(browser, page, is_violated);
}

fn use_tools(browser: &mut Chromium, name: &str, is_violated: bool) {
    let first = range(browser);
    browser.click("#zoom-in");
    let nearer = range(browser);
    let (before, after) = (first.1 - first.0, nearer.1 - nearer.0);
    assert!(after < before * 0.6, "{name}: {first:?}, then {nearer:?}");
    browser.press("ArrowRight");
    assert!(range(browser).0 > nearer.0, "{name} pans");
    browser.press("-");
    browser.click("#whole");
    let whole = range(browser);
    assert!(whole.0 == 0.0 && whole.1 >= first.1, "{name}: {whole:?}");
    if is_violated {
        browser.press("v");
        assert_eq!(range(browser), first, "{name}: back to the violation");
    }
    if browser.is("document.getElementById('arrows') !== null") {
        let drawn = "document.getElementById('canvas').toDataURL()";
        let without = browser.read(drawn);
        browser.press("m");
        assert!(browser.is("document.getElementById('arrows').ariaPressed === 'true'"));
        browser.click("#whole");
        assert_ne!(browser.read(drawn), without, "{name}: arrows");
        browser.press("m");
    }
    let ground = "getComputedStyle(document.body).backgroundColor";
    let light = browser.read(ground);
    browser.press("t");
    assert_ne!(browser.read(ground), light, "{name}: light or dark");
    browser.press("t");
    search(browser, name);
}

/// Whoever searches sees how much is found, only that, and goes through it by the keyboard.
fn search(browser: &mut Chromium, name: &str) {
    browser.press("/");
    assert!(
        browser.is("document.activeElement.id === 'query'"),
        "{name}: / goes to the search"
    );
    for letter in ["s", "t", "a", "r", "t", "s"] {
        browser.press(letter);
    }
    browser.until("document.getElementById('tally').textContent !== ''");
    let tally = browser.read("document.getElementById('tally').textContent");
    let numbers: Vec<u64> = tally
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect();
    let [found, all] = numbers[..] else {
        panic!("{name}: {tally}");
    };
    assert!(0 < found && found < all, "{name}: {tally}");
    let shown = "[...document.querySelectorAll('#events .row:not([hidden])')].map((row) => row.textContent)";
    assert!(
        browser.is(&format!("{shown}.every((text) => text.includes('starts'))")),
        "{name}"
    );
    browser.press("Enter");
    assert!(
        browser.is(
            "document.querySelector('#events [aria-selected=true]').textContent.includes('starts')"
        ),
        "{name}: the first that is found is chosen"
    );
    browser.press("Escape");
    browser.until("document.getElementById('tally').textContent === ''");
}

/// Verdict, promise and story are there for whoever runs no scripts, and no tool that would do nothing.
fn without_scripts(browser: &mut Chromium, page: &Path, is_violated: bool) {
    let off = |is_off: bool| serde_json::json!({ "value": is_off });
    browser.call("Emulation.setScriptExecutionDisabled", off(true));
    browser.open(page);
    let text = browser.read("document.body.innerText");
    browser.call("Emulation.setScriptExecutionDisabled", off(false));
    let wanted = if is_violated {
        "What happened"
    } else {
        "Faults of this run"
    };
    assert!(
        text.contains(wanted) && text.contains("Reproduce"),
        "{text}"
    );
    assert!(!text.contains("Whole run"), "{text}");
}

#[test]
fn a_lock_violation_is_seen_at_once() {
    let Some(mut browser) = Chromium::start() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let page = page(folder.path(), &["replay", &kept("lock-get-then-put")]);
    inspect(&mut browser, &page, "lock");
}

#[test]
fn a_presence_violation_is_seen_at_once() {
    let Some(mut browser) = Chromium::start() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let page = page(
        folder.path(),
        &["replay", &kept("presence-close-deletes-successor")],
    );
    inspect(&mut browser, &page, "presence");
}

#[test]
fn storms_over_rotation_are_drawn_with_and_without_a_violation() {
    let Some(mut browser) = Chromium::start() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (storm, swaps) = (folder.path().join("storm"), folder.path().join("swaps"));
    let storm = page(&storm, &["run", "rotation/storm", "--seed", "1"]);
    inspect(&mut browser, &storm, "rotation-storm");
    let swaps = page(&swaps, &["replay", &kept("burst-swap-storm")]);
    inspect(&mut browser, &swaps, "swap-storm");
}

#[test]
fn a_sweep_tells_its_verdict_at_once_and_leads_to_its_findings() {
    let Some(mut browser) = Chromium::start() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let wanted = [
        "chaos",
        "--scenario",
        "canary/one-in-a-hundred",
        "--scenario",
        "presence/*",
        "--scenario",
        "lock/*",
    ];
    let mut arguments = wanted.to_vec();
    arguments.extend(["--seeds", "3", "--first-seed", "36"]);
    let page = page(folder.path(), &arguments);
    browser.open(&page);
    browser.picture("sweep");
    for what in [
        ".verdict",
        ".violation h2",
        ".violation .happened",
        ".violation a",
    ] {
        assert!(browser.is(&in_sight(what)), "{what} is out of sight");
    }
    assert!(
        browser.is("document.documentElement.scrollWidth <= innerWidth"),
        "too wide"
    );
    assert_eq!(browser.complaints(), Vec::<String>::new());
    browser.follow(".violation a");
    assert!(browser.is(&in_sight(".violation .happened")));
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// A run as a model, made a hundred thousand events longer, most of them told apart by their texts.
fn long_run(model: &Path) -> Run {
    let text = std::fs::read_to_string(model).expect("a model");
    let mut run: Run = serde_json::from_str(&text).expect("a model");
    let (lanes, own) = (run.lanes.len(), run.marks.len());
    let after = run.end().as_nanos();
    for n in 0..100_000 {
        let is_answer = n % 2 == 1;
        let (kind, text) = match is_answer {
            true => (MarkKind::Ok, format!("stored as revision {n}")),
            false => (
                MarkKind::Call,
                format!("update lock.resource.{n} over revision {}", n * 7),
            ),
        };
        run.marks.push(Mark {
            at: TrueTime::from_nanos(after + n * 119_000),
            lane: LaneId((n as usize / 2) % lanes),
            kind,
            text,
            answers: is_answer.then(|| MarkId(own + n as usize - 1)),
            routine: None,
        });
    }
    run
}

#[test]
#[expect(
    clippy::disallowed_macros,
    reason = "the figures are for whoever asks for them by --nocapture"
)]
fn a_hundred_thousand_events_are_light_enough() {
    let Some(mut browser) = Chromium::start() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let short = page(folder.path(), &["replay", &kept("lock-get-then-put")]);
    let run = long_run(&short.with_extension("run.json"));
    let model = folder.path().join("long.run.json");
    std::fs::write(&model, serde_json::to_vec(&run).expect("JSON")).expect("it is written");
    let drawn = Command::new(env!("CARGO_BIN_EXE_squall"))
        .args(["report", "--format", "html"])
        .arg(&model)
        .output()
        .expect("the program runs");
    assert_eq!(
        drawn.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&drawn.stderr)
    );
    let page = folder.path().join("long.html");
    let size = std::fs::metadata(&page).expect("a page").len();
    assert!(size < PAGE_MAX, "{size} bytes");

    browser.open(&page);
    let painted = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null";
    browser.until(&format!("({painted}) !== null"));
    let painted = browser.ask(painted).as_f64().expect("a time");
    let drawn = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd";
    let drawn = browser.ask(drawn).as_f64().expect("a time");
    browser.click("#whole");
    // From one picture to the next while each is panned, first over the whole run, then close to it.
    let frames = browser.ask(
        "(async () => {
            const took = [], frame = () => new Promise((done) => requestAnimationFrame(done));
            const keys = ['-', ...Array(30).fill('ArrowRight'), '+', '+', '+', ...Array(60).fill('ArrowLeft')];
            let before = await frame();
            for (const key of keys) {
                document.dispatchEvent(new KeyboardEvent('keydown', { key }));
                const now = await frame();
                took.push(now - before);
                before = now;
            }
            took.sort((a, b) => a - b);
            return [took[Math.floor(took.length / 2)], took[Math.floor(took.length * 0.95)]];
        })()",
    );
    println!(
        "{size} bytes, painted after {painted} ms, drawn after {drawn} ms, a picture in {frames} ms"
    );
    // How long it takes depends on the machine and its neighbours: it is printed, and read.
    assert!(painted > 0.0 && drawn > 0.0 && frames[1].is_number());
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
