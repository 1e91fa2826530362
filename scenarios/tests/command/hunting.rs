//! A hunt loses nothing and counts nothing twice, however often and whenever it is killed; and who cannot keep what he finds
//! says so before anything is lost.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const CANARY: &str = "canary/one-in-a-hundred";

fn squall(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_squall"));
    command.args(arguments);
    command
}

fn output(arguments: &[&str]) -> Output {
    squall(arguments).output().expect("the program runs")
}

/// What a program printed, without what it took.
fn table(output: &Output) -> String {
    table_of(&String::from_utf8_lossy(&output.stdout))
}

pub(super) fn table_of(text: &str) -> String {
    let lines = text
        .lines()
        .filter(|line| !line.contains("real time") && !line.contains("Findings are kept"));
    lines.collect::<Vec<_>>().join("\n")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a hunt has found: every file of every finding.
pub(super) fn findings(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for finding in fs::read_dir(directory.join("findings")).expect("a folder") {
        for file in fs::read_dir(finding.expect("an entry").path()).expect("a folder") {
            let path = file.expect("an entry").path();
            // It names the directory.
            if !path.ends_with("reproduce.txt") {
                let name = path.strip_prefix(directory).expect("it is below");
                found.insert(name.to_owned(), fs::read(&path).expect("a file"));
            }
        }
    }
    found
}

fn kill_after(child: &mut Child, pause: Duration) {
    std::thread::sleep(pause);
    child.kill().expect("it is a child");
    child.wait().expect("it was a child");
}

/// A path as an argument.
fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

#[test]
fn a_hunt_tells_what_it_never_reached_and_a_steered_one_watches_every_run() {
    for (steered, watched) in [
        (None, "2 watched runs"),
        (Some("--steer"), "9 watched runs"),
    ] {
        let mut command = squall(&["chaos", "--scenario", "lock/calm", "--seeds", "9"]);
        let output = command.args(steered).output().expect("the program runs");
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let table = table(&output);
        let coverage = table
            .split_once("\nCoverage\n")
            .expect("what was reached")
            .1;
        let first = coverage.lines().next().unwrap_or_default();
        assert!(first.ends_with(watched), "{table}");
        assert!(coverage.contains("nothing of chat::"), "{table}");
    }
}

#[test]
fn a_hunt_that_is_killed_five_times_ends_like_one_that_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (calm, killed) = (folder.path().join("calm"), folder.path().join("killed"));
    let wanted = |directory: &Path| {
        let scenarios = [
            "--scenario",
            CANARY,
            "--scenario",
            "presence/restart-overlap",
        ];
        let mut arguments = vec!["chaos"];
        arguments.extend(scenarios);
        arguments.extend(["--seeds", "240", "--jobs", "2", "--report"]);
        let mut command = squall(&arguments);
        command.arg(directory);
        command
    };
    let began = std::time::Instant::now();
    let undisturbed = wanted(&calm).output().expect("the program runs");
    let takes = began.elapsed();
    assert_eq!(undisturbed.status.code(), Some(1), "{}", said(&undisturbed));
    assert_eq!(findings(&calm).len(), 3 * 6, "37, 137 and 237, shrunk");

    // Anywhere in what it takes, at moments that nobody chose.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let mut chance = squall_core::Rng::new(now.expect("after 1970").as_secs());
    let longest = u64::try_from(takes.as_millis() / 4).expect("it is short");
    let mut moment = || Duration::from_millis(chance.between(0, longest));
    let mut child = wanted(&killed)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    let resume = ["chaos", "--jobs", "2", "--resume", text(&killed)];
    for _ in 0..5 {
        kill_after(&mut child, moment());
        child = match killed.join("hunt.json").exists() {
            true => squall(&resume),
            // Killed before it had begun.
            false => wanted(&killed),
        }
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    }
    kill_after(&mut child, moment());
    let ended = output(&resume);
    assert_eq!(ended.status.code(), Some(1), "{}", said(&ended));
    assert_eq!(table(&ended), table(&undisturbed));
    assert!(table(&ended).contains("480 seeds"), "{}", table(&ended));
    assert_eq!(findings(&killed), findings(&calm));
    // Once more, when there is nothing left to do.
    assert_eq!(table(&output(&resume)), table(&undisturbed));
}

#[test]
fn two_hunts_in_one_directory_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = text(folder.path());
    let endless = [
        "chaos",
        "--scenario",
        "presence/calm",
        "--for",
        "1h",
        "--report",
        directory,
    ];
    let mut first = squall(&endless)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    while !folder.path().join("hunt.json").exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let process = first.id();
    for second in [&endless[..], &["chaos", "--resume", directory]] {
        let refused = output(second);
        assert_eq!(refused.status.code(), Some(2));
        let expected =
            format!("squall: {directory}: another hunt is at work here, process {process}\n");
        assert_eq!(said(&refused), expected);
    }
    // The lock dies with its process, however that dies; what it kept is not written over.
    kill_after(&mut first, Duration::ZERO);
    let refused = output(&endless);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        said(&refused).contains("go on with it by --resume"),
        "{}",
        said(&refused)
    );
}

