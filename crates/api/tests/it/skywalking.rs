//! A relay's material: every combination of files, every form of key, and files that change underneath.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use handfast_api::skywalking::{
    AgentEnvironment, Material, MaterialFault, MaterialFiles, MaterialTrust, Seen, Sighted, Sought,
};
use handfast_pki::{Credential, IdentityKind, Profile, Subject};
use handfast_store::WatchSettings;
use handfast_testkit::authority::TestAuthority;
use handfast_testkit::openssl::OpenSsl;
use handfast_tls::SystemTrust;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::clients::{PATIENCE, now};

fn agent(authority: &TestAuthority) -> Credential {
    let identity = authority.identity(IdentityKind::Agent, "shop");
    authority.issue(Profile::Agent, Subject::new("shop").with_identity(identity))
}

fn system(authority: &TestAuthority) -> SystemTrust {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("bundle.crt");
    fs::write(&file, authority.anchors().to_pem()).expect("written");
    SystemTrust::read(Some(&file)).expect("a bundle")
}

/// How one file is found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum File {
    Broken,
    Good,
    Missing,
    MissingNamed,
    Unreadable,
}

const FILES: [File; 5] =
    [File::Broken, File::Good, File::Missing, File::MissingNamed, File::Unreadable];

fn sought(file: File, path: &str, good: &[u8]) -> Sought {
    let seen = match file {
        File::Broken => Seen::Content(Zeroizing::new(b"-----BEGIN NOTHING-----\n".to_vec())),
        File::Good => Seen::Content(Zeroizing::new(good.to_vec())),
        File::Missing | File::MissingNamed => Seen::Missing,
        File::Unreadable => Seen::Unreadable("permission denied".to_owned()),
    };
    Sought { path: path.into(), named: file == File::MissingNamed, seen }
}

