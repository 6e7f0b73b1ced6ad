//! A disk in memory that keeps only what it must: the worst disk that is still honest.
//!
//! A crash forgets names that their folder's sync did not make durable and bytes that their file's
//! sync did not; what un-synced bytes survive does so page by page in any order, and the last write may
//! be torn at any byte. Calls fail when told to. A failed sync behaves as Linux does: the pages count as
//! clean afterwards, so a later sync of the same file succeeds and saves nothing (and is remembered
//! as a [`SimulatedDisk::misuses`]).

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Disk, File, Listed, Lock};

const PAGE: usize = 4096;

/// A kind of call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "named as the calls are")]
pub enum Operation {
    Open,
    Create,
    Write,
    Sync,
    SyncDir,
    Rename,
    Unlink,
    Cut,
    Read,
}

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The call of this kind with this number, counted from 1 since the fault was set, fails with EIO.
    Error(Operation, u64),
    /// The same, with ENOSPC; every later write and create fails too, until [`SimulatedDisk::heal`].
    Full(Operation, u64),
    /// At the call with this number, of any kind that changes the disk, the power goes: it and all later ones fail.
    PowerLoss(u64),
}

/// The disk. Clones are the same disk; [`SimulatedDisk::crash`] is what a machine finds after the power came back.
#[derive(Clone)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    random: u64,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<PathBuf, Node>,
    /// The names as they are on the platter.
    durable: BTreeMap<PathBuf, Node>,
    /// Changes of names since their folder's last sync, in order.
    pending: Vec<NameChange>,
    faults: Vec<(Fault, u64)>,
    changes: u64,
    full: bool,
    dead: bool,
    /// Raised by each crash: files opened before are gone.
    life: u64,
    locked: HashSet<PathBuf>,
    misuses: Vec<String>,
    reads: u64,
    capacity: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Node {
    Folder,
    File(u64),
}

/// One step of the journal: all of it survives, or nothing.
type NameChange = Vec<(PathBuf, Option<Node>)>;

#[derive(Default)]
struct Inode {
    /// What reads see.
    bytes: Vec<u8>,
    /// What is on the platter.
    durable: Vec<u8>,
    /// Where the last write starts.
    last_write: usize,
    /// Writes before this offset were lost by a failed sync: no later sync saves them.
    lost: Option<std::ops::Range<usize>>,
    failed: bool,
}

struct SimulatedFile {
    disk: SimulatedDisk,
    inode: u64,
    life: u64,
    writable: bool,
}

struct SimulatedLock {
    disk: SimulatedDisk,
    path: PathBuf,
    life: u64,
}

impl Lock for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life {
            state.locked.remove(&self.path);
        }
    }
}

impl SimulatedDisk {
    /// An empty disk whose accidents follow from `seed`.
    pub fn new(seed: u64) -> SimulatedDisk {
        let state = State { random: seed, capacity: 1 << 40, ..State::default() };
        SimulatedDisk(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no call panics while it holds the disk")
    }

    /// Makes a later call fail.
    pub fn fail(&self, fault: Fault) {
        let mut state = self.state();
        if let Fault::PowerLoss(_) = fault {
            state.changes = 0;
        }
        state.faults.push((fault, 0));
    }

    /// Takes back every fault that has not happened, and frees the space.
    pub fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.full = false;
    }

    /// Whether a fault that was set has yet to happen.
    pub fn fault_waits(&self) -> bool {
        !self.state().faults.is_empty()
    }

    /// Whether it is full.
    pub fn is_full(&self) -> bool {
        self.state().full
    }

    /// Whether the power is off.
    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// How often bytes were read.
    pub fn reads(&self) -> u64 {
        self.state().reads
    }

    /// Calls that the contract forbids: a write or sync of a file after one of its syncs or writes failed.
    pub fn misuses(&self) -> Vec<String> {
        self.state().misuses.clone()
    }

    /// The power goes and comes back: only what is durable stays, and of the rest what luck keeps.
    pub fn crash(&self) {
        let mut state = self.state();
        let state = &mut *state;
        let kept_changes = below(&mut state.random, state.pending.len() as u64 + 1) as usize;
        for (path, node) in state.pending.drain(..).take(kept_changes).flatten() {
            match node {
                Some(node) => state.durable.insert(path, node),
                None => state.durable.remove(&path),
            };
        }
        // A name whose folder did not survive is nowhere. Folders come before what is in them.
        let mut folders: HashSet<PathBuf> = HashSet::new();
        state.durable.retain(|path, node| {
            let held = path.parent().is_none_or(|folder| rootless(folder) || folders.contains(folder));
            if held && *node == Node::Folder {
                folders.insert(path.clone());
            }
            held
        });
        state.names = state.durable.clone();
        let living: HashSet<u64> = state
            .names
            .values()
            .filter_map(|node| match node {
                Node::File(inode) => Some(*inode),
                Node::Folder => None,
            })
            .collect();
        state.inodes.retain(|number, _| living.contains(number));
        for inode in state.inodes.values_mut() {
            inode.crash(&mut state.random);
        }
        state.faults.clear();
        state.full = false;
        state.dead = false;
        state.locked.clear();
        state.life += 1;
    }

