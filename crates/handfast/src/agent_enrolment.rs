//! The credential of telemetry agents for a process without a node: enrolled by a token, renewed before it ends, in a
//! directory of its own. The key is made here, and what comes back is proven by a handshake before it takes over.
//!
//! When what is done is decided in `due`, what the other side says about that counts by `hints`, the files are
//! `handfast_store::LoneCredential`, the exchange is `handfast_api::grants`.

mod due;
mod fault;
mod hints;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use handfast_api::grants::{
    HintQuestion, Redeeming, RedemptionReply, Renewing, TokenFile, ask_for_hint, read_token,
    redeem, renew,
};
use handfast_authority::renew_at;
use handfast_pki::{
    Chain, Credential, CredentialPem, Csr, IdentityKind, KeyAlgorithm, Name, PrivateKey, Purpose,
    Subject, TrustAnchors,
};
use handfast_store::{Applicant, LoneCredential, RawPem, Revision, read_bounded, write_atomic};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use self::due::{Due, Held, Known, due};
pub(crate) use self::fault::EnrolmentFault;
pub(crate) use self::hints::{Hints, USUAL_EVERY, interval};

/// An agent's credential and how it is kept.
pub(crate) struct AgentEnrolment {
    files: LoneCredential,
    token: Option<PathBuf>,
    live: watch::Sender<Option<Arc<Credential>>>,
    /// With whom it is enrolled, once it is.
    enrolled: Option<Enrolled>,
    failures: u32,
    failed_at: Option<Timestamp>,
    refused: bool,
    /// Whether the token that lies there could not be read when it was looked at last.
    token_broken: bool,
    /// Whether the next renewal is not to wait for its time.
    hastened: bool,
    /// What the other side says about that, if it is asked.
    hints: Option<Hints>,
}

/// What was done in one step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// A certificate was had by the token.
    Enrolled,
    /// Somebody has to bring a token.
    NeedsToken,
    /// A new certificate was had with the one before.
    Renewed,
    /// Nothing is due before this moment.
    Waits(Timestamp),
}

/// Where to renew: kept beside the credential, for the token may be gone by then.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Enrolled {
    /// The URL of the token that was redeemed.
    url: String,
    /// PEM of what the port there chains to.
    ca: String,
}

impl AgentEnrolment {
    /// Takes a directory, with the token that is redeemed if nothing is there.
    ///
    /// What is there is live at once; a credential there that cannot be used is an error, and not replaced.
    pub(crate) fn open(directory: &Path, token: Option<PathBuf>) -> Result<Self, EnrolmentFault> {
        let files = LoneCredential::open(directory)?;
        let current = files
            .current()?
            .map(|pem| credential(&pem))
            .transpose()
            .map_err(|why| EnrolmentFault::Broken { directory: directory.to_owned(), why })?;
        let enrolled = read_bounded(&directory.join(ENROLLED), LARGEST)?
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Ok(Self {
            files,
            token,
            live: watch::Sender::new(current.map(Arc::new)),
            enrolled,
            failures: 0,
            failed_at: None,
            refused: false,
            token_broken: false,
            hastened: false,
            hints: None,
        })
    }

    /// Asks the site that it is enrolled with when to renew, too.
    #[must_use]
    pub(crate) fn asking(mut self, hints: Hints) -> Self {
        self.hints = Some(hints);
        self
    }

    /// The next renewal comes now, as after a new key of a CA above it.
    pub(crate) fn hasten(&mut self) {
        self.hastened = true;
    }

    /// The credential in use, now and whenever another one takes over.
    pub(crate) fn live(&self) -> watch::Receiver<Option<Arc<Credential>>> {
        self.live.subscribe()
    }

