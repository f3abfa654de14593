//! `handfast audit list`: the newest rows that fit.

use handfast_api::admin::AuditSearch;
use handfast_api::audit::AuditRowView;
use handfast_store::AuditFilter;

use super::Rows;
use crate::commands::Context;

/// Arguments of `handfast audit list`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    rows: Rows,
    /// At most so many rows, the newest
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: u32,
    /// Only rows before this number: the page before
    #[arg(long, value_name = "NUMBER")]
    before: Option<u64>,
}

/// Prints them.
pub(super) async fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<()> {
    let mut filter = arguments.rows.filter(arguments.limit);
    filter.before = arguments.before;
    let rows = if context.is_remote() {
        elsewhere(&filter, context).await?
    } else {
        here(&filter, context)?
    };
    context.output.show(&rows, |page| {
        let lines: Vec<Vec<String>> = rows
            .iter()
            .map(|row| {
                let said = [&row.detail, &row.why].map(String::as_str);
                let said = said.into_iter().filter(|text| !text.is_empty());
                vec![
                    row.sequence.to_string(),
                    row.at.to_string(),
                    row.actor.clone(),
                    row.action.clone(),
                    row.subject.clone(),
                    row.outcome.clone(),
                    said.collect::<Vec<_>>().join("; "),
                ]
            })
            .collect();
        let header = ["ROW", "AT", "WHO", "DID", "TO", "OUTCOME", "DETAIL"];
        page.table(&header, &lines, "No rows that fit.");
    })
}

fn here(filter: &AuditFilter, context: &Context) -> anyhow::Result<Vec<AuditRowView>> {
    let rows = super::open(context)?.rows(filter)?;
    Ok(rows.iter().map(|recorded| AuditRowView::of(recorded, &recorded.leaf())).collect())
}

/// From the node that is named, page by page.
async fn elsewhere(filter: &AuditFilter, context: &Context) -> anyhow::Result<Vec<AuditRowView>> {
    let client = context.client();
    let mut search = AuditSearch::from(filter);
    let mut rows: Vec<AuditRowView> = Vec::new();
    loop {
        let missing = filter.limit.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX));
        let wanted = missing.min(AuditSearch::MOST);
        search.limit = Some(wanted);
        let mut page = client.audit_rows(&search).await?;
        search.before = page.first().map(|row| row.sequence);
        let is_last = page.len() < wanted as usize || wanted == missing;
        // Each page is older than the one before.
        page.append(&mut rows);
        rows = page;
        if is_last {
            return Ok(rows);
        }
    }
}
