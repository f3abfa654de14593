//! Group commit: writers that come at the same time share one transaction, and one wait for the disk.
//!
//! Who has the connection does its work in a savepoint of the open transaction, so that what is
//! refused takes nothing else with it, and passes the connection on. The last one in line commits
//! for all (or the one with whom the group is full); nobody returns before that. There is no thread
//! for it, and who comes alone commits alone, as if there were no groups.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rusqlite::Connection;

use super::failure::Failure;
use super::sealing::Sealing;
use super::tree;
use crate::audit::merkle::Frontier;
use crate::journal::Entry;

/// The one connection that writes, and who waits for it.
#[derive(Debug)]
pub(super) struct Group {
    writer: Mutex<Writer>,
    /// How many want to write, and do not have the connection yet.
    pub(super) waiting: AtomicUsize,
}

/// What a piece of work writes with: the connection, and what is collected for the commit.
pub(super) struct Writing<'a> {
    connection: &'a Connection,
    /// The audit log's tree, as this piece of work leaves it.
    pub(super) tree: Frontier,
    /// The time of the newest audit row.
    pub(super) at: Timestamp,
    /// For the journal, once it is committed.
    pub(super) facts: Vec<Entry>,
}

impl Deref for Writing<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl Group {
    pub(super) fn new(connection: Connection, sealing: Sealing) -> Self {
        let writer = Writer { connection, sealing, open: None };
        Self { writer: Mutex::new(writer), waiting: AtomicUsize::new(0) }
    }

    /// Runs a piece of work: all of it is durable afterwards, or nothing has happened.
    pub(super) fn write<T>(
        &self,
        work: impl FnOnce(&mut Writing<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut turn = self.take_turn();
        let done = turn.writer.work(work)?;
        let shared = turn.writer.joined();
        drop(turn);
        shared.wait()?;
        Ok(done)
    }

    fn take_turn(&self) -> Turn<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        // A panic rolls its savepoint back, and its turn ends as every other: nothing is half done.
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        Turn { group: self, writer }
    }

    /// Whether somebody has the connection right now.
    #[cfg(test)]
    pub(super) fn is_busy(&self) -> bool {
        self.writer.try_lock().is_err()
    }

    /// The connection, for tests that look under the cover.
    #[cfg(test)]
    pub(super) fn with_connection<T>(&self, work: impl FnOnce(&Connection) -> T) -> T {
        work(&self.take_turn().writer.connection)
    }
}

/// Somebody's turn at the connection. However it ends, the group goes on or is committed.
struct Turn<'a> {
    group: &'a Group,
    writer: MutexGuard<'a, Writer>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let last = self.group.waiting.load(Ordering::SeqCst) == 0;
        if last || self.writer.open.as_ref().is_some_and(|open| open.members >= FULL) {
            self.writer.conclude();
        }
    }
}

#[derive(Debug)]
struct Writer {
    connection: Connection,
    sealing: Sealing,
    open: Option<Open>,
}

/// A transaction that others may still join.
#[derive(Debug)]
struct Open {
    shared: Arc<Shared>,
    members: u32,
    size_before: u64,
    tree: Frontier,
    at: Timestamp,
    facts: Vec<Entry>,
}

impl Writer {
    /// Does one piece of work within the open transaction; opens one if there is none.
    fn work<T>(
        &mut self,
        work: impl FnOnce(&mut Writing<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if self.open.is_none() {
            self.open = Some(begin(&self.connection)?);
        }
        let worked = self.try_work(work);
        if let Err(failure) = &worked
            && self.connection.is_autocommit()
        {
            // A full disk and its like end the whole transaction, and with it the others' work.
            self.abandon(failure);
        }
        worked
    }

    fn try_work<T>(
        &mut self,
        work: impl FnOnce(&mut Writing<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let Some(open) = &mut self.open else { return Err(Failure::Interrupted) };
        let savepoint = self.connection.savepoint()?;
        let mut writing = Writing {
            connection: &savepoint,
            tree: open.tree.clone(),
            at: open.at,
            facts: Vec::new(),
        };
        let done = work(&mut writing)?;
        let Writing { tree, at, facts, .. } = writing;
        savepoint.commit()?;
        open.tree = tree;
        open.at = at;
        open.facts.extend(facts);
        open.members += 1;
        Ok(done)
    }

    /// What the last piece of work waits for.
    fn joined(&self) -> Arc<Shared> {
        self.open
            .as_ref()
            .map_or_else(|| Arc::new(Shared::default()), |open| Arc::clone(&open.shared))
    }

    /// Commits for everybody, and tells them.
    fn conclude(&mut self) {
        let Some(open) = self.open.take() else { return };
        let committed = if open.members == 0 {
            self.connection.execute_batch("ROLLBACK").map_err(Failure::from)
        } else {
            self.commit(&open)
        };
        if committed.is_err() && !self.connection.is_autocommit() {
            // Nothing better can be done if this fails too; the next BEGIN would say so.
            drop(self.connection.execute_batch("ROLLBACK"));
        }
        open.shared.tell(committed.err());
    }

    fn commit(&mut self, open: &Open) -> Result<(), Failure> {
        let head = if open.tree.size() == open.size_before {
            None
        } else {
            let head = self.sealing.sign(&open.tree, open.at);
            tree::keep(&self.connection, &open.tree, &head, self.sealing.key_number())?;
            Some(head)
        };
        self.connection.execute_batch("COMMIT")?;
        self.sealing.committed(head.as_ref(), &open.facts);
        Ok(())
    }

    fn abandon(&mut self, failure: &Failure) {
        if let Some(open) = self.open.take() {
            open.shared.tell(Some(failure.again()));
        }
    }
}

fn begin(connection: &Connection) -> Result<Open, Failure> {
    // Immediate: two writers never find out at the end that they read the same state.
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let (tree, at) = tree::read(connection).inspect_err(|_| {
        drop(connection.execute_batch("ROLLBACK"));
    })?;
    Ok(Open {
        shared: Arc::default(),
        members: 0,
        size_before: tree.size(),
        tree,
        at,
        facts: Vec::new(),
    })
}

/// Where the members of a group learn what became of it.
#[derive(Debug, Default)]
struct Shared {
    result: Mutex<Option<Result<(), Failure>>>,
    told: Condvar,
}

impl Shared {
    fn tell(&self, failure: Option<Failure>) {
        let mut result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        *result = Some(failure.map_or(Ok(()), Err));
        self.told.notify_all();
    }

    fn wait(&self) -> Result<(), Failure> {
        let result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self
            .told
            .wait_while(result, |result| result.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        match &*result {
            Some(Err(failure)) => Err(failure.again()),
            _ => Ok(()),
        }
    }
}

/// So many at most share a commit: the first of them has waited for all the others' work.
const FULL: u32 = 256;
