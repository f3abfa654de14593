//! Revocation for who is not told by a link: CRLs, OCSP answers and staples of a real node, judged by OpenSSL.
//! Skipped, with one line, where there is no `openssl` command.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use handfast_pki::ocsp::{CertId, IdHash, OcspRequest};
use handfast_pki::{Certificate, Chain, Crl, CrlView};
use handfast_testkit::eventually::eventually;
use handfast_testkit::openssl::OpenSsl;
use handfast_testkit::place::{Place, free_port};
use handfast_testkit::site::Site;

/// A running site that hands revocation out, and what its server certificate points to.
struct West {
    openssl: OpenSsl,
    site: Site,
    port: u16,
    grant_port: u16,
    link_port: u16,
    leaf: Certificate,
    _place: Place,
}

impl West {
    fn start(test: &str) -> Option<Self> {
        let openssl = OpenSsl::find(test)?;
        let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
        let mut site = place.site("west");
        let (link_port, grant_port, port) = (free_port(), free_port(), free_port());
        site.json(&format!(
            "site create west --trust-domain demo.example --enable-link-access --link-host 127.0.0.1 \
             --link-port {link_port} --grant-port {grant_port} --revocation-port {port}"
        ));
        site.start();
        let file = site.path("runtime/certs/handfast-site-server/tls.crt");
        let chain = Chain::from_pem(&std::fs::read(file).unwrap()).unwrap();
        openssl.file("leaf.pem", chain.leaf().to_pem());
        let anchors = site.path("runtime/certs/handfast-site-server/ca.crt");
        openssl.file("root.pem", std::fs::read(anchors).unwrap());
        let leaf = chain.leaf().clone();
        Some(Self { openssl, site, port, grant_port, link_port, leaf, _place: place })
    }

    /// The path of a URL that must lead to this site's revocation port.
    fn path_of(&self, url: &str) -> String {
        let base = format!("http://127.0.0.1:{}", self.port);
        url.strip_prefix(&base).unwrap_or_else(|| panic!("{url} leads elsewhere")).to_owned()
    }

    /// The body of a successful GET, and its head.
    fn get(&self, path: &str) -> Option<(String, Vec<u8>)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        head.starts_with("HTTP/1.1 200 ").then(|| (head, answer[end + 4..].to_vec()))
    }

    fn issuer(&self) -> Certificate {
        let (head, der) = self.get(&self.path_of(&self.leaf.issuer_urls()[0])).unwrap();
        assert!(head.contains("application/pkix-cert"), "{head}");
        Certificate::from_der(der).unwrap()
    }

    fn list(&self, urls: &[String]) -> Crl {
        let (head, der) = self.get(&self.path_of(&urls[0])).unwrap();
        assert!(head.contains("application/pkix-crl"), "{head}");
        let crl = Crl::from_der(der).unwrap();
        assert_eq!(crl.verify_signed_by(&self.issuer()), Ok(()));
        crl
    }

    /// What `openssl ocsp` hears by POST.
    fn asked(&self, options: &str) -> String {
        self.openssl.must(&format!(
            "ocsp -issuer ca.pem {options} -cert leaf.pem -url {} -CAfile root.pem -verify_other ca.pem",
            self.leaf.ocsp_urls()[0]
        ))
    }
}

#[test]
fn a_node_hands_out_lists_and_answers_that_openssl_believes() {
    let Some(west) = West::start("CRLs and OCSP of a node") else { return };
    let ca = west.issuer();
    assert!(west.leaf.verify_signed_by(&ca).is_ok());
    west.openssl.file("ca.pem", ca.to_pem());

    let full = west.list(west.leaf.crl_urls());
    let delta = west.list(west.leaf.freshest_crl_urls());
    assert!(!full.is_delta() && delta.is_delta());
    assert!(CrlView::new(full.clone()).unwrap().with_delta(delta).is_ok());
    west.openssl.file("full.crl", full.der());
    let text = west.openssl.must("crl -in full.crl -inform DER -CAfile ca.pem -noout -text");
    assert!(text.contains("verify OK") && text.contains("Freshest CRL"), "{text}");
    let (_, by_name) = west.get("/crl/handfast-site-ca.crl").unwrap();
    assert_eq!(by_name, full.der(), "people may use the name");
    assert!(west.get("/crl/nobody.crl").is_none());

    for options in ["-sha1", "-sha256", "-sha1 -no_nonce", "-sha256 -no_nonce"] {
        let text = west.asked(options);
        assert!(text.contains("Response verify OK") && text.contains("leaf.pem: good"), "{text}");
    }
    // GET, as caches like it; OpenSSL judges the answer from a file.
    let request =
        OcspRequest { cert_id: CertId::new(IdHash::Sha1, &ca, west.leaf.serial()), nonce: None };
    west.openssl.file("request.der", request.to_der());
    let responder = west.path_of(&west.leaf.ocsp_urls()[0]);
    let raw = request.to_url_path().replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
    for path in [request.to_url_path(), raw] {
        let (head, der) = west.get(&format!("{responder}/{path}")).unwrap();
        assert!(head.contains("application/ocsp-response") && head.contains("max-age="), "{head}");
        west.openssl.file("response.der", der);
        let text = west.openssl.must(
            "ocsp -reqin request.der -respin response.der -CAfile root.pem -verify_other ca.pem -resp_text",
        );
        assert!(text.contains("Cert Status: good"), "{text}");
    }
}

