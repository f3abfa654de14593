//! Keys of authorities on whole nodes: encrypted at rest, kept offline, kept in a token.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use handfast_pki::{
    IssueRequest, Issuer, KeyAlgorithm, PrivateKey, Profile, Subject, SystemEntropy,
};
use handfast_testkit::eventually::{eventually, now, until};
use handfast_testkit::openssl::OpenSsl;
use handfast_testkit::place::Place;
use handfast_testkit::site::Site;
use serde_json::Value;

fn place() -> Place {
    Place::new(env!("CARGO_BIN_EXE_handfast"))
}

fn secret(place: &Place, lines: &str) -> PathBuf {
    let path = place.write("key-file", lines);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("private");
    path
}

/// Every key file of an authority, previous revisions too.
fn key_files(home: &Path) -> Vec<String> {
    fn walk(directory: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let is_link = path.symlink_metadata().expect("there").is_symlink();
            if path.is_dir() && !is_link {
                walk(&path, found);
            } else if path.file_name().is_some_and(|name| name == "tls.key") && !is_link {
                found.push(fs::read_to_string(&path).expect("a key"));
            }
        }
    }
    let mut found = Vec::new();
    walk(&home.join("runtime/issuers"), &mut found);
    assert!(!found.is_empty());
    found
}

fn encrypted(home: &Path) -> usize {
    key_files(home).iter().filter(|text| text.contains("BEGIN ENCRYPTED PRIVATE KEY")).count()
}

fn problems(site: &Site) -> String {
    site.status()["problems"].to_string()
}

fn key_of(site: &Site, name: &str) -> Value {
    site.credential(name).unwrap_or_else(|| panic!("no {name}"))["key"].clone()
}

#[test]
fn keys_are_encrypted_changed_and_opened_again_and_nothing_is_made_without_the_secret() {
    let place = place();
    let mut west = place.west();
    west.start();
    until("a site CA", || west.credential("handfast-site-ca").is_some());
    assert_eq!(encrypted(west.home()), 0);
    assert_eq!(key_of(&west, "handfast-site-ca"), "plain");
    let no = west.refused("ca protect", 1);
    assert!(no.to_string().contains("key secret"), "{no}");
    let before = west.serial("handfast-site-ca");
    west.stop();

    let file = secret(&place, "a first secret of ours\n");
    west.set("HANDFAST_KEY_FILE", file.to_str().expect("text"));
    west.start();
    until("a hint", || problems(&west).contains("handfast ca protect"));
    let done = west.json("ca protect");
    assert!(done["changed"].to_string().contains("handfast-root"), "{done}");
    assert_eq!(encrypted(west.home()), key_files(west.home()).len());
    assert!(!problems(&west).contains("handfast ca protect"), "{}", problems(&west));
    assert_eq!(west.json("ca protect")["changed"], Value::Array(Vec::new()));
    assert_eq!(key_of(&west, "handfast-site-ca"), "encrypted");
    west.json("cert renew handfast-site-ca");
    assert_ne!(west.serial("handfast-site-ca"), before);
    assert_eq!(encrypted(west.home()), key_files(west.home()).len(), "a new key is encrypted too");

    // The secret is changed while the node runs; killed right after, both states open.
    secret(&place, "the second secret\na first secret of ours\n");
    west.json("ca protect");
    west.kill();
    secret(&place, "the second secret\n");
    west.start();
    let serial = west.serial("handfast-site-ca");
    assert_eq!(key_of(&west, "handfast-site-ca"), "encrypted");
    assert!(!problems(&west).contains("does not open it"), "{}", problems(&west));

    // With a wrong secret the CA is locked, named, and not replaced; leaves go on serving.
    secret(&place, "quite another secret\n");
    until("locked", || problems(&west).contains("does not open it"));
    let ca = west.credential("handfast-site-ca").expect("the CA");
    assert_eq!((&ca["state"], &ca["serial"]), (&"locked".into(), &serial.as_str().into()));
    let server = west.credential("handfast-site-server").expect("the server certificate");
    assert_eq!(server["state"], "valid");
    west.refused("ca protect", 1);
    let text = problems(&west);
    assert!(text.contains("handfast-site-ca/tls.key") && text.contains("--key-file"), "{text}");
    assert!(!text.contains("quite another") && !west.log().contains("quite another"), "{text}");

    secret(&place, "the second secret\n");
    until("open again", || !problems(&west).contains("does not open it"));
    assert_eq!(west.serial("handfast-site-ca"), serial);

    west.json("ca protect --off");
    assert_eq!(encrypted(west.home()), 0);
    west.stop();
}

