//! Makes every kind of CRL and OCSP response (of every key algorithm) into a directory, for a second opinion by
//! other tools: `cargo run -p handfast-pki --example every_list -- DIR`.
//!
//! Prints one line per file: what it is (`crl`, `ocsp`), the file, the issuer's certificate and the root's.
//! `tests/suites/pkilint.sh` reads those lines.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use handfast_pki::ocsp::{AnswerTimes, CertId, CertStatus, IdHash, OcspRequest, OcspSigner};
use handfast_pki::{
    Certificate, CrlBuilder, Distribution, IdentityKind, IssueRequest, Issuer, KeyAlgorithm,
    PrivateKey, Profile, RevocationReason, RevokedEntry, Serial, SpiffeId, Subject, SystemEntropy,
};
use jiff::Timestamp;

const HOUR: Duration = Duration::from_secs(3600);

fn main() -> Result<(), Box<dyn Error>> {
    let Some(directory) = std::env::args_os().nth(1) else {
        return Err("give the directory to write to".into());
    };
    let directory = PathBuf::from(&directory);
    std::fs::create_dir_all(&directory)?;
    #[expect(clippy::disallowed_methods, reason = "other tools judge the lists by the clock")]
    let now = Timestamp::from_second(Timestamp::now().as_second())?;
    for algorithm in [
        KeyAlgorithm::EcdsaP256,
        KeyAlgorithm::EcdsaP384,
        KeyAlgorithm::Ed25519,
        KeyAlgorithm::Rsa2048,
    ] {
        Place::make(algorithm, &directory, now)?.write()?;
    }
    Ok(())
}

/// A root and a site CA, and where their lists go.
struct Place<'a> {
    algorithm: KeyAlgorithm,
    directory: &'a Path,
    now: Timestamp,
    root: Issuer,
    ca: Issuer,
}

impl<'a> Place<'a> {
    fn make(
        algorithm: KeyAlgorithm,
        directory: &'a Path,
        now: Timestamp,
    ) -> Result<Self, Box<dyn Error>> {
        let key = PrivateKey::generate(algorithm)?;
        let subject = Subject::new("handfast root, demo.example");
        let request = IssueRequest::new(Profile::Root, subject, key.spki_der());
        let root = Issuer::self_signed(&request, key, now, &mut SystemEntropy)?;
        let key = PrivateKey::generate(algorithm)?;
        let subject = Subject::new("west site CA, demo.example");
        let request = IssueRequest::new(Profile::SiteCa, subject, key.spki_der());
        let certificate = root.issue(&request, now, &mut SystemEntropy)?;
        let chain = root.chain_for(certificate);
        let ca = Issuer::from_parts(chain, key, root.anchors().clone())?;
        Ok(Self { algorithm, directory, now, root, ca })
    }

    fn write(&self) -> Result<(), Box<dyn Error>> {
        let path = |name: &str| self.directory.join(format!("{}-{name}", self.algorithm));
        std::fs::write(path("root.pem"), self.root.certificate().to_pem())?;
        std::fs::write(path("ca.pem"), self.ca.certificate().to_pem())?;
        let crossed = Self::make(self.algorithm, self.directory, self.now)?;
        let cross =
            self.root.cross_sign(crossed.root.certificate(), self.now, &mut SystemEntropy)?;
        std::fs::write(path("cross.crt"), cross.to_pem())?;
        let (good, revoked) = (self.leaf()?, self.leaf()?);
        std::fs::write(path("good.crt"), good.to_pem())?;
        std::fs::write(path("revoked.crt"), revoked.to_pem())?;
        self.lists(revoked.serial())?;
        self.answers(&good, &revoked)
    }

    fn leaf(&self) -> Result<Certificate, Box<dyn Error>> {
        let key = PrivateKey::generate(self.algorithm)?;
        let identity = SpiffeId::new("demo.example".parse()?, IdentityKind::Site, &"east".parse()?);
        let subject = Subject::new("east").with_identity(identity);
        let url = |name: &str| vec![format!("http://pki.example:8889/{name}")];
        let distribution = Distribution {
            crl: url("crl/west.crl"),
            freshest: url("crl/west-delta.crl"),
            ocsp: url("ocsp"),
            issuers: url("ca/west.crt"),
        };
        let request = IssueRequest::new(Profile::LinkClient, subject, key.spki_der())
            .with_distribution(distribution);
        Ok(self.ca.issue(&request, self.now, &mut SystemEntropy)?)
    }

