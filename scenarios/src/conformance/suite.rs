//! The whole suite: every case and so many scripts, on each version, in both worlds.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use squall_core::Clock as _;
use squall_sim::broker::Version;

use super::laboratory::{Conn, Laboratory as _, Setup, Stop};
use super::play::Clients;
use super::pulse::Pulse;
use super::real::{Program, Real};
use super::script::Script;
use super::{Case, Difference, Model, compare, generate, observe, simulate};

/// Scripts played at a time on one real server.
const PLAYERS: usize = 24;
/// Scripts played at a time on real servers of their own.
const OWN_SERVERS: usize = 6;
/// Scripts played before it is looked whether they agree.
const BATCH: usize = 480;
/// Scripts made smaller, of those that differ.
const SHRUNK_MAX: usize = 6;
/// Tries of making a script smaller.
const SHRINKS_MAX: u32 = 300;
/// And how long that may take: a play may last as long as its waits.
const SHRINKING_MAX: Duration = Duration::from_secs(180);
/// How often a script that differed is played again, to see whether it does so more than once.
const RECURS_MAX: usize = 4;
/// How often a script is played that differs while the machine does not keep up.
const PLAYS_MAX: usize = 6;
/// The row of the scripts.
pub const SCRIPTS: &str = "generated scripts";

/// What is compared, and on what.
#[derive(Clone)]
pub struct Suite {
    /// The servers, in the order of the columns.
    pub programs: Vec<Program>,
    /// The cases, in the order of the rows.
    pub cases: Vec<Case>,
    /// The numbers of the scripts that are drawn.
    pub scripts: Range<u32>,
    /// Cases at a time: they mostly wait.
    pub at_once: usize,
}

/// Cases are many: only how many there are is printed.
impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cases, scripts) = (self.cases.len(), self.scripts.len());
        write!(
            f,
            "Suite of {cases} cases and {scripts} scripts on {:?}",
            self.programs
        )
    }
}

/// What came of one row at one version.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// `group::name`, or [`SCRIPTS`].
    pub row: String,
    /// At which version.
    pub version: Version,
    /// In what the worlds differ.
    pub differences: Vec<Difference>,
    /// Some of the scripts that differ, made small, where the row is of scripts.
    pub scripts: Vec<Script>,
}

impl Cell {
    /// Whether something differs that is not explained.
    pub fn is_failed(&self) -> bool {
        let mut all = self.differences.iter();
        all.any(|difference| difference.explained.is_none())
    }

    fn sign(&self) -> &'static str {
        if self.is_failed() {
            "differs"
        } else if self.differences.is_empty() {
            "="
        } else {
            "explained"
        }
    }
}

impl Suite {
    /// Steps of [`run`](Self::run): each case and each script at each version.
    pub fn steps(&self) -> u64 {
        (self.cases.len() as u64 + self.scripts.len() as u64) * self.programs.len() as u64
    }

    /// Runs all of it; `step` is told how many steps were done, and whether they agreed.
    pub fn run(&self, step: &(dyn Fn(u64, bool) + Sync)) -> Matrix {
        let jobs: Vec<(&Case, &Program)> = self
            .cases
            .iter()
            .flat_map(|case| self.programs.iter().map(move |program| (case, program)))
            .collect();
        let (next, cells) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..self.at_once.max(1) {
                scope.spawn(|| {
                    while let Some((case, program)) = jobs.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        let cell = Cell {
                            row: case.path(),
                            version: program.version(),
                            differences: case.differences(program),
                            scripts: Vec::new(),
                        };
                        step(1, !cell.is_failed());
                        cells
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(cell);
                    }
                });
            }
        });
        let mut cells = cells.into_inner().unwrap_or_else(PoisonError::into_inner);
        if !self.scripts.is_empty() {
            for program in &self.programs {
                cells.push(generated(program, self.scripts.clone(), step));
            }
        }
        let mut rows: Vec<String> = self.cases.iter().map(Case::path).collect();
        rows.extend((!self.scripts.is_empty()).then(|| SCRIPTS.to_owned()));
        Matrix {
            rows,
            versions: self.programs.iter().map(Program::version).collect(),
            cells: cells
                .into_iter()
                .map(|cell| ((cell.row.clone(), cell.version), cell))
                .collect(),
        }
    }
}

