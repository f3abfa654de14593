//! Rotations as the node sees them: what the network knows of other sites goes to the authority, the
//! bundles of other sites come in, and operators' orders are taken.

use std::sync::Arc;

use handfast_api::admin::{
    AuthorityKey, AuthorityStatus, KeptKey, LaggardStatus, Refusal, RefusalCode, RollBack, Rotate,
    RotationStatus, Taint,
};
use handfast_api::status::CredentialSource;
use handfast_authority::rotation::{Laggard, Who, may_take};
use handfast_authority::{
    AuthorityStanding, Declared, KeyStanding, ReceivedBundle, RotateError, RotateOrder, SiteSeen,
};
use handfast_network::wire::TrustBundle;
use handfast_network::{BundlePlan, SiteStatus};
use handfast_pki::{Name, SpiffeId, TrustAnchors};
use handfast_store::Source;

use super::core::Core;
use crate::clock;

impl Core {
    /// Tells the authority what the network sees of the sites that link here. Blocks for a moment. While that is not known, what
    /// was told last holds: nobody is away for want of an answer.
    pub(super) fn tell_sites(&self) {
        match self.network_status() {
            Ok(network) => {
                self.authority().sites_seen(network.sites.into_iter().map(seen).collect());
            }
            Err(unknown) => {
                tracing::warn!(%unknown, "it is not known which sites are linked; what was known last holds");
            }
        }
    }

    /// The other end of one of our links says what to trust there.
    pub(super) async fn bundle_received(
        self: &Arc<Self>,
        identity: &SpiffeId,
        link: Name,
        bundle: TrustBundle,
    ) {
        let (Ok(trust_domain), Ok(anchors)) =
            (bundle.trust_domain.parse(), TrustAnchors::from_pem(bundle.anchors_pem.as_bytes()))
        else {
            tracing::warn!(%link, %identity, "a trust bundle cannot be read, and was not taken");
            return;
        };
        // The listening site signs for its own trust domain, and for no other.
        if *identity.trust_domain() != trust_domain {
            tracing::warn!(%link, %identity, %trust_domain, "a trust bundle of another domain was not taken");
            return;
        }
        let credential = {
            let state = self.state();
            let Some(declared) = state.resources.links.get(&link) else { return };
            declared.credential().clone()
        };
        let received = ReceivedBundle {
            trust_domain,
            sequence: bundle.sequence,
            anchors,
            signer: bundle.signer.try_into().ok(),
            from: identity.to_string(),
        };
        let retired = TrustAnchors::from_pem(bundle.retired_pem.as_bytes()).ok();
        {
            let mut state = self.state();
            match retired {
                Some(retired) => state.retired.insert(credential.clone(), retired),
                None => state.retired.remove(&credential),
            };
        }
        let core = Arc::clone(self);
        let name = credential.clone();
        let work = tokio::task::spawn_blocking(move || {
            core.authority().take_bundle(&name, &received, clock::now())
        });
        match work.await {
            Ok(Ok(())) => self.nudge(),
            Ok(Err(error)) => tracing::warn!(%credential, %error, "a trust bundle was not taken"),
            Err(error) => tracing::error!(%error, "taking a trust bundle was cut short"),
        }
    }

