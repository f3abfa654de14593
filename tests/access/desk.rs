//! A site that serves operators over its admin port, and operators of each role who type commands there.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use handfast_pki::{
    Chain, IdentityKind, IssueRequest, Issuer, KeyAlgorithm, Name, Overrun, PrivateKey, Profile,
    SpiffeId, Subject, SystemEntropy, TrustAnchors,
};
use handfast_testkit::eventually::{now, until};
use handfast_testkit::place::{Place, Ran, free_port};
use handfast_testkit::site::Site;

/// `west`, which serves operators, with a viewer (alice), an issuer (ivan), an operator (oscar), a
/// security admin (sam) and an auditor (audrey).
pub(crate) struct Desk {
    pub(crate) place: Place,
    pub(crate) west: Site,
    pub(crate) port: u16,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
        let mut west = place.site("west");
        let port = free_port();
        west.declare(
            "site.yaml",
            &format!(
                "apiVersion: handfast.dev/v1alpha1\nkind: Site\nmetadata: {{name: west}}\n\
                 spec: {{settings: {{trust-domain: demo.example, admin-port: \"{port}\"}}}}\n"
            ),
        );
        west.declare(
            "roles.yaml",
            &[
                policy("viewers", "viewer", "alice", ""),
                policy(
                    "web",
                    "issuer",
                    "ivan",
                    "identities: [\"spiffe://demo.example/component/web-*\"]",
                ),
                policy("operators", "operator", "oscar", ""),
                policy("admins", "security-admin", "sam", ""),
                policy("auditors", "auditor", "audrey", ""),
            ]
            .concat(),
        );
        west.start();
        let desk = Self { place, west, port };
        until("the admin port is open", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        desk
    }

    /// A certificate of the site's local CA, in a directory.
    pub(crate) fn certificate(
        &self,
        profile: Profile,
        identity: SpiffeId,
        life: Duration,
    ) -> PathBuf {
        let read = |name: &str| {
            fs::read(self.west.path(&format!("runtime/issuers/handfast-local-ca/{name}"))).unwrap()
        };
        let issuer = Issuer::from_parts(
            Chain::from_pem(&read("tls.crt")).unwrap(),
            PrivateKey::from_pem(&read("tls.key"), None).unwrap(),
            TrustAnchors::from_pem(&read("ca.crt")).unwrap(),
        )
        .unwrap();
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let name = identity.path().replace('/', "-");
        let subject = Subject::new(name.clone()).with_identity(identity);
        let request = IssueRequest::new(profile, subject, key.spki_der())
            .with_ttl(life)
            .with_overrun(Overrun::Truncate);
        let leaf = issuer.issue(&request, now(), &mut SystemEntropy).unwrap();
        let directory = format!("certificates/{name}-{}", life.as_secs());
        let file =
            |name: &str, content: String| self.place.write(&format!("{directory}/{name}"), content);
        file("tls.crt", issuer.chain_for(leaf).to_pem());
        file("tls.key", key.to_pkcs8_pem().to_string());
        file("ca.crt", issuer.anchors().to_pem()).parent().unwrap().to_owned()
    }

    pub(crate) fn operator(&self, name: &str) -> PathBuf {
        self.certificate(Profile::Operator, identity(IdentityKind::Operator, name), HOUR)
    }

    /// Types a command as the holder of a certificate, at the admin port.
    pub(crate) fn remotely(&self, certificate: &std::path::Path, line: &str) -> Ran {
        self.place.run(&format!(
            "--node https://127.0.0.1:{} --client-cert {} {line}",
            self.port,
            certificate.display()
        ))
    }

    /// Rows of the audit log with this outcome: actor, action, subject, detail.
    #[expect(clippy::print_stdout, reason = "a part that is skipped says so")]
    pub(crate) fn audit(&self, outcome: &str) -> Option<Vec<Vec<String>>> {
        let script = "import json, sqlite3, sys\n\
            db = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True, timeout=30)\n\
            rows = db.execute('SELECT actor, action, subject, detail FROM audit WHERE outcome = ? ORDER BY sequence', [sys.argv[2]])\n\
            print(json.dumps([list(row) for row in rows]))";
        let database = self.west.path("runtime/state.db");
        let ran = Command::new("python3").arg("-c").arg(script).arg(database).arg(outcome).output();
        let Ok(ran) = ran else {
            println!("skipped: no python3 to read the audit log with");
            return None;
        };
        assert!(ran.status.success(), "{ran:?}");
        Some(serde_json::from_slice(&ran.stdout).unwrap())
    }

    /// Why callers were refused at the admin port so far.
    pub(crate) fn refusals(&self) -> Vec<String> {
        let status = self.west.status();
        let refusals = status["refusals"].as_array().unwrap().iter();
        let here = refusals.filter(|one| one["on"] == "admin port");
        here.map(|one| one["fault"]["code"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn refused_at_the_port(&self, code: &str) {
        until(&format!("a refusal {code} is told"), || {
            self.refusals().iter().any(|told| told == code)
        });
    }
}

pub(crate) fn policy(name: &str, role: &str, operator: &str, more: &str) -> String {
    format!(
        "---\napiVersion: handfast.dev/v1alpha1\nkind: Policy\nmetadata: {{name: {name}}}\n\
         spec:\n  role: {role}\n  operators: [{operator}]\n  {more}\n"
    )
}

pub(crate) fn identity(kind: IdentityKind, name: &str) -> SpiffeId {
    let name: Name = name.parse().unwrap();
    SpiffeId::new("demo.example".parse().unwrap(), kind, &name)
}

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
