//! One nats-server process with JetStream, on a port of its own choice, with its store in a temporary folder.
//!
//! Stopped, killed, paused and resumed by signals, and started again on the same port with the same store. The process
//! dies with its [`NatsServer`], also when a test panics.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use squall_core::jwt::{Claims, Realm};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::provision::{ProvisionError, nats_server};

/// How long a server may take to answer, on a machine that is busy.
const START_MAX: Duration = Duration::from_secs(20);
/// How long it may take to stop in good order.
const STOP_MAX: Duration = Duration::from_secs(10);
/// How long a port that is taken is tried again: a client's outgoing connection may have it for a moment.
const PORT_MAX: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(10);

/// What server to start.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    /// The version, one of [`VERSIONS`](super::VERSIONS); `None`: the one that the surroundings name.
    pub version: Option<String>,
    /// More text for its configuration file.
    pub config: String,
    /// Operator mode: whom it trusts and which accounts it knows. `None`: it lets everybody in.
    pub realm: Option<Realm>,
    /// More text for the `jetstream` block in it, for example `sync_interval: always`.
    pub jetstream: String,
    /// One of a cluster: it is up once it greets, because JetStream answers only where a majority is.
    pub is_member: bool,
}

/// A server does not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// There is no binary.
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    /// The system refused.
    #[error("cannot run nats-server: {0}")]
    System(String),
    /// Somebody else listens on its port.
    #[error("nats-server cannot have port {0}: it is in use")]
    PortInUse(u16),
    /// It ended instead of serving.
    #[error("nats-server ended with {status}: {log}")]
    Ended {
        /// How it ended.
        status: String,
        /// The last line of its log.
        log: String,
    },
    /// It runs, but does not answer.
    #[error("nats-server does not answer after {START_MAX:?}; its last words: {log}")]
    Silent {
        /// The last line of its log.
        log: String,
    },
}

impl From<io::Error> for ServerError {
    fn from(error: io::Error) -> Self {
        Self::System(error.to_string())
    }
}

/// A running, paused or stopped server.
#[derive(Debug)]
pub struct NatsServer {
    binary: PathBuf,
    folder: TempDir,
    is_member: bool,
    port: Option<u16>,
    /// Where it listens for the others of its cluster: another port at every start.
    route_port: Option<u16>,
    process: Option<Child>,
}

impl NatsServer {
    /// Starts a server and waits until it accepts clients and, unless it is one of a cluster, JetStream answers.
    ///
    /// # Errors
    /// One sentence, with the last line of its log.
    pub async fn start(options: ServerOptions) -> Result<Self, ServerError> {
        let version = options.version;
        let binary = tokio::task::spawn_blocking(move || nats_server(version.as_deref()))
            .await
            .map_err(|error| ServerError::System(error.to_string()))??;
        let folder = tempfile::Builder::new().prefix("squall-nats-").tempdir()?;
        let store = folder.path().join("store");
        let config = format!(
            "jetstream: {{ store_dir: {store:?}\n{} }}\n{}\n{}\n",
            options.jetstream,
            options.config,
            options
                .realm
                .as_ref()
                .map(operator_mode)
                .unwrap_or_default()
        );
        fs::write(folder.path().join("server.conf"), config)?;
        let mut server = Self {
            binary,
            folder,
            is_member: options.is_member,
            port: None,
            route_port: None,
            process: None,
        };
        server.launch().await?;
        Ok(server)
    }

