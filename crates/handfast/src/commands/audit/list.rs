//! `handfast audit list`: the newest rows that fit.

use handfast_api::audit::AuditRowView;

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
pub(super) fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<()> {
    let mut filter = arguments.rows.filter(arguments.limit);
    filter.before = arguments.before;
    let rows: Vec<AuditRowView> = super::open(context)?
        .rows(&filter)?
        .iter()
        .map(|recorded| AuditRowView::of(recorded, &recorded.leaf()))
        .collect();
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
