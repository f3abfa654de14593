//! Which exit code an error of the crates below has, and what they say about place, cause and remedy.
//!
//! Recognised by type alone. What is not listed here is a plain failure that explains itself.

use std::error::Error;
use std::io;
use std::path::Path;

use handfast_api::admin::{ClientError, Refusal, RefusalCode};
use handfast_api::grants::{RedeemError, TokenError};
use handfast_api::resources::ResourceFault;
use handfast_api::resources::edit::EditError;
use handfast_api::status::FaultView;
use handfast_pki::{ChainReadError, CredentialError, KeyError};
use handfast_store::{FileError, HomeError, StoreError, StoredFault};
use handfast_tls::{Fault, FaultCode};

use crate::exit::Exit;

/// What is known about an error.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) exit: Exit,
    /// Instead of the texts of the chain: what failed, then why.
    pub(super) explained: Option<Vec<String>>,
    pub(super) place: Option<String>,
    pub(super) remedy: Option<String>,
    pub(super) fault: Option<String>,
    pub(super) evidence: Vec<(String, String)>,
}

/// Looks for the first cause that is known.
pub(super) fn of(error: &anyhow::Error) -> Known {
    let mut contexts = Vec::new();
    for cause in error.chain() {
        if let Some(mut known) = known(cause) {
            if let Some(explained) = &mut known.explained {
                contexts.append(explained);
                *explained = contexts;
            }
            return known;
        }
        contexts.push(cause.to_string());
    }
    plain(Exit::Failed)
}