    /// `nats://127.0.0.1:PORT`; stays the same across restarts.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        // It has a port from its first start on, and only started servers are given out.
        (Ipv4Addr::LOCALHOST, self.port.unwrap_or(0)).into()
    }

    /// Where it listens for the others of its cluster, if it is one of one; changes with every start.
    pub fn route_address(&self) -> Option<SocketAddr> {
        self.route_port
            .map(|port| (Ipv4Addr::LOCALHOST, port).into())
    }

    /// Whether it has a process, frozen or not.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// The last line of its log.
    pub fn last_log_line(&self) -> String {
        last_line(&self.log())
    }

    /// Asks it to stop (SIGTERM) and waits until it has; nothing acknowledged is lost.
    ///
    /// # Errors
    /// If it does not stop.
    pub async fn stop(&mut self) -> Result<(), ServerError> {
        // A paused process hears nothing.
        self.signal(Signal::CONT)?;
        self.signal(Signal::TERM)?;
        self.await_end().await
    }

    /// Kills it (SIGKILL), and waits until it is gone.
    ///
    /// # Errors
    /// If it does not die.
    pub async fn kill(&mut self) -> Result<(), ServerError> {
        self.signal(Signal::KILL)?;
        self.await_end().await
    }

    /// Keeps a copy of its store, as it is now; in good order only while there is no process.
    ///
    /// # Errors
    /// If the copy cannot be made.
    pub fn keep_copy(&self) -> Result<(), ServerError> {
        let (store, copy) = self.store_and_copy();
        Ok(replace_folder(&store, &copy)?)
    }

    /// Kills it, where it runs, and puts the copy of its store that was kept last in the place of the store: what a loss
    /// of power leaves, had the files been synced then and never since.
    ///
    /// # Errors
    /// If it does not die, or there is no copy.
    pub async fn lose_power(&mut self) -> Result<(), ServerError> {
        if self.process.is_some() {
            self.kill().await?;
        }
        let (store, copy) = self.store_and_copy();
        Ok(replace_folder(&copy, &store)?)
    }

    fn store_and_copy(&self) -> (PathBuf, PathBuf) {
        let folder = self.folder.path();
        (folder.join("store"), folder.join("copy"))
    }

    /// Freezes it (SIGSTOP), and waits until it is: its sockets stay open, and nothing is answered.
    ///
    /// # Errors
    /// If there is no process.
    pub async fn pause(&self) -> Result<(), ServerError> {
        self.signal(Signal::STOP)?;
        let pid = self.pid()?;
        let deadline = Instant::now() + STOP_MAX;
        // The kernel says so once all of its threads stand still, which is a moment after the signal.
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        while Instant::now() < deadline {
            match waitid(WaitId::Pid(pid), stopped) {
                Ok(Some(_)) => return Ok(()),
                Ok(None) => sleep(Duration::from_millis(1)).await,
                Err(error) => return Err(ServerError::System(error.to_string())),
            }
        }
        Err(ServerError::System(format!(
            "it does not freeze within {STOP_MAX:?}"
        )))
    }

    /// Lets it run on (SIGCONT).
    ///
    /// # Errors
    /// If there is no process.
    pub fn resume(&self) -> Result<(), ServerError> {
        self.signal(Signal::CONT)
    }

    /// Starts it again on the same port with the same store; stops it first where it runs.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        if self.process.is_some() {
            self.stop().await?;
        }
        self.launch().await
    }

    /// Tells it to shut down as a lame duck (SIGUSR2): in a while it is gone by itself.
    ///
    /// # Errors
    /// If there is no process.
    pub fn retire(&self) -> Result<(), ServerError> {
        self.signal(Signal::USR2)
    }

    fn signal(&self, signal: Signal) -> Result<(), ServerError> {
        kill_process(self.pid()?, signal).map_err(|error| ServerError::System(error.to_string()))
    }

    /// A child that has not been waited for keeps its id: no other process can be hit.
    fn pid(&self) -> Result<Pid, ServerError> {
        let child = self.process.as_ref();
        child
            .and_then(|child| Pid::from_raw(child.id() as i32))
            .ok_or_else(|| ServerError::System("it is not running".to_owned()))
    }

    async fn await_end(&mut self) -> Result<(), ServerError> {
        let deadline = Instant::now() + STOP_MAX;
        while let Some(process) = &mut self.process {
            if process.try_wait()?.is_some() {
                self.process = None;
            } else if Instant::now() > deadline {
                return Err(ServerError::System(format!(
                    "it does not stop within {STOP_MAX:?}"
                )));
            } else {
                sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    async fn launch(&mut self) -> Result<(), ServerError> {
        let deadline = Instant::now() + PORT_MAX;
        loop {
            match self.launch_once().await {
                Err(ServerError::PortInUse(_)) if Instant::now() < deadline => sleep(PAUSE).await,
                result => return result,
            }
        }
    }

    async fn launch_once(&mut self) -> Result<(), ServerError> {
        let folder = self.folder.path();
        let log = File::create(self.log())?;
        let port = self
            .port
            .map_or_else(|| "-1".to_owned(), |port| port.to_string());
        let process = Command::new(&self.binary)
            .arg("-c")
            .arg(folder.join("server.conf"))
            .args(["-a", "127.0.0.1", "-p", &port, "--ports_file_dir"])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        // The name of the ports file begins with that of the binary.
        let name = self
            .binary
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let ports = folder.join(format!("{name}_{}.ports", process.id()));
        self.process = Some(process);
        self.route_port = None;
        let deadline = Instant::now() + START_MAX;
        loop {
            if let Some(status) = self.ended()? {
                self.process = None;
                return Err(self.why_it_ended(status));
            }
            if self.port.is_none() {
                self.port = read_port(&ports, "nats");
            }
            if self.is_member && self.route_port.is_none() {
                self.route_port = read_port(&ports, "cluster");
            }
            if self.port.is_some() && self.is_up().await {
                return Ok(());
            }
            if Instant::now() > deadline {
                self.kill().await?;
                return Err(ServerError::Silent {
                    log: self.last_log_line(),
                });
            }
            sleep(PAUSE).await;
        }
    }

    async fn is_up(&self) -> bool {
        if self.is_member {
            self.route_port.is_some() && greets(self.address()).await
        } else {
            answers(self.address()).await
        }
    }

    fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        match &mut self.process {
            Some(process) => process.try_wait(),
            None => Ok(None),
        }
    }

    fn why_it_ended(&self, status: ExitStatus) -> ServerError {
        let log = self.last_log_line();
        match self.port {
            Some(port) if log.contains("address already in use") => ServerError::PortInUse(port),
            _ => ServerError::Ended {
                status: status.to_string(),
                log,
            },
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Fails only where the process is gone already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// The least that a server in operator mode needs. Updates of accounts are pushed to it, and forgotten when it is
/// restarted.
fn operator_mode(realm: &Realm) -> String {
    let mut config = format!("operator: {}\nresolver: MEMORY\n", realm.operator);
    config.push_str("resolver_preload: {\n");
    for token in &realm.accounts {
        if let Ok(claims) = Claims::read(token) {
            config.push_str(&format!("  {}: {token}\n", claims.subject));
        }
    }
    config.push_str("}\n");
    config
}

/// Makes `to` a copy of `from`, whatever it was before.
fn replace_folder(from: &Path, to: &Path) -> io::Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            replace_folder(&source, &target)?;
        } else {
            fs::copy(source, target)?;
        }
    }
    Ok(())
}

fn last_line(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let last = text.lines().rfind(|line| !line.trim().is_empty());
    last.unwrap_or("(no log)").to_owned()
}

/// The port for clients (`nats`) or routes (`cluster`) in a ports file; `None` while it is not there, or half written.
fn read_port(file: &Path, of: &str) -> Option<u16> {
    let ports: serde_json::Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    let (_, port) = ports[of][0].as_str()?.rsplit_once(':')?;
    port.parse().ok()
}

/// Whether a server greets there.
async fn greets(address: SocketAddr) -> bool {
    let asked = timeout(Duration::from_secs(1), async {
        let mut stream = BufReader::new(TcpStream::connect(address).await?);
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        Ok::<_, io::Error>(line.starts_with("INFO "))
    });
    matches!(asked.await, Ok(Ok(true)))
}

/// Whether a server greets there and JetStream answers; where clients must log in, whether it greets with JetStream on.
async fn answers(address: SocketAddr) -> bool {
    let asked = timeout(Duration::from_secs(1), async {
        let mut stream = BufReader::new(TcpStream::connect(address).await?);
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let info = line.strip_prefix("INFO ").unwrap_or("null");
        let info: serde_json::Value = serde_json::from_str(info)?;
        if info["auth_required"] == true {
            return Ok(info["jetstream"] == true);
        }
        let ask = "CONNECT {\"verbose\":false}\r\nSUB ready 1\r\nPUB $JS.API.INFO ready 0\r\n\r\n";
        stream.write_all(ask.as_bytes()).await?;
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok::<_, io::Error>(false);
            }
            if line.starts_with("MSG ready") {
                return Ok(true);
            }
        }
    });
    matches!(asked.await, Ok(Ok(true)))
}
