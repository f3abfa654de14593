//! A relay's certificate by token: had, and renewed before it ends, while the relay runs. Until it is there, what
//! agents report waits in the spool.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use handfast_api::grants::read_token;
use handfast_pki::Credential;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::agent_enrolment::{AgentEnrolment, Hints, Step};
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;

/// The credential in use, and what stands in the way of the next one.
pub(super) type Enrolled =
    (watch::Receiver<Option<Arc<Credential>>>, watch::Receiver<Option<String>>);

/// Takes the directory, and keeps what is in it up to date until `ending`.
pub(super) fn open(
    directory: &Path,
    token: Option<&Path>,
    ask_every: Duration,
    ending: &CancellationToken,
) -> Result<Enrolled, Failure> {
    let enrolment =
        AgentEnrolment::open(directory, token.map(Path::to_owned)).map_err(|fault| {
            Failure::new(Exit::BadInput, "the relay's enrolment cannot be used")
                .at(directory.display())
                .because(fault)
        })?;
    let enrolment = enrolment.asking(Hints::every(ask_every));
    let live = enrolment.live();
    let held = live.borrow().is_some();
    match token {
        // It is spent once it was redeemed, and may go.
        Some(file) if !held || file.exists() => {
            read_token(file).map_err(|error| {
                Failure::new(Exit::BadInput, "the relay cannot enrol")
                    .at(file.display())
                    .because(error)
                    .remedy("`handfast token issue FILE --agent SERVICE` makes a token")
            })?;
        }
        None if !held => {
            return Err(Failure::new(
                Exit::BadInput,
                "there is no certificate, and no token to get one with",
            )
            .at(directory.display())
            .remedy("name the token file with --token; `handfast token issue FILE --agent SERVICE` makes it"));
        }
        _ => {}
    }
    let fault = watch::Sender::new(None);
    let said = fault.subscribe();
    tokio::spawn(keep(enrolment, fault, ending.clone()));
    Ok((live, said))
}

async fn keep(
    mut enrolment: AgentEnrolment,
    said: watch::Sender<Option<String>>,
    ending: CancellationToken,
) {
    loop {
        let now = clock::now();
        let step = tokio::select! {
            () = ending.cancelled() => return,
            step = enrolment.step(now) => step,
        };
        let wait = match step {
            Ok(step @ (Step::Enrolled | Step::Renewed)) => {
                let live = enrolment.live();
                if let Some(credential) = &*live.borrow() {
                    let until = credential.leaf().not_after();
                    tracing::info!(?step, %until, "there is a new certificate");
                }
                said.send_replace(None);
                SOON
            }
            Ok(Step::Waits(at)) => {
                let wait = Duration::try_from(at.duration_since(clock::now())).unwrap_or_default();
                wait.clamp(SHORTEST, LONGEST)
            }
            Ok(Step::NeedsToken) => {
                let why = "the certificate has ended, and there is no token to get one with";
                say(&said, why.to_owned());
                SOON
            }
            Err(fault) => {
                say(&said, fault.to_string());
                SOON
            }
        };
        tokio::select! {
            () = ending.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// In the log whenever it is another reason than before.
fn say(said: &watch::Sender<Option<String>>, why: String) {
    if said.borrow().as_ref() != Some(&why) {
        tracing::error!(why, "there is no new certificate; what was good last stays in use");
    }
    said.send_replace(Some(why));
}

/// After something was done, or could not be.
const SOON: Duration = Duration::from_secs(2);

/// However near the next thing is, not more often than this.
const SHORTEST: Duration = Duration::from_millis(50);

/// Clocks jump, and machines sleep: however far away the next thing is, it is looked this often.
const LONGEST: Duration = Duration::from_secs(15);
