//! What protocol the other end speaks, judged by its first bytes: enough to say "plaintext was
//! spoken to a TLS port" and by whom. It reads at most [`SNIFF_LIMIT`] bytes and never a secret.

use std::fmt;

/// More bytes than this tell nothing new.
pub const SNIFF_LIMIT: usize = 64;

/// The protocol that the first bytes of a connection belong to.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum FirstBytes {
    /// An AMQP protocol header.
    Amqp,
    /// Nothing was sent yet.
    Empty,
    /// An HTTP/1 request line.
    Http1Request,
    /// An HTTP/1 status line.
    Http1Response,
    /// The HTTP/2 connection preface without TLS (RFC 9113, section 3.4).
    Http2Preface,
    /// An HTTP/2 SETTINGS frame without TLS: how a plaintext HTTP/2 server greets.
    Http2Settings,
    /// A PROXY protocol header, version 1 or 2.
    ProxyHeader,
    /// A server greeting of the SMTP, FTP, POP3 or IMAP family.
    MailGreeting,
    /// Printable text of an unknown protocol.
    Text,
    /// A PostgreSQL start-up or SSLRequest packet.
    Postgres,
    /// A SOCKS 4 or 5 greeting.
    Socks,
    /// An SSH identification string (RFC 4253, section 4.2).
    Ssh,
    /// An SSL 2 client hello, as scanners and very old clients send it.
    Ssl2,
    /// A TLS alert record.
    TlsAlert,
    /// A TLS handshake record: a ClientHello or ServerHello.
    TlsHandshake,
    /// Bytes of no protocol known here.
    Unknown,
}

impl FirstBytes {
    /// True if the bytes could begin a TLS connection or an answer to one.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::TlsAlert | Self::TlsHandshake)
    }

    /// True if the bytes are certain not to be TLS.
    pub fn is_plaintext(self) -> bool {
        !matches!(self, Self::Empty | Self::TlsAlert | Self::TlsHandshake | Self::Unknown)
    }

    /// What to call it in a sentence.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Amqp => "AMQP without TLS",
            Self::Empty => "nothing",
            Self::Http1Request => "an HTTP/1 request without TLS",
            Self::Http1Response => "an HTTP/1 response without TLS",
            Self::Http2Preface => "HTTP/2 (or gRPC) without TLS",
            Self::Http2Settings => "an HTTP/2 (or gRPC) server without TLS",
            Self::MailGreeting => "a mail or FTP greeting without TLS",
            Self::Postgres => "a PostgreSQL start-up packet",
            Self::ProxyHeader => "a PROXY protocol header",
            Self::Socks => "a SOCKS greeting",
            Self::Ssh => "SSH",
            Self::Ssl2 => "SSL 2",
            Self::Text => "plain text",
            Self::TlsAlert => "a TLS alert",
            Self::TlsHandshake => "a TLS handshake",
            Self::Unknown => "bytes of an unknown protocol",
        }
    }
}

impl fmt::Display for FirstBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Judges the first bytes of a connection. A prefix of any length is fine; the answer gets
/// better with up to [`SNIFF_LIMIT`] bytes and never depends on more.
pub fn sniff(first: &[u8]) -> FirstBytes {
    let first = &first[..first.len().min(SNIFF_LIMIT)];
    match first {
        [] => FirstBytes::Empty,
        // TLSPlaintext: content type, then legacy version 0x03xx (RFC 8446, section 5.1).
        [0x16, 0x03, ..] | [0x16] => FirstBytes::TlsHandshake,
        [0x15, 0x03, ..] | [0x15] => FirstBytes::TlsAlert,
        [0x80..=0xff, _, 0x01, 0x00 | 0x02 | 0x03, ..] => FirstBytes::Ssl2,
        // Frame header: 24-bit length (a multiple of six), type 4, no flags or ACK, stream 0
        // (RFC 9113, sections 4.1 and 6.5).
        [0, 0, length, 4, 0 | 1, 0, 0, 0, 0, ..] if length % 6 == 0 => FirstBytes::Http2Settings,
        [0, 0, _, _, 0x00, 0x03, 0x00, 0x00, ..] | [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f, ..] => {
            FirstBytes::Postgres
        }
        [0x05, methods, rest @ ..] if *methods > 0 && rest.len() <= usize::from(*methods) => {
            FirstBytes::Socks
        }
        [0x04, 0x01 | 0x02, ..] => FirstBytes::Socks,
        _ => sniff_text(first),
    }
}

