//! The file beside the store: one worker at a time, and how often one was started.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use alloy_primitives::hex;

use crate::{
    error::{Error, ErrorKind, Result},
    sync::Lock,
};

/// A lock of the operating system, which goes with the process, however that ends. The file says which store it was
/// last taken for, and how many starts that store had: a store with fewer is an older one, such as a restored backup.
pub(super) struct WorkerLock {
    path: PathBuf,
    held: Lock<Option<File>>,
}

impl WorkerLock {
    pub(super) fn beside(store: &Path) -> Self {
        let mut path = store.to_owned().into_os_string();
        path.push("-ivm-worker");
        Self { path: path.into(), held: Lock::default() }
    }

    /// Takes the lock, and lets it go with the returned guard unless that is told to keep it. Returns the starts that
    /// are known of this store, too: 0 if none are.
    pub(super) fn take(&self, identity: &[u8]) -> Result<(TakenLock<'_>, i64)> {
        let mut held = self.held.lock();
        if held.is_some() {
            return Err(in_use("this process"));
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.path)
            .map_err(|error| self.failed("cannot be opened", error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use("another process")),
            Err(TryLockError::Error(error)) => return Err(self.failed("cannot be locked", error)),
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(|error| self.failed("cannot be read", error))?;
        *held = Some(file);
        // What was cut off while it was written says nothing.
        let mut words = text.split_whitespace();
        let same = words.next() == Some(hex::encode(identity).as_str());
        let starts = words.next().and_then(|starts| starts.parse().ok()).filter(|_| words.next() == Some("starts"));
        Ok((TakenLock(Some(self)), starts.filter(|_| same).unwrap_or(0)))
    }

    /// Notes how many starts the store has now.
    pub(super) fn write(&self, identity: &[u8], starts: i64) -> Result<()> {
        let mut held = self.held.lock();
        let Some(file) = held.as_mut() else { return Ok(()) };
        let text = format!("{} {starts} starts\n", hex::encode(identity));
        let mut write = || {
            file.seek(SeekFrom::Start(0))?;
            file.set_len(0)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().map_err(|error| self.failed("cannot be written", error))
    }

    /// Lets the lock go.
    pub(super) fn release(&self) {
        if let Some(file) = self.held.lock().take() {
            // By itself, as a process that this one starts has the file, too, until it has begun its own program.
            _ = file.unlock();
        }
    }

    fn failed(&self, what: &str, error: std::io::Error) -> Error {
        Error::new(ErrorKind::Store, format!("the worker's lock file {} {what}", self.path.display()))
            .with_source(error)
    }
}

impl Drop for WorkerLock {
    fn drop(&mut self) {
        self.release();
    }
}

/// A worker's lock until its start is done: one that fails, or that nobody waits for any more, leaves the store free.
pub(super) struct TakenLock<'a>(Option<&'a WorkerLock>);

impl TakenLock<'_> {
    pub(super) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for TakenLock<'_> {
    fn drop(&mut self) {
        if let Some(lock) = self.0 {
            lock.release();
        }
    }
}

fn in_use(whose: &str) -> Error {
    Error::new(ErrorKind::Store, format!("a worker of {whose} has the store"))
        .with_retryable(true)
        .with_hint("one worker at a time: end the other one; other processes may enqueue and read results without it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_worker_at_a_time_and_the_starts_of_its_store() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store.db");
        let first = WorkerLock::beside(&store);
        let take = |lock: &WorkerLock, identity: &[u8]| {
            let (taken, starts) = lock.take(identity).unwrap();
            taken.keep();
            starts
        };
        drop(first.take(b"one").unwrap());
        assert_eq!(take(&first, b"one"), 0, "a start that comes to nothing leaves it free");
        first.write(b"one", 7).unwrap();
        let second = WorkerLock::beside(&store);
        for lock in [&first, &second] {
            let error = lock.take(b"one").map(|(_, starts)| starts).unwrap_err();
            assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Store, true));
        }
        first.release();
        assert_eq!(take(&second, b"one"), 7);
        drop(second);
        assert_eq!(take(&WorkerLock::beside(&store), b"other"), 0, "another store is another matter");
        std::fs::write(folder.path().join("store.db-ivm-worker"), format!("{} 12", hex::encode(b"one"))).unwrap();
        assert_eq!(take(&WorkerLock::beside(&store), b"one"), 0, "it may have been 123");
    }
}