    /// How the authorities stand.
    pub(super) async fn authority_list(self: &Arc<Self>) -> Result<Vec<AuthorityStatus>, Refusal> {
        let declared = self.declared_site()?;
        let core = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || {
            core.tell_sites();
            let standings = core.authority().authorities(&declared, clock::now())?;
            Ok::<_, handfast_store::StoreError>(
                standings.iter().map(|standing| status(&declared, standing)).collect(),
            )
        });
        match work.await {
            Ok(Ok(list)) => Ok(list),
            Ok(Err(error)) => Err(internal(error.to_string())),
            Err(_) => Err(internal("the work was cut short".to_owned())),
        }
    }

    /// Takes an order to rotate, and makes the first steps.
    pub(super) async fn rotate(
        self: &Arc<Self>,
        request: Rotate,
        by: &str,
    ) -> Result<AuthorityStatus, Refusal> {
        let declared = self.declared_site()?;
        let authority = named(&declared, &request.authority)?;
        let order = RotateOrder {
            authority: authority.clone(),
            forced: false,
            without_laggards: request.without_laggards,
            by: by.to_owned(),
            why: request.reason,
        };
        self.order(authority, move |core, declared| {
            core.authority().rotate(declared, &order, clock::now())
        })
        .await
    }

    /// Takes an order to replace a key that is in the wrong hands, and makes the first steps.
    pub(super) async fn taint(
        self: &Arc<Self>,
        request: Taint,
        by: &str,
    ) -> Result<AuthorityStatus, Refusal> {
        let declared = self.declared_site()?;
        let authority = named(&declared, &request.authority)?;
        let order = RotateOrder {
            authority: authority.clone(),
            forced: true,
            without_laggards: false,
            by: by.to_owned(),
            why: request.reason,
        };
        self.order(authority, move |core, declared| {
            core.authority().rotate(declared, &order, clock::now())
        })
        .await
    }

    /// Takes an order to go back, and does it.
    pub(super) async fn roll_back(
        self: &Arc<Self>,
        request: RollBack,
        by: &str,
    ) -> Result<AuthorityStatus, Refusal> {
        let declared = self.declared_site()?;
        let authority = named(&declared, &request.authority)?;
        let (name, by) = (authority.clone(), by.to_owned());
        self.order(authority, move |core, declared| {
            core.authority().roll_back(declared, &name, &by, &request.reason, clock::now())
        })
        .await
    }

    async fn order(
        self: &Arc<Self>,
        authority: Name,
        order: impl FnOnce(&Self, &Declared) -> Result<(), RotateError> + Send + 'static,
    ) -> Result<AuthorityStatus, Refusal> {
        let declared = self.declared_site()?;
        let core = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || order(&core, &declared));
        match work.await {
            Ok(taken) => taken.map_err(|error| refusal(&error))?,
            Err(_) => return Err(internal("the work was cut short".to_owned())),
        }
        self.turn(None).await;
        let list = self.authority_list().await?;
        let found = list.into_iter().find(|one| one.name == authority.as_str());
        found.ok_or_else(|| internal("the authority is gone".to_owned()))
    }

    fn declared_site(&self) -> Result<Arc<Declared>, Refusal> {
        self.state().declared.clone().ok_or_else(|| {
            Refusal::new(
                RefusalCode::NotReady,
                "this home has no site yet, so it has no authorities",
                "type `handfast site create NAME` first",
            )
        })
    }
}

/// The bundle as the network tells it.
pub(super) fn bundle_plan(bundle: &handfast_authority::Bundle) -> BundlePlan {
    BundlePlan {
        trust_domain: bundle.trust_domain.clone(),
        sequence: bundle.sequence,
        anchors: bundle.anchors.clone(),
        retired: bundle.retired.clone(),
        signer: bundle.signer,
    }
}

fn seen(site: SiteStatus) -> SiteSeen {
    SiteSeen {
        site: site.site,
        linked: site.linked,
        lost_at: site.lost_at,
        chain: site.chain,
        acknowledged: site.acknowledged,
    }
}

/// The authority that an operator means. One word each and no other, so that what policies say of
/// `authority/root` cannot be got around by another name for it.
fn named(declared: &Declared, word: &str) -> Result<Name, Refusal> {
    let names = &declared.names;
    match word {
        "root" if declared.trust_domain.is_none() => Err(Refusal::new(
            RefusalCode::NotFound,
            format!(
                "site `{}` has no root: it stands alone, and its CAs sign themselves",
                declared.site
            ),
            "rotate `site`: that is the anchor which other sites trust",
        )),
        "root" => Ok(names.root.clone()),
        "site" => Ok(names.site_ca.clone()),
        "local" => Ok(names.local_ca.clone()),
        "service" => Ok(names.service_ca.clone()),
        other => Err(Refusal::new(
            RefusalCode::NotFound,
            format!("{other:?} is none of the authorities that a site has"),
            "name one of: root, site, local, service",
        )),
    }
}