fn sniff_text(first: &[u8]) -> FirstBytes {
    let starts = |prefixes: &[&[u8]]| prefixes.iter().any(|prefix| first.starts_with(prefix));
    if starts(&[b"PRI * HTTP/2"]) {
        FirstBytes::Http2Preface
    } else if starts(&[b"HTTP/"]) {
        FirstBytes::Http1Response
    } else if starts(&[
        b"GET ",
        b"HEAD ",
        b"POST ",
        b"PUT ",
        b"DELETE ",
        b"OPTIONS ",
        b"PATCH ",
        b"CONNECT ",
        b"TRACE ",
    ]) {
        FirstBytes::Http1Request
    } else if starts(&[b"SSH-"]) {
        FirstBytes::Ssh
    } else if starts(&[b"AMQP"]) {
        FirstBytes::Amqp
    } else if starts(&[b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"]) {
        FirstBytes::ProxyHeader
    } else if starts(&[b"220 ", b"220-", b"+OK", b"* OK", b"EHLO ", b"HELO "]) {
        FirstBytes::MailGreeting
    } else if first.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\r' | b'\n' | b'\t')) {
        FirstBytes::Text
    } else {
        FirstBytes::Unknown
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{FirstBytes, SNIFF_LIMIT, sniff};

    #[test]
    fn knows_what_people_point_at_tls_ports() {
        for (bytes, expected) in [
            (&b""[..], FirstBytes::Empty),
            (b"\x16\x03\x01\x02\x00\x01", FirstBytes::TlsHandshake),
            (b"\x15\x03\x03\x00\x02\x02\x28", FirstBytes::TlsAlert),
            (b"GET / HTTP/1.1\r\n", FirstBytes::Http1Request),
            (b"HTTP/1.1 400 Bad Request\r\n", FirstBytes::Http1Response),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", FirstBytes::Http2Preface),
            (b"\0\0\x12\x04\0\0\0\0\0\0\x03", FirstBytes::Http2Settings),
            (b"SSH-2.0-OpenSSH_9.9\r\n", FirstBytes::Ssh),
            (b"AMQP\x03\x01\0\0", FirstBytes::Amqp),
            (b"220 mail ESMTP\r\n", FirstBytes::MailGreeting),
            (b"PROXY TCP4 192.0.2.1", FirstBytes::ProxyHeader),
            (b"\0\0\0\x08\x04\xd2\x16\x2f", FirstBytes::Postgres),
            (b"\x05\x01\x00", FirstBytes::Socks),
            (b"\x80\x2e\x01\x00\x02", FirstBytes::Ssl2),
            (b"hello\n", FirstBytes::Text),
            (b"\xff\xfe\0\0", FirstBytes::Unknown),
        ] {
            assert_eq!(sniff(bytes), expected, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_get_an_answer_that_depends_on_the_first_few_only(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            tail in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let verdict = sniff(&bytes);
            prop_assert!(!(verdict.is_tls() && verdict.is_plaintext()));
            if bytes.len() >= SNIFF_LIMIT {
                let longer: Vec<u8> = bytes.iter().chain(&tail).copied().collect();
                prop_assert_eq!(verdict, sniff(&longer));
            }
        }

        #[test]
        fn a_tls_record_is_never_called_plaintext(
            version in 0u8..5,
            rest in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let mut record = vec![0x16, 0x03, version];
            record.extend(rest);
            prop_assert!(sniff(&record).is_tls());
        }
    }
}
