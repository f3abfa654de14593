//! A live TLS server: one connection, and everything that can be learnt from it.

use handfast_api::status::{FaultView, PeerView, SessionView};
use handfast_pki::{Certificate, Chain, PrivateKey, TrustAnchors};
use handfast_tls::probe::{Material, Probe, Report, connect};
use handfast_tls::{Peer, Session};
use serde::Serialize;

use super::super::show;
use super::super::view::CertificateView;
use super::Arguments;
use super::file::read_anchors;
use super::revocation::{self, Finding, Path, Status};
use crate::clock;
use crate::commands::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Page, Tone};

/// Connects once and reports.
pub(super) async fn run(
    arguments: &Arguments,
    host: &str,
    port: u16,
    context: &Context,
) -> anyhow::Result<()> {
    let anchors = arguments.ca.as_deref().map(read_anchors).transpose()?;
    let material = material(arguments)?;
    let mut probe = Probe::new(host, port, anchors.as_ref());
    probe.limit = arguments.timeout;
    probe.presents = material.as_ref();
    if let Some(name) = &arguments.name {
        probe.name = name;
    }
    probe.options.alpn =
        arguments.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let report = connect(&probe, clock::now()).await;
    let revocation = revocation(arguments, &report, anchors.as_ref()).await?;

    let found = Found::of(&arguments.target, &report, anchors.as_ref(), revocation);
    context.output.show(&found, |page| found.draw(page))?;
    if let Some(fault) = report.fault {
        return Err(fault.into());
    }
    let asked = arguments.online || !arguments.crl.is_empty();
    match revocation::problem(&found.revocation, asked) {
        None => Ok(()),
        Some((code, what)) => {
            let summary = match code {
                "revoked" => "the server's certificate is revoked",
                _ => "it is not known whether the server's certificate is revoked",
            };
            Err(Failure::new(Exit::Refused, summary)
                .at(&arguments.target)
                .because(what)
                .remedy(revocation::remedy(code))
                .into())
        }
    }
}

/// By the answer that the server stapled, by CRLs that were given, and by what its certificates name if that
/// was asked for.
async fn revocation(
    arguments: &Arguments,
    report: &Report,
    anchors: Option<&TrustAnchors>,
) -> anyhow::Result<Vec<Finding>> {
    let anchors: Vec<Certificate> =
        anchors.iter().flat_map(|anchors| anchors.iter()).cloned().collect();
    let path = Path::of(&report.chain, &anchors);
    let now = clock::now();
    let mut findings = path.by_crls(&arguments.crl, now)?;
    findings.extend(path.by_staple(&report.stapled, now));
    if arguments.online {
        findings.extend(path.online(arguments.timeout, now).await);
    }
    Ok(findings)
}

/// What was found, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    target: String,
    ok: bool,
    /// The address that was connected to.
    address: Option<String>,
    /// Whether the server's chain was checked against a CA.
    chain_checked: bool,
    session: Option<SessionView>,
    peer: Option<PeerView>,
    milliseconds: u64,
    /// Whether the certificates are revoked, as far as anything was stapled or asked for.
    revocation: Vec<Finding>,
    fault: Option<FaultView>,
    certificates: Vec<CertificateView>,
}

impl Found {
    fn of(
        target: &str,
        report: &Report,
        anchors: Option<&TrustAnchors>,
        revocation: Vec<Finding>,
    ) -> Self {
        Self {
            target: target.to_owned(),
            ok: report.fault.is_none()
                && !revocation.iter().any(|finding| finding.status == Status::Revoked),
            address: report.addr.map(|address| address.to_string()),
            chain_checked: anchors.is_some(),
            session: report.session.as_ref().map(session),
            peer: report.peer.as_ref().map(peer),
            milliseconds: u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX),
            revocation,
            fault: report.fault.as_ref().map(FaultView::from),
            certificates: report.chain.iter().map(CertificateView::of).collect(),
        }
    }

    fn draw(&self, page: &mut Page) {
        if let Some(session) = &self.session {
            page.heading("Session");
            page.fields(&[
                ("address", self.address.clone().unwrap_or_default()),
                ("TLS version", session.version.clone()),
                ("cipher", session.cipher.clone()),
                ("key exchange", session.group.clone()),
                ("protocol", session.alpn.clone().unwrap_or_default()),
                ("handshake", format!("{} ms", self.milliseconds)),
            ]);
        }
        for (index, certificate) in self.certificates.iter().enumerate() {
            let title = if index == 0 {
                "Server certificate".to_owned()
            } else {
                format!("Its issuer, {index} up")
            };
            page.heading(&title);
            certificate.draw(page, clock::now());
        }
        page.gap();
        for finding in &self.revocation {
            page.line(finding.to_string());
        }
        if !self.chain_checked && !self.certificates.is_empty() {
            page.line("The server's chain was not checked: name the CA with --ca FILE.");
        }
        if self.ok {
            let proven = if self.chain_checked { "proved who it is" } else { "speaks TLS" };
            page.line(format!(
                "{}: {} {proven}, and accepted us.",
                Tone::Good.paint("ok"),
                self.target
            ));
        }
    }
}

fn material(arguments: &Arguments) -> anyhow::Result<Option<Material>> {
    let (Some(cert), Some(key)) = (&arguments.cert, &arguments.key) else { return Ok(None) };
    let chain: Chain = show::read_chain(cert)?;
    let pem = zeroize::Zeroizing::new(show::read(key)?);
    let passphrase = arguments.passphrase()?;
    let private = PrivateKey::read(&pem, passphrase.as_ref()).map_err(|error| {
        Failure::new(Exit::BadInput, "the private key cannot be read")
            .at(key.display())
            .because(error)
    })?;
    Ok(Some(Material::new(chain.to_pki_types(), private.to_pki_types())?))
}

fn session(session: &Session) -> SessionView {
    SessionView {
        version: session.version.to_owned(),
        cipher: session.cipher.clone(),
        group: session.group.clone(),
        alpn: session.alpn_text(),
        resumed: session.resumed,
    }
}

fn peer(peer: &Peer) -> PeerView {
    PeerView {
        identity: peer.identity.as_ref().map(ToString::to_string),
        common_name: peer.common_name.clone(),
        serial: peer.serial.to_string(),
        fingerprint: peer.fingerprint.to_string(),
        not_after: Some(peer.not_after),
        issuer: peer.issuer.clone(),
    }
}
