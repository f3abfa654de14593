//! `handfast audit export`: JSON lines with a signed head at the end.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use handfast_api::audit::{AuditRowView, ExportEnd, WithheldRow};
use handfast_store::{AuditFilter, AuditLog};

use super::Rows;
use crate::commands::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Arguments of `handfast audit export`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The file to make; standard output without it
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    rows: Rows,
}

/// Writes it.
pub(super) fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<()> {
    let mut log = super::open(context)?;
    let filter = arguments.rows.search().filter();
    let Some(path) = &arguments.file else {
        return write(&mut log, &filter, &mut BufWriter::new(io::stdout().lock()));
    };
    let file = create(path)?;
    let mut to = BufWriter::new(&file);
    let written = write(&mut log, &filter, &mut to).and_then(|()| Ok(file.sync_all()?));
    if let Err(error) = written {
        drop(to);
        // Half an export proves nothing, and would be in the way of the next one.
        let _ = fs::remove_file(path);
        return Err(error.context(format!("nothing was exported to {}", path.display())));
    }
    context.output.say(&format!("exported to {}", path.display()))
}

fn write(log: &mut AuditLog, filter: &AuditFilter, to: &mut dyn Write) -> anyhow::Result<()> {
    let keys = log.keys()?.iter().map(handfast_store::AuditPublicKey::to_pem).collect();
    let head = log.export(&mut |recorded, leaf| {
        let line = if filter.fits(&recorded.row) {
            serde_json::to_string(&AuditRowView::of(&recorded, &leaf))?
        } else {
            serde_json::to_string(&WithheldRow::of(&recorded, &leaf))?
        };
        writeln!(to, "{line}")
    })?;
    let Some(head) = head else {
        return Err(
            Failure::new(Exit::No, "the audit log is empty: there is nothing to export").into()
        );
    };
    let end = ExportEnd { head: head.to_string(), keys };
    writeln!(to, "{}", serde_json::to_string(&end)?)?;
    to.flush()?;
    Ok(())
}

fn create(path: &Path) -> anyhow::Result<File> {
    let made = File::options().write(true).create_new(true).mode(0o600).open(path);
    made.map_err(|error| {
        Failure::new(Exit::BadInput, "the export cannot be written")
            .at(path.display())
            .because(error)
            .remedy("name a file that is not there yet, in a directory you may write to")
            .into()
    })
}
