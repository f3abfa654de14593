//! Things to store. They are not certificates: the store does not look inside.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use handfast_pki::{CredentialPem, Fingerprint, Name, Profile, RevocationReason};
use handfast_store::{Audience, Grant, Issued, IssuedBundle, Revocation, Stored, hash_code};
use jiff::Timestamp;

/// A credential whose three files carry the same number, and are large enough to be written in parts.
pub(crate) fn pem(number: u64) -> CredentialPem {
    let text = |file: &str| format!("{file} {number}\n").repeat(800);
    CredentialPem { tls_crt: text("crt"), tls_key: text("key").into(), ca_crt: text("ca") }
}

/// The number in a stored credential, after checking that all of its files are whole and agree.
pub(crate) fn number_in(stored: &Stored) -> u64 {
    let crt = String::from_utf8(stored.pem.tls_crt.clone().unwrap()).unwrap();
    let number = crt.split_whitespace().nth(1).unwrap().parse().unwrap();
    let expected = pem(number);
    assert_eq!(crt, expected.tls_crt);
    assert_eq!(stored.pem.tls_key.as_ref().unwrap().as_slice(), expected.tls_key.as_bytes());
    assert_eq!(stored.pem.ca_crt.as_deref().unwrap(), expected.ca_crt.as_bytes());
    number
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A supplied credential in plain files.
pub(crate) fn supply(directory: &Path, number: u64) {
    fs::create_dir_all(directory).unwrap();
    let pem = pem(number);
    for (file, text) in
        [("tls.crt", &pem.tls_crt), ("tls.key", &*pem.tls_key), ("ca.crt", &pem.ca_crt)]
    {
        fs::write(directory.join(file), text).unwrap();
    }
}

/// A supplied credential as Kubernetes mounts a Secret, or the next state of one: the old data goes
/// right after the switch.
pub(crate) fn mount_secret(directory: &Path, number: u64) {
    let data = format!("..2026_11_21_{number}");
    supply(&directory.join(&data), number);
    let before = fs::read_link(directory.join("..data")).ok();
    symlink(&data, directory.join("..data_tmp")).unwrap();
    fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    for file in ["tls.crt", "tls.key", "ca.crt"] {
        if !directory.join(file).is_symlink() {
            symlink(format!("..data/{file}"), directory.join(file)).unwrap();
        }
    }
    if let Some(before) = before {
        fs::remove_dir_all(directory.join(before)).unwrap();
    }
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// The code of every grant here.
pub(crate) const CODE: &[u8] = b"a code";

pub(crate) fn grant(id: &str, redemptions_allowed: u32) -> Grant {
    let salt = [3; 16];
    Grant {
        id: name(id),
        code_hash: hash_code(&salt, CODE),
        salt,
        redemptions_allowed,
        expires: at(900),
        cost: 1,
        audience: Audience::AnySite,
        created: at(0),
    }
}

pub(crate) fn bundle(number: u64) -> IssuedBundle {
    let mut fingerprint = [0; 32];
    fingerprint[..8].copy_from_slice(&number.to_be_bytes());
    IssuedBundle {
        issued: Issued {
            issuer_key_id: [1; 32],
            serial: format!("5a{number:030x}").parse().unwrap(),
            identity: None,
            names: vec!["east".to_owned()],
            profile: Profile::LinkClient,
            not_before: at(0),
            not_after: at(86_400),
            lineage: "grant/east".parse().unwrap(),
            fingerprint: Fingerprint(fingerprint),
            pem: format!("certificate {number}"),
        },
        chain_pem: format!("chain {number}"),
        anchors_pem: "anchors".to_owned(),
        context: String::new(),
    }
}

/// The revocation of the certificate in [`bundle`] of the same number.
pub(crate) fn revocation(number: u64) -> Revocation {
    let Issued { issuer_key_id, serial, identity, not_after, lineage, .. } = bundle(number).issued;
    Revocation {
        issuer_key_id,
        serial,
        reason: RevocationReason::KeyCompromise,
        at: at(20),
        not_after: Some(not_after),
        identity,
        lineage: Some(lineage),
    }
}
