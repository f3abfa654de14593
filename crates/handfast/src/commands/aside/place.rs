//! Where records lie aside: at a collector or relay of a node, or in the directory of one that runs by itself.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use handfast_api::admin::{ClientError, Refusal, RefusalCode};
use handfast_api::telemetry::{
    AsideChoice, AsideDealt, AsideLine, AsideRecord, AsideSearch, AsideWanted, StationKind,
};
use handfast_pki::Name;
use handfast_telemetry::forward::{
    AsideDirectory, AsideDirectoryError, AsideError, AsideFault, Chosen,
};
use handfast_telemetry::journal::JournalError;

use crate::commands::Context;
use crate::commands::lone::word;
use crate::exit::Exit;
use crate::failure::Failure;

/// One of the two.
pub(super) enum Place {
    Directory {
        kind: StationKind,
        data: PathBuf,
        aside: AsideDirectory,
    },
    /// As the node calls it.
    Station(String),
}

/// Which records are meant.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) ids: Vec<u64>,
    pub(super) services: Vec<String>,
    pub(super) kinds: Vec<String>,
}

impl Place {
    /// A collector or relay of the node that is meant.
    pub(super) fn station(kind: StationKind, name: &Name) -> Self {
        Self::Station(format!("{kind}/{name}"))
    }

    /// The directory that was given to `run`.
    pub(super) fn directory(kind: StationKind, data: PathBuf) -> Result<Self, Failure> {
        let named =
            format!("name the directory that was given to `handfast {} run --data`", word(kind));
        if !data.is_dir() {
            return Err(Failure::new(Exit::BadInput, "there is no such directory")
                .at(data.display())
                .remedy(named));
        }
        let Some(aside) = AsideDirectory::find(&data) else {
            return Err(Failure::new(Exit::NotFound, "nothing was ever forwarded from there")
                .at(data.display())
                .because(
                    "only a relay, and a collector with --forward, has a backend that could refuse something",
                )
                .remedy(named));
        };
        Ok(Self::Directory { kind, data, aside })
    }

    /// What of it lies aside, the oldest first.
    pub(super) async fn list(
        &self,
        context: &Context,
        records: Records,
        after: Option<u64>,
        limit: usize,
    ) -> anyhow::Result<Vec<AsideLine>> {
        match self {
            Self::Station(station) => {
                let Records { services: service, kinds: kind, .. } = records;
                let limit = Some(limit);
                let search = AsideSearch { station: station.clone(), service, kind, after, limit };
                context.client().aside(&search).await.map_err(absent)
            }
            Self::Directory { data, aside, .. } => {
                let chosen = chosen(records)?;
                // The command does nothing else meanwhile, so it may wait for the disk here.
                let found = aside.list(&chosen, after, limit).map_err(|e| unreadable(data, &e))?;
                Ok(found.into_iter().map(AsideLine::from).collect())
            }
        }
    }

    /// One record.
    pub(super) async fn one(&self, context: &Context, id: u64) -> anyhow::Result<AsideRecord> {
        match self {
            Self::Station(station) => {
                let wanted = AsideWanted { station: station.clone(), id };
                context.client().aside_record(&wanted).await.map_err(absent)
            }
            Self::Directory { data, aside, .. } => {
                let found = aside.one(id).map_err(|error| unreadable(data, &error))?;
                let (facts, message) = found.ok_or_else(|| {
                    Failure::new(Exit::NotFound, format!("no record {id} lies aside"))
                        .at(data.display())
                        .remedy("list them; one that was sent again, thrown away or refused again is not there any more under its id")
                })?;
                Ok(AsideRecord::of(facts, &message))
            }
        }
    }