/// Scripts drawn at random; the first batch in which some differ ends it, and those are made smaller.
pub fn generated(
    program: &Program,
    numbers: Range<u32>,
    step: &(dyn Fn(u64, bool) + Sync),
) -> Cell {
    let mut cell = Cell {
        row: SCRIPTS.to_owned(),
        version: program.version(),
        differences: Vec::new(),
        scripts: Vec::new(),
    };
    let all = generate::scripts(numbers.clone());
    for (batch, scripts) in all.chunks(BATCH).enumerate() {
        let begun = batch * BATCH;
        let found = differing(scripts, program, &|| step(1, true));
        if found.is_empty() {
            continue;
        }
        let shrunk: Vec<_> = std::thread::scope(|scope| {
            let found = found.iter().take(SHRUNK_MAX).map(|(place, first)| {
                let number = numbers.start + (begun + place) as u32;
                scope.spawn(move || smallest(number, first, program))
            });
            let shrunk: Vec<_> = found.collect();
            shrunk.into_iter().flat_map(|found| found.join()).collect()
        });
        let is_certain = shrunk.iter().any(|small| small.script.is_some());
        for small in shrunk {
            cell.differences.extend(small.differences);
            cell.scripts.extend(small.script);
        }
        if is_certain {
            step((all.len() - begun - scripts.len()) as u64, false);
            break;
        }
        step(0, false);
    }
    cell
}

/// A script that differs, made small, and in what it does.
struct Small {
    /// `None` where it did so once, and not again.
    script: Option<Script>,
    differences: Vec<Difference>,
}

/// The smallest form found of a script that differs.
#[allow(
    clippy::disallowed_methods,
    reason = "real servers play in real time: how long somebody waits for a smaller script follows from no seed"
)]
fn smallest(number: u32, first: &[Difference], program: &Program) -> Small {
    let differs = |script: &Script| !differences(script, program).is_empty();
    // What does not differ again would be played once for each way to make it smaller.
    let whole = generate::scripts(number..number + 1);
    let recurs = (0..RECURS_MAX).any(|_| whole.iter().any(&differs));
    let begun = Instant::now();
    let shrunk = recurs.then(|| {
        let is_in_time = || begun.elapsed() < SHRINKING_MAX;
        generate::shrink(number, SHRINKS_MAX, |script| {
            is_in_time() && differs(script)
        })
    });
    let found = shrunk.map(|script| (differences(&script, program), script));
    let Some((found, mut script)) = found.filter(|(found, _)| !found.is_empty()) else {
        let seen: Vec<String> = first.iter().map(ToString::to_string).collect();
        let seen = seen.join("\n");
        return Small {
            script: None,
            differences: vec![Difference {
                what: SCRIPTS.to_owned(),
                text: format!("  script {number} differed once, and not again:\n{seen}"),
                explained: None,
            }],
        };
    };
    script.about = format!("script {number} on {}", program.version());
    Small {
        script: Some(script),
        differences: found,
    }
}

/// In what a script differs between the worlds.
pub fn differences(script: &Script, program: &Program) -> Vec<Difference> {
    let version = program.version();
    let simulated = in_simulation(script, version.into());
    let real = played(script, program, &simulated);
    compare_seen(version, simulated, real)
}

fn compare_seen(version: Version, simulated: Seen, real: Seen) -> Vec<Difference> {
    let transcript = |seen: Seen| {
        let mut transcript = super::Transcript::default();
        match seen {
            Ok(lines) => transcript.lines = lines,
            Err(why) => transcript.wrong.push(why),
        }
        transcript
    };
    compare(SCRIPTS, version, &transcript(simulated), &transcript(real))
}

