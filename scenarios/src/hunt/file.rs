//! Files and folders that are there whole, or not at all: whoever is killed, or loses its power, at any moment leaves
//! the old one or the new one.
//!
//! Something is written under another name, brought to the disk, given its name, and then the name is brought to the
//! disk.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// How the names of what is not whole yet begin.
const UNFINISHED: &str = ".unfinished-";

/// Writes a file whole or not at all.
///
/// # Errors
/// After an error the old file is there, or the new one.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = folder_of(path);
    let mut builder = tempfile::Builder::new();
    builder.prefix(UNFINISHED);
    let permissions = Permissions::from_mode(0o644);
    let mut file = builder.permissions(permissions).tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync(folder)
}

/// Writes a folder with these files whole or not at all. One that is there already stays as it is.
pub(super) fn write_folder(path: &Path, files: &[(&str, &[u8])]) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = folder_of(path);
    let mut builder = tempfile::Builder::new();
    builder.prefix(UNFINISHED);
    let permissions = Permissions::from_mode(0o755);
    let folder = builder.permissions(permissions).tempdir_in(above)?;
    for (name, bytes) in files {
        let mut file = File::create_new(folder.path().join(name))?;
        file.write_all(bytes)?;
        file.sync_all()?;
    }
    sync(folder.path())?;
    fs::rename(folder.path(), path)?;
    // It has another name now: there is nothing left to remove.
    let _renamed = folder.keep();
    sync(above)
}

/// Removes what somebody who was killed did not finish. Nobody may be writing there.
pub(super) fn clean(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    above.unwrap_or_else(|| Path::new("."))
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_finished_is_removed_and_all_else_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        write_whole(&path("file"), b"one").expect("it is written");
        write_whole(&path("file"), b"two").expect("it is written again");
        write_folder(&path("folder"), &[("a", b"1")]).expect("it is written");
        write_folder(&path("folder"), &[("a", b"2")]).expect("it is there");
        fs::write(path(".unfinished-file"), "o").expect("a file");
        fs::create_dir(path(".unfinished-folder")).expect("a folder");
        clean(folder.path()).expect("it is cleaned");
        let mut left: Vec<_> = fs::read_dir(folder.path())
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["file", "folder"]);
        assert_eq!(fs::read(path("file")).expect("a file"), b"two");
        assert_eq!(fs::read(path("folder/a")).expect("a file"), b"1");
    }
}