    /// Flips one bit of a file, as a failing platter would.
    pub fn flip(&self, path: &Path, byte: usize, bit: u8) {
        let mut state = self.state();
        if let Some(Node::File(number)) = state.names.get(path).copied() {
            let inode = state.inodes.get_mut(&number).expect("a name has its inode");
            if byte < inode.bytes.len() {
                inode.bytes[byte] ^= 1 << (bit & 7);
            }
            if byte < inode.durable.len() {
                inode.durable[byte] ^= 1 << (bit & 7);
            }
        }
    }
}

/// Whether a folder needs no name of its own: the top, or what a relative path starts with.
fn rootless(folder: &Path) -> bool {
    folder.as_os_str().is_empty() || folder == Path::new("/")
}

/// SplitMix64: small, seeded, good enough for accidents.
fn next(random: &mut u64) -> u64 {
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *random;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn below(random: &mut u64, bound: u64) -> u64 {
    next(random) % bound.max(1)
}

/// Copies what `from` has of `start..end`.
fn copy_part(to: &mut [u8], from: &[u8], start: usize, end: usize) {
    let end = end.min(from.len());
    if start < end {
        to[start..end].copy_from_slice(&from[start..end]);
    }
}

impl Inode {
    fn crash(&mut self, random: &mut u64) {
        let durable = std::mem::take(&mut self.durable);
        let (short, long) = (durable.len().min(self.bytes.len()), durable.len().max(self.bytes.len()));
        // Nothing, everything, or any length between: as often each.
        let len = match below(random, 3) {
            0 => durable.len(),
            1 => self.bytes.len(),
            _ => short + below(random, (long - short) as u64 + 1) as usize,
        };
        let mut after = vec![0; len];
        for start in (0..len).step_by(PAGE) {
            let end = (start + PAGE).min(len);
            // Data of a page that reached the platter, or what was there before: zeros past its old end.
            let newer = below(random, 3) > 0;
            let source = if newer { &self.bytes } else { &durable };
            copy_part(&mut after, source, start, end);
            // Durable bytes stay whatever luck says.
            copy_part(&mut after, &durable, start, end);
        }
        if self.last_write >= durable.len() && self.last_write < len && below(random, 2) == 0 {
            let torn = self.last_write + below(random, (len - self.last_write) as u64 + 1) as usize;
            after.truncate(torn.max(durable.len()));
        }
        self.durable = after.clone();
        self.bytes = after;
        self.lost = None;
        self.failed = false;
        self.last_write = self.bytes.len();
    }

    fn sync(&mut self) {
        let mut durable = self.bytes.clone();
        if let Some(lost) = &self.lost {
            // The pages count as clean: what was in them never reaches the platter.
            let end = lost.end.min(durable.len());
            if lost.start < end {
                durable[lost.start..end].fill(0);
            }
        }
        self.durable = durable;
    }
}

impl State {
    fn check(&mut self, operation: Operation) -> io::Result<()> {
        if self.dead {
            return Err(eio());
        }
        let changes = !matches!(operation, Operation::Open | Operation::Read);
        if changes {
            self.changes += 1;
        }
        let mut failed = None;
        let now = self.changes;
        self.faults.retain_mut(|(fault, seen)| match *fault {
            Fault::Error(kind, number) | Fault::Full(kind, number) if kind == operation => {
                *seen += 1;
                if *seen < number {
                    return true;
                }
                failed = Some(*fault);
                false
            }
            Fault::PowerLoss(number) if changes && now >= number => {
                failed = Some(*fault);
                false
            }
            _ => true,
        });
        match failed {
            Some(Fault::Error(..)) => Err(eio()),
            Some(Fault::Full(..)) => {
                self.full = true;
                Err(full())
            }
            Some(Fault::PowerLoss(_)) => {
                self.dead = true;
                Err(eio())
            }
            None if self.full && matches!(operation, Operation::Write | Operation::Create) => Err(full()),
            None => Ok(()),
        }
    }

    fn set(&mut self, change: NameChange) {
        for (path, node) in &change {
            match node {
                Some(node) => self.names.insert(path.clone(), *node),
                None => self.names.remove(path),
            };
        }
        self.pending.push(change);
    }

    fn file(&self, path: &Path) -> io::Result<u64> {
        match self.names.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Folder) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn folder_of(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(folder) if rootless(folder) || self.names.get(folder) == Some(&Node::Folder) => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fn eio() -> io::Error {
    rustix::io::Errno::IO.into()
}

fn full() -> io::Error {
    rustix::io::Errno::NOSPC.into()
}

impl Disk for SimulatedDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        state.check(Operation::Create)?;
        state.folder_of(path)?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(inode, Inode::default());
        state.set(vec![(path.to_owned(), Some(Node::File(inode)))]);
        Ok(Arc::new(SimulatedFile { disk: self.clone(), inode, life: state.life, writable: true }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        state.check(Operation::Open)?;
        let inode = state.file(path)?;
        Ok(Arc::new(SimulatedFile { disk: self.clone(), inode, life: state.life, writable: false }))
    }

    fn cut(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut state = self.state();
        let number = state.file(path)?;
        state.check(Operation::Cut)?;
        let inode = state.inodes.get_mut(&number).expect("a name has its inode");
        inode.bytes.resize(usize::try_from(len).expect("fits in memory"), 0);
        inode.sync();
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.check(Operation::Rename)?;
        let inode = state.file(from)?;
        state.folder_of(to)?;
        state.set(vec![(to.to_owned(), Some(Node::File(inode))), (from.to_owned(), None)]);
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.check(Operation::Unlink)?;
        state.file(path)?;
        state.set(vec![(path.to_owned(), None)]);
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.dead {
            return Err(eio());
        }
        let mut missing: Vec<PathBuf> = Vec::new();
        for folder in path.ancestors().filter(|folder| !rootless(folder)) {
            match state.names.get(folder) {
                Some(Node::Folder) => break,
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => missing.push(folder.to_owned()),
            }
        }
        for folder in missing.iter().rev() {
            state.set(vec![(folder.to_owned(), Some(Node::Folder))]);
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.check(Operation::SyncDir)?;
        let state = &mut *state;
        let (these, others): (Vec<_>, Vec<_>) =
            state.pending.drain(..).partition(|change| change.iter().any(|(name, _)| name.parent() == Some(path)));
        state.pending = others;
        for (path, node) in these.into_iter().flatten() {
            match node {
                Some(node) => state.durable.insert(path, node),
                None => state.durable.remove(&path),
            };
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        let state = self.state();
        if state.dead {
            return Err(eio());
        }
        if !rootless(path) && state.names.get(path) != Some(&Node::Folder) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = state.names.iter().filter(|(name, _)| name.parent() == Some(path));
        Ok(inside
            .filter_map(|(name, node)| {
                let name = name.file_name()?.to_str()?.to_owned();
                let len = match node {
                    Node::Folder => None,
                    Node::File(inode) => Some(state.inodes[inode].bytes.len() as u64),
                };
                Some(Listed { name, len })
            })
            .collect())
    }

    fn space(&self, _path: &Path) -> io::Result<(u64, u64)> {
        let state = self.state();
        let used: u64 = state.inodes.values().map(|inode| inode.bytes.len() as u64).sum();
        let free = if state.full { 0 } else { state.capacity.saturating_sub(used) };
        Ok((free, state.capacity))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let mut state = self.state();
        if state.dead {
            return Err(eio());
        }
        let life = state.life;
        Ok(state.locked.insert(path.to_owned()).then(|| {
            let lock = SimulatedLock { disk: self.clone(), path: path.to_owned(), life };
            Box::new(lock) as Box<dyn Lock>
        }))
    }
}

impl SimulatedFile {
    fn with<T>(&self, operation: Operation, work: impl FnOnce(&mut State, u64) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.state();
        if state.life != self.life {
            return Err(eio());
        }
        if matches!(operation, Operation::Write | Operation::Sync) {
            let failed = state.inodes.get(&self.inode).is_some_and(|inode| inode.failed);
            if failed {
                state.misuses.push(format!("{operation:?} of file {} after a failure of it", self.inode));
            }
        }
        work(&mut state, self.inode)
    }
}

impl File for SimulatedFile {
    fn append(&self, slices: &[&[u8]]) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.with(Operation::Write, |state, number| {
            let outcome = state.check(Operation::Write);
            let total: usize = slices.iter().map(|slice| slice.len()).sum();
            // A refused write may have written a part.
            let mut left = match outcome {
                Ok(()) => total,
                Err(_) => below(&mut state.random, total as u64 + 1) as usize,
            };
            let inode = state.inodes.get_mut(&number).expect("an open file has its inode");
            inode.failed |= outcome.is_err();
            inode.last_write = inode.bytes.len();
            for slice in slices {
                let part = slice.len().min(left);
                inode.bytes.extend_from_slice(&slice[..part]);
                left -= part;
            }
            outcome
        })
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.with(Operation::Read, |state, number| {
            state.check(Operation::Read)?;
            state.reads += 1;
            let inode = &state.inodes[&number];
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let end = start.checked_add(bytes.len()).filter(|end| *end <= inode.bytes.len());
            let end = end.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            bytes.copy_from_slice(&inode.bytes[start..end]);
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(Operation::Read, |state, number| Ok(state.inodes[&number].bytes.len() as u64))
    }

    fn sync(&self) -> io::Result<()> {
        self.with(Operation::Sync, |state, number| {
            let outcome = state.check(Operation::Sync);
            let inode = state.inodes.get_mut(&number).expect("an open file has its inode");
            match outcome {
                Ok(()) => {
                    inode.sync();
                    Ok(())
                }
                Err(error) => {
                    inode.failed = true;
                    inode.lost = Some(inode.durable.len()..inode.bytes.len());
                    Err(error)
                }
            }
        })
    }
}