/// What the table says, once more and in other words; where it is refused, the files that may be named for it.
fn expected(
    ca: File,
    key: File,
    chain: File,
    force: bool,
) -> Result<(&'static str, bool), Vec<&'static str>> {
    let all = [(ca, "ca.crt"), (key, "client.pem"), (chain, "client.crt")];
    let bad = all.iter().filter(|(file, _)| !matches!(file, File::Good | File::Missing));
    let bad: Vec<&str> = bad.map(|(_, path)| *path).collect();
    if !bad.is_empty() {
        return Err(bad);
    }
    let identity = match (key, chain) {
        (File::Good, File::Good) => true,
        (File::Missing, File::Missing) => false,
        (File::Good, _) => return Err(vec!["client.crt"]),
        _ => return Err(vec!["client.pem"]),
    };
    match (ca, force) {
        (File::Good, _) => Ok(("ca", identity)),
        (_, true) => Ok(("system", identity)),
        (_, false) if identity => Err(vec!["ca.crt"]),
        (_, false) => Ok(("plain", false)),
    }
}

#[test]
fn every_combination_of_files_is_what_the_table_says_and_never_less() {
    let authority = TestAuthority::new("demo.example", now());
    let pem = agent(&authority).to_pem();
    let system = system(&authority);
    let mut seen = 0;
    for ca in FILES {
        for key in FILES {
            for chain in FILES {
                for force_tls in [false, true] {
                    let environment = AgentEnvironment { force_tls, ..AgentEnvironment::default() };
                    let sighted = Sighted {
                        ca: sought(ca, "ca.crt", pem.ca_crt.as_bytes()),
                        key: sought(key, "client.pem", pem.tls_key.as_bytes()),
                        chain: sought(chain, "client.crt", pem.tls_crt.as_bytes()),
                    };
                    let case = format!("{ca:?} {key:?} {chain:?} {force_tls}");
                    let decided = Material::decide(&environment, &sighted, || Ok(system.clone()));
                    match (decided, expected(ca, key, chain, force_tls)) {
                        (Ok(material), Ok((trust, identity))) => {
                            let found = match &material.trust {
                                MaterialTrust::Ca(_) => "ca",
                                MaterialTrust::Plain => "plain",
                                MaterialTrust::System(_) => "system",
                            };
                            assert_eq!(
                                (found, material.identity.is_some()),
                                (trust, identity),
                                "{case}"
                            );
                        }
                        (Err(fault), Err(files)) => {
                            let said = fault.to_string();
                            assert!(files.iter().any(|file| said.contains(file)), "{case}: {said}");
                        }
                        (decided, expect) => panic!("{case}: {decided:?}, not {expect:?}"),
                    }
                    seen += 1;
                }
            }
        }
    }
    assert_eq!(seen, 250);
}

#[test]
fn what_could_never_be_shown_is_refused_before_it_is() {
    let authority = TestAuthority::new("demo.example", now());
    let other = agent(&authority).to_pem();
    let decide = |credential: &Credential, key: &str| {
        let pem = credential.to_pem();
        let key = if key.is_empty() { pem.tls_key.as_str() } else { key };
        let sighted = Sighted {
            ca: sought(File::Good, "ca.crt", pem.ca_crt.as_bytes()),
            key: sought(File::Good, "client.pem", key.as_bytes()),
            chain: sought(File::Good, "client.crt", pem.tls_crt.as_bytes()),
        };
        let environment = AgentEnvironment::default();
        Material::decide(&environment, &sighted, || panic!("the system is not asked"))
    };
    decide(&agent(&authority), "").expect("a good one");
    for (what, credential, key) in [
        ("another key", agent(&authority), other.tls_key.as_str()),
        ("version 1", authority.leaf("shop").version_1().build(), ""),
        ("a server's", authority.server("west", &["h"]), ""),
        ("a CA's", authority.leaf("shop").ca().build(), ""),
    ] {
        let fault = decide(&credential, key).expect_err(what);
        assert_eq!(fault.file(), Some(Path::new("client.crt")), "{what}: {fault}");
    }
}

#[test]
fn keys_are_read_in_every_form_that_agents_have_them() {
    let Some(openssl) = OpenSsl::find("keys of agents") else { return };
    openssl.must("genrsa -out rsa.key 2048");
    openssl.must("ecparam -genkey -name prime256v1 -noout -out ec.key");
    let authority = TestAuthority::new("demo.example", now());
    for (key, traditional) in [("rsa", "rsa"), ("ec", "ec")] {
        for (form, command) in [
            ("PKCS#8 PEM", format!("pkcs8 -topk8 -nocrypt -in {key}.key -out form")),
            ("PKCS#8 DER", format!("pkcs8 -topk8 -nocrypt -in {key}.key -outform DER -out form")),
            ("PKCS#1 or SEC1 PEM", format!("{traditional} -in {key}.key -traditional -out form")),
            (
                "PKCS#1 or SEC1 DER",
                format!("{traditional} -in {key}.key -outform DER -traditional -out form"),
            ),
        ] {
            // `openssl ec` writes the traditional form anyway, and knows no such word.
            let command = if key == "ec" { command.replace(" -traditional", "") } else { command };
            openssl.must(&command);
            openssl.must(&format!("req -new -key {key}.key -subj /CN=shop -out form.csr"));
            let csr = handfast_pki::Csr::from_pem(&openssl.read("form.csr")).expect("a request");
            let subject =
                Subject::new("shop").with_identity(authority.identity(IdentityKind::Agent, "shop"));
            let request = handfast_pki::IssueRequest::new(Profile::Agent, subject, csr.spki_der());
            let issuer = authority.site_ca();
            let leaf =
                issuer.issue(&request, now(), &mut handfast_pki::SystemEntropy).expect("a leaf");
            let sighted = Sighted {
                ca: sought(File::Good, "ca.crt", authority.anchors().to_pem().as_bytes()),
                key: sought(File::Good, "client.pem", &openssl.read("form")),
                chain: sought(File::Good, "client.crt", issuer.chain_for(leaf).to_pem().as_bytes()),
            };
            let decided = Material::decide(&AgentEnvironment::default(), &sighted, || {
                panic!("the system is not asked")
            });
            let material = decided.unwrap_or_else(|fault| panic!("{key} {form}: {fault}"));
            assert!(material.identity.is_some(), "{key} {form}");
        }
    }
}

/// Writes the three files as a mounted Secret has them: behind one link that is switched.
fn mount(folder: &Path, revision: &str, files: &[(&str, &str)]) {
    let data = folder.join(format!("..{revision}"));
    fs::create_dir_all(&data).expect("a directory");
    for (name, content) in files {
        fs::write(data.join(name), content).expect("written");
        let link = folder.join(name);
        if link.symlink_metadata().is_err() {
            symlink(Path::new("..data").join(name), link).expect("linked");
        }
    }
    symlink(format!("..{revision}"), folder.join("..tmp")).expect("linked");
    fs::rename(folder.join("..tmp"), folder.join("..data")).expect("switched");
}

#[tokio::test]
async fn files_that_change_are_taken_up_and_broken_ones_leave_the_last_good_one() {
    let authority = TestAuthority::new("demo.example", now());
    let place = tempfile::tempdir().expect("a directory");
    let folder = place.path().join("ca");
    fs::create_dir(&folder).expect("a directory");
    let (first, second) = (agent(&authority), agent(&authority));
    let put = |revision: &str, credential: &Credential, chain: &str| {
        let pem = credential.to_pem();
        mount(
            &folder,
            revision,
            &[("ca.crt", &pem.ca_crt), ("client.pem", &pem.tls_key), ("client.crt", chain)],
        );
    };
    put("1", &first, &first.to_pem().tls_crt);
    let patience = WatchSettings { settle: Duration::from_millis(20), ..WatchSettings::default() };
    let environment = AgentEnvironment::read(&BTreeMap::new()).expect("nothing");
    let files = MaterialFiles::open(place.path(), environment, patience).expect("good ones");
    let (mut live, mut fault) = (files.live(), files.fault());
    let shown = |material: &Material| material.identity.as_ref().expect("one").leaf().fingerprint();
    assert_eq!(shown(&live.borrow()), first.leaf().fingerprint());
    let stop = CancellationToken::new();
    let keeping = tokio::spawn(files.keep(stop.clone()));

    let wait = async |fault: &mut tokio::sync::watch::Receiver<Option<String>>, word: &str| {
        let said = fault.wait_for(|said| said.as_deref().is_some_and(|said| said.contains(word)));
        drop(tokio::time::timeout(PATIENCE, said).await.expect("in time").expect("it runs"));
    };
    // Broken: said, with the file, and not taken.
    put("2", &second, "-----BEGIN CERTIFICATE-----\n");
    wait(&mut fault, "client.crt").await;
    assert_eq!(shown(&live.borrow()), first.leaf().fingerprint());
    // Mended, by a switch of the link.
    put("3", &second, &second.to_pem().tls_crt);
    let taken = live.wait_for(|material| shown(material) == second.leaf().fingerprint());
    drop(tokio::time::timeout(PATIENCE, taken).await.expect("in time").expect("it runs"));
    assert_eq!(*fault.borrow(), None);
    // What vanishes turns nothing off: neither the certificate, nor TLS as a whole.
    fs::remove_file(folder.join("client.pem")).expect("removed");
    fs::remove_file(folder.join("client.crt")).expect("removed");
    wait(&mut fault, "the certificate that was in use is gone").await;
    fs::remove_file(folder.join("ca.crt")).expect("removed");
    wait(&mut fault, "TLS that was in use is gone").await;
    assert_eq!(shown(&live.borrow()), second.leaf().fingerprint());
    stop.cancel();
    keeping.await.expect("it ends");
}

#[test]
fn a_path_counts_from_the_folder_with_a_slash_in_front_too_and_what_is_named_must_be_there() {
    let authority = TestAuthority::new("demo.example", now());
    let place = tempfile::tempdir().expect("a directory");
    let open = |variables: &[(&str, &str)]| {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let environment = AgentEnvironment::read(&variables).expect("good ones");
        MaterialFiles::open(place.path(), environment, WatchSettings::default())
    };
    let plain = open(&[]).expect("nothing there");
    assert_eq!(plain.live().borrow().trust, MaterialTrust::Plain);
    let missing = open(&[("SW_AGENT_SSL_TRUSTED_CA_PATH", "/tls/root.crt")]).expect_err("missing");
    assert!(matches!(missing, MaterialFault::Missing { .. }), "{missing}");
    assert_eq!(missing.file(), Some(place.path().join("tls/root.crt").as_path()));
    fs::create_dir(place.path().join("tls")).expect("a directory");
    fs::write(place.path().join("tls/root.crt"), authority.anchors().to_pem()).expect("written");
    for path in ["/tls/root.crt", "tls/root.crt"] {
        let found = open(&[("SW_AGENT_SSL_TRUSTED_CA_PATH", path)]).expect(path);
        assert_eq!(found.live().borrow().trust, MaterialTrust::Ca(authority.anchors()));
    }
    let no_bundle =
        open(&[("SW_AGENT_FORCE_TLS", "true"), ("SSL_CERT_FILE", "/nowhere/bundle.crt")]);
    let fault = no_bundle.expect_err("no bundle");
    assert!(fault.to_string().contains("/nowhere/bundle.crt"), "{fault}");
}
