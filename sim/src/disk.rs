//! The disk of a simulated host: what a crash leaves, what a loss of power leaves, and what fails.
//!
//! A disk holds everything twice: as its processes see it, and as it stands on the platter. A process that dies takes
//! nothing with it. When the power is lost only the platter is left, and on it what was not synced may be there in
//! part: of the changes to the folder the first few, in their order; of what was added to a file a beginning, perhaps
//! with zeros in the place of bytes. How much, the seed decides. So a file that is put in its place before it is synced
//! can read as empty, as on real disks, and a name that was not synced can be the old one.
//!
//! Every operation is a row of steps (make, fill, sync, rename, sync the folder), and a fault can begin between any
//! two.

use std::collections::BTreeMap;
use std::io;

use squall_core::files::{FileError, FileStep, Files, Rotation};
use squall_core::{Env as _, Rng};

use crate::env::SimEnv;
use crate::trace::Bite;
use crate::world::{HostKey, ProcessKey, State, World};

/// The files of one program on a simulated host. Other processes of the host see the same ones.
#[derive(Clone, Debug)]
pub struct SimFiles {
    world: World,
    host: HostKey,
    home: String,
}

impl SimEnv {
    /// The files in this folder of the host.
    pub fn files(&self, home: &str) -> SimFiles {
        self.clock().world.files(self.host(), home)
    }
}

impl World {
    /// The files in this folder of a host.
    pub fn files(&self, host: HostKey, home: &str) -> SimFiles {
        SimFiles {
            world: self.clone(),
            host,
            home: home.to_owned(),
        }
    }

    /// The disk does so many steps more and then fails every one, until [`mend_disk`](Self::mend_disk).
    pub fn io_error(&self, host: HostKey, after: u32) {
        self.change(|state| {
            let disk = &mut state.net.host_mut(host).disk;
            disk.steps_left = if disk.failing == 0 {
                after
            } else {
                disk.steps_left.min(after)
            };
            disk.failing += 1;
        });
    }

    /// Ends one [`io_error`](Self::io_error).
    pub fn mend_disk(&self, host: HostKey) {
        self.change(|state| {
            let failing = &mut state.net.host_mut(host).disk.failing;
            *failing = failing.saturating_sub(1);
        });
    }

    /// The next bytes written arrive in part, and the writer is told of an error; bites once, and lasts until
    /// [`whole_writes`](Self::whole_writes).
    pub fn torn_write(&self, host: HostKey) {
        self.change(|state| {
            let disk = &mut state.net.host_mut(host).disk;
            disk.tearing += 1;
            disk.writes_to_tear += 1;
        });
    }

    /// Ends one [`torn_write`](Self::torn_write), rather one that has bitten.
    pub fn whole_writes(&self, host: HostKey) {
        self.change(|state| {
            let disk = &mut state.net.host_mut(host).disk;
            disk.tearing = disk.tearing.saturating_sub(1);
            disk.writes_to_tear = disk.writes_to_tear.min(disk.tearing);
        });
    }

    /// The machine loses its power: its processes die, and of what was not synced to its disk a part is lost.
    pub fn host_power_loss(&self, host: HostKey) {
        let processes: Vec<ProcessKey> = self.change(|state| {
            let State { processes, net, .. } = state;
            if net.host_mut(host).disk.lose_power() {
                net.bites.add(Bite::UnsyncedFile);
            }
            let all = (0..processes.len() as u32).map(ProcessKey);
            all.filter(|key| processes[key.0 as usize].host == host)
                .collect()
        });
        for process in processes {
            self.crash(process);
        }
    }
}

impl SimFiles {
    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.home)
    }

    fn work<T>(
        &self,
        name: &str,
        work: impl FnOnce(&mut Disk, &str) -> Result<T, Failed>,
    ) -> Result<T, FileError> {
        self.world.change(|state| {
            let net = &mut state.net;
            let disk = &mut net.host_mut(self.host).disk;
            let (steps, bitten) = (disk.steps, disk.bitten);
            let done = work(disk, &self.path(name));
            disk.forget_unnamed();
            let (steps, bite) = (disk.steps - steps, disk.bitten - bitten);
            for _ in 0..bite {
                net.bites.add(Bite::Disk);
            }
            net.trace.add(net.now, TRACED, steps);
            done.map_err(|(step, error)| FileError::new(name, step, &error))
        })
    }
}

