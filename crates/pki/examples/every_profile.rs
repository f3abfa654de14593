//! Issues one certificate of every profile (and some of every key algorithm) into a directory, for a
//! second opinion by other tools: `cargo run -p handfast-pki --example every_profile -- DIR`.
//!
//! Prints one line per certificate: file, purpose (`ca`, `client`, `ocsp`, `server`), the file with the CAs between
//! it and the root, and the root's file. `tests/suites/pkilint.sh` reads those lines.

use std::error::Error;
use std::path::Path;

use handfast_pki::{
    Certificate, Chain, Csr, IssueRequest, Issuer, KeyAlgorithm, NameConstraints, PrivateKey,
    Profile, SpiffeId, Subject, Subtrees, SystemEntropy,
};
use jiff::Timestamp;

fn main() -> Result<(), Box<dyn Error>> {
    let Some(directory) = std::env::args_os().nth(1) else {
        return Err("give the directory to write to".into());
    };
    let directory = Path::new(&directory);
    std::fs::create_dir_all(directory)?;
    #[expect(
        clippy::disallowed_methods,
        reason = "other tools judge the certificates by the clock"
    )]
    let now = Timestamp::now();
    for algorithm in [
        KeyAlgorithm::EcdsaP256,
        KeyAlgorithm::EcdsaP384,
        KeyAlgorithm::Ed25519,
        KeyAlgorithm::Rsa2048,
    ] {
        Hierarchy::make(algorithm, now)?.write(directory)?;
    }
    Ok(())
}

/// A root, what it signed, and the algorithm all of them use.
struct Hierarchy {
    algorithm: KeyAlgorithm,
    root: Issuer,
    made: Vec<(String, Profile, Chain)>,
    request: Csr,
}

impl Hierarchy {
    fn make(algorithm: KeyAlgorithm, now: Timestamp) -> Result<Self, Box<dyn Error>> {
        let entropy = &mut SystemEntropy;
        let key = PrivateKey::generate(algorithm)?;
        let subject = Subject::new("handfast root, demo.example");
        let root = IssueRequest::new(Profile::Root, subject, key.spki_der());
        let root = Issuer::self_signed(&root, key, now, entropy)?;

        let ca = |name: &str, constraints: Option<NameConstraints>| {
            let key = PrivateKey::generate(algorithm)?;
            let mut request =
                IssueRequest::new(Profile::SiteCa, Subject::new(name), key.spki_der());
            request.name_constraints = constraints;
            let certificate = root.issue(&request, now, &mut SystemEntropy)?;
            let chain = root.chain_for(certificate);
            Ok::<_, Box<dyn Error>>(Issuer::from_parts(chain, key, root.anchors().clone())?)
        };
        let site_ca = ca("west site CA, demo.example", None)?;
        let constraints = NameConstraints {
            permitted: Subtrees {
                dns: vec!["west.example".parse()?, "localhost".parse()?],
                ips: vec!["127.0.0.0/8".parse()?, "2001:db8::/32".parse()?],
            },
            excluded: Subtrees { dns: vec!["secret.west.example".parse()?], ips: vec![] },
        };
        let constrained = ca("constrained site CA, demo.example", Some(constraints))?;

        let mut made = vec![
            ("root".to_owned(), Profile::Root, root.chain().clone()),
            ("site-ca".to_owned(), Profile::SiteCa, site_ca.chain().clone()),
            ("constrained-ca".to_owned(), Profile::SiteCa, constrained.chain().clone()),
        ];
        for (prefix, issuer) in [("", &site_ca), ("constrained-", &constrained)] {
            for profile in Profile::ALL.into_iter().filter(|profile| !profile.is_ca()) {
                let key = PrivateKey::generate(algorithm)?;
                let request = IssueRequest::new(profile, subject_of(profile)?, key.spki_der());
                let chain = issuer.chain_for(issuer.issue(&request, now, entropy)?);
                made.push((format!("{prefix}{profile}"), profile, chain));
            }
        }
        let key = PrivateKey::generate(algorithm)?;
        let request = Csr::create(&key, &subject_of(Profile::SiteServer)?)?;
        Ok(Self { algorithm, root, made, request })
    }

    #[expect(clippy::print_stdout, reason = "the lines are this program's answer")]
    fn write(&self, directory: &Path) -> Result<(), Box<dyn Error>> {
        let Self { algorithm, root, made, request } = self;
        let path =
            |name: &str, suffix: &str| directory.join(format!("{algorithm}-{name}.{suffix}"));
        let anchors = path("anchors", "pem");
        std::fs::write(&anchors, root.anchors().to_pem())?;
        std::fs::write(path("request", "csr"), request.to_pem())?;
        for (name, profile, chain) in made {
            let (file, between) = (path(name, "crt"), path(name, "chain"));
            std::fs::write(&file, chain.leaf().to_pem())?;
            let rest: String = chain.rest().iter().map(Certificate::to_pem).collect();
            std::fs::write(&between, rest)?;
            let purpose = match profile {
                _ if profile.is_ca() => "ca",
                _ if profile.is_server() => "server",
                Profile::OcspSigner => "ocsp",
                _ => "client",
            };
            println!("{} {purpose} {} {}", file.display(), between.display(), anchors.display());
        }
        Ok(())
    }
}

/// Names that suit the profile, of every form it allows.
fn subject_of(profile: Profile) -> Result<Subject, Box<dyn Error>> {
    let Some(kind) = profile.identity_kinds().first().copied() else {
        return Ok(Subject::new(format!("west {profile}")));
    };
    let identity = SpiffeId::new("demo.example".parse()?, kind, &"west".parse()?);
    let subject = Subject::new(format!("west {profile}")).with_identity(identity);
    if !profile.is_server() {
        return Ok(subject);
    }
    let hosts = ["west.example", "api.west.example", "localhost", "127.0.0.1", "2001:db8::1"];
    let hosts: Result<Vec<_>, _> = hosts.iter().map(|host| host.parse()).collect();
    Ok(subject.with_hosts(hosts?))
}
