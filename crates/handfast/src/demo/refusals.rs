//! Second act: strangers come, each is refused, and both sides are told why.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use handfast_api::resources::edit::{self, Existing};
use handfast_api::resources::{Endpoint, Link, Resource};
use handfast_api::status::{FaultView, RefusalView};
use handfast_pki::{
    Chain, Host, IdentityKind, IssueRequest, Issuer, KeyAlgorithm, Name, PrivateKey, Profile,
    SpiffeId, Subject, SystemEntropy,
};
use handfast_store::Home;
use handfast_tls::LINK_ALPN;
use handfast_tls::probe::{Impostor, Material};
use serde::Deserialize;

use super::linking::TRUST_DOMAIN;
use super::stage::{Stage, links};
use super::story::{Broken, Proof, Story};
use crate::clock;
use crate::exit::Exit;

/// Plays it.
pub(super) async fn play(story: &mut Story, stage: &mut Stage) -> Result<(), Broken> {
    story.step("no-certificate", "somebody without a certificate", nobody(stage)).await?;
    story.step("other-ca", "somebody with a certificate of another CA", stranger(stage)).await?;
    story
        .step(
            "link-certificate-as-server",
            "somebody who poses as west with east's certificate",
            poser(stage),
        )
        .await?;
    story.step("spent-token", "somebody with a token that is spent", latecomer(stage)).await
}

/// Knocks at west's link port with nothing in hand.
async fn nobody(stage: &mut Stage) -> anyhow::Result<Proof> {
    let line = format!("cert verify 127.0.0.1:{} --ca {} --alpn {ALPN}", stage.ports.link, CA);
    let said = knock(stage, &line).await?;
    let seen = seen_by_west(stage, "no-certificate").await?;
    Ok(refused("west asked for a certificate, and hung up", &said, "west", &seen))
}

/// Shows west a certificate that says all the right things, signed by somebody else's CA.
async fn stranger(stage: &mut Stage) -> anyhow::Result<Proof> {
    forge(stage.directory()).context("cannot make a certificate of another CA")?;
    stage.shell.note(STRANGER.to_owned());
    let line = format!(
        "cert verify 127.0.0.1:{} --ca {} --cert stranger.crt --key stranger.key --alpn {ALPN}",
        stage.ports.link, CA
    );
    let said = knock(stage, &line).await?;
    let seen = seen_by_west(stage, "unknown-issuer").await?;
    Ok(refused("the names in it are right; who signed it is not", &said, "west", &seen))
}

/// Has east dial an impostor that presents east's own link certificate as a server.
async fn poser(stage: &mut Stage) -> anyhow::Result<Proof> {
    let link = link_name(stage).await?;
    let home = Home::paths(stage.directory().join("east"));
    let stolen = home.runtime_certs.join(&link);
    let chain = Chain::from_pem(&std::fs::read(stolen.join("tls.crt"))?)?;
    let key = PrivateKey::from_pem(&std::fs::read(stolen.join("tls.key"))?, None)?;
    let material = Material::new(chain.to_pki_types(), key.to_pki_types())?;
    let address = SocketAddr::from(([127, 0, 0, 1], stage.ports.impostor));
    let impostor =
        Impostor::bind(address, &material, vec![LINK_ALPN.to_vec()], clock::now()).await?;
    let served = tokio::spawn(impostor.serve(ATTEMPTS, PATIENCE, clock::now()));

    // East dials it as any user would have it dial: a Link in a file, with a credential of its own.
    let supplied = home.input_certs.join(POSER);
    std::fs::create_dir_all(&supplied)?;
    for file in ["tls.crt", "tls.key", "ca.crt"] {
        std::fs::copy(stolen.join(file), supplied.join(file))?;
    }
    let name: Name = POSER.parse()?;
    let endpoint = Endpoint {
        name: Some("inter-router".to_owned()),
        host: "127.0.0.1".parse::<Host>()?,
        port: stage.ports.impostor,
        group: None,
    };
    let spec = Link {
        endpoints: vec![endpoint],
        tls_credentials: Some(name.clone()),
        cost: 1,
        settings: std::collections::BTreeMap::new(),
    };
    let made_by = "handfast demo";
    let written =
        edit::write(&home.input_resources, &Resource::new(name, spec), made_by, Existing::Keep)?;
    let fault = stage
        .until("east turns away from the impostor", async |shell| {
            let mut posers =
                links(shell, "east").await?.into_iter().filter(|link| link.name == POSER);
            Ok(posers.find_map(|link| link.fault))
        })
        .await?;
    served.abort();
    std::fs::remove_file(&written.file)?;
    std::fs::remove_dir_all(&supplied)?;
    stage
        .until("east forgets the impostor", async |shell| {
            Ok(links(shell, "east").await?.iter().all(|link| link.name != POSER).then_some(()))
        })
        .await?;
    ensure!(fault.code == "wrong-eku", "east turned away for another reason: {fault}");
    Ok(Proof::new("a link certificate can never be a server").fault(told("east", &fault)))
}