fn known(cause: &(dyn Error + 'static)) -> Option<Known> {
    if let Some(error) = cause.downcast_ref::<ClientError>() {
        return Some(of_client(error));
    }
    if let Some(refusal) = cause.downcast_ref::<Refusal>() {
        return Some(of_refusal(refusal));
    }
    if let Some(error) = cause.downcast_ref::<RedeemError>() {
        return Some(of_redemption(error));
    }
    if let Some(error) = cause.downcast_ref::<TokenError>() {
        return Some(of_token(error));
    }
    if let Some(fault) = cause.downcast_ref::<Fault>() {
        return Some(of_fault(fault));
    }
    if let Some(fault) = cause.downcast_ref::<ResourceFault>() {
        return Some(of_resource(fault));
    }
    if let Some(EditError::Absent { kind, name, directory }) = cause.downcast_ref() {
        return Some(Known {
            explained: Some(vec![format!("{kind}/{name} is not declared; nothing was deleted")]),
            place: Some(directory.display().to_string()),
            remedy: Some("look at the files there, or name another home with --home".into()),
            ..plain(Exit::NotFound)
        });
    }
    let exit = exit_of(cause)?;
    Some(plain(exit))
}

fn exit_of(cause: &(dyn Error + 'static)) -> Option<Exit> {
    if let Some(error) = cause.downcast_ref::<HomeError>() {
        return Some(match error {
            HomeError::File(error) => of_file(error),
            _ => Exit::Home,
        });
    }
    if let Some(error) = cause.downcast_ref::<FileError>() {
        return Some(of_file(error));
    }
    if let Some(error) = cause.downcast_ref::<StoreError>() {
        return Some(match error {
            StoreError::Busy { .. } | StoreError::ReadOnly { .. } => Exit::Home,
            StoreError::File(error) => of_file(error),
            _ => Exit::Failed,
        });
    }
    if let Some(error) = cause.downcast_ref::<EditError>() {
        return Some(match error {
            EditError::Delete { source, .. } | EditError::Directory { source, .. } => of_io(source),
            EditError::Write(error) => of_file(error),
            _ => Exit::Failed,
        });
    }
    if cause.is::<ChainReadError>()
        || cause.is::<CredentialError>()
        || cause.is::<KeyError>()
        || cause.is::<StoredFault>()
    {
        return Some(Exit::BadInput);
    }
    cause.downcast_ref::<io::Error>().map(of_io)
}

fn of_client(error: &ClientError) -> Known {
    match error {
        ClientError::NoNode { socket } => no_node(socket),
        ClientError::NotAllowed { .. } | ClientError::PathTooLong { .. } => plain(Exit::Home),
        ClientError::Pending(pending) => Known {
            explained: Some(vec![
                format!("{} waits for a second person", pending.action),
                format!(
                    "{} asked for it, and the two-person rule wants somebody else too",
                    pending.requested_by
                ),
            ]),
            remedy: Some(format!(
                "have another operator type `handfast approve {}` before {}",
                pending.id, pending.expires_at
            )),
            ..plain(Exit::Waiting)
        },
        ClientError::Refused(refusal) => of_refusal(refusal),
        ClientError::Tls(fault) => of_fault(fault),
        ClientError::TimedOut { .. } => plain(Exit::TimedOut),
        _ => plain(Exit::NoNode),
    }
}

fn no_node(socket: &Path) -> Known {
    let what = "no node runs on this home".to_owned();
    // Of a home, the socket is `runtime/admin.sock`.
    match socket.ancestors().nth(2).filter(|home| !home.is_dir()) {
        Some(home) => Known {
            explained: Some(vec![what, "there is no such directory".into()]),
            place: Some(home.display().to_string()),
            remedy: Some("name the right home with --home or HANDFAST_HOME".into()),
            ..plain(Exit::NoNode)
        },
        None => Known {
            explained: Some(vec![what, "nobody answers on its admin socket".into()]),
            place: Some(socket.display().to_string()),
            remedy: Some("start it with `handfast run`, or name another home with --home".into()),
            ..plain(Exit::NoNode)
        },
    }
}

fn of_refusal(refusal: &Refusal) -> Known {
    let exit = match refusal.code {
        RefusalCode::Invalid | RefusalCode::TooLarge => Exit::BadInput,
        RefusalCode::NotAllowed | RefusalCode::NotGranted | RefusalCode::RefusedByPeer => {
            Exit::Refused
        }
        RefusalCode::NotFound => Exit::NotFound,
        RefusalCode::TimedOut => Exit::TimedOut,
        RefusalCode::Unreachable => Exit::NoNode,
        _ => Exit::Failed,
    };
    let mut explained = vec![refusal.message.clone()];
    let known = Known { remedy: Some(refusal.remedy.clone()), ..plain(exit) };
    let Some(fault) = &refusal.fault else {
        return Known { explained: Some(explained), ..known };
    };
    explained.push(fault.message.clone());
    Known { explained: Some(explained), ..with_view(known, fault) }
}

fn of_redemption(error: &RedeemError) -> Known {
    match error {
        RedeemError::Ca { .. } | RedeemError::Url(_) => plain(Exit::BadInput),
        RedeemError::Refused { at, problem } => Known {
            explained: Some(vec!["the other site refused it".into(), problem.message.clone()]),
            place: Some(at.clone()),
            remedy: Some(problem.remedy.clone()),
            ..plain(Exit::Refused)
        },
        RedeemError::TimedOut { .. } => plain(Exit::TimedOut),
        RedeemError::Tls(fault) | RedeemError::Unreachable { fault, .. } => of_fault(fault),
        _ => plain(Exit::Failed),
    }
}

fn of_token(error: &TokenError) -> Known {
    match error {
        TokenError::Fault(fault) => of_resource(fault),
        TokenError::NotAToken { .. } | TokenError::Read { .. } | TokenError::Several { .. } => {
            plain(Exit::BadInput)
        }
        TokenError::Write(error) => plain(of_file(error)),
        _ => plain(Exit::Failed),
    }
}

fn with_view(known: Known, fault: &FaultView) -> Known {
    Known {
        place: Some(fault.place.clone()).filter(|place| !place.is_empty()),
        fault: Some(fault.code.clone()),
        evidence: fault.evidence.iter().map(|one| (one.key.clone(), one.value.clone())).collect(),
        ..known
    }
}

fn of_fault(fault: &Fault) -> Known {
    let exit = match fault.code() {
        FaultCode::FileUnreadable | FaultCode::NotPem | FaultCode::KeyMismatch => Exit::BadInput,
        FaultCode::HostNotFound | FaultCode::Unreachable => Exit::NoNode,
        FaultCode::PermissionDenied => Exit::Home,
        FaultCode::PortInUse => Exit::PortInUse,
        FaultCode::TimedOut => Exit::TimedOut,
        _ => Exit::Refused,
    };
    Known {
        explained: Some(vec![fault.what().to_owned()]),
        place: Some(fault.place().to_owned()),
        remedy: Some(fault.remedy().to_owned()),
        fault: Some(fault.code().to_string()),
        evidence: fault
            .evidence()
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect(),
        ..plain(exit)
    }
}

fn of_resource(fault: &ResourceFault) -> Known {
    let line = fault.line.map(|line| format!(":{line}")).unwrap_or_default();
    Known {
        explained: Some(vec![fault.what.clone()]),
        place: Some(format!("{}{line}", fault.file.display())),
        remedy: Some(fault.remedy.clone()),
        ..plain(Exit::BadInput)
    }
}

fn of_file(error: &FileError) -> Exit {
    if error.is_forbidden() { Exit::Home } else { Exit::Failed }
}

fn of_io(error: &io::Error) -> Exit {
    match error.kind() {
        io::ErrorKind::AddrInUse => Exit::PortInUse,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Exit::Home,
        io::ErrorKind::TimedOut => Exit::TimedOut,
        _ => Exit::Failed,
    }
}

fn plain(exit: Exit) -> Known {
    Known { exit, explained: None, place: None, remedy: None, fault: None, evidence: Vec::new() }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::super::Report;
    use super::*;

    fn check(error: impl Error + Send + Sync + 'static, exit: Exit, what: &str) {
        let error = Err::<(), _>(error).context("cannot link").unwrap_err();
        let report = Report::of(&error);
        assert_eq!((report.exit, report.what.as_str()), (exit.code(), "cannot link"));
        assert!(report.why.as_deref().unwrap_or_default().contains(what), "{report:?}");
    }

    #[test]
    fn errors_of_the_crates_below_have_their_codes() {
        check(io::Error::from(io::ErrorKind::AddrInUse), Exit::PortInUse, "in use");
        check(ClientError::NoNode { socket: "/h/admin.sock".into() }, Exit::NoNode, "no node runs");
        let spent =
            Refusal::new(RefusalCode::RefusedByPeer, "the token is spent", "ask for another");
        check(ClientError::Refused(Box::new(spent)), Exit::Refused, "the token is spent");
        check(HomeError::Busy { path: "/h".into(), pid: Some(7) }, Exit::Home, "process 7");
    }
}
