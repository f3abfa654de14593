//! Redeeming a grant: every check, the signing and the records, inside one connection.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use handfast_pki::Name;
use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use super::audit::{self, time};
use super::failure::Failure;
use super::group::Writing;
use super::{grants, issued};
use crate::audit::AuditRow;
use crate::grant::{
    Applicant, Audience, Grant, GrantRecord, IssuedBundle, RedeemOutcome, RedeemedRecord,
    Redemption, RefusalReason, hash_code,
};
use crate::journal::Entry;

/// See [`Ledger::redeem`](crate::Ledger::redeem). The transaction excludes every other writer.
pub(super) fn redeem(
    writing: &mut Writing<'_>,
    redemption: &Redemption,
    issue: &mut dyn FnMut(&Grant) -> Result<IssuedBundle, RefusalReason>,
) -> Result<RedeemOutcome, Failure> {
    let Some(record) = grants::select_one(writing, &redemption.grant_id)? else {
        // Not recorded: there is no grant whose rows could be counted.
        return Ok(RedeemOutcome::Unknown);
    };
    let outcome = decide(writing, redemption, &record, issue)?;
    match &outcome {
        RedeemOutcome::Redeemed(bundle) => {
            insert(writing, redemption, bundle)?;
            writing.facts.push(Entry::Spent(record.grant.id.clone(), redemption.now));
            let detail = format!(
                "{}, redemption {} of {}, certificate {} of {}",
                redemption.applicant,
                record.redemptions + 1,
                record.grant.redemptions_allowed,
                bundle.issued.serial,
                bundle
                    .issued
                    .identity
                    .as_ref()
                    .map_or("no identity".to_owned(), ToString::to_string),
            );
            audit::insert(writing, &row(redemption, "ok", detail))?;
        }
        other => record_free_answer(writing, redemption, other)?,
    }
    Ok(outcome)
}

/// What was redeemed with a grant, in order.
pub(super) fn select(
    connection: &Connection,
    grant: &Name,
) -> Result<Vec<RedeemedRecord>, Failure> {
    let mut statement =
        connection.prepare_cached(&format!("{SELECT} WHERE grant_id = ?1 ORDER BY number"))?;
    let mut rows = statement.query([grant.as_str()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(connection, row)?);
    }
    Ok(found)
}

/// When which grants were redeemed.
pub(super) fn all_spent(connection: &Connection) -> Result<Vec<(Name, Timestamp)>, Failure> {
    let mut statement = connection.prepare_cached("SELECT grant_id, at FROM redemption")?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        let id = id.parse().map_err(|error| Failure::unreadable("grant_id", error))?;
        found.push((id, time(row.get(1)?)?));
    }
    Ok(found)
}

/// The answer, without writing anything yet. Who does not know the code learns nothing but that.
fn decide(
    connection: &Connection,
    redemption: &Redemption,
    record: &GrantRecord,
    issue: &mut dyn FnMut(&Grant) -> Result<IssuedBundle, RefusalReason>,
) -> Result<RedeemOutcome, Failure> {
    let grant = &record.grant;
    let presented = hash_code(&grant.salt, &redemption.code);
    if verify_slices_are_equal(&presented, &grant.code_hash).is_err() {
        return Ok(RedeemOutcome::WrongCode);
    }
    if let Some(served) = find(connection, &grant.id, &redemption.request_key)? {
        return Ok(if served.applicant == redemption.applicant {
            RedeemOutcome::Repeated(served.bundle)
        } else {
            refused(
                "key-used",
                format!("this key was already used to redeem the grant for {}", served.applicant),
            )
        });
    }
    if redemption.now >= grant.expires {
        return Ok(RedeemOutcome::Expired);
    }
    if record.redemptions >= grant.redemptions_allowed {
        return Ok(RedeemOutcome::Spent);
    }
    if !grant.audience.admits(&redemption.applicant) {
        return Ok(not_meant_for(&redemption.applicant, &grant.audience));
    }
    Ok(match issue(grant) {
        Ok(bundle) => RedeemOutcome::Redeemed(bundle),
        Err(reason) => RedeemOutcome::Refused(reason),
    })
}