/// What the trace calls an operation on a disk.
const TRACED: u64 = 8;

impl Files for SimFiles {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, FileError> {
        self.work(name, |disk, path| {
            disk.step().map_err(|error| (FileStep::Read, error))?;
            Ok(disk.content(path).cloned())
        })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        self.work(name, |disk, path| disk.replace(path, bytes))
    }

    fn append_line(
        &self,
        name: &str,
        line: &[u8],
        rotation: Option<Rotation>,
    ) -> Result<(), FileError> {
        self.work(name, |disk, path| {
            let rotated = match rotation {
                Some(rotation) => disk.rotate(path, line, rotation),
                None => Ok(()),
            };
            disk.append_line(path, line)
                .map_err(|error| (FileStep::Append, error))?;
            rotated.map_err(|error| (FileStep::Rotate, error))
        })
    }
}

type Failed = (FileStep, io::Error);

/// A file without its name, as a number.
type FileNumber = u64;

/// The one begins with the other, always: bytes are only ever added.
#[derive(Debug, Default)]
struct Content {
    seen: Vec<u8>,
    synced: Vec<u8>,
}

/// A change to the folder that is not on the platter yet.
#[derive(Debug)]
enum Change {
    Make(String, FileNumber),
    Rename(String, String),
    Remove(String),
}

type Folder = BTreeMap<String, FileNumber>;

impl Change {
    fn apply(&self, folder: &mut Folder) {
        match self {
            Self::Make(path, file) => {
                folder.insert(path.clone(), *file);
            }
            Self::Rename(from, to) => {
                if let Some(file) = folder.remove(from) {
                    folder.insert(to.clone(), file);
                }
            }
            Self::Remove(path) => {
                folder.remove(path);
            }
        }
    }
}

/// See the file's beginning.
#[derive(Debug)]
pub(crate) struct Disk {
    rng: Rng,
    contents: BTreeMap<FileNumber, Content>,
    made: FileNumber,
    seen: Folder,
    synced: Folder,
    unsynced: Vec<Change>,
    /// Fails for so many reasons, once these steps are done.
    failing: u32,
    steps_left: u32,
    tearing: u32,
    writes_to_tear: u32,
    steps: u64,
    bitten: u64,
}

impl Disk {
    pub(crate) fn new(rng: Rng) -> Self {
        Self {
            rng,
            contents: BTreeMap::new(),
            made: 0,
            seen: Folder::new(),
            synced: Folder::new(),
            unsynced: Vec::new(),
            failing: 0,
            steps_left: 0,
            tearing: 0,
            writes_to_tear: 0,
            steps: 0,
            bitten: 0,
        }
    }

    fn content(&self, path: &str) -> Option<&Vec<u8>> {
        let file = self.seen.get(path)?;
        self.contents.get(file).map(|content| &content.seen)
    }

    // --- steps ---

    fn step(&mut self) -> io::Result<()> {
        self.steps += 1;
        if self.failing == 0 {
            return Ok(());
        }
        if self.steps_left > 0 {
            self.steps_left -= 1;
            return Ok(());
        }
        self.bitten += 1;
        Err(io::Error::from_raw_os_error(EIO))
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        self.step()?;
        change.apply(&mut self.seen);
        self.unsynced.push(change);
        Ok(())
    }

    fn make(&mut self, path: &str) -> io::Result<FileNumber> {
        self.made += 1;
        self.change(Change::Make(path.to_owned(), self.made))?;
        self.contents.insert(self.made, Content::default());
        Ok(self.made)
    }