#[test]
fn a_revocation_reaches_lists_answers_and_openssl_at_once() {
    let Some(west) = West::start("revocation for OpenSSL") else { return };
    west.openssl.file("ca.pem", west.issuer().to_pem());
    let base = west.list(west.leaf.crl_urls());
    west.openssl.file("base.crl", base.to_pem());
    for issuer in ["handfast-root", "handfast-root-delta"] {
        let (_, der) = west.get(&format!("/crl/{issuer}.crl")).unwrap();
        west.openssl.file(&format!("{issuer}.crl"), Crl::from_der(der).unwrap().to_pem());
    }
    let judge = |lists: &str| {
        let line = format!(
            "verify -x509_strict -crl_check_all -use_deltas -CAfile root.pem -untrusted ca.pem \
             -CRLfile handfast-root.crl -CRLfile handfast-root-delta.crl {lists} leaf.pem"
        );
        west.openssl.run(line.split_whitespace())
    };
    let before = judge("-CRLfile base.crl");
    assert!(before.ok, "{}", before.text);

    let serial = west.leaf.serial();
    west.site.run(&format!("cert revoke --serial {serial} --reason key-compromise --yes")).ok();
    let delta = eventually("the delta lists it", || {
        let delta = west.list(west.leaf.freshest_crl_urls());
        delta.lookup(serial).is_some().then_some(delta)
    });
    let full = west.list(west.leaf.crl_urls());
    assert!(full.lookup(serial).is_some() && full.number() > base.number());
    assert_eq!(delta.base_number(), Some(&base.number()));
    west.openssl.file("delta.crl", delta.to_pem());
    west.openssl.file("full.crl", full.to_pem());
    for lists in ["-CRLfile base.crl -CRLfile delta.crl", "-CRLfile full.crl"] {
        let after = judge(lists);
        assert!(!after.ok && after.text.contains("certificate revoked"), "{}", after.text);
    }
    let text = west.asked("-sha256");
    assert!(text.contains("leaf.pem: revoked") && text.contains("keyCompromise"), "{text}");

    // What our port presents now is another certificate, stapled with an answer of its own.
    let anchors = west.site.path("runtime/certs/handfast-site-server/ca.crt");
    eventually("the successor is presented, and good", || {
        let text = west.openssl.s_client(west.grant_port, &anchors, &["-status"]);
        let old = serial.to_string().to_uppercase();
        (text.contains("Cert Status: good") && !text.contains(&old)).then_some(())
    });
}