    /// Does what is due at `now`, if anything is. An error leaves everything as it was.
    pub(crate) async fn step(&mut self, now: Timestamp) -> Result<Step, EnrolmentFault> {
        // One that cannot be read is in nobody's way who needs none.
        let token = self.token.as_deref().filter(|file| file.exists()).map(read_token);
        let broken = matches!(token, Some(Err(_)));
        if std::mem::replace(&mut self.token_broken, broken) && !broken {
            // Somebody mended it: no need to wait any longer.
            (self.failures, self.failed_at) = (0, None);
        }
        let held = self.live.borrow().clone();
        let known = Known {
            held: held.as_deref().map(|credential| Held {
                not_before: credential.leaf().not_before(),
                not_after: credential.leaf().not_after(),
                fingerprint: credential.leaf().fingerprint(),
            }),
            token: token.is_some(),
            token_is_new: token.as_ref().and_then(|token| token.as_ref().ok()).is_some_and(
                |token| {
                    self.enrolled.as_ref().is_none_or(|enrolled| enrolled.url != token.spec.url)
                },
            ),
            failures: self.failures,
            failed_at: self.failed_at,
            refused: self.refused,
            hastened: self.hastened,
            hinted: self.hints.as_ref().and_then(Hints::renew_at),
            ask_at: held.as_deref().and_then(|held| {
                let hints = self.hints.as_mut()?;
                Some(hints.ask_at(&held.leaf().fingerprint(), now))
            }),
        };
        let due = match (due(&known, now), &held) {
            (Due::Nothing(until), _) => return Ok(Step::Waits(until)),
            (Due::Ask, Some(held)) => {
                self.ask(held, now).await?;
                // What was answered is looked at in the next step.
                return Ok(Step::Waits(now));
            }
            (due, _) => due,
        };
        let readable = token.as_ref().and_then(|token| token.as_ref().ok());
        if let Some(step) = self.finish(readable, held.as_deref(), now)? {
            return Ok(step);
        }
        let done = match (due, token, held) {
            (Due::Ask | Due::NeedsToken | Due::Nothing(_), ..) => return Ok(Step::NeedsToken),
            (Due::Renew, _, Some(held)) => self.renew(&held, now).await.map(|()| Step::Renewed),
            (_, Some(Ok(token)), _) => self.redeem(&token, now).await.map(|()| Step::Enrolled),
            (_, Some(Err(error)), _) => Err(error.into()),
            (_, None, _) => return Ok(Step::NeedsToken),
        };
        match &done {
            Ok(_) => {
                (self.failures, self.failed_at, self.refused) = (0, None, false);
                self.hastened = false;
                if let Some(hints) = &mut self.hints {
                    hints.renewed(now);
                }
            }
            Err(fault) => {
                self.failed(fault, now);
                if self.refused {
                    // This key will never get an answer: the next attempt is made with another.
                    self.files.unstage()?;
                }
            }
        }
        done
    }

    fn failed(&mut self, fault: &EnrolmentFault, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        self.failed_at = Some(now);
        self.refused = fault.is_final();
    }

    /// Asks when to renew. Without an answer everything stays as it was, and is done at its own time; that the enrolment has
    /// ended is an error, the same as for a renewal.
    async fn ask(&mut self, held: &Credential, now: Timestamp) -> Result<(), EnrolmentFault> {
        let (Some(hints), Some(enrolled)) = (&mut self.hints, &self.enrolled) else {
            return Ok(());
        };
        let question = HintQuestion {
            url: &enrolled.url,
            ca: &enrolled.ca,
            credential: held,
            now,
            timeout: PATIENCE,
        };
        let leaf = held.leaf();
        let of = leaf.fingerprint();
        match ask_for_hint(question).await {
            Ok(reply) => {
                if !hints.are_answered() {
                    tracing::info!("the site that enrolled this agent says again when to renew");
                }
                let usual = renew_at(leaf.not_before(), leaf.not_after(), of.as_bytes());
                let before = hints.renew_at();
                let ask_after = Duration::from_secs(reply.retry_after_seconds);
                hints.answered(reply.suggested_window, ask_after, usual, &of, now);
                if let Some(at) = hints.renew_at().filter(|_| before.is_none()) {
                    tracing::info!(%at, why = %reply.why, "the certificate is renewed before its time");
                }
                Ok(())
            }
            Err(error) => {
                let first = hints.unanswered(&of, now);
                let fault = EnrolmentFault::from(error);
                if fault.ends_enrolment() {
                    self.failed(&fault, now);
                    return Err(fault);
                }
                if first {
                    tracing::warn!(%fault, "not told when to renew: it is done by the certificate's own time");
                }
                Ok(())
            }
        }
    }