fn role(declared: &Declared, name: &Name) -> &'static str {
    known_role(declared, name).unwrap_or("service")
}

/// The word that commands and policies have for a CA of the site; nothing for another one.
pub(super) fn known_role(declared: &Declared, name: &Name) -> Option<&'static str> {
    let names = &declared.names;
    [
        (&names.root, "root"),
        (&names.site_ca, "site"),
        (&names.local_ca, "local"),
        (&names.service_ca, "service"),
    ]
    .into_iter()
    .find_map(|(known, role)| (known == name).then_some(role))
}

fn status(declared: &Declared, standing: &AuthorityStanding) -> AuthorityStatus {
    AuthorityStatus {
        name: standing.name.to_string(),
        role: role(declared, &standing.name).to_owned(),
        signed_by: standing.signed_by.as_ref().map(ToString::to_string),
        source: match standing.source {
            Source::Managed => CredentialSource::Managed,
            Source::Supplied => CredentialSource::Supplied,
        },
        keys: standing.keys.iter().map(key).collect(),
        kept_keys: standing
            .kept
            .iter()
            .map(|kept| KeptKey { fingerprint: kept.fingerprint.to_string(), until: kept.until })
            .collect(),
        bundle_sequence: standing.sequence,
        rotation: standing.rotation.as_ref().map(|rotation| RotationStatus {
            phase: rotation.phase.to_string(),
            under_way: rotation.is_under_way(),
            cause: rotation.cause.to_string(),
            by: rotation.by.clone(),
            reason: rotation.why.clone(),
            began_at: rotation.began,
            since: rotation.since,
            generation: rotation.generation,
            old_generation: rotation.old_generation,
            waits_for: standing.laggards.iter().map(laggard).collect(),
            may_take_seconds: may_take(rotation, &standing.laggards).as_secs(),
            waived: rotation.waiver.as_ref().map(|waiver| format!("{}: {}", waiver.by, waiver.why)),
        }),
        next_step_at: standing.next_at,
        fault: standing.fault.clone(),
    }
}

fn key(key: &KeyStanding) -> AuthorityKey {
    AuthorityKey {
        generation: key.generation,
        state: key.state.as_str().to_owned(),
        fingerprint: key.fingerprint.to_string(),
        not_before: key.not_before,
        not_after: key.not_after,
    }
}

fn laggard(laggard: &Laggard) -> LaggardStatus {
    let (kind, name) = match &laggard.who {
        Who::Agent(name) => ("agents", name),
        Who::Credential(name) => ("credential", name),
        Who::Site(name) => ("site", name),
    };
    LaggardStatus {
        kind: kind.to_owned(),
        name: name.to_string(),
        reachable: laggard.reachable,
        last_seen: laggard.seen,
        sequence: laggard.sequence,
        lacks: laggard.lacks.as_str().to_owned(),
        expires: laggard.expires,
    }
}

fn refusal(error: &RotateError) -> Refusal {
    let (code, remedy) = match error {
        RotateError::Busy { .. } => (RefusalCode::Conflict, "one at a time"),
        RotateError::NoReason { .. } => (RefusalCode::Invalid, "say why"),
        RotateError::NotUnderWay { .. } | RotateError::Unknown { .. } => {
            (RefusalCode::NotFound, "look at `handfast ca status`")
        }
        RotateError::Supplied { .. } => {
            (RefusalCode::Conflict, "a change of the files is taken by itself")
        }
        RotateError::Unusable { .. } => (RefusalCode::NotReady, "look at `handfast cert list`"),
        _ => (RefusalCode::Internal, "see the node's log"),
    };
    Refusal::new(code, error.to_string(), remedy)
}

fn internal(message: String) -> Refusal {
    Refusal::new(RefusalCode::Internal, message, "see the node's log, and try again")
}
