//! What is wrong with material that has been put together: missing parts, the lint of every
//! certificate in it, and the habits of the scripts it usually comes from.

use jiff::Timestamp;

use super::{Import, Remark};
use crate::{Certificate, LintContext, Purpose, Severity, TrustAnchors, lint, verify_chain};

impl Import {
    pub(super) fn diagnose(&mut self, now: Timestamp) {
        let Some(chain) = self.chain.clone() else {
            if !self.remarks.iter().any(|remark| remark.severity == Severity::Error) {
                self.error(
                    "no-certificate",
                    "the files",
                    "there is no certificate among them".to_owned(),
                    "give the certificate too; with only a key or a request, have one issued: handfast cert issue --csr FILE",
                );
            }
            return;
        };
        let leaf = chain.leaf();
        self.missing(leaf);
        self.same_name(&chain.iter().cloned().collect::<Vec<_>>());
        self.same_serial(leaf);
        self.linted(leaf, self.purpose, now);
        let above: Vec<Certificate> = chain
            .rest()
            .iter()
            .chain(self.anchors.iter().flat_map(TrustAnchors::iter))
            .filter(|certificate| *certificate != leaf)
            .cloned()
            .collect();
        for certificate in &above {
            self.linted(certificate, Purpose::Ca, now);
        }
        // What the lint has named already is not said in other words.
        let fine = !self.remarks.iter().any(|remark| remark.severity == Severity::Error);
        if let Some(anchors) = &self.anchors
            && fine
            && let Err(error) = verify_chain(&chain, anchors, self.purpose, now)
        {
            let what = error.to_string();
            self.error("chain", leaf.subject(), what, "give the certificates that belong together");
        }
        for certificate in std::mem::take(&mut self.unused) {
            self.say(
                Severity::Notice,
                "unrelated",
                certificate.subject(),
                "it has nothing to do with the rest, and is left out",
                "",
            );
            self.unused.push(certificate);
        }
    }

    fn missing(&mut self, leaf: &Certificate) {
        let mismatched = self
            .remarks
            .iter()
            .any(|remark| matches!(remark.code, "key-mismatch" | "encrypted-key" | "unusable-key"));
        if self.key.is_none() && !mismatched {
            if self.purpose == Purpose::Ca {
                self.say(
                    Severity::Notice,
                    "no-key",
                    leaf.subject(),
                    "without its key it can be trusted, and sign nothing",
                    "give the key too if it is to sign here",
                );
            } else {
                self.error(
                    "no-key",
                    leaf.subject(),
                    "its private key is not among the files".to_owned(),
                    "give the file with the key too",
                );
            }
        }
        let top = self.chain.as_ref().and_then(|chain| chain.iter().last()).cloned();
        let Some(top) = top else { return };
        let Some(anchors) = &self.anchors else {
            let kind = if top.is_ca() { "missing-intermediate" } else { "missing-issuer" };
            self.error(
                kind,
                top.subject(),
                format!("it is signed by {:?}, whose certificate is not among the files", top.issuer()),
                "give that certificate too: the CA has it (cfssl info, step ca root, vault read pki/cert/ca, or the ca.crt of the Secret)",
            );
            return;
        };
        if anchors.iter().any(|anchor| *anchor == top) && !top.is_self_signed() {
            let issuer = top.issuer().to_owned();
            self.say(
                Severity::Warning,
                "no-root",
                top.subject(),
                format!(
                    "the chain ends here: the root {issuer:?} is not among the files, so this CA itself is trusted"
                ),
                "give the root too, unless only this CA is to be trusted",
            );
        }
    }

    /// OpenSSL takes a certificate whose issuer bears its own name for self-signed.
    fn same_name(&mut self, chain: &[Certificate]) {
        let Some(leaf) = chain.first() else { return };
        if leaf.is_self_issued() && !leaf.is_self_signed() {
            self.say(
                Severity::Warning,
                "same-name-as-ca",
                leaf.subject(),
                "it bears the same name as the CA that signed it, so that many programs take it for self-signed",
                "give the CA a name of its own, and re-issue",
            );
        }
    }

    /// Scripts with `-set_serial 01` give every certificate the same number.
    fn same_serial(&mut self, leaf: &Certificate) {
        let twin = self
            .unused
            .iter()
            .find(|other| other.issuer() == leaf.issuer() && other.serial() == leaf.serial());
        if let Some(twin) = twin {
            let what = format!(
                "{:?} has the same issuer and serial number ({}): neither can be revoked without the other",
                twin.subject(),
                leaf.serial()
            );
            self.say(
                Severity::Warning,
                "same-serial",
                leaf.subject(),
                what,
                "re-issue both with random serials (openssl x509 -req without -set_serial)",
            );
        } else if leaf.serial().encoded_len() <= 2 {
            self.say(
                Severity::Notice,
                "small-serial",
                leaf.subject(),
                format!("its serial number ({}) was counted or set by hand", leaf.serial()),
                "nothing now; random serials cannot be used twice by mistake",
            );
        }
    }

    fn linted(&mut self, certificate: &Certificate, purpose: Purpose, now: Timestamp) {
        for finding in lint(certificate, LintContext { purpose, now }) {
            self.remarks.push(Remark {
                code: finding.code.as_str(),
                severity: finding.severity,
                place: certificate.subject().to_owned(),
                what: finding.what,
                remedy: finding.remedy,
            });
        }
    }

    fn error(&mut self, code: &'static str, place: &str, what: String, remedy: &str) {
        self.say(Severity::Error, code, place, what, remedy);
    }

    fn say(
        &mut self,
        severity: Severity,
        code: &'static str,
        place: &str,
        what: impl Into<String>,
        remedy: &str,
    ) {
        self.remarks.push(Remark {
            code,
            severity,
            place: place.to_owned(),
            what: what.into(),
            remedy: remedy.to_owned(),
        });
    }
}
