//! The usual remedy of each code: something a person at 3 a.m. can type. `docs/faults.md` tells
//! the longer story.

use super::{FaultCode, Side};

/// The remedy for `code` when `side` has to act.
pub(super) fn usual(code: FaultCode, side: Side) -> &'static str {
    use FaultCode as C;
    let ours = side == Side::Ours;
    match code {
        C::AlpnMismatch => {
            "check that host and port belong to a handfast link and not to another service: \
             `handfast link status` here, `handfast status` there; upgrade the older side if both are handfast"
        }
        C::BadReport => {
            "the fault says who sends it and what is wrong with it: look what runs there, and at its agent's log for \
             the same moment; `handfast rollout status` shows how often it came"
        }
        C::BadSignature => {
            "the chain is damaged or was assembled from two CAs: run `handfast cert verify HOST:PORT` to see it, \
             then `handfast cert renew NAME` on the side that presents it"
        }
        C::CaAsLeaf => {
            "put the end-entity certificate first in `tls.crt` (leaf, then intermediates), or issue one \
             from this CA; `handfast cert show FILE` prints what is in the file"
        }
        C::ChainTooLong => {
            "send only leaf and intermediates in `tls.crt`, and let the CA of the leaf be one that its \
             issuer's path length allows; `handfast cert show FILE` lists them"
        }
        C::ConnectionReset => {
            "look at the other side's log for the same moment (its fault names the cause); if it has none, a \
             firewall or load balancer cuts the connection: try `handfast cert verify HOST:PORT` from both ends"
        }
        C::Expired if ours => {
            "run `handfast cert renew NAME` (managed) or replace the files under `input/certs/NAME/` (supplied); \
             check this machine's clock with `timedatectl`"
        }
        C::Expired => {
            "renew on the other side: `handfast cert renew NAME` there; a site whose link certificate has expired \
             needs a new token, `handfast token issue FILE --site NAME` here; if the certificate looks fresh, a \
             clock is wrong: compare `date -u` on both machines"
        }
        C::FileUnreadable => {
            "check that the file exists and that the node's user may read it: `ls -l DIRECTORY`; keys are \
             mode 0600 and belong to that user"
        }
        C::HandshakeFailed => {
            "run `handfast cert verify HOST:PORT` to repeat the handshake with all evidence, and read the other \
             side's log for the same moment"
        }
        C::HostNotFound => {
            "check the host name for typing errors and resolve it by hand: `getent hosts HOST`; or use the IP \
             address, which must then be in the server's certificate"
        }
        C::Http2Missing => {
            "turn HTTP/2 (ALPN `h2`) on at the other side, or dial its HTTP/2 port: `openssl s_client -alpn h2 \
             -connect HOST:PORT` shows what it offers"
        }
        C::KeyMismatch if ours => {
            "put the key that belongs to the certificate into `tls.key`: the outputs of `openssl x509 -in tls.crt \
             -noout -pubkey` and `openssl pkey -in tls.key -pubout` must be equal"
        }
        C::KeyMismatch => {
            "the other side does not hold the key of the certificate it shows: `tls.crt` and `tls.key` there differ; \
             `handfast cert renew NAME` there. If it is not misconfigured, it is an impostor"
        }
        C::MalformedCertificate => {
            "print it with `handfast cert show FILE` or `openssl x509 -in FILE -text -noout` and issue a \
             plain X.509 v3 certificate instead"
        }
        C::NameConstraint => {
            "issue the certificate from a CA whose name constraints allow its names: `handfast cert show FILE` \
             prints both"
        }
        C::NoCertificate if ours => {
            "give this side a client certificate: redeem a token with `handfast token redeem FILE`, or put \
             `tls.crt` and `tls.key` under `input/certs/NAME/`"
        }
        C::NoCertificate => {
            "if the other side is meant to connect, let it redeem a token (`handfast token issue FILE` here, \
             `handfast token redeem FILE` there); if it is a scanner or health check, point it at `/healthz`"
        }
        C::NoIdentity => {
            "issue the certificate with a SPIFFE ID as its one URI SAN; `handfast token redeem FILE` gets such a \
             certificate for a site"
        }
        C::NotPem => {
            "the file must hold PEM (`-----BEGIN CERTIFICATE-----` or a private key); convert DER with \
             `openssl x509 -inform DER -in FILE -out tls.crt` or `openssl pkey -inform DER -in FILE -out tls.key`"
        }
        C::NotYetValid => {
            "compare `date -u` on both machines and correct the clock that is wrong (`timedatectl set-ntp true`); \
             if both are right, issue the certificate anew"
        }
        C::PermissionDenied => {
            "use a port above 1023, or give the process the right to a low one (`setcap cap_net_bind_service=+ep \
             $(command -v handfast)`); check the owner of the files it uses"
        }
        C::PinMismatch if ours => {
            "name the fingerprint of the server's certificate: `handfast cert verify HOST:PORT` prints it"
        }
        C::PinMismatch => {
            "find out whether the server got a new certificate (`handfast cert verify HOST:PORT` prints its \
             fingerprint; compare it with its operator over another way), and put the new pin in place of the old one"
        }
        C::PlaintextToTls => {
            "let the client use TLS (`https://`, a TLS option), or point it at a plaintext port; from here, \
             `openssl s_client -connect HOST:PORT` shows that the port speaks TLS"
        }
        C::PortInUse => {
            "see who holds the port with `ss -ltnp 'sport = :PORT'`, stop it, or choose another port in the resource"
        }
        C::ProtocolMismatch => {
            "let both sides speak TLS 1.3: `openssl s_client -tls1_3 -connect HOST:PORT` shows whether the server \
             does; upgrade the older side, or choose a lower floor where the edge allows it"
        }
        C::ProtocolViolation => {
            "check that the address is right and that no proxy in between changes the bytes; try `handfast cert \
             verify HOST:PORT` from the other machine and report it if both sides are handfast"
        }
        C::RefusedByPeer => {
            "read the other side's log for the same moment: it knows the cause; `handfast cert show NAME` here \
             prints what we presented"
        }
        C::RevocationUnknown => {
            "put a fresh revocation list of the issuer beside `ca.crt` (`input/certs/NAME/ca.crl`; \
             `openssl crl -in ca.crl -noout -nextupdate` shows until when it holds), or drop \
             `revocation: require` from the resource's settings"
        }
        C::Revoked if ours => {
            "find out why it was revoked; then enrol anew: `handfast token issue FILE` at the issuing site, \
             `handfast token redeem FILE` here"
        }
        C::Revoked => {
            "the peer has to enrol anew with a fresh key: `handfast token issue FILE` here, `handfast token redeem \
             FILE` there"
        }
        C::TimedOut => {
            "check that the port is the right one and speaks TLS (`openssl s_client -connect HOST:PORT`), and that \
             no firewall drops packets (`nc -vz HOST PORT`)"
        }
        C::TlsToPlaintext => {
            "dial the port that speaks TLS (for a link, the site's link port: `handfast status` there prints it), \
             or turn TLS on at that port"
        }
        C::TwoUriSans => {
            "issue the certificate anew with exactly one URI SAN; `handfast cert show FILE` prints all of them"
        }
        C::UnknownIssuer => {
            "if the sites shall trust each other, link them: `handfast token issue FILE` at the listening site, \
             `handfast token redeem FILE` at the other; if the CA was replaced, redeem a new token; \
             else leave the stranger out"
        }
        C::Unreachable => {
            "check that the other node runs (`handfast status` there) and that the port is open from here: \
             `nc -vz HOST PORT`"
        }
        C::UnsupportedAlgorithm => {
            "issue the certificate with an ECDSA P-256 key and SHA-256; `handfast cert show FILE` prints the \
             algorithms in use"
        }
        C::V1Certificate => {
            "issue it anew as X.509 v3 with the right extended key usage: with OpenSSL, `openssl x509 -req` needs \
             `-extfile` (or `-copy_extensions copy`); the same request can be signed again"
        }
        C::WrongEku => {
            "use a certificate with `serverAuth` to accept connections and one with `clientAuth` to dial; \
             `handfast cert show FILE` prints the usage; issue the right one instead of sharing one"
        }
        C::WrongIdentity => {
            "check who is meant to connect: `handfast link status` shows the allowed identity; give the peer a token \
             of its own instead of another's credential"
        }
        C::WrongName => {
            "dial a name that the certificate carries, or add the name to the server: `handfast site create ... \
             --link-host NAME` (RouterAccess `subjectAlternativeNames`); its certificate is issued anew by itself"
        }
        C::WrongTrustDomain => {
            "the peer belongs to another trust domain: link to it by its own token (`handfast token redeem FILE`); \
             trust domains are never merged"
        }
    }
}