    fn fill(&mut self, file: FileNumber, bytes: &[u8]) -> io::Result<()> {
        self.step()?;
        let is_torn = self.writes_to_tear > 0 && !bytes.is_empty();
        let arrives = if is_torn {
            self.writes_to_tear -= 1;
            self.bitten += 1;
            self.rng.below(bytes.len() as u64) as usize
        } else {
            bytes.len()
        };
        let content = self.contents.entry(file).or_default();
        content.seen.extend_from_slice(&bytes[..arrives]);
        if is_torn {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        Ok(())
    }

    fn sync(&mut self, file: FileNumber) -> io::Result<()> {
        self.step()?;
        let content = self.contents.entry(file).or_default();
        content.synced.clone_from(&content.seen);
        Ok(())
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        self.step()?;
        self.synced.clone_from(&self.seen);
        self.unsynced.clear();
        Ok(())
    }

    // --- operations, step by step as the real ones ---

    fn replace(&mut self, path: &str, bytes: &[u8]) -> Result<(), Failed> {
        let temporary = format!("{path}.tmp");
        if let Err(error) = self.prepare(&temporary, bytes) {
            // It goes where it can; where it cannot, nobody reads it.
            let _left_behind = self.change(Change::Remove(temporary));
            return Err((FileStep::Prepare, error));
        }
        self.change(Change::Rename(temporary, path.to_owned()))
            .and_then(|()| self.sync_folder())
            .map_err(|error| (FileStep::Replace, error))
    }

    fn prepare(&mut self, temporary: &str, bytes: &[u8]) -> io::Result<()> {
        let file = self.make(temporary)?;
        self.fill(file, bytes)?;
        self.sync(file)
    }

    fn append_line(&mut self, path: &str, line: &[u8]) -> io::Result<()> {
        let file = match self.seen.get(path) {
            Some(file) => *file,
            None => self.make(path)?,
        };
        let last = self.content(path).and_then(|bytes| bytes.last());
        let is_torn = last.is_some_and(|last| *last != b'\n');
        let mut whole = Vec::with_capacity(line.len() + 2);
        whole.extend_from_slice(if is_torn { b"\n" } else { b"" });
        whole.extend_from_slice(line);
        whole.push(b'\n');
        self.fill(file, &whole)
    }

    fn rotate(&mut self, path: &str, line: &[u8], rotation: Rotation) -> io::Result<()> {
        let size = self.content(path).map_or(0, Vec::len);
        if size == 0 || (size + line.len() + 2) as u64 <= rotation.bytes_max {
            return Ok(());
        }
        let numbered = |number: u32| format!("{path}.{number}");
        for number in (1..rotation.kept).rev() {
            if self.seen.contains_key(&numbered(number)) {
                self.change(Change::Rename(numbered(number), numbered(number + 1)))?;
            }
        }
        self.change(if rotation.kept == 0 {
            Change::Remove(path.to_owned())
        } else {
            Change::Rename(path.to_owned(), numbered(1))
        })
    }

    /// What is left on the platter; true if that is not what was seen before.
    fn lose_power(&mut self) -> bool {
        let mut bitten = !self.unsynced.is_empty();
        let kept = self.rng.below(self.unsynced.len() as u64 + 1) as usize;
        for change in &self.unsynced[..kept] {
            change.apply(&mut self.synced);
        }
        self.unsynced.clear();
        self.seen.clone_from(&self.synced);
        for content in self.contents.values_mut() {
            let (synced, seen) = (content.synced.len(), content.seen.len());
            if synced == seen {
                continue;
            }
            bitten = true;
            let kept = self.rng.between(synced as u64, seen as u64) as usize;
            content.seen.truncate(kept);
            // The file had grown, and its blocks had not arrived.
            if self.rng.chance(1, 4) {
                content.seen[synced..].fill(0);
            }
            content.synced.clone_from(&content.seen);
        }
        self.forget_unnamed();
        bitten
    }

    /// Drops the files that no name leads to any more, also not after a loss of power.
    fn forget_unnamed(&mut self) {
        let Self {
            contents,
            seen,
            synced,
            unsynced,
            ..
        } = self;
        if contents.len() <= seen.len() && unsynced.is_empty() {
            return;
        }
        contents.retain(|file, _| {
            let is_made = |change: &Change| matches!(change, Change::Make(_, made) if made == file);
            seen.values().any(|named| named == file)
                || synced.values().any(|named| named == file)
                || unsynced.iter().any(is_made)
        });
    }
}

/// What Linux calls an error of the device, and a device that is full.
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

#[cfg(test)]
mod tests;
