//! [`HomeFiles`]: a folder on a real disk.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::{FileError, FileStep, Files, Rotation};

const OWNER_ONLY: u32 = 0o600;
const OWNER_ONLY_FOLDER: u32 = 0o700;

/// The files in one folder.
#[derive(Clone, Debug)]
pub struct HomeFiles {
    folder: PathBuf,
}

impl HomeFiles {
    /// The files in this folder, which is made, for its owner alone, when the first is written.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Where it lies, in a folder that is there from now on, also after a loss of power.
    fn place(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path(name);
        let folder = path.parent().unwrap_or(&self.folder);
        let missing = folder.ancestors().take_while(|folder| !folder.exists());
        let missing: Vec<&Path> = missing.collect();
        DirBuilder::new()
            .recursive(true)
            .mode(OWNER_ONLY_FOLDER)
            .create(folder)?;
        for parent in missing.iter().filter_map(|folder| folder.parent()) {
            sync_folder(parent)?;
        }
        Ok(path)
    }
}

impl Files for HomeFiles {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, FileError> {
        match fs::read(self.path(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FileError::new(name, FileStep::Read, &error)),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        let failed = |step| move |error: io::Error| FileError::new(name, step, &error);
        let path = self.place(name).map_err(failed(FileStep::Prepare))?;
        let folder = path.parent().unwrap_or(&self.folder);
        let temporary = prepare(folder, bytes).map_err(failed(FileStep::Prepare))?;
        temporary
            .persist(&path)
            .map_err(|error| failed(FileStep::Replace)(error.error))?;
        // The name too is on disk only once the folder is.
        sync_folder(folder).map_err(failed(FileStep::Replace))
    }

    fn append_line(
        &self,
        name: &str,
        line: &[u8],
        rotation: Option<Rotation>,
    ) -> Result<(), FileError> {
        let failed = |step| move |error: io::Error| FileError::new(name, step, &error);
        let path = self.place(name).map_err(failed(FileStep::Append))?;
        let rotated = match rotation {
            Some(rotation) => rotate(&path, line, rotation).map_err(failed(FileStep::Rotate)),
            None => Ok(()),
        };
        // Also where it could not be rotated: better a log that is too large than one that ends.
        append(&path, line).map_err(failed(FileStep::Append))?;
        rotated
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    // The folder of a path without one is the current.
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    File::open(folder)?.sync_all()
}

/// A temporary file with these bytes, on disk. It is removed where it is not put in its place.
fn prepare(folder: &Path, bytes: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    // Its mode is 0600.
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    Ok(temporary)
}

/// One write for the whole line, at whatever is the end then: so lines of several writers do not mix.
fn append(path: &Path, line: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(OWNER_ONLY)
        .open(path)?;
    let mut whole = Vec::with_capacity(line.len() + 2);
    if is_torn(&mut file)? {
        whole.push(b'\n');
    }
    whole.extend_from_slice(line);
    whole.push(b'\n');
    file.write_all(&whole)
}

fn is_torn(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// Makes room if the line does not fit. One at a time: a second that came to the same conclusion would push a file out
/// that has only just begun.
fn rotate(path: &Path, line: &[u8], rotation: Rotation) -> io::Result<()> {
    let is_full = || -> io::Result<bool> {
        match fs::metadata(path) {
            Ok(file) => {
                Ok(file.len() > 0 && file.len() + line.len() as u64 + 2 > rotation.bytes_max)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    };
    if !is_full()? {
        return Ok(());
    }
    let numbered = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(OWNER_ONLY)
        .open(lock)?;
    match lock.try_lock() {
        Ok(()) => {}
        // Another is at it.
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    if !is_full()? {
        return Ok(());
    }
    for number in (1..rotation.kept).rev() {
        match fs::rename(numbered(number), numbered(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    if rotation.kept == 0 {
        fs::remove_file(path)
    } else {
        fs::rename(path, numbered(1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(folder: &Path) -> BTreeSet<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        entries
            .map(|entry| entry.expect("an entry").file_name().display().to_string())
            .collect()
    }

    #[test]
    fn only_the_owner_may_read_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().join("home");
        let files = HomeFiles::new(&home);
        files
            .write("credentials.json", b"{}")
            .expect("it is written");
        files
            .write("credentials.json", b"[]")
            .expect("it is replaced");
        files
            .append_line("log", b"line", None)
            .expect("it is added");
        let mode = |path: &Path| {
            let meta = fs::metadata(path).expect("it is there");
            meta.permissions().mode() & 0o777
        };
        assert_eq!(mode(&home), 0o700);
        assert_eq!(
            names(&home),
            ["credentials.json", "log"].map(str::to_owned).into()
        );
        assert!(
            names(&home)
                .iter()
                .all(|name| mode(&home.join(name)) == 0o600)
        );
    }

    #[test]
    fn a_file_that_others_could_read_is_theirs_no_more_once_it_is_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("credentials.json");
        fs::write(&path, b"{}").expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a mode");
        let files = HomeFiles::new(folder.path());
        files
            .write("credentials.json", b"{}")
            .expect("it is replaced");
        let meta = fs::metadata(&path).expect("it is there");
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_cannot_be_read_or_written_is_an_error_and_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("taken")).expect("a folder");
        let files = HomeFiles::new(folder.path());
        let error = files.read("taken").expect_err("it is a folder");
        assert_eq!((error.step, &*error.name), (FileStep::Read, "taken"));
        let error = files.write("taken", b"{}").expect_err("it is a folder");
        assert_eq!(error.step, FileStep::Replace);
        assert_eq!(names(folder.path()), ["taken".to_owned()].into());
        let elsewhere = HomeFiles::new(folder.path().join("nowhere"));
        assert_eq!(elsewhere.read("none"), Ok(None));
    }

    /// Each with a handle of its own, as programs have.
    #[test]
    fn writers_at_once_lose_no_line_and_mix_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let bytes_max = 40_000;
        let rotation = Some(Rotation { bytes_max, kept: 9 });
        let line =
            |writer: usize, number: usize| format!("{writer} {number} {}", "x".repeat(writer * 40));
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let files = HomeFiles::new(folder.path());
                scope.spawn(move || {
                    for number in 0..500 {
                        files
                            .append_line("log", line(writer, number).as_bytes(), rotation)
                            .expect("it is added");
                    }
                });
            }
        });
        // While one makes room the others write on, however long that takes; it is made in the end.
        let last = HomeFiles::new(folder.path()).append_line("log", b"", rotation);
        last.expect("it is added");
        let log = fs::metadata(folder.path().join("log")).expect("a file");
        assert!(log.len() <= bytes_max, "{}", log.len());
        assert!(names(folder.path()).contains("log.1"));
        let mut left: Vec<String> = Vec::new();
        for name in names(folder.path())
            .into_iter()
            .filter(|name| !name.ends_with(".lock"))
        {
            let log = fs::read(folder.path().join(name)).expect("a file");
            left.extend(
                String::from_utf8(log)
                    .expect("text")
                    .lines()
                    .map(str::to_owned),
            );
        }
        left.retain(|line| !line.is_empty());
        left.sort();
        let mut all: Vec<String> = (0..4)
            .flat_map(|writer| (0..500).map(move |number| (writer, number)))
            .map(|(writer, number)| line(writer, number))
            .collect();
        all.sort();
        assert_eq!(left, all);
    }
}