/// A hunt that has ended.
fn ended() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let ran = output(&[
        "chaos",
        "--scenario",
        CANARY,
        "--seeds",
        "3",
        "--first-seed",
        "36",
        "--report",
        text(folder.path()),
    ]);
    assert_eq!(ran.status.code(), Some(1), "{}", said(&ran));
    folder
}

#[test]
fn a_file_that_is_not_what_was_written_is_refused_with_its_line() {
    let folder = ended();
    let file = folder.path().join("hunt.json");
    let written = fs::read_to_string(&file).expect("a file");
    let refusal = |text_of_it: &str| {
        fs::write(&file, text_of_it).expect("a file");
        let refused = output(&["chaos", "--resume", text(folder.path())]);
        assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
        assert!(refused.stdout.is_empty());
        let said = said(&refused);
        assert_eq!(said.lines().count(), 1, "one sentence: {said}");
        let place = format!("squall: {}:", file.display());
        said.strip_prefix(&place)
            .expect("it names the file")
            .to_owned()
    };
    assert!(refusal("").starts_with("1: not the head of a hunt: "));
    assert!(refusal("{}\n{}\n").starts_with("1: not the head of a hunt: missing field"));
    let half = &written[..written.len() / 2];
    let cut = refusal(half);
    let line = half.lines().count();
    assert!(
        cut.starts_with(&format!("{line}: not a hunt: EOF")),
        "{cut}"
    );
    let twice = written.replacen("\"runs\": 3", "\"runs\": 6", 1);
    assert!(refusal(&twice).starts_with("1: the checksum is another"));
    let version = env!("CARGO_PKG_VERSION");
    let other = written.replacen(&format!("\"{version}+"), "\"0.0.9+", 1);
    let other = refusal(&other);
    assert!(
        other.starts_with("1: this hunt was begun by squall 0.0.9+"),
        "{other}"
    );
    // Nothing of it was touched: as it was, it goes on.
    fs::write(&file, &written).expect("a file");
    let resumed = output(&["chaos", "--resume", text(folder.path())]);
    assert_eq!(resumed.status.code(), Some(1), "{}", said(&resumed));
}

#[test]
fn a_directory_that_cannot_be_written_is_refused_before_anything_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("a file");
    let below = file.join("below");
    for directory in [&file, &below] {
        let refused = output(&["chaos", "--seeds", "1", "--report", text(directory)]);
        assert_eq!(refused.status.code(), Some(2));
        let place = format!("squall: {}: ", directory.display());
        assert!(said(&refused).starts_with(&place), "{}", said(&refused));
    }
    let nothing = output(&["chaos", "--resume", text(&below)]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(
        said(&nothing).contains("no hunt is kept here"),
        "{}",
        said(&nothing)
    );
}

/// A disk that takes no more: no file may grow beyond some size, and whoever writes more is told so.
#[test]
fn a_disk_that_is_full_stops_the_hunt_with_a_sentence_and_nothing_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().join("out");
    let arguments = [
        "--scenario",
        CANARY,
        "--seeds",
        "140",
        "--jobs",
        "2",
        "--report",
    ];
    let calm = folder.path().join("calm");
    let mut undisturbed = squall(&["chaos"]);
    let undisturbed = undisturbed.args(arguments).arg(&calm).output();
    let undisturbed = undisturbed.expect("the program runs");

    let program = env!("CARGO_BIN_EXE_squall");
    let script = format!("trap '' XFSZ; ulimit -f 16; exec {program} \"$@\"");
    let full = Command::new("sh")
        .args(["-c", &script, "sh", "chaos"])
        .args(arguments)
        .arg(&directory)
        .output()
        .expect("the program runs");
    assert_eq!(full.status.code(), Some(2), "{}", said(&full));
    let place = format!("squall: {}", directory.display());
    let said = said(&full);
    assert!(
        said.starts_with(&place) && said.contains("File too large"),
        "{said}"
    );
    assert_eq!(findings(&directory).len(), 0, "no finding is there by half");

    let resumed = output(&["chaos", "--resume", text(&directory)]);
    assert_eq!(resumed.status.code(), Some(1));
    assert_eq!(table(&resumed), table(&undisturbed));
    assert_eq!(findings(&directory), findings(&calm));
}