/// Redeems west's token once more, from a third site.
async fn latecomer(stage: &mut Stage) -> anyhow::Result<Proof> {
    stage.shell.typed_run("--home south site create south").await?;
    let line = "--home south token redeem west.token";
    stage.shell.note(format!("handfast {line}   # refused: it is spent"));
    let said = stage.shell.run(line).await?.refused(Exit::Refused)?;
    ensure!(
        said.contains("spent") || said.contains("redeemed"),
        "the token was refused for another reason: {said}"
    );
    Ok(Proof::new("one redemption was allowed, east had it").fault(said))
}

/// Runs a `cert verify` that has to be refused by the other side.
async fn knock(stage: &Stage, line: &str) -> anyhow::Result<String> {
    stage.shell.note(format!("handfast {line}   # refused"));
    stage.shell.run(line).await?.refused(Exit::Refused)
}

fn refused(detail: &str, said: &str, witness: &str, seen: &FaultView) -> Proof {
    Proof::new(detail)
        .fact("fault", seen.code.clone())
        .fault(format!("the stranger reads:\n{said}\n{}", told(witness, seen)))
}

fn told(witness: &str, fault: &FaultView) -> String {
    format!("{witness} reads:\n{fault}")
}

/// What west reports about somebody it turned away.
async fn seen_by_west(stage: &mut Stage, code: &str) -> anyhow::Result<FaultView> {
    stage
        .until("west reports whom it turned away", async |shell| {
            let seen: Seen = shell.run("--home west status -o json").await?.succeeded()?.json()?;
            Ok(seen
                .refusals
                .into_iter()
                .map(|refusal| refusal.fault)
                .find(|fault| fault.code == code))
        })
        .await
        .with_context(|| format!("west was expected to report `{code}`"))
}

/// The part of `handfast status -o json` that is read here.
#[derive(Deserialize)]
struct Seen {
    refusals: Vec<RefusalView>,
}

async fn link_name(stage: &Stage) -> anyhow::Result<String> {
    let links = links(&stage.shell, "east").await?;
    links.into_iter().map(|link| link.name).find(|name| name != POSER).context("east has no link")
}

/// Makes what a stranger could make for himself: a CA, and a link certificate that claims to be east's.
fn forge(directory: &Path) -> anyhow::Result<()> {
    let mut entropy = SystemEntropy;
    let ca_key = PrivateKey::generate(KeyAlgorithm::EcdsaP256)?;
    let request =
        IssueRequest::new(Profile::SiteCa, Subject::new("stranger CA"), ca_key.spki_der());
    let ca = Issuer::self_signed(&request, ca_key, clock::now(), &mut entropy)?;
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256)?;
    let east = SpiffeId::new(TRUST_DOMAIN.parse()?, IdentityKind::Site, &"east".parse::<Name>()?);
    let subject = Subject::new("east").with_identity(east);
    let leaf = ca.issue(
        &IssueRequest::new(Profile::LinkClient, subject, key.spki_der()),
        clock::now(),
        &mut entropy,
    )?;
    std::fs::write(directory.join("stranger.crt"), ca.chain_for(leaf).to_pem())?;
    std::fs::write(directory.join("stranger.key"), key.to_pkcs8_pem().as_bytes())?;
    Ok(())
}

/// The name of the impostor's Link and credential at east.
const POSER: &str = "poser";

/// West's CA certificate: a stranger may have it, for it is no secret.
const CA: &str = "west/runtime/certs/handfast-site-server/ca.crt";

/// How a user makes a certificate of another CA.
const STRANGER: &str = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=stranger \
                        -keyout stranger.key -out stranger.crt";

/// The links' application protocol, as it is typed.
const ALPN: &str = "handfast-link/1";

/// How often the impostor answers, and how long it waits each time.
const ATTEMPTS: usize = 100;
const PATIENCE: Duration = Duration::from_secs(15);