    /// Puts to use what an earlier run was given and was killed over: the token may be spent by it.
    fn finish(
        &mut self,
        token: Option<&TokenFile>,
        held: Option<&Credential>,
        now: Timestamp,
    ) -> Result<Option<Step>, EnrolmentFault> {
        let Some((revision, staged)) = self.files.staged()? else { return Ok(None) };
        // While no answer has come, what is staged is a request.
        let Ok(staged) = credential(&staged) else { return Ok(None) };
        let asked = token.map(|token| &token.spec);
        let wanted =
            asked.and_then(|spec| spec.agent().ok().flatten()).or_else(|| service_of(held?));
        let fits = wanted.is_none() || service_of(&staged) == wanted;
        let sound = handfast_tls::check(&staged, Purpose::Client, &[], now).is_ok();
        let known = self
            .enrolled
            .clone()
            .filter(|enrolled| held.is_some() || asked.is_none_or(|spec| spec.url == enrolled.url));
        let by_token = || asked.map(|spec| Enrolled { url: spec.url.clone(), ca: spec.ca.clone() });
        let Some(enrolled) = known.or_else(by_token).filter(|_| fits && sound) else {
            return Ok(None);
        };
        self.put_to_use(revision, staged, enrolled)?;
        Ok(Some(if held.is_some() { Step::Renewed } else { Step::Enrolled }))
    }

    async fn redeem(&mut self, token: &TokenFile, now: Timestamp) -> Result<(), EnrolmentFault> {
        let service = token.spec.agent().ok().flatten().ok_or_else(|| {
            EnrolmentFault::ForSites { token: self.token.clone().unwrap_or_default() }
        })?;
        let (csr, key) = self.request(&service, &token.spec.ca)?;
        let redeeming = Redeeming {
            url: &token.spec.url,
            code: &token.spec.code,
            ca: &token.spec.ca,
            applicant: &Applicant::Agent(service.clone()),
            csr: &csr,
            now,
            timeout: PATIENCE,
        };
        let reply = redeem(redeeming).await?;
        let ca = reply.port_ca.clone().unwrap_or_else(|| token.spec.ca.clone());
        self.take(&reply, key, &service, Enrolled { url: token.spec.url.clone(), ca }, now)
    }

    async fn renew(&mut self, held: &Credential, now: Timestamp) -> Result<(), EnrolmentFault> {
        let enrolled = self.enrolled.clone().ok_or_else(|| EnrolmentFault::Unknown {
            file: self.files.directory().join(ENROLLED),
        })?;
        let service = service_of(held).ok_or(EnrolmentFault::NotAnAgent)?;
        let (csr, key) = self.request(&service, &enrolled.ca)?;
        let renewing = Renewing {
            url: &enrolled.url,
            ca: &enrolled.ca,
            credential: held,
            csr: &csr,
            now,
            timeout: PATIENCE,
        };
        let reply = renew(renewing).await?;
        let ca = reply.port_ca.clone().unwrap_or(enrolled.ca);
        self.take(&reply, key, &service, Enrolled { url: enrolled.url, ca }, now)
    }

    /// The request to send. Its key is on disk before: asking again after a crash or a lost answer is the same request,
    /// and gets the same answer.
    fn request(&self, service: &Name, ca: &str) -> Result<(Csr, PrivateKey), EnrolmentFault> {
        if let Some((_, staged)) = self.files.staged()?
            && let Some(pending) = pending(&staged)
        {
            return Ok(pending);
        }
        let unmade = |why: String| EnrolmentFault::Key { why };
        let key =
            PrivateKey::generate(KeyAlgorithm::EcdsaP256).map_err(|e| unmade(e.to_string()))?;
        let csr = Csr::create(&key, &Subject::new(service.as_str()))
            .map_err(|e| unmade(e.to_string()))?;
        self.files.stage(&CredentialPem {
            tls_crt: csr.to_pem(),
            tls_key: key.to_pkcs8_pem(),
            ca_crt: ca.to_owned(),
        })?;
        Ok((csr, key))
    }

