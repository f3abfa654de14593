//! `handfast backup` and `handfast restore`: everything a home needs, in one file, and back again.

use std::path::PathBuf;

use handfast_store::{
    BackupError, BackupRequest, Home, RestoreRequest, Restored, back_up, restore,
};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::clock;
use crate::commands::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Arguments of `handfast backup`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  handfast backup /backups/west-2026-11-21.tar\n  \
    handfast backup west.tar --with-keys --passphrase-file /etc/handfast/backup.pass\n\n\
    Works while the node runs. Private keys are left out unless --with-keys is given; then they are encrypted \
    under the passphrase. `tar -tvf FILE` lists what is in it.")]
pub(crate) struct BackupArguments {
    /// The file to make
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// With the private keys, encrypted under a passphrase
    #[arg(long, requires = "passphrase_file")]
    with_keys: bool,
    /// A file whose first line is the passphrase
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Why, for the audit log
    #[arg(long, default_value = "")]
    why: String,
}

/// Arguments of `handfast restore`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  handfast restore /backups/west-2026-11-20.tar --why 'disk replaced'\n  \
    handfast restore west.tar --passphrase-file /etc/handfast/backup.pass\n  \
    handfast restore /var/lib/handfast/runtime/state.db\n\n\
    Stop the node first. What was revoked, used up or recorded since the backup stays so: it is taken from the ledger that \
    is replaced, and from the journal beside it. A bare ledger file is taken as a backup of nothing else; so an older copy \
    that was put in place by hand is made good by restoring it. What was there before is kept beside the home's directories."
)]
pub(crate) struct RestoreArguments {
    /// The backup, or a ledger file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A file whose first line is the passphrase that the backup was made with
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Why, for the audit log
    #[arg(long, default_value = "")]
    why: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BackupView {
    file: String,
    bytes: u64,
    files: u64,
    sealed: u64,
    left_out: u64,
    audit_rows: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RestoreView {
    #[serde(skip_serializing_if = "Option::is_none")]
    made: Option<jiff::Timestamp>,
    audit_row: u64,
    rows_kept: u64,
    certificates_kept: u64,
    revocations_kept: u64,
    enrolments_kept_ended: u64,
    grants_kept_used: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows_left_behind: Option<u64>,
    without_keys: Vec<String>,
    before: Vec<String>,
}

/// Makes a backup.
pub(crate) fn make(arguments: &BackupArguments, context: &Context) -> anyhow::Result<()> {
    if !context.has_ledger()? {
        return Err(Failure::new(
            Exit::Home,
            "there is nothing to back up: this home has no ledger",
        )
        .at(context.home.root.display())
        .remedy("name the home with --home")
        .into());
    }
    let passphrase = match (&arguments.passphrase_file, arguments.with_keys) {
        (Some(path), true) => Some(passphrase(path)?),
        _ => None,
    };
    if arguments.file.symlink_metadata().is_ok() {
        return Err(Failure::new(Exit::Failed, "there is a file of that name already")
            .at(arguments.file.display())
            .remedy("name another, or move this one away")
            .into());
    }
    let actor = actor();
    let request = BackupRequest {
        to: &arguments.file,
        passphrase: passphrase.as_ref(),
        actor: &actor,
        why: &arguments.why,
        now: clock::now(),
    };
    let made = back_up(&context.home, &request).map_err(failure)?;
    let view = BackupView {
        file: arguments.file.display().to_string(),
        bytes: made.size,
        files: made.files,
        sealed: made.sealed,
        left_out: made.left_out,
        audit_rows: made.audit_rows,
    };
    context.output.show(&view, |page| {
        let keys = if made.sealed > 0 {
            format!("{} files, encrypted under the passphrase", made.sealed)
        } else {
            format!("{} files left out (--with-keys)", made.left_out)
        };
        page.fields(&[
            ("backup", view.file.clone()),
            ("size", format!("{} KiB", made.size.div_ceil(1024))),
            ("files", made.files.to_string()),
            ("audit rows", made.audit_rows.to_string()),
            ("private keys", keys),
        ]);
    })
}

/// Puts one back.
pub(crate) fn put_back(arguments: &RestoreArguments, context: &Context) -> anyhow::Result<()> {
    if let Err(error) = arguments.file.metadata() {
        return Err(Failure::new(Exit::BadInput, "there is nothing to restore")
            .at(arguments.file.display())
            .because(error)
            .remedy("check the path, and who may read it")
            .into());
    }
    let passphrase = arguments.passphrase_file.as_ref().map(passphrase).transpose()?;
    let home = Home::open(&context.home.root)?;
    let actor = actor();
    let request = RestoreRequest {
        from: &arguments.file,
        passphrase: passphrase.as_ref(),
        actor: &actor,
        why: &arguments.why,
        now: clock::now(),
    };
    let restored = restore(&home, &request).map_err(failure)?;
    drop(home);
    let view = view(&restored);
    context.output.show(&view, |page| {
        let made = restored.made.map_or_else(|| "a bare ledger".to_owned(), |made| made.to_string());
        page.fields(&[
            ("restored", made),
            ("recorded as", format!("row {} of the audit log", restored.audit_row)),
            (
                "kept since then",
                format!(
                    "{} revocations, {} ended enrolments, {} used grants, {} certificates, {} audit rows",
                    restored.revocations_kept,
                    restored.lineages_kept,
                    restored.grants_kept,
                    restored.issued_kept,
                    restored.rows_kept
                ),
            ),
        ]);
        for path in &view.before {
            page.line(format!("before: {path} (remove it when all is well; it holds keys)"));
        }
        if let Some(rows) = view.rows_left_behind {
            page.line(format!(
                "note: the audit log that was replaced had {rows} rows; those after the backup could not be read and are lost"
            ));
        }
        for path in &view.without_keys {
            page.line(format!("note: the backup has no key for {path}"));
        }
        page.line(format!("Start the node: {}", context.command("run")));
    })
}

fn view(restored: &Restored) -> RestoreView {
    RestoreView {
        made: restored.made,
        audit_row: restored.audit_row,
        rows_kept: restored.rows_kept,
        certificates_kept: restored.issued_kept,
        revocations_kept: restored.revocations_kept,
        enrolments_kept_ended: restored.lineages_kept,
        grants_kept_used: restored.grants_kept,
        rows_left_behind: restored.left_behind.as_ref().map(|head| head.head.size),
        without_keys: restored.without_keys.clone(),
        before: restored.before.iter().map(|path| path.display().to_string()).collect(),
    }
}

fn failure(error: BackupError) -> anyhow::Error {
    let exit = match &error {
        BackupError::Damaged { .. }
        | BackupError::PassphraseNeeded { .. }
        | BackupError::WrongPassphrase { .. } => Exit::BadInput,
        _ => return error.into(),
    };
    Failure::new(exit, error.to_string()).into()
}

fn passphrase(path: &PathBuf) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let unreadable = |why: String| {
        Failure::new(Exit::BadInput, "the passphrase cannot be read")
            .at(path.display())
            .because(why)
            .remedy("it is the first line of that file: check the path, and who may read it")
    };
    let text = Zeroizing::new(std::fs::read(path).map_err(|error| unreadable(error.to_string()))?);
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(unreadable("its first line is empty".to_owned()).into());
    }
    Ok(Zeroizing::new(line.to_vec()))
}

fn actor() -> String {
    format!("uid:{}", rustix::process::geteuid().as_raw())
}