    /// Puts them back into the spool, which may have so many bytes where it is ours to write.
    pub(super) async fn retry(
        &self,
        context: &Context,
        records: Records,
        limit_bytes: u64,
    ) -> anyhow::Result<AsideDealt> {
        match self {
            Self::Station(station) => {
                let choice = choice(station.clone(), records);
                context.client().retry_aside(&choice).await.map_err(absent)
            }
            Self::Directory { kind, data, aside } => {
                let chosen = chosen(records)?;
                owned(*kind, &aside.path())?;
                let dealt = aside.retry(&chosen, limit_bytes).await;
                Ok(dealt.map_err(|error| undealt(*kind, data, &error))?.into())
            }
        }
    }

    /// Throws them away.
    pub(super) async fn discard(
        &self,
        context: &Context,
        records: Records,
    ) -> anyhow::Result<AsideDealt> {
        match self {
            Self::Station(station) => {
                let choice = choice(station.clone(), records);
                context.client().drop_aside(&choice).await.map_err(absent)
            }
            Self::Directory { kind, data, aside } => {
                let chosen = chosen(records)?;
                owned(*kind, &aside.path())?;
                let dealt = aside.discard(&chosen).await;
                Ok(dealt.map_err(|error| undealt(*kind, data, &error))?.into())
            }
        }
    }
}

fn choice(station: String, records: Records) -> AsideChoice {
    let Records { ids, services, kinds } = records;
    AsideChoice { station, ids, services, kinds }
}

fn chosen(records: Records) -> Result<Chosen, Refusal> {
    choice(String::new(), records).chosen()
}

/// What is written there has to stay its owner's, who could not go on otherwise.
fn owned(kind: StationKind, aside: &Path) -> Result<(), Failure> {
    let own = rustix::process::geteuid().as_raw();
    let Some(owner) = std::fs::metadata(aside).ok().map(|it| it.uid()).filter(|it| *it != own)
    else {
        return Ok(());
    };
    let who = word(kind);
    Err(Failure::new(Exit::Home, "what lies there belongs to another user")
        .at(aside.display())
        .because(format!("you are user {own}, and the {who} that writes there is user {owner}: it could not use what you write"))
        .remedy(format!("say the same as that user: sudo -u '#{owner}' handfast {who} aside ...")))
}

fn unreadable(data: &Path, error: &AsideDirectoryError) -> Failure {
    Failure::new(Exit::BadInput, "what lies aside there cannot be read")
        .at(data.display())
        .because(error)
        .remedy("look who may read that directory, and at its disk")
}

fn undealt(kind: StationKind, data: &Path, error: &AsideDirectoryError) -> Failure {
    let who = word(kind);
    match error {
        AsideDirectoryError::Open(JournalError::InUse { .. }) => {
            Failure::new(Exit::Home, format!("the {who} of that directory runs, and nobody else changes what lies there"))
                .at(data.display())
                .because("nothing was changed; `aside ls` and `show` work meanwhile")
                .remedy(
                    "stop it (SIGTERM: what was accepted stays in its spool), say this again, and start it again",
                )
        }
        AsideDirectoryError::Deal(AsideError { why: AsideFault::Spool(_), .. }) => {
            Failure::new(Exit::Failed, "the spool has no room for all of it")
                .at(data.display())
                .because(error)
                .remedy(format!(
                    "start the {who} until it has sent what waits, or give the spool more room there and with --spool-size here; then retry the rest"
                ))
        }
        AsideDirectoryError::Open(JournalError::File { source, .. })
            if source.kind() == io::ErrorKind::PermissionDenied =>
        {
            Failure::new(Exit::Home, "you may not write there")
                .at(data.display())
                .because(error)
                .remedy(format!("say the same as the user that the {who} runs as"))
        }
        _ => Failure::new(Exit::Failed, "not all of it could be done")
            .at(data.display())
            .because(error)
            .remedy("make room, or mend that disk, and say it again"),
    }
}

/// What was asked about is not there.
fn absent(error: ClientError) -> anyhow::Error {
    match error {
        ClientError::Refused(refusal) if refusal.code == RefusalCode::NotFound => {
            Failure::new(Exit::NotFound, refusal.message).remedy(refusal.remedy).into()
        }
        error => error.into(),
    }
}