/// A home whose root is somewhere else: (home, directory of the root).
fn with_offline_root(place: &Place) -> (Site, PathBuf) {
    let root = place.path("root");
    place.write("pass", "a passphrase for the root\n");
    place.run("ca create-root --out root --passphrase-file pass").ok();
    let west = place.west();
    west.write(
        "input/issuers/handfast-root/tls.crt",
        fs::read(root.join("tls.crt")).expect("root"),
    );
    (west, root)
}

#[test]
fn a_home_without_the_root_key_gets_its_cas_by_a_ceremony() {
    let place = place();
    let (mut west, root) = with_offline_root(&place);
    west.start();
    until("told what to do", || problems(&west).contains("handfast ca request"));
    assert_eq!(key_of(&west, "handfast-root"), "absent");
    let (request, answer) = (place.path("ca.csr"), place.path("ca.pem"));
    let made = west.json(&format!("ca request --out {}", request.display()));
    assert!(made["requests"].as_array().is_some_and(|all| all.len() >= 2), "{made}");
    let again = west.json(&format!("ca request --out {}", request.display()));
    assert_eq!(again["requests"][0]["keyId"], made["requests"][0]["keyId"], "the same key");

    // Nobody is asked without a terminal; the wrong passphrase and a tampered request are refused.
    place.run("ca sign ca.csr --issuer-dir root --passphrase-file pass --out ca.pem").exits(2);
    place.write("wrong", "not the passphrase\n");
    place
        .run("ca sign ca.csr --issuer-dir root --passphrase-file wrong --out ca.pem --yes")
        .exits(3);
    let text = fs::read_to_string(&request).expect("the requests");
    let at = text.find("REQUEST-----\n").expect("a request") + 90;
    let mut tampered = text.clone();
    tampered.replace_range(at..=at, if &text[at..=at] == "A" { "B" } else { "A" });
    place.write("tampered.csr", tampered);
    place
        .run("ca sign tampered.csr --issuer-dir root --passphrase-file pass --out t.pem --yes")
        .exits(3);
    assert!(!answer.exists() && !root.join("signed.jsonl").exists());

    place.run("ca sign ca.csr --issuer-dir root --passphrase-file pass --out ca.pem --yes").ok();
    let record = fs::read_to_string(root.join("signed.jsonl")).expect("a record");
    assert_eq!(record.lines().count(), made["requests"].as_array().map_or(0, Vec::len));

    // Somebody else's chain does not fit.
    place.run("ca create-root --out other --name other").ok();
    let no = west.refused(&format!("ca install {}", place.path("other/tls.crt").display()), 3);
    assert!(no.to_string().contains("waits here"), "{no}");

    west.json(&format!("ca install {}", answer.display()));
    until("served", || {
        west.credential("handfast-site-server").is_some_and(|one| one["state"] == "valid")
    });
    assert!(!problems(&west).contains("ca request"), "{}", problems(&west));
    let repeated = west.json(&format!("ca install {}", answer.display()));
    assert_eq!(repeated["installed"][0]["wasThere"], true);

    // A second ceremony, with a new key; the leaves go over to it.
    let serial = west.serial("handfast-site-server");
    west.json(&format!("ca request handfast-site-ca --out {}", place.path("2.csr").display()));
    place.run("ca sign 2.csr --issuer-dir root --passphrase-file pass --out 2.pem --yes").ok();
    west.json(&format!("ca install {}", place.path("2.pem").display()));
    until("renewed", || west.serial("handfast-site-server") != serial);
    let west_runs = west.runs();
    assert!(west_runs);
    west.stop();
}

