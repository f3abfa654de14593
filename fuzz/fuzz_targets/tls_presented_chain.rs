//! What a hostile peer presents, explained: any list of certificates, any name, any reason.
#![no_main]

use handfast_tls::{Attempt, fault_of};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error};

fuzz_target!(|input: (u8, String, Vec<Vec<u8>>)| {
    let (reason, name, chain) = input;
    let reason = match reason % 9 {
        0 => CertificateError::BadEncoding,
        1 => CertificateError::BadSignature,
        2 => CertificateError::Expired,
        3 => CertificateError::InvalidPurpose,
        4 => CertificateError::NotValidForName,
        5 => CertificateError::NotValidYet,
        6 => CertificateError::Revoked,
        7 => CertificateError::UnhandledCriticalExtension,
        _ => CertificateError::UnknownIssuer,
    };
    let chain: Vec<CertificateDer<'_>> = chain.into_iter().map(Into::into).collect();
    let attempt = Attempt::client(name, Timestamp::UNIX_EPOCH);
    let fault = fault_of(&Error::from(reason), &attempt, Some(&chain));
    assert!(!fault.one_line().chars().any(char::is_control));
});
