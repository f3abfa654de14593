//! CRLs, PEM and DER: whatever is read can be listed, looked up and merged, is written back as it came, and is
//! never genuine.
#![no_main]

use handfast_pki::{Certificate, Crl, CrlSet, CrlView};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(lists) = Crl::read_all(bytes) else { return };
    let full = lists.iter().find(|crl| !crl.is_delta()).cloned();
    for crl in &lists {
        assert_eq!(Crl::from_der(crl.der()).as_ref(), Ok(crl));
        assert_eq!(Crl::read(crl.to_pem().as_bytes()).as_ref(), Ok(crl));
        let entries: Vec<_> = crl.entries().collect();
        assert!(entries.len() <= crl.len());
        for entry in entries.iter().take(8) {
            assert!(crl.is_delta() || crl.lookup(&entry.serial).is_some());
        }
        let _ = format!("{crl:?} {} {:?}", crl.number(), (crl.freshest(), crl.partition()));
        let view = full.clone().and_then(|full| CrlView::new(full).ok());
        if let Some(view) = view.and_then(|view| view.with_delta(crl.clone()).ok()) {
            let _ = entries.first().map(|entry| view.lookup(&entry.serial));
        }
    }
    // A list and a certificate in one input: never does one pass for the other's.
    if let Ok(certificate) = Certificate::from_der(bytes) {
        let _ = CrlSet::default().add(lists[0].clone(), &certificate);
    }
});