#[test]
fn an_existing_ca_of_openssl_signs_our_site_ca() {
    let Some(openssl) = OpenSsl::find("an upstream CA") else { return };
    let place = place();
    openssl.must("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -keyout root.key -out root.crt -days 3650 -subj /C=DE/O=Shop/CN=Shop-Root -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign");
    openssl.file("int.ext", "basicConstraints=critical,CA:TRUE,pathlen:1\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n");
    openssl.must("req -new -newkey rsa:2048 -nodes -keyout int.key -out int.csr -subj /O=Shop/CN=Shop-Issuing");
    openssl.must("x509 -req -in int.csr -CA root.crt -CAkey root.key -CAcreateserial -days 1800 -extfile int.ext -out int.crt");
    let mut west = place.west();
    west.write("input/issuers/handfast-root/tls.crt", openssl.read("root.crt"));
    west.start();
    until("told what to do", || problems(&west).contains("handfast ca request"));
    let made = west.json(&format!("ca request --out {}", place.path("ca.csr").display()));
    let mut answer = Vec::new();
    let mut zero = Vec::new();
    for (number, one) in made["requests"].as_array().expect("requests").iter().enumerate() {
        let name = format!("{number}");
        openssl.file(&format!("{name}.csr"), one["csr"].as_str().expect("a request"));
        openssl.file("ca.ext", "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n");
        openssl.file("leaf.ext", "basicConstraints=critical,CA:FALSE\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n");
        openssl.must(&format!("x509 -req -in {name}.csr -CA int.crt -CAkey int.key -CAcreateserial -days 90 -extfile ca.ext -out {name}.crt"));
        openssl.must(&format!("x509 -req -in {name}.csr -CA int.crt -CAkey int.key -CAcreateserial -days 90 -extfile leaf.ext -out {name}-leaf.crt"));
        answer.extend(openssl.read(&format!("{name}.crt")));
        zero.extend(openssl.read(&format!("{name}-leaf.crt")));
    }
    let without = place.write("without.pem", &answer);
    let no = west.refused(&format!("ca install {}", without.display()), 3);
    assert!(no.to_string().contains("cannot be used"), "without the one between: {no}");
    zero.extend(openssl.read("int.crt"));
    let no = west.refused(&format!("ca install {}", place.write("leaf.pem", &zero).display()), 3);
    assert!(no.to_string().contains("no CA certificate"), "{no}");
    answer.extend(openssl.read("int.crt"));
    west.json(&format!("ca install {}", place.write("ca.pem", &answer).display()));
    until("served", || {
        west.credential("handfast-site-server").is_some_and(|one| one["state"] == "valid")
    });
    let chain = west.path("runtime/certs/handfast-site-server/tls.crt");
    openssl.file("server.crt", fs::read(chain).expect("a chain"));
    openssl.must("verify -x509_strict -CAfile root.crt -untrusted server.crt server.crt");
    west.stop();
}

/// An upstream CA of yesterday: its life was a day, and that is over.
fn expired_ca(place: &Place, directory: &str) -> Issuer {
    let then = now() - Duration::from_secs(2 * 86_400);
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("a key");
    let request = IssueRequest::new(Profile::Root, Subject::new("Shop upstream"), key.spki_der())
        .with_ttl(Duration::from_secs(86_400));
    let ca = Issuer::self_signed(&request, key.clone(), then, &mut SystemEntropy).expect("a CA");
    place.write(&format!("{directory}/tls.crt"), ca.chain().to_pem());
    let file = place.write(&format!("{directory}/tls.key"), key.to_pkcs8_pem().as_bytes());
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("private");
    ca
}

#[test]
fn an_upstream_ca_that_has_expired_signs_nothing_and_is_named_until_it_is_replaced() {
    let place = place();
    expired_ca(&place, "expired");
    let mut west = place.west();
    for file in ["tls.crt", "tls.key"] {
        let from = place.path("expired").join(file);
        west.write(&format!("input/issuers/handfast-root/{file}"), fs::read(from).expect("a CA"));
    }
    west.start();
    let problem = eventually("the expired CA to be named", || {
        let problems = west.status()["problems"].clone();
        let all = problems.as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| {
            one["message"]
                .as_str()
                .is_some_and(|what| what.contains("handfast-root") && what.contains("expired"))
        })
    });
    assert!(problem["remedy"].as_str().is_some_and(|text| !text.is_empty()), "{problem:#}");
    // Nothing is signed with it, so nothing is served: no port is open without a certificate.
    let status = west.status();
    assert!(status["problems"].to_string().contains("handfast-site-ca"), "{status:#}");
    for name in ["handfast-site-ca", "handfast-site-server"] {
        let credential = west.credential(name);
        assert!(credential.is_none_or(|one| one["serial"].is_null()), "{name} was made");
    }
    assert!(TcpStream::connect(("127.0.0.1", west.link_port())).is_err(), "an open link port");
    let check = west.run("check");
    assert!(check.code != 0 && check.stdout.contains("expired"), "{check:#?}");

    // The ceremony refuses it as well, on either side.
    let request = place.path("ca.csr");
    let mut offline = place.site("offline");
    offline.json("site create offline --trust-domain demo.example");
    place.run("ca create-root --out good").ok();
    let root = fs::read(place.path("good/tls.crt")).expect("a root");
    offline.write("input/issuers/handfast-root/tls.crt", root);
    offline.start();
    until("told what to do", || problems(&offline).contains("handfast ca request"));
    offline.json(&format!("ca request --out {}", request.display()));
    let no = place.run("ca sign ca.csr --issuer-dir expired --out no.pem --yes");
    assert!(no.code != 0 && no.stderr.contains("expired"), "{no:#?}");
    assert!(!place.path("no.pem").exists());
    let answer = place.path("expired/tls.crt");
    let no = offline.refused(&format!("ca install {}", answer.display()), 3);
    assert!(no["what"].is_string() && no["remedy"].is_string(), "{no:#}");
    offline.stop();

    // What somebody else's verifier would say, beforehand.
    let verdict = place.run("cert verify expired/tls.crt --ca expired/tls.crt");
    assert!(verdict.code != 0, "{verdict:#?}");
    assert!(format!("{}{}", verdict.stdout, verdict.stderr).contains("expired"), "{verdict:#?}");

    // A new one is laid in its place: taken up without a restart.
    for file in ["tls.key", "tls.crt"] {
        let from = place.path("good").join(file);
        west.write(&format!("input/issuers/handfast-root/{file}"), fs::read(from).expect("a CA"));
    }
    until("served", || {
        west.credential("handfast-site-server").is_some_and(|one| one["state"] == "valid")
    });
    until("nothing is wrong any more", || !problems(&west).contains("expired"));
    west.stop();
}

