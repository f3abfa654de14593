//! `handfast audit export`: JSON lines with a signed head at the end, of this home's log or of that of a node elsewhere.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use handfast_api::admin::ExportAudit;
use handfast_api::audit::{ExportEnd, ExportedRow};
use handfast_store::{AuditFilter, AuditPublicKey};

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

/// Writes it. Nothing is there under the name before all of it is.
pub(super) async fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<()> {
    let filter = arguments.rows.search().filter();
    let Some(path) = &arguments.file else {
        let mut to = BufWriter::new(io::stdout().lock());
        return write(&filter, &mut to, context).await;
    };
    let file = create(path)?;
    let mut to = BufWriter::new(&file);
    let written = write(&filter, &mut to, context).await;
    drop(to);
    if let Err(error) = written.and_then(|()| Ok(file.sync_all()?)) {
        // Half an export proves nothing, and would be in the way of the next one.
        drop(fs::remove_file(path));
        return Err(error.context(format!("nothing was exported to {}", path.display())));
    }
    context.output.say(&format!("exported to {}", path.display()))
}

async fn write(filter: &AuditFilter, to: &mut impl Write, context: &Context) -> anyhow::Result<()> {
    let end = if context.is_remote() {
        elsewhere(filter, to, context).await?
    } else {
        here(filter, to, context)?
    };
    let Some(end) = end else {
        return Err(
            Failure::new(Exit::No, "the audit log is empty: there is nothing to export").into()
        );
    };
    writeln!(to, "{}", serde_json::to_string(&end)?)?;
    to.flush()?;
    Ok(())
}

/// Of the log of this home.
fn here(
    filter: &AuditFilter,
    to: &mut impl Write,
    context: &Context,
) -> anyhow::Result<Option<ExportEnd>> {
    let mut log = super::open(context)?;
    let keys = log.keys()?.iter().map(AuditPublicKey::to_pem).collect();
    let head = log.export(&mut |recorded, leaf| {
        let row = ExportedRow::of(&recorded, &leaf, filter);
        writeln!(to, "{}", serde_json::to_string(&row)?)
    })?;
    Ok(head.map(|head| ExportEnd { head: head.to_string(), keys }))
}

/// Of the node that is named, page by page, up to the head that it had with the first.
async fn elsewhere(
    filter: &AuditFilter,
    to: &mut impl Write,
    context: &Context,
) -> anyhow::Result<Option<ExportEnd>> {
    let client = context.client();
    let mut question = ExportAudit::from(filter);
    let mut end = None;
    loop {
        let page = client.export_audit(&question).await?;
        if question.size.is_none() {
            question.size = Some(page.size);
            end = page.end;
        }
        for row in &page.rows {
            writeln!(to, "{}", serde_json::to_string(row)?)?;
        }
        if !page.more {
            return Ok(end);
        }
        let last = page.rows.last().map(ExportedRow::sequence);
        // A node that begins again and again is not followed for ever.
        anyhow::ensure!(last > question.after, "the node does not go on with its log");
        question.after = last;
    }
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
