//! A hunt through a real nats-server ends as it does in one process, whoever is killed on the way.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use squall_core::nats::{NatsConnection, NatsEnv};
use squall_core::transport::{ConnectOptions, JetStream as _, Message, StoreOptions, Stream as _};
use squall_core::{Env as _, Transport as _};
use squall_scenarios::fleet::{Announcement, FOUND, Found, HUNTS, Report};
use squall_scenarios::real::{ClusterOptions, NatsCluster, NatsServer, ServerOptions};
use tempfile::TempDir;
use tokio::time::sleep;

use super::hunting::{findings, table_of};

/// Longer than a hunt takes here on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);
const TICK: Duration = Duration::from_millis(20);

const SCENARIOS: [&str; 4] = [
    "--scenario",
    "canary/one-in-a-hundred",
    "--scenario",
    "presence/restart-overlap",
];

/// A process of `squall`, which dies with it.
struct Squall(Child);

impl Squall {
    fn start(arguments: &[&str], folder: &TempDir, name: &str) -> Self {
        let file = |ending: &str| {
            let path = folder.path().join(format!("{name}.{ending}"));
            fs::File::create(path).expect("a file")
        };
        let child = Command::new(env!("CARGO_BIN_EXE_squall"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn();
        Self(child.expect("the program runs"))
    }

    fn kill(mut self) {
        let running = self.0.try_wait().expect("it is a child");
        assert_eq!(running, None, "it is killed in the middle of its work");
    }

    async fn end(mut self) -> ExitStatus {
        let waited = async {
            loop {
                if let Some(status) = self.0.try_wait().expect("it is a child") {
                    return status;
                }
                sleep(TICK).await;
            }
        };
        let ended = tokio::time::timeout(PATIENCE, waited).await;
        ended.expect("it ends")
    }
}

impl Drop for Squall {
    fn drop(&mut self) {
        // Fails where it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A place for the files of a test, and the servers of its fleet.
struct Field {
    folder: TempDir,
    urls: String,
}

impl Field {
    fn new(urls: &[String]) -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            urls: urls.join(","),
        }
    }

    fn report(&self) -> PathBuf {
        self.folder.path().join("fleet")
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).expect("a file")
    }

    fn coordinator(&self) -> Squall {
        let report = self.report();
        let mut arguments = vec![
            "chaos", "--seeds", "240", "--jobs", "2", "--fleet", &self.urls,
        ];
        arguments.extend(SCENARIOS);
        arguments.extend(["--report", report.to_str().expect("a path of text")]);
        Squall::start(&arguments, &self.folder, "coordinator")
    }

    fn worker(&self, name: &str) -> Squall {
        let arguments = ["worker", "--once", "--jobs", "1", "--fleet", &self.urls];
        Squall::start(&arguments, &self.folder, name)
    }

    /// Somebody has done a part, which is one of many.
    async fn is_under_way(&self) {
        let (url, _) = self.urls.split_once(',').unwrap_or((&self.urls, ""));
        first_report(&connection(url).await).await;
    }

    /// Everything came out as in one process.
    fn is_as_in_one_process(&self, status: ExitStatus) {
        let told = self.read("coordinator.err");
        assert_eq!(status.code(), Some(1), "{told}");
        let one = self.folder.path().join("one");
        let mut alone = Command::new(env!("CARGO_BIN_EXE_squall"));
        alone
            .args(["chaos", "--seeds", "240", "--report"])
            .arg(&one)
            .args(SCENARIOS);
        let alone = alone.output().expect("the program runs");
        assert_eq!(alone.status.code(), Some(1));
        let printed = String::from_utf8_lossy(&alone.stdout);
        let table = table_of(&printed);
        assert!(table.contains("480 seeds"), "{table}");
        assert_eq!(table_of(&self.read("coordinator.out")), table);
        let found = findings(&one);
        assert_eq!(found.len(), 3 * 6, "37, 137 and 237, shrunk");
        assert_eq!(findings(&self.report()), found);
    }
}

async fn server() -> NatsServer {
    let started = NatsServer::start(ServerOptions::default()).await;
    started.expect("a server starts")
}

async fn connection(url: &str) -> NatsConnection {
    let options = ConnectOptions {
        servers: vec![url.to_owned()],
        ..ConnectOptions::default()
    };
    let connected = NatsEnv::new(1).transport().connect(options).await;
    connected.expect("the server accepts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_four_workers_are_killed_and_nothing_is_missing() {
    let server = server().await;
    let field = Field::new(&[server.url()]);
    let coordinator = field.coordinator();
    let [one, other, third, fourth] = ["1", "2", "3", "4"].map(|name| field.worker(name));
    field.is_under_way().await;
    one.kill();
    other.kill();
    field.is_as_in_one_process(coordinator.end().await);
    assert!(third.end().await.success() && fourth.end().await.success());

    // What was found went into a stream of its own, each run once, and is still there.
    let connection = connection(&server.url()).await;
    let found = connection.stream(FOUND).expect("the name is valid");
    let info = found.info().await.expect("it is there");
    assert_eq!(info.messages, 3);
    let message = found.get(info.last_sequence).await.expect("it is read");
    let message = message.expect("it is there");
    let found: Found = serde_json::from_slice(&message.payload).expect("it is a finding");
    assert!([37, 137, 237].contains(&found.seed) && found.told[0].starts_with("P1 at"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_is_killed_and_comes_back_and_nothing_is_missing() {
    let mut server = server().await;
    let field = Field::new(&[server.url()]);
    let coordinator = field.coordinator();
    let workers = ["1", "2"].map(|name| field.worker(name));
    field.is_under_way().await;
    server.kill().await.expect("it dies");
    sleep(Duration::from_secs(1)).await;
    server.restart().await.expect("it comes back");
    field.is_as_in_one_process(coordinator.end().await);
    for worker in workers {
        assert!(worker.end().await.success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_is_killed_and_resumed_and_nothing_is_missing() {
    let server = server().await;
    let field = Field::new(&[server.url()]);
    let coordinator = field.coordinator();
    let connection = connection(&server.url()).await;
    until_announced(&connection).await;
    // Another hunt cannot come between.
    let second = Squall::start(&["chaos", "--fleet", &field.urls], &field.folder, "second");
    assert_eq!(second.end().await.code(), Some(2));
    assert!(
        field
            .read("second.err")
            .contains("is under way in this fleet")
    );

    let _workers = ["1", "2"].map(|name| field.worker(name));
    field.is_under_way().await;
    coordinator.kill();
    let report = field.report();
    let resume = [
        "chaos",
        "--jobs",
        "2",
        "--resume",
        report.to_str().expect("a path of text"),
    ];
    let resumed = Squall::start(&resume, &field.folder, "coordinator");
    field.is_as_in_one_process(resumed.end().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_three_loses_a_server_and_nothing_is_missing() {
    let started = NatsCluster::start(ClusterOptions::default()).await;
    let mut cluster = started.expect("a cluster starts");
    let field = Field::new(&[0, 1, 2].map(|server| cluster.url(server)));
    let coordinator = field.coordinator();
    let workers = ["1", "2"].map(|name| field.worker(name));
    field.is_under_way().await;
    let hunts = connection(&cluster.url(1))
        .await
        .stream(HUNTS)
        .expect("the name is valid");
    let info = hunts.info().await.expect("it is there");
    assert_eq!(info.config.replicas, 3);
    cluster.kill(0).await.expect("it dies");
    field.is_as_in_one_process(coordinator.end().await);
    for worker in workers {
        assert!(worker.end().await.success());
    }
}

/// Somebody has stood still until his part was given to another, and reports it all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_was_done_twice_is_noticed_and_counted_once() {
    let server = server().await;
    let field = Field::new(&[server.url()]);
    let coordinator = field.coordinator();
    let worker = field.worker("1");
    let connection = connection(&server.url()).await;
    let (subject, report) = first_report(&connection).await;
    let again = Message::new(subject.clone(), serde_json::to_vec(&report).expect("JSON"));
    let stored = connection.store(again, StoreOptions::default()).await;
    stored.expect("it is stored");
    field.is_as_in_one_process(coordinator.end().await);
    assert!(worker.end().await.success());
    let told = field.read("coordinator.err");
    assert!(
        told.contains("1 part was done twice, and counted once"),
        "{told}"
    );
}

/// The same, and it came to something else: then no result can be trusted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_came_to_something_else_the_second_time_ends_the_hunt() {
    let server = server().await;
    let field = Field::new(&[server.url()]);
    let coordinator = field.coordinator();
    let _worker = field.worker("1");
    let connection = connection(&server.url()).await;
    let (subject, mut report) = first_report(&connection).await;
    let tally = report
        .sweep
        .scenarios
        .values_mut()
        .next()
        .expect("it ran something");
    tally.simulated += Duration::from_nanos(1);
    let other = Message::new(subject, serde_json::to_vec(&report).expect("JSON"));
    let stored = connection.store(other, StoreOptions::default()).await;
    stored.expect("it is stored");
    assert_eq!(coordinator.end().await.code(), Some(2));
    let told = field.read("coordinator.err");
    assert!(
        told.contains("were done twice and came out differently"),
        "{told}"
    );
}

/// The first report that a worker stores, and where.
async fn first_report(connection: &NatsConnection) -> (String, Report) {
    let found = async {
        loop {
            if let Some(id) = announced(connection).await {
                let done = connection
                    .stream(&format!("squall-done-{id}"))
                    .expect("a name");
                let subject = format!("squall.done.{id}");
                if let Ok(Some(message)) = done.last(&subject).await {
                    let report = serde_json::from_slice(&message.payload);
                    return (subject, report.expect("it is a report"));
                }
            }
            sleep(TICK).await;
        }
    };
    tokio::time::timeout(PATIENCE, found)
        .await
        .expect("a worker reports")
}

async fn until_announced(connection: &NatsConnection) {
    let seen = async {
        while announced(connection).await.is_none() {
            sleep(TICK).await;
        }
    };
    let seen = tokio::time::timeout(PATIENCE, seen).await;
    seen.expect("the hunt is announced");
}

async fn announced(connection: &NatsConnection) -> Option<String> {
    let hunts = connection.stream(HUNTS).expect("the name is valid");
    let message = hunts.last("squall.hunts").await.ok()??;
    let announcement: Announcement =
        serde_json::from_slice(&message.payload).expect("it is an announcement");
    announcement.settings.map(|_| announcement.id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_of_another_squall_refuses() {
    let server = server().await;
    let field = Field::new(&[server.url()]);
    let coordinator = field.coordinator();
    let connection = connection(&server.url()).await;
    until_announced(&connection).await;
    drop(coordinator);
    let hunts = connection.stream(HUNTS).expect("the name is valid");
    let message = hunts
        .last("squall.hunts")
        .await
        .expect("it is read")
        .expect("it is there");
    let mut other: Announcement = serde_json::from_slice(&message.payload).expect("it is one");
    other.squall = "0.0.9+0123456789abcdef".to_owned();
    let other = Message::new("squall.hunts", serde_json::to_vec(&other).expect("JSON"));
    connection
        .store(other, StoreOptions::default())
        .await
        .expect("it is stored");
    assert_eq!(field.worker("1").end().await.code(), Some(2));
    let told = field.read("1.err");
    assert!(
        told.contains(
            "the hunt in this fleet is one of squall 0.0.9+0123456789abcdef, and this is squall "
        ),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_is_not_there_is_said_to_be() {
    let field = Field::new(&["nats://127.0.0.1:1".to_owned()]);
    for (name, squall) in [
        ("1", field.worker("1")),
        ("coordinator", field.coordinator()),
    ] {
        assert_eq!(squall.end().await.code(), Some(2));
        let told = field.read(&format!("{name}.err"));
        let expected = "squall: nats://127.0.0.1:1: cannot reach the server: ";
        assert!(told.starts_with(expected), "{told}");
    }
}
