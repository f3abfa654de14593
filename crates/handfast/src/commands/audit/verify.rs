//! `handfast audit verify`: of this home's log, of that of a node elsewhere, or of an export from anywhere.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use handfast_api::admin::VerifyAudit;
use handfast_api::audit::{ExportError, VerificationView, verify_export};
use handfast_store::{AuditPublicKey, SignedHead, Verification};

use crate::commands::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Page;

/// Arguments of `handfast audit verify`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Verify this export instead of this home's log; no home is needed for it
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
    /// A head that was kept elsewhere, to compare with; may be given several times
    #[arg(long, value_name = "FILE")]
    head: Vec<PathBuf>,
    /// The public key that must have signed the export's head
    #[arg(long, value_name = "FILE", requires = "export")]
    key: Option<PathBuf>,
}

/// Verifies, prints what was found, and fails if something is wrong.
pub(super) async fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<()> {
    let heads = arguments
        .head
        .iter()
        .map(|path| super::read_head(path))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let view = match &arguments.export {
        Some(path) => {
            let key = arguments.key.as_deref().map(super::read_key).transpose()?;
            VerificationView::from(&of_export(path, key, heads)?)
        }
        None if context.is_remote() => elsewhere(&heads, context).await?,
        None => VerificationView::from(&super::open(context)?.verify(heads)?),
    };
    context.output.show(&view, |page| draw(page, &view))?;
    if view.whole {
        return Ok(());
    }
    let what = format!("the audit log is not whole: {} found", count(view.flaws.len()));
    Err(Failure::new(Exit::No, what)
        .remedy("keep the home as it is for analysis, and compare with exports, backups and heads kept elsewhere")
        .into())
}

/// By the node that is named, once for each head.
async fn elsewhere(
    heads: &[(String, SignedHead)],
    context: &Context,
) -> anyhow::Result<VerificationView> {
    let client = context.client();
    let mut heads = heads.iter().map(|(_, head)| head.to_string());
    let mut view = client.verify_audit(&VerifyAudit { head: heads.next() }).await?;
    for head in heads {
        if !view.whole {
            break;
        }
        view = client.verify_audit(&VerifyAudit { head: Some(head) }).await?;
    }
    Ok(view)
}

fn of_export(
    path: &Path,
    key: Option<AuditPublicKey>,
    heads: Vec<(String, SignedHead)>,
) -> anyhow::Result<Verification> {
    let unreadable = |why: String| {
        Failure::new(Exit::BadInput, "the export cannot be verified")
            .at(path.display())
            .because(why)
    };
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let pinned = key.is_some();
    let mut verified = verify_export(BufReader::new(file), key, heads)
        .map_err(|error: ExportError| unreadable(error.to_string()))?;
    if !pinned {
        verified.remarks.push(format!(
            "the export brings its own key, {}: compare it with the home's, or give it with --key",
            verified.keys.last().map_or("none", String::as_str)
        ));
    }
    Ok(verified)
}

fn draw(page: &mut Page, view: &VerificationView) {
    page.fields(&[
        ("audit log", if view.whole { "whole".to_owned() } else { "NOT WHOLE".to_owned() }),
        ("rows", view.rows.to_string()),
        ("root", view.root.clone()),
        ("signed by", view.keys.join(", ")),
    ]);
    for flaw in &view.flaws {
        page.line(format!("flaw: {}", flaw.message));
    }
    for remark in &view.remarks {
        page.line(format!("note: {remark}"));
    }
}

fn count(flaws: usize) -> String {
    if flaws == 1 { "one flaw".to_owned() } else { format!("{flaws} flaws") }
}