fn not_meant_for(applicant: &Applicant, audience: &Audience) -> RedeemOutcome {
    match (audience, applicant) {
        (Audience::Agent(service), Applicant::Site(_)) => refused(
            "for-agents",
            format!(
                "the token is for telemetry agents of service {service} and links no site; ask for one without --agent"
            ),
        ),
        (Audience::Agent(service), Applicant::Agent(name)) => refused(
            "wrong-service",
            format!("the token is for agents of service {service}, not of {name}; ask for one of your own"),
        ),
        (_, Applicant::Agent(_)) => refused(
            "for-sites",
            "the token links sites and enrols no agent; ask for one that `handfast token issue --agent` made"
                .to_owned(),
        ),
        (_, Applicant::Site(site)) => refused(
            "wrong-site",
            format!("the grant was made for another site than {site}; ask for one of your own"),
        ),
    }
}

fn refused(code: &str, message: String) -> RedeemOutcome {
    RedeemOutcome::Refused(RefusalReason { code: code.to_owned(), message })
}

/// Answers that use nothing can be had again and again; only the first of them are recorded.
fn record_free_answer(
    writing: &mut Writing<'_>,
    redemption: &Redemption,
    outcome: &RedeemOutcome,
) -> Result<(), Failure> {
    let counted = writing
        .prepare_cached(
            "UPDATE access_grant SET free_rows = free_rows + 1 WHERE id = ?1 AND free_rows < ?2",
        )?
        .execute(params![redemption.grant_id.as_str(), FREE_ROWS])?;
    if counted == 0 {
        return Ok(());
    }
    let why = match outcome {
        RedeemOutcome::Expired => "the grant has expired",
        RedeemOutcome::Redeemed(_) | RedeemOutcome::Repeated(_) => "answered again as before",
        RedeemOutcome::Refused(reason) => &reason.message,
        RedeemOutcome::Spent => "the grant is used up",
        RedeemOutcome::Unknown => "there is no such grant",
        RedeemOutcome::WrongCode => "the code is wrong",
    };
    let result = if matches!(outcome, RedeemOutcome::Repeated(_)) { "repeated" } else { "refused" };
    let detail = format!("{}: {why}", redemption.applicant);
    audit::insert(writing, &row(redemption, result, detail))?;
    Ok(())
}

fn row(redemption: &Redemption, outcome: &str, detail: String) -> AuditRow {
    AuditRow {
        at: redemption.now,
        actor: redemption.origin.clone(),
        action: "grant.redeem".to_owned(),
        subject: redemption.grant_id.to_string(),
        outcome: outcome.to_owned(),
        detail,
        why: String::new(),
    }
}

fn insert(
    connection: &Connection,
    redemption: &Redemption,
    bundle: &IssuedBundle,
) -> Result<(), Failure> {
    let number = issued::insert(connection, &bundle.issued)?;
    connection
        .prepare_cached(
            "INSERT INTO redemption (grant_id, request_key, site, at, issued, chain_pem,
                                     anchors_pem, context)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            redemption.grant_id.as_str(),
            redemption.request_key,
            redemption.applicant.name().as_str(),
            redemption.now.as_microsecond(),
            number,
            bundle.chain_pem,
            bundle.anchors_pem,
            bundle.context,
        ])?;
    Ok(())
}

fn find(
    connection: &Connection,
    grant: &Name,
    request_key: &[u8; 32],
) -> Result<Option<RedeemedRecord>, Failure> {
    let mut statement =
        connection.prepare_cached(&format!("{SELECT} WHERE grant_id = ?1 AND request_key = ?2"))?;
    let mut rows = statement.query(params![grant.as_str(), request_key])?;
    rows.next()?.map(|row| read(connection, row)).transpose()
}

fn read(connection: &Connection, row: &Row<'_>) -> Result<RedeemedRecord, Failure> {
    let name = |column| -> Result<Name, Failure> {
        let text: String = row.get(column)?;
        text.parse().map_err(|error| Failure::unreadable(column, error))
    };
    Ok(RedeemedRecord {
        grant_id: name("grant_id")?,
        request_key: row.get("request_key")?,
        applicant: if row.get("by_agent")? {
            Applicant::Agent(name("site")?)
        } else {
            Applicant::Site(name("site")?)
        },
        at: time(row.get("at")?)?,
        bundle: IssuedBundle {
            issued: issued::by_number(connection, row.get("issued")?)?,
            chain_pem: row.get("chain_pem")?,
            anchors_pem: row.get("anchors_pem")?,
            context: row.get("context")?,
        },
    })
}

/// A grant is for agents or for sites, so its redemptions are of one kind.
const SELECT: &str =
    "SELECT *, (SELECT agent IS NOT NULL FROM access_grant WHERE id = grant_id) AS by_agent
     FROM redemption";

/// Audit rows a grant may cause without using a redemption: enough to see an attack, too few to be
/// one.
const FREE_ROWS: i64 = 64;