#[test]
fn any_number_of_jobs_gives_the_same() {
    let mut tables = Vec::new();
    for jobs in ["1", "2", "5"] {
        let folder = tempfile::tempdir().expect("a folder");
        let ran = output(&[
            "chaos",
            "--scenario",
            CANARY,
            "--scenario",
            "lock/storm",
            "--seeds",
            "140",
            "--jobs",
            jobs,
            "--report",
            text(folder.path()),
        ]);
        assert_eq!(ran.status.code(), Some(1), "{}", said(&ran));
        tables.push((table(&ran), findings(folder.path())));
    }
    assert!(tables.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn what_a_hunt_found_can_be_replayed_checked_and_drawn_again() {
    let folder = ended();
    let finding = folder.path().join("findings/canary-one-in-a-hundred.37");
    for plan in ["plan.toml", "shrunk.toml"] {
        let replayed = output(&["replay", text(&finding.join(plan))]);
        assert_eq!(replayed.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&replayed.stdout).contains("P1"));
    }
    let plan = fs::read_to_string(finding.join("plan.toml")).expect("a plan");
    let shrunk = fs::read_to_string(finding.join("shrunk.toml")).expect("a plan");
    let faults = |plan: &str| plan.matches("[[fault]]").count();
    assert_eq!((faults(&plan), faults(&shrunk)), (2, 1), "{shrunk}");
    assert!(shrunk.starts_with("# P1 at "), "{shrunk}");
    let checked = output(&["check", text(&finding.join("history.jsonl"))]);
    assert_eq!(checked.status.code(), Some(1));
    for path in [folder.path(), &finding, &finding.join("history.jsonl")] {
        let drawn = output(&["report", text(path), "--format", "markdown"]);
        assert_eq!(drawn.status.code(), Some(0), "{}", said(&drawn));
        assert!(String::from_utf8_lossy(&drawn.stdout).contains("P1"));
    }
    assert_eq!(
        output(&["report", text(&finding), "--format", "html"])
            .status
            .code(),
        Some(0)
    );
    let drawn = fs::read_to_string(finding.join("report.html")).expect("a page");
    assert!(drawn.contains("P1 completeness is violated"), "{drawn}");
    let commands = fs::read_to_string(finding.join("reproduce.txt")).expect("a file");
    assert!(commands.starts_with("cargo squall run canary/one-in-a-hundred --seed 37\n"));
}

#[test]
fn a_hunt_leaves_a_summary_that_leads_to_its_findings_and_can_be_drawn_again() {
    let folder = ended();
    let file = |name: &str| fs::read_to_string(folder.path().join(name)).expect("a file");
    let link = "<a href=\"findings/canary-one-in-a-hundred.37/report.html\">seed 37</a>";
    assert!(file("summary.html").contains(link));
    assert!(file("summary.md").contains("P1") && file("junit.xml").contains("P1"));
    assert!(file("findings/canary-one-in-a-hundred.37/report.html").contains("P1 completeness"));

    let (page, xml) = (file("summary.html"), file("junit.xml"));
    for name in [
        "summary.html",
        "findings/canary-one-in-a-hundred.37/report.html",
    ] {
        fs::remove_file(folder.path().join(name)).expect("a file");
    }
    let draw = |format: &str| {
        let drawn = output(&["report", text(folder.path()), "--format", format]);
        assert_eq!(drawn.status.code(), Some(0), "{}", said(&drawn));
        String::from_utf8(drawn.stdout).expect("text")
    };
    let written = draw("html");
    let paths: Vec<_> = written.lines().collect();
    let path = |name: &str| text(&folder.path().join(name)).to_owned();
    let finding = path("findings/canary-one-in-a-hundred.37/report.html");
    assert_eq!(paths, [finding, path("summary.html")]);
    // The same but for how long the hunt took, which is kept a little earlier than it is told.
    let without_speed = |page: &str| {
        let lines = page
            .lines()
            .filter(|line| !line.contains("of true time in"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let drawn = without_speed(&file("summary.html"));
    assert!(
        drawn == without_speed(&page),
        "drawn again it is another: {drawn}"
    );
    let of_seeds = |xml: &str| xml.matches("<testcase ").count();
    assert_eq!(of_seeds(&draw("junit")), of_seeds(&xml));
    assert!(draw("terminal").contains("1 of 3 seeds failed"));
    let sweep: serde_json::Value = serde_json::from_str(&draw("json")).expect("one object");
    assert_eq!(sweep["scenarios"][CANARY]["runs"], 3);
}

#[test]
fn a_steered_hunt_leaves_a_summary_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().join("out");
    let mut arguments = vec!["chaos", "--steer", "--scenario", "presence/calm"];
    arguments.extend(["--seeds", "2", "--report", text(&directory)]);
    let ran = output(&arguments);
    assert_eq!(ran.status.code(), Some(0), "{}", said(&ran));
    for (name, expected) in [
        ("summary.html", "<h2>Coverage</h2>"),
        ("summary.md", "**Coverage:**"),
        ("junit.xml", "presence/calm"),
    ] {
        let written = fs::read_to_string(directory.join(name)).expect("a file");
        assert!(written.contains(expected), "{written}");
    }
}

/// The nights of a directory, each a line of the trend.
fn trend(directory: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(directory.join("trend.jsonl")).expect("a trend");
    let line = |line: &str| serde_json::from_str(line).expect("a line of JSON");
    text.lines().map(line).collect()
}

#[test]
fn nights_are_kept_beside_each_other_and_what_they_found_is_run_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path();
    let night = |first_seed: &str| {
        let nightly = ["--nightly", text(directory), "--first-seed", first_seed];
        let mut arguments = vec!["chaos", "--scenario", CANARY, "--seeds", "5"];
        arguments.extend(nightly);
        output(&arguments)
    };
    let first = night("35");
    assert_eq!(first.status.code(), Some(1), "{}", said(&first));
    let lines = trend(directory);
    assert_eq!(lines.len(), 1);
    let figures = |line: &serde_json::Value, names: &[&str]| -> Vec<u64> {
        let figure = |name: &&str| line.pointer(name).and_then(serde_json::Value::as_u64);
        names
            .iter()
            .map(|name| figure(name).unwrap_or_else(|| panic!("{name} in {line}")))
            .collect()
    };
    let names = [
        "/night/seeds",
        "/night/failures",
        "/found",
        "/found_new",
        "/regressions_failing",
        "/night/never",
    ];
    // P1 and P3 are two kinds of findings; the plan that is kept shows the first.
    assert_eq!(figures(&lines[0], &names), [5, 1, 2, 1, 0, 0]);
    let kept = directory.join("regressions/canary-one-in-a-hundred.P1.toml");
    assert!(
        fs::read_to_string(&kept)
            .expect("a plan")
            .contains("expect = \"P1\"")
    );
    let of = |line: &serde_json::Value, file: &str| {
        let began = line["night"]["began"].as_str().expect("a time");
        let night = directory.join("nights").join(began.replace(':', "-"));
        night.join(file)
    };
    let page = fs::read_to_string(of(&lines[0], "summary.html")).expect("a page");
    assert!(page.contains("P1"), "{page}");
    let xml = fs::read_to_string(of(&lines[0], "junit.xml")).expect("a report");
    assert!(
        xml.contains("<testsuite name=\"canary/one-in-a-hundred\"") && xml.contains("P1"),
        "{xml}"
    );
    let summary = fs::read_to_string(of(&lines[0], "summary.md")).expect("a summary");
    assert!(
        summary.contains("### Found for the first time, and kept"),
        "{summary}"
    );

    // Another night, a second later at least; and the first one concluded once more, which counts nothing twice.
    std::thread::sleep(Duration::from_millis(1100));
    let second = night("40");
    assert_eq!(
        second.status.code(),
        Some(1),
        "a kept plan still fails: {}",
        said(&second)
    );
    let resumed = output(&["chaos", "--resume", text(&of(&lines[0], ""))]);
    assert_eq!(resumed.status.code(), Some(1), "{}", said(&resumed));
    let lines = trend(directory);
    let found: Vec<_> = lines
        .iter()
        .map(|line| figures(line, &names[1..5]))
        .collect();
    let (one, other) = (vec![1, 2, 1, 0], vec![0, 0, 0, 1]);
    assert!(
        found.len() == 2 && found.contains(&one) && found.contains(&other),
        "{found:?}"
    );
    let later = lines
        .iter()
        .find(|line| line["night"]["failures"] == 0)
        .expect("it is there");
    let summary = fs::read_to_string(of(later, "summary.md")).expect("a summary");
    assert!(
        summary.contains("### Kept from earlier nights, and still failing"),
        "{summary}"
    );

    // Mended: it passes, and says so.
    let plan = fs::read_to_string(&kept).expect("a plan");
    let mended = plan.replace("specimen = \"presence-no-down-on-ttl\"\n", "");
    fs::write(
        &kept,
        mended.replace("expect = \"P1\"", "expect = \"pass\""),
    )
    .expect("a plan");
    std::thread::sleep(Duration::from_millis(1100));
    let third = night("50");
    assert_eq!(third.status.code(), Some(0), "{}", said(&third));

    fs::write(directory.join("trend.jsonl"), "{}\n").expect("a file");
    let spoilt = night("60");
    assert_eq!(spoilt.status.code(), Some(2));
    assert!(
        said(&spoilt).contains("trend.jsonl:1: missing field"),
        "{}",
        said(&spoilt)
    );
}