#[test]
fn the_responders_are_listed_and_measured_like_every_credential() {
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let mut west = place.site("west");
    let (link, grant, port, metrics) = (free_port(), free_port(), free_port(), free_port());
    west.json(&format!(
        "site create west --trust-domain demo.example --enable-link-access --link-host 127.0.0.1 \
         --link-port {link} --grant-port {grant} --revocation-port {port}"
    ));
    west.run_with(&["--metrics", &format!("127.0.0.1:{metrics}")]);
    west.start();
    let responder = eventually("the responder of the site CA is listed", || {
        west.credential("handfast-site-ca-ocsp")
    });
    for (field, value) in [("source", "memory"), ("key", "memory"), ("state", "valid")] {
        assert_eq!(responder[field], value, "{responder:#}");
    }
    for field in ["serial", "issuer", "notAfter", "renewAt"] {
        assert!(responder[field].is_string(), "{field}: {responder:#}");
    }
    let listed = west.run("cert list --expiring 2d").ok().stdout;
    assert!(listed.contains("handfast-local-ca-ocsp"), "{listed}");
    let mut stream = TcpStream::connect(("127.0.0.1", metrics)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    for metric in [
        "handfast_credential_not_after_timestamp_seconds{name=\"handfast-site-ca-ocsp\",source=\"memory\"}",
        "handfast_credential_renew_at_timestamp_seconds{name=\"handfast-site-ca-ocsp\",source=\"memory\"}",
        "handfast_credential_failures{name=\"handfast-site-ca-ocsp\"} 0",
        "handfast_credential_renewals_total{name=\"handfast-site-ca-ocsp\"} 1",
    ] {
        assert!(page.contains(metric), "{metric}:\n{page}");
    }
    let check = west.run("check").ok();
    assert!(check.stdout.contains("can be used"), "{check:#?}");
}

/// While a root is rotated our servers also show the new one as the old one certified it. Whoever trusts the new one needs
/// no word about that.
#[test]
fn a_server_is_known_to_be_good_while_its_root_is_rotated() {
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let mut west = place.site("west");
    let (link, grant, port) = (free_port(), free_port(), free_port());
    west.json(&format!(
        "site create west --trust-domain demo.example --enable-link-access --link-host 127.0.0.1 \
         --link-port {link} --grant-port {grant} --revocation-port {port}"
    ));
    west.start();
    let mut east = place.lone("east");
    east.start();
    place.link(&west, &east);
    east.stop();
    west.json("ca rotate root");
    eventually("the new root signs, and the old one drains", || {
        let keys = west.json("ca status root")[0]["keys"].clone();
        (keys[0]["state"] == "active" && keys[1]["state"] == "draining").then_some(())
    });
    let anchors = west.path("runtime/certs/handfast-site-server/ca.crt");
    let line = format!("cert verify 127.0.0.1:{grant} --ca {} --online", anchors.display());
    let verdict = eventually("the server shows the cross certificate", || {
        let verdict = west.run(&format!("{line} -o json")).ok().json();
        (verdict["certificates"].as_array().unwrap().len() == 3).then_some(verdict)
    });
    let findings = verdict["revocation"].as_array().unwrap();
    assert!(findings.iter().all(|one| one["status"] == "good"), "{verdict:#}");
    // The stapled one, and one for each of leaf and site CA.
    assert_eq!(findings.len(), 3, "{verdict:#}");
}

#[test]
fn our_listeners_staple_an_answer() {
    let Some(west) = West::start("stapled OCSP answers") else { return };
    let anchors = west.site.path("runtime/certs/handfast-site-server/ca.crt");
    let (admin, collector) = (free_port(), free_port());
    let file = site_file(&west.site);
    let text = std::fs::read_to_string(&file).unwrap();
    let settings = format!("settings:\n    admin-port: \"{admin}\"\n");
    assert!(text.contains("settings:\n"), "{text}");
    std::fs::write(&file, text.replacen("settings:\n", &settings, 1)).unwrap();
    west.site.json(&format!(
        "collector create telemetry --host 127.0.0.1 --hosts 127.0.0.1 --grpc-port {collector} --http-port 0"
    ));
    for port in [admin, collector] {
        eventually("the port is open", || TcpStream::connect(("127.0.0.1", port)).ok());
    }
    for (port, alpn) in [
        (west.grant_port, "http/1.1"),
        (west.link_port, "handfast-link/1"),
        (admin, "http/1.1"),
        (collector, "h2"),
    ] {
        // What is opened first is stapled to a moment later.
        eventually("an answer is stapled", || {
            let text = west.openssl.s_client(port, &anchors, &["-status", "-alpn", alpn]);
            text.contains("OCSP Response Status").then_some(())
        });
        let text = west.openssl.s_client(port, &anchors, &["-status", "-alpn", alpn]);
        assert!(text.contains("OCSP Response Status: successful (0x0)"), "{text}");
        assert!(text.contains("Cert Status: good"), "{text}");
        let without = west.openssl.s_client(port, &anchors, &["-alpn", alpn]);
        assert!(!without.contains("OCSP Response Status"), "{without}");
    }
}

#[test]
fn the_port_follows_the_resource() {
    let Some(west) = West::start("moving the revocation port") else { return };
    let file = access_file(&west.site);
    let text = std::fs::read_to_string(&file).unwrap();
    let other = free_port();
    std::fs::write(&file, text.replace(&west.port.to_string(), &other.to_string())).unwrap();
    eventually("the new port is open and the old one closed", || {
        let open = |port| TcpStream::connect(("127.0.0.1", port)).is_ok();
        (open(other) && !open(west.port)).then_some(())
    });
    let gone: String = text
        .lines()
        .filter(|line| !line.contains("revocation-port"))
        .fold(String::new(), |t, l| t + l + "\n");
    std::fs::write(&file, gone).unwrap();
    eventually("no port is open", || {
        TcpStream::connect(("127.0.0.1", other)).is_err().then_some(())
    });
}

fn access_file(site: &Site) -> std::path::PathBuf {
    file_with(site, "revocation-port:")
}

fn site_file(site: &Site) -> std::path::PathBuf {
    file_with(site, "kind: Site\n")
}

fn file_with(site: &Site, words: &str) -> std::path::PathBuf {
    std::fs::read_dir(site.path("input/resources"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| std::fs::read_to_string(path).unwrap().contains(words))
        .unwrap()
}
