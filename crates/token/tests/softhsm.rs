//! Keys in SoftHSM tokens: proven, signing in parallel and after a pause, refused with the right words (also
//! by a token that lacks the mechanism), and there again when the token is.
//!
//! SoftHSM finds its tokens by an environment variable, so that the cases run in a child process. With
//! `HANDFAST_TOKEN_IDLE=60` the pause is a minute long.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![expect(
    clippy::print_stdout,
    reason = "a test with a main function of its own reports by itself"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use handfast_pki::{
    IssueRequest, Issuer, KeyAlgorithm, PrivateKey, Profile, Signer, SigningKey, Subject,
    SystemEntropy,
};
use handfast_testkit::eventually::{now, within};
use handfast_token::{TokenError, TokenKeys, public_key};

const PIN: &str = "2407";
const MODULES: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];
/// Set in the child: where everything is.
const PLACE: &str = "HANDFAST_TOKEN_PLACE";
/// Set in the child whose tokens lack mechanisms.
const LACKING: &str = "HANDFAST_TOKEN_LACKING";
/// Set in the child that ends while its threads sign.
const ENDING: &str = "HANDFAST_TOKEN_ENDING";

fn main() -> ExitCode {
    if let Some(place) = std::env::var_os(PLACE) {
        let bench = Bench { place: PathBuf::from(place), module: module().unwrap() };
        let is_set = |name: &str| std::env::var_os(name).is_some();
        match (is_set(LACKING), is_set(ENDING)) {
            (true, _) => bench.lacking(),
            (_, true) => bench.signs_on(),
            _ => bench.run(),
        }
        bench.ends();
        return ExitCode::SUCCESS;
    }
    let tool = Command::new("softhsm2-util").arg("--version").output();
    let (Some(_), Ok(_)) = (module(), tool) else {
        println!("skipped: SoftHSM is not installed (apt-get install softhsm2)");
        return ExitCode::SUCCESS;
    };
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("tokens")).unwrap();
    let tokens = place.path().join("tokens").display().to_string();
    let conf = place.path().join("softhsm2.conf");
    let settings =
        format!("directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n");
    fs::write(&conf, &settings).unwrap();
    // The same tokens, by a module without what a CA signs with. (SoftHSM 2.6 passes over the first of
    // the list, so that is one that nobody needs.)
    let lacking = place.path().join("lacking.conf");
    fs::write(&lacking, format!("{settings}slots.mechanisms = -CKM_MD5,CKM_ECDSA,CKM_RSA_PKCS\n"))
        .unwrap();
    let mut cases = vec![(&conf, None), (&lacking, Some(LACKING))];
    cases.extend(std::iter::repeat_n((&conf, Some(ENDING)), ENDINGS));
    for (conf, case) in cases {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.env("SOFTHSM2_CONF", conf).env(PLACE, place.path());
        child.envs(case.map(|name| (name, "1")));
        let status = child.status().unwrap();
        if !status.success() {
            println!("{}: {status}", case.unwrap_or("the token"));
            return ExitCode::FAILURE;
        }
    }
    println!("ok: a process that ends while it signs ends in order, {ENDINGS} times");
    ExitCode::SUCCESS
}

fn module() -> Option<PathBuf> {
    MODULES.iter().map(PathBuf::from).find(|path| path.exists())
}

/// Where nobody ends the modules, one of them ends with SIGSEGV.
const ENDINGS: usize = 20;

struct Bench {
    place: PathBuf,
    module: PathBuf,
}

impl Bench {
    fn run(&self) {
        Self::util(&[
            "--init-token",
            "--free",
            "--label",
            "west",
            "--so-pin",
            "12345678",
            "--pin",
            PIN,
        ]);
        fs::write(self.pin_file(), format!("{PIN}\n")).unwrap();
        fs::set_permissions(self.pin_file(), fs::Permissions::from_mode(0o600)).unwrap();
        let p256 = self.import("site-ca", "01", KeyAlgorithm::EcdsaP256);
        let p384 = self.import("root", "02", KeyAlgorithm::EcdsaP384);
        let rsa = self.import("old", "03", KeyAlgorithm::Rsa2048);

        for (name, key) in [("site-ca", &p256), ("root", &p384), ("old", &rsa)] {
            self.issues(name, key);
        }
        self.parallel(&p256);
        self.idle(&p256);
        self.refusals(&p256, &p384);
        self.wrong_pin(&p256);
        self.removed_and_back(&p256);
    }

    /// Leaves threads behind that sign without a pause.
    fn signs_on(&self) {
        let public = public_key(&self.uri("old"), &self.place).unwrap();
        let signer = TokenKeys::default().signer(&self.uri("old"), &self.place, &public).unwrap();
        let (signed, seen) = std::sync::mpsc::channel();
        for number in 0..8_u8 {
            let (signer, signed) = (Arc::clone(&signer), signed.clone());
            std::thread::spawn(move || {
                while signer.sign(&[number; 100]).is_ok() && signed.send(number).is_ok() {}
            });
        }
        let mut all = BTreeSet::new();
        while all.len() < 8 {
            all.insert(seen.recv().unwrap());
        }
        // Threads that nobody hears stop by themselves.
        std::mem::forget(seen);
    }