    /// Full, delta and empty lists; the full one holds every reason, the delta what was revoked last.
    fn lists(&self, revoked: &Serial) -> Result<(), Box<dyn Error>> {
        let validity = (self.now, self.now + 4 * HOUR);
        let freshest = ["http://pki.example:8889/crl/west-delta.crl".to_owned()];
        let mut builder = CrlBuilder::new();
        self.crl("empty", &builder.full(1, validity, &freshest, &self.ca)?)?;
        for (number, reason) in (1..).zip(RevocationReason::ALL) {
            let serial = format!("{number:032x}").parse()?;
            builder.push(&RevokedEntry { serial, at: self.now - HOUR, reason }, None);
        }
        self.crl("full", &builder.full(2, validity, &freshest, &self.ca)?)?;
        builder.set_base(2);
        let empty = builder.delta(3, validity, &self.ca)?.ok_or("there is a base")?;
        self.crl("empty-delta", &empty)?;
        let reason = RevocationReason::KeyCompromise;
        builder.push(&RevokedEntry { serial: revoked.clone(), at: self.now, reason }, None);
        let delta = builder.delta(4, validity, &self.ca)?.ok_or("there is a base")?;
        self.crl("delta", &delta)?;
        self.crl("all", &builder.full(4, validity, &freshest, &self.ca)?)
    }

    /// Good, revoked and unknown, with and without nonce, by SHA-1 and SHA-256, signed by the CA itself and by
    /// a responder of its.
    fn answers(&self, good: &Certificate, revoked: &Certificate) -> Result<(), Box<dyn Error>> {
        let key = PrivateKey::generate(self.algorithm)?;
        let subject = Subject::new("west OCSP");
        let request = IssueRequest::new(Profile::OcspSigner, subject, key.spki_der());
        let certificate = self.ca.issue(&request, self.now, &mut SystemEntropy)?;
        let file = self.directory.join(format!("{}-ocsp-signer.crt", self.algorithm));
        std::fs::write(file, certificate.to_pem())?;
        let ca = self.ca.certificate();
        let responder = OcspSigner::new(ca.clone(), certificate, key)?;
        let times = AnswerTimes {
            produced_at: self.now,
            this_update: self.now,
            next_update: self.now + 2 * HOUR,
        };
        let unknown: Serial = "0102030405060708".parse()?;
        let reason = RevocationReason::Superseded;
        for (name, serial, status) in [
            ("good", good.serial(), CertStatus::Good),
            ("revoked", revoked.serial(), CertStatus::Revoked { at: self.now - HOUR, reason }),
            ("unknown", &unknown, CertStatus::Unknown),
        ] {
            for (hash_name, hash) in [("sha1", IdHash::Sha1), ("sha256", IdHash::Sha256)] {
                for (nonce_name, nonce) in [("plain", None), ("nonce", Some(vec![7; 32]))] {
                    let request = OcspRequest { cert_id: CertId::new(hash, ca, serial), nonce };
                    let der = responder.answer(&request, status, times)?;
                    self.ocsp(&format!("{name}-{hash_name}-{nonce_name}"), &der)?;
                }
            }
        }
        Ok(())
    }

    fn crl(&self, name: &str, der: &[u8]) -> Result<(), Box<dyn Error>> {
        self.file("crl", &format!("{name}.crl"), der)
    }

    fn ocsp(&self, name: &str, der: &[u8]) -> Result<(), Box<dyn Error>> {
        self.file("ocsp", &format!("{name}.ocsp"), der)
    }

    #[expect(clippy::print_stdout, reason = "the lines are this program's answer")]
    fn file(&self, kind: &str, name: &str, der: &[u8]) -> Result<(), Box<dyn Error>> {
        let path = |name: &str| self.directory.join(format!("{}-{name}", self.algorithm));
        std::fs::write(path(name), der)?;
        let (ca, root) = (path("ca.pem"), path("root.pem"));
        println!("{kind} {} {} {}", path(name).display(), ca.display(), root.display());
        Ok(())
    }
}