/// The scripts whose outcomes differ, or which could not be played, and in what they do.
fn differing(
    scripts: &[Script],
    program: &Program,
    step: &(dyn Fn() + Sync),
) -> Vec<(usize, Vec<Difference>)> {
    let version = program.version();
    let (simulated, real): (Vec<Seen>, Vec<Play>) = std::thread::scope(|scope| {
        let simulated = scope.spawn(|| {
            let all = scripts
                .iter()
                .map(|script| in_simulation(script, version.into()));
            all.collect()
        });
        let real = on_servers(scripts, program, step);
        (simulated.join().unwrap_or_default(), real)
    });
    let not_played = || Err("it was not played".to_owned());
    let found = |(place, script): (usize, &Script)| {
        let one = simulated.get(place).cloned().unwrap_or_else(not_played);
        let other = match real.get(place) {
            Some(play) if play.is_sure(&one) => play.seen.clone(),
            Some(_) => played(script, program, &one),
            None => not_played(),
        };
        let differences = compare_seen(version, one, other);
        (!differences.is_empty()).then_some((place, differences))
    };
    scripts.iter().enumerate().filter_map(found).collect()
}

/// What is seen of one script on a server of its own: where that is not as expected, in a play with which the machine
/// kept up, if there is one.
fn played(script: &Script, program: &Program, expected: &Seen) -> Seen {
    let mut seen = Err("it was not played".to_owned());
    for _ in 0..PLAYS_MAX {
        let plays = on_servers(std::slice::from_ref(script), program, &|| ());
        let Some(play) = plays.into_iter().next() else {
            break;
        };
        let is_sure = play.is_sure(expected);
        seen = play.seen;
        if is_sure {
            break;
        }
    }
    seen
}

/// What is seen, or why it could not be.
pub(super) type Seen = Result<Vec<String>, String>;

/// One play on a real server.
#[derive(Clone)]
struct Play {
    seen: Seen,
    /// Whether the machine and the server kept up with it.
    was_steady: bool,
}

impl Play {
    /// Plays a script in a bucket and below subjects of this name.
    async fn of(stage: &Stage<'_>, name: &str, script: &Script) -> Self {
        let (clock, pulse) = (stage.lab.clock(), stage.pulse);
        let began = clock.now();
        let seen = stage.clients.play(stage.lab, name, script).await;
        Self {
            seen: seen.map_err(|stop| stop.0),
            was_steady: pulse.is_steady(began, clock.now()),
        }
    }

    /// Whether another play can say nothing else: where the machine did not keep up, it still did what was expected.
    fn is_sure(&self, expected: &Seen) -> bool {
        self.was_steady || self.seen == *expected
    }

    fn failed(why: &Stop) -> Self {
        Self {
            seen: Err(why.0.clone()),
            was_steady: false,
        }
    }
}

/// What it takes to play.
struct Stage<'a> {
    lab: &'a Real,
    pulse: &'a Pulse,
    clients: &'a Clients<Conn<Real>>,
}

pub(super) fn in_simulation(script: &Script, model: Model) -> Seen {
    simulate(1, Setup::DEFAULT, model, async |lab| {
        let clients = Clients::connect(lab, "p").await.map_err(|stop| stop.0)?;
        clients.play(lab, "b", script).await.map_err(|stop| stop.0)
    })
}

/// Plays scripts on real servers, several at a time: most share one, each in a bucket of its own.
fn on_servers(scripts: &[Script], program: &Program, step: &(dyn Fn() + Sync)) -> Vec<Play> {
    let (own, shared): (Vec<usize>, Vec<usize>) =
        (0..scripts.len()).partition(|place| scripts[*place].needs_own_server());
    let mut plays: BTreeMap<usize, Play> = BTreeMap::new();
    plays.extend(observe(async {
        if shared.is_empty() {
            return Vec::new();
        }
        let (lab, pulse) = match opened(program).await {
            Ok(opened) => opened,
            Err(stop) => {
                let failed = shared.iter().map(|place| (*place, Play::failed(&stop)));
                return failed.collect();
            }
        };
        let (lab, pulse) = (&lab, &pulse);
        in_parallel(PLAYERS, &shared, step, |player, queue| async move {
            let clients = Clients::connect(lab, &format!("p{player}")).await;
            let mut played = Vec::new();
            while let Some(place) = queue() {
                let play = match &clients {
                    Ok(clients) => {
                        let stage = Stage {
                            lab,
                            pulse,
                            clients,
                        };
                        Play::of(&stage, &format!("b{place}"), &scripts[place]).await
                    }
                    Err(stop) => Play::failed(stop),
                };
                played.push((place, play));
            }
            played
        })
        .await
    }));
    plays.extend(observe(in_parallel(
        OWN_SERVERS,
        &own,
        step,
        |_, queue| async move {
            let mut played = Vec::new();
            while let Some(place) = queue() {
                let alone = async {
                    let (lab, pulse) = opened(program).await?;
                    let stage = Stage {
                        lab: &lab,
                        pulse: &pulse,
                        clients: &Clients::connect(&lab, "p").await?,
                    };
                    Ok(Play::of(&stage, "b", &scripts[place]).await)
                };
                let play = alone.await.unwrap_or_else(|stop| Play::failed(&stop));
                played.push((place, play));
            }
            played
        },
    )));
    plays.into_values().collect()
}

