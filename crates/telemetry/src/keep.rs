//! The embedded store (interim: a journal without an index).
#![allow(missing_docs)]
use std::path::Path;
use jiff::Timestamp;
use crate::journal::{Appended, AppendError, Journal, JournalError, JournalSettings, JournalStatus};
use crate::record::Record;
pub type KeepError = JournalError;
pub type KeepStatus = JournalStatus;
pub type KeepSettings = JournalSettings;
#[derive(Debug)]
pub struct Keep(Journal);
impl Keep {
    pub fn open(dir: &Path, settings: KeepSettings, _now: Timestamp) -> Result<Self, KeepError> {
        Ok(Self(Journal::open(dir, settings)?.0))
    }
    pub async fn take(&self, records: Vec<Record>) -> Result<Appended, AppendError> {
        self.0.append(records).await
    }
    pub fn status(&self) -> KeepStatus { self.0.status() }
    pub fn journal(&self) -> &Journal { &self.0 }
}