    /// Proves what came back, and puts it into use.
    fn take(
        &mut self,
        reply: &RedemptionReply,
        key: PrivateKey,
        service: &Name,
        enrolled: Enrolled,
        now: Timestamp,
    ) -> Result<(), EnrolmentFault> {
        let odd = |why: String| EnrolmentFault::Odd { why };
        let chain = Chain::from_pem(reply.certificate.as_bytes())
            .map_err(|error| odd(error.to_string()))?;
        let anchors =
            TrustAnchors::from_pem(reply.ca.as_bytes()).map_err(|error| odd(error.to_string()))?;
        let credential =
            Credential::new(chain, key, anchors).map_err(|error| odd(error.to_string()))?;
        if service_of(&credential).as_ref() != Some(service) {
            return Err(odd(format!("the certificate is not one of an agent of {service}")));
        }
        handfast_tls::check(&credential, Purpose::Client, &[], now)?;
        let revision = self.files.stage(&credential.to_pem())?;
        self.put_to_use(revision, credential, enrolled)
    }

    /// Makes what is staged and proven the credential in use.
    fn put_to_use(
        &mut self,
        revision: Revision,
        credential: Credential,
        enrolled: Enrolled,
    ) -> Result<(), EnrolmentFault> {
        // Before the certificate: where it is renewed is known from the moment on that it is used.
        let text = serde_json::to_vec(&enrolled)
            .map_err(|error| EnrolmentFault::Odd { why: error.to_string() })?;
        write_atomic(&self.files.directory().join(ENROLLED), &text, 0o600)?;
        self.files.promote(revision)?;
        self.enrolled = Some(enrolled);
        self.live.send_replace(Some(Arc::new(credential)));
        Ok(())
    }
}

/// The service whose agents this credential is for.
fn service_of(credential: &Credential) -> Option<Name> {
    let identity = credential.leaf().spiffe_id().ok().flatten()?;
    if identity.kind() == Some(IdentityKind::Agent) { identity.name() } else { None }
}

fn credential(pem: &RawPem) -> Result<Credential, String> {
    let missing = || "a file is missing".to_owned();
    let (chain, anchors) =
        (pem.tls_crt.as_deref().ok_or_else(missing)?, pem.ca_crt.as_deref().ok_or_else(missing)?);
    let key = pem.tls_key.as_deref().ok_or_else(missing)?;
    Credential::from_pem(chain, key, anchors, None).map_err(|error| error.to_string())
}

/// A request that was made before and not answered yet.
fn pending(staged: &RawPem) -> Option<(Csr, PrivateKey)> {
    let csr = Csr::from_pem(staged.tls_crt.as_deref()?).ok()?;
    let key = PrivateKey::read(staged.tls_key.as_deref()?, None).ok()?;
    (csr.spki_der() == key.spki_der()).then_some((csr, key))
}

/// For one exchange, connecting included.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where to renew, beside the credential.
const ENROLLED: &str = "enrolled.json";

/// Of that file, in bytes.
const LARGEST: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("a moment")
    }

    #[tokio::test]
    async fn a_token_that_cannot_be_read_is_tried_less_and_less_often_and_at_once_when_it_is_mended()
     {
        let directory = tempfile::tempdir().expect("a directory");
        let token = directory.path().join("token");
        std::fs::write(&token, "nonsense").expect("a file");
        let held = directory.path().join("held");
        let mut enrolment = AgentEnrolment::open(&held, Some(token.clone())).expect("an enrolment");
        let (mut now, mut waits) = (at(0), Vec::new());
        for _ in 0..5 {
            let fault = enrolment.step(now).await.expect_err("it cannot be read");
            assert!(matches!(fault, EnrolmentFault::Token(_)), "{fault}");
            let Ok(Step::Waits(next)) = enrolment.step(now).await else { panic!("it waits") };
            waits.push(next.duration_since(now).as_secs());
            now = next;
        }
        assert!(waits[0] >= 1 && waits.is_sorted() && waits[4] > 4 * waits[0], "{waits:?}");
        std::fs::remove_file(&token).expect("removed");
        assert_eq!(enrolment.step(now).await.expect("no fault"), Step::NeedsToken);
        std::fs::write(&token, "nonsense again").expect("a file");
        assert!(enrolment.step(now).await.is_err(), "another one is looked at at once");
    }
}