/// A server, and its pulse.
async fn opened(program: &Program) -> Result<(Real, Pulse), Stop> {
    let lab = Real::start(Setup::DEFAULT, program).await?;
    let pulse = Pulse::of(&lab).await?;
    Ok((lab, pulse))
}

/// Lets so many players take places from one queue until it is empty.
async fn in_parallel<'a, F>(
    players: usize,
    places: &'a [usize],
    step: &'a (dyn Fn() + Sync),
    play: impl Fn(usize, Box<dyn Fn() -> Option<usize> + 'a>) -> F,
) -> Vec<(usize, Play)>
where
    F: Future<Output = Vec<(usize, Play)>>,
{
    let next = std::rc::Rc::new(AtomicUsize::new(0));
    let players = (0..players.min(places.len())).map(|player| {
        let next = std::rc::Rc::clone(&next);
        let queue = move || {
            let place = places.get(next.fetch_add(1, Ordering::Relaxed)).copied()?;
            step();
            Some(place)
        };
        play(player, Box::new(queue))
    });
    futures_util::future::join_all(players).await.concat()
}

/// What came of it: rows and versions.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    rows: Vec<String>,
    versions: Vec<Version>,
    cells: BTreeMap<(String, Version), Cell>,
}

impl Matrix {
    /// Whether something differs that is not explained.
    pub fn is_failed(&self) -> bool {
        self.cells.values().any(Cell::is_failed)
    }

    /// All cells, by row.
    pub fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.cells.values()
    }

    fn sign(&self, row: &str, version: Version) -> &'static str {
        let cell = self.cells.get(&(row.to_owned(), version));
        cell.map_or("", Cell::sign)
    }

    /// As a table of Markdown, for the document.
    pub fn markdown(&self) -> String {
        let mut text = String::from("| case |");
        let heads: String = self
            .versions
            .iter()
            .map(|version| format!(" {version} |"))
            .collect();
        let _ = writeln!(text, "{heads}\n|---|{}", "---|".repeat(self.versions.len()));
        for row in &self.rows {
            let _ = write!(text, "| {row} |");
            for version in &self.versions {
                let _ = write!(text, " {} |", self.sign(row, *version));
            }
            text.push('\n');
        }
        text
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let width = self.rows.iter().map(String::len).max().unwrap_or(0);
        let mut text = format!("{:width$}", "");
        for version in &self.versions {
            let _ = write!(text, "  {:9}", version.to_string());
        }
        text.push('\n');
        for row in &self.rows {
            let _ = write!(text, "{row:width$}");
            for version in &self.versions {
                let _ = write!(text, "  {:9}", self.sign(row, *version));
            }
            text.push('\n');
        }
        text
    }

    /// Every difference, explained or not, and the scripts that show one.
    pub fn findings(&self) -> String {
        let mut text = String::new();
        for cell in self
            .cells
            .values()
            .filter(|cell| !cell.differences.is_empty())
        {
            let _ = writeln!(text, "\n{} on {}: {}", cell.row, cell.version, cell.sign());
            for difference in &cell.differences {
                let _ = writeln!(text, "{difference}");
            }
            for script in &cell.scripts {
                let _ = writeln!(text, "  made small:\n\n{script}");
            }
        }
        text
    }
}
