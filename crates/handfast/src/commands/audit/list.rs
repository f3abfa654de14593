//! `handfast audit list`: the newest rows that fit.

use std::collections::BTreeSet;

use handfast_api::admin::AuditSearch;
use handfast_api::audit::AuditRowView;
use handfast_api::resources::nearest;

use super::Rows;
use crate::commands::Context;
use crate::commands::bound::Bound;

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

/// Prints them, in the order they were written.
pub(super) async fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<()> {
    let mut search = AuditSearch { before: arguments.before, ..arguments.rows.search() };
    let bound = Bound::of(arguments.limit);
    let page = async |wanted: u32, last: Option<&AuditRowView>| {
        search.limit = Some(wanted);
        search.before = last.map(|row| row.sequence).or(search.before);
        newest_first(&search, context).await
    };
    let mut rows = bound.newest_first(AuditSearch::MOST, page).await?;
    let cut = bound.cut(&mut rows);
    rows.reverse();
    let note = match &arguments.rows.action {
        Some(action) if rows.is_empty() => similar(action, context).await?,
        _ => cut.note("newest", "--since, --before, --action, --actor, --subject or --outcome"),
    };
    context.output.show_noting(&rows, note.as_deref(), |page| {
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

/// A page, from this home or from the node that is named.
async fn newest_first(
    search: &AuditSearch,
    context: &Context,
) -> anyhow::Result<Vec<AuditRowView>> {
    let mut rows = if context.is_remote() {
        context.client().audit_rows(search).await?
    } else {
        let rows = super::open(context)?.rows(&search.filter())?;
        rows.iter().map(|recorded| AuditRowView::of(recorded, &recorded.leaf())).collect()
    };
    rows.reverse();
    Ok(rows)
}

/// Nothing is found under a word that is misspelt, which looks like nothing having happened: what may have been meant.
async fn similar(action: &str, context: &Context) -> anyhow::Result<Option<String>> {
    let lately = AuditSearch { limit: Some(AuditSearch::MOST), ..AuditSearch::default() };
    let rows = newest_first(&lately, context).await?;
    let known: BTreeSet<&str> = rows.iter().map(|row| row.action.as_str()).collect();
    if known.contains(action) {
        return Ok(None);
    }
    Ok(nearest(action, known).map(|near| format!("did you mean --action {near}?")))
}