    /// No call is under way when this returns and the process takes itself apart, and none begins.
    fn ends(&self) {
        assert!(handfast_token::end(Duration::from_secs(10)));
        let asked = public_key(&self.uri("site-ca"), &self.place);
        assert!(matches!(asked, Err(TokenError::Module { .. })), "{asked:?}");
    }

    fn pin_file(&self) -> PathBuf {
        self.place.join("pin")
    }

    fn uri(&self, object: &str) -> String {
        format!(
            "pkcs11:token=west;object={object}?module-path={}&pin-source=file:{}",
            self.module.display(),
            self.pin_file().display()
        )
    }

    fn util(arguments: &[&str]) {
        let done = Command::new("softhsm2-util").args(arguments).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// A key that is in the token, and here too, to compare with.
    fn import(&self, label: &str, id: &str, algorithm: KeyAlgorithm) -> PrivateKey {
        let key = PrivateKey::generate(algorithm).unwrap();
        let file = self.place.join(format!("{label}.key"));
        fs::write(&file, key.to_pkcs8_pem().as_bytes()).unwrap();
        Self::util(&[
            "--import",
            file.to_str().unwrap(),
            "--token",
            "west",
            "--label",
            label,
            "--id",
            id,
            "--pin",
            PIN,
        ]);
        fs::remove_file(file).unwrap();
        key
    }

    fn signer(&self, keys: &TokenKeys, object: &str, key: &PrivateKey) -> Arc<dyn Signer> {
        keys.signer(&self.uri(object), &self.place, key.public_key())
            .unwrap_or_else(|error| panic!("{object}: {error}"))
    }

    fn issues(&self, name: &str, key: &PrivateKey) {
        let keys = TokenKeys::default();
        let read = public_key(&self.uri(name), &self.place).unwrap();
        assert_eq!(read.spki_der(), key.spki_der(), "{name}");
        let signer = SigningKey::from(self.signer(&keys, name, key));
        let request = IssueRequest::new(Profile::Root, Subject::new("root"), signer.spki_der());
        let root = Issuer::self_signed(&request, signer, now(), &mut SystemEntropy).unwrap();
        let leaf = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let request = IssueRequest::new(Profile::SiteCa, Subject::new("site"), leaf.spki_der());
        let made = root.issue(&request, now(), &mut SystemEntropy).unwrap();
        made.verify_signed_by(root.certificate()).unwrap();
        println!("ok: {name} ({}) signs itself and another", key.algorithm());
    }

    fn parallel(&self, key: &PrivateKey) {
        let keys = TokenKeys::default();
        let signer = self.signer(&keys, "site-ca", key);
        let start = Instant::now();
        let signatures: BTreeSet<Vec<u8>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..64_u8)
                .map(|number| {
                    let signer = &signer;
                    scope.spawn(move || (number, signer.sign(&[number; 100]).unwrap()))
                })
                .collect();
            let done = threads.into_iter().map(|thread| thread.join().unwrap());
            done.map(|(number, signature)| {
                key.public_key().verify(&[number; 100], &signature).unwrap();
                signature
            })
            .collect()
        });
        assert_eq!(signatures.len(), 64);
        println!("ok: 64 parallel signatures in {} ms", start.elapsed().as_millis());
    }

    fn idle(&self, key: &PrivateKey) {
        let pause = std::env::var("HANDFAST_TOKEN_IDLE").ok().and_then(|text| text.parse().ok());
        let pause = Duration::from_secs(pause.unwrap_or(1));
        let keys = TokenKeys::default();
        let signer = self.signer(&keys, "site-ca", key);
        let before = signer.sign(b"before").unwrap();
        key.public_key().verify(b"before", &before).unwrap();
        std::thread::sleep(pause);
        for round in 0..16_u8 {
            let after = signer.sign(&[round]).unwrap();
            key.public_key().verify(&[round], &after).unwrap();
        }
        println!("ok: signs after a pause of {} s", pause.as_secs());
    }

    fn refusals(&self, key: &PrivateKey, other: &PrivateKey) {
        let keys = TokenKeys::default();
        let no = |uri: &str, expected: &PrivateKey| {
            keys.signer(uri, &self.place, expected.public_key()).unwrap_err()
        };
        let uri = self.uri("site-ca");
        assert!(matches!(no(&self.uri("nobody"), key), TokenError::KeyMissing { .. }));
        let missing = no(&uri.replace("token=west", "token=east"), key);
        assert!(
            matches!(&missing, TokenError::TokenMissing { others, .. } if others == &["`west`"]),
            "{missing:?}"
        );
        let module = no(&uri.replace("libsofthsm2.so", "no-such.so"), key);
        assert!(matches!(module, TokenError::Module { .. }), "{module:?}");
        // The certificate is for another key: of another kind, and of the same.
        assert!(matches!(no(&uri, other), TokenError::Mismatch { .. }));
        let same_kind = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        assert!(matches!(no(&uri, &same_kind), TokenError::Mismatch { .. }));
        let edwards = PrivateKey::generate(KeyAlgorithm::Ed25519).unwrap();
        assert!(matches!(no(&uri, &edwards), TokenError::Unsupported { .. }));
        let without = uri.split("&pin-source").next().unwrap();
        let needed = no(without, key);
        assert!(matches!(needed, TokenError::PinNeeded { .. }), "{needed:?}");
        let open = self.place.join("open-pin");
        fs::write(&open, PIN).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
        let text = no(&format!("{without}&pin-source=open-pin"), key).to_string();
        assert!(text.contains("everybody may read it") && !text.contains(PIN), "{text}");
        println!("ok: what cannot work is refused with its name");
    }

    /// The probe of what the token offers says what is missing, before anything is signed with it.
    fn lacking(&self) {
        let keys = TokenKeys::default();
        for (object, mechanism, kind) in [
            ("site-ca", "CKM_ECDSA", "ecdsa-p256"),
            ("root", "CKM_ECDSA", "ecdsa-p384"),
            ("old", "CKM_RSA_PKCS", "rsa-2048"),
        ] {
            let uri = self.uri(object);
            let public = public_key(&uri, &self.place).unwrap();
            let error = keys.signer(&uri, &self.place, &public).unwrap_err();
            assert!(matches!(error, TokenError::MechanismMissing { .. }), "{object}: {error:?}");
            let text = error.to_string();
            assert!(
                text.contains(mechanism) && text.contains(kind) && text.contains("`west`"),
                "{object}: {text}"
            );
        }
        println!("ok: a token without the mechanism is refused, and the mechanism is named");
    }

    /// A wrong PIN is tried once; then the token is left alone until the file is corrected.
    fn wrong_pin(&self, key: &PrivateKey) {
        Self::util(&[
            "--init-token",
            "--free",
            "--label",
            "guarded",
            "--so-pin",
            "12345678",
            "--pin",
            PIN,
        ]);
        let file = self.place.join("guarded.key");
        fs::write(&file, key.to_pkcs8_pem().as_bytes()).unwrap();
        Self::util(&[
            "--import",
            file.to_str().unwrap(),
            "--token",
            "guarded",
            "--label",
            "site-ca",
            "--id",
            "01",
            "--pin",
            PIN,
        ]);
        let wrong = self.place.join("wrong-pin");
        fs::write(&wrong, "0000").unwrap();
        fs::set_permissions(&wrong, fs::Permissions::from_mode(0o600)).unwrap();
        let uri = format!(
            "pkcs11:token=guarded;object=site-ca?module-path={}&pin-source=wrong-pin",
            self.module.display()
        );
        // The module has to see the new token first.
        let seen = within(Duration::from_secs(30), "the new token", || {
            let keys = TokenKeys::default();
            match keys.signer(&uri, &self.place, key.public_key()) {
                Err(TokenError::TokenMissing { .. }) => None,
                other => Some(other.map(drop)),
            }
        });
        assert!(matches!(seen, Err(TokenError::PinRefused { .. })), "{seen:?}");
        let tries = 40;
        for _ in 0..tries {
            let keys = TokenKeys::default();
            let again = keys.signer(&uri, &self.place, key.public_key()).unwrap_err();
            assert!(matches!(again, TokenError::PinRefused { .. }), "{again:?}");
        }
        fs::write(&wrong, PIN).unwrap();
        TokenKeys::default().signer(&uri, &self.place, key.public_key()).unwrap();
        println!("ok: asking {tries} times with a wrong PIN does not lock the token");
    }

    fn removed_and_back(&self, key: &PrivateKey) {
        let keys = TokenKeys::default();
        let signer = self.signer(&keys, "site-ca", key);
        signer.sign(b"there").unwrap();
        let (tokens, away) = (self.place.join("tokens"), self.place.join("away"));
        fs::rename(&tokens, &away).unwrap();
        fs::create_dir(&tokens).unwrap();
        let limit = Duration::from_secs(30);
        let gone = within(limit, "the key to be missed", || {
            keys.signer(&self.uri("site-ca"), &self.place, key.public_key()).err()
        });
        println!("ok: a token that was taken away is missed ({gone})");
        assert!(signer.sign(b"gone").is_err());
        back(&tokens, &away);
        within(limit, "the key to be there again", || {
            keys.signer(&self.uri("site-ca"), &self.place, key.public_key()).ok()
        });
        let signature = within(limit, "a signature", || signer.sign(b"back").ok());
        key.public_key().verify(b"back", &signature).unwrap();
        println!("ok: a token that was put back signs again, in the same process");
    }
}

fn back(tokens: &Path, away: &Path) {
    fs::remove_dir_all(tokens).unwrap();
    fs::rename(away, tokens).unwrap();
}