/// SoftHSM with one token and the key of a CA in it, made there; nothing if it is not installed.
fn soft_token(place: &Place) -> Option<(PathBuf, String)> {
    let module = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    let tools = ["softhsm2-util", "pkcs11-tool"]
        .iter()
        .all(|tool| Command::new(tool).arg("--help").output().is_ok());
    let module = module.filter(|_| tools)?;
    fs::create_dir(place.path("tokens")).expect("a directory");
    let conf = place.write(
        "softhsm2.conf",
        format!(
            "directories.tokendir = {}\nobjectstore.backend = file\n",
            place.path("tokens").display()
        ),
    );
    let pin = place.write("pin", "2407\n");
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).expect("private");
    for line in [
        "softhsm2-util --init-token --free --label west --so-pin 12345678 --pin 2407".to_owned(),
        format!(
            "pkcs11-tool --module {module} --token-label west --login --pin 2407 --keypairgen --key-type EC:prime256v1 --label site-ca --id 01"
        ),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let done = Command::new(words[0]).args(&words[1..]).env("SOFTHSM2_CONF", &conf).output();
        let done = done.expect("the tool starts");
        assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    }
    let uri = format!(
        "pkcs11:token=west;object=site-ca?module-path={module}&pin-source=file:{}",
        pin.display()
    );
    Some((conf, uri))
}

#[test]
fn a_site_ca_in_a_token_issues_and_is_missed_and_found_again() {
    let place = place();
    let Some((conf, uri)) = soft_token(&place) else {
        println!("skipped: softhsm2 or opensc is not installed (apt-get install softhsm2 opensc)");
        return;
    };
    let typed = |words: &[&str]| {
        let done = place.command(words).env("SOFTHSM2_CONF", &conf).output().expect("started");
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    typed(&["ca", "create-root", "--out", "root"]);
    typed(&["ca", "request", "--pkcs11", &uri, "--name", "west site CA", "--out", "ca.csr"]);
    typed(&["ca", "sign", "ca.csr", "--issuer-dir", "root", "--out", "ca.pem", "--yes"]);

    let mut west = place.west();
    for file in ["tls.crt", "tls.key"] {
        let from = place.path("root").join(file);
        west.write(&format!("input/issuers/handfast-root/{file}"), fs::read(from).expect("root"));
    }
    let ca = "input/issuers/handfast-site-ca";
    west.write(&format!("{ca}/tls.crt"), fs::read(place.path("ca.pem")).expect("a chain"));
    west.write(&format!("{ca}/ca.crt"), fs::read(place.path("root/tls.crt")).expect("a root"));
    west.write(&format!("{ca}/pkcs11.uri"), &uri);
    west.set("SOFTHSM2_CONF", conf.to_str().expect("text"));
    west.start();
    until("served", || {
        west.credential("handfast-site-server").is_some_and(|one| one["state"] == "valid")
    });
    assert_eq!(key_of(&west, "handfast-site-ca"), "token");
    let first = west.serial("handfast-site-server");
    west.json("cert renew handfast-site-server");
    let second = west.serial("handfast-site-server");
    assert_ne!(first, second);

    // Taken away: missed, and what was issued goes on serving.
    let (tokens, away) = (place.path("tokens"), place.path("away"));
    fs::rename(&tokens, &away).expect("taken away");
    fs::create_dir(&tokens).expect("an empty place");
    let told = eventually("the token to be missed", || {
        let text = problems(&west);
        text.contains("pkcs11.uri").then_some(text)
    });
    assert!(!told.contains("2407"), "{told}");
    let server = west.credential("handfast-site-server").expect("a server certificate");
    assert_eq!((&server["state"], &server["serial"]), (&"valid".into(), &second.as_str().into()));
    assert_eq!(west.credential("handfast-site-ca").expect("the CA")["state"], "locked");

    // Put back: found again, without a restart.
    fs::remove_dir(&tokens).or_else(|_| fs::remove_dir_all(&tokens)).expect("emptied");
    fs::rename(&away, &tokens).expect("put back");
    until("the token to be found", || !problems(&west).contains("pkcs11.uri"));
    west.json("cert renew handfast-site-server");
    until("renewed", || west.serial("handfast-site-server") != second);
    assert!(!west.log().contains("2407"));
    west.stop();
}
