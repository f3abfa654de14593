//! The TLS 1.3 record layer for application data, on keys that rustls negotiated (RFC 8446 section 5).
//!
//! rustls 0.23 makes a vector for every record and copies it on the way out (twice) and in (once).
//! This one encrypts from the plaintext straight into the send buffer and decrypts in place. No key
//! updates, tickets or alerts: the spike never lives long enough to need them.

use std::ops::Range;

use aws_lc_rs::aead::UnboundKey;
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce};
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets};

const HEADER: usize = 5;
const TAG: usize = 16;
const APPLICATION_DATA: u8 = 23;
/// The most plaintext one record carries.
const FULL: usize = 16 * 1024;

pub struct Records {
    send: Direction,
    receive: Direction,
}

impl Records {
    pub fn new(secrets: ExtractedSecrets) -> Self {
        Self { send: Direction::new(secrets.tx), receive: Direction::new(secrets.rx) }
    }

    /// Bytes that `seal` writes for `plain` bytes.
    pub fn sealed_len(plain: usize) -> usize {
        plain + plain.div_ceil(FULL) * (HEADER + 1 + TAG)
    }

    pub fn seal(&mut self, plain: &[u8], out: &mut [u8]) -> usize {
        let mut at = 0;
        for part in plain.chunks(FULL) {
            let body = part.len() + 1 + TAG;
            let header = header(body);
            let (head, rest) = out[at..at + HEADER + body].split_at_mut(HEADER);
            head.copy_from_slice(&header);
            let (cipher, tail) = rest.split_at_mut(part.len());
            let nonce = self.send.nonce();
            self.send
                .key
                .seal_out_of_place_scatter(
                    nonce,
                    Aad::from(header),
                    part,
                    cipher,
                    &[APPLICATION_DATA],
                    tail,
                )
                .expect("sizes are right");
            at += HEADER + body;
        }
        at
    }

    /// Decrypts every whole record in `buffer` in place; `each` gets the plaintext's place in it.
    /// Answers how many bytes were used, or `None` when the peer sent anything but good data.
    pub fn open(&mut self, buffer: &mut [u8], mut each: impl FnMut(Range<usize>)) -> Option<usize> {
        let mut at = 0;
        while buffer.len() - at >= HEADER {
            let body = usize::from(u16::from_be_bytes([buffer[at + 3], buffer[at + 4]]));
            if buffer.len() - at - HEADER < body {
                break;
            }
            let header: [u8; HEADER] = buffer[at..at + HEADER].try_into().ok()?;
            let start = at + HEADER;
            let nonce = self.receive.nonce();
            let plain = self
                .receive
                .key
                .open_in_place(nonce, Aad::from(header), &mut buffer[start..start + body])
                .ok()?;
            let len = plain.iter().rposition(|byte| *byte != 0)?;
            if plain[len] != APPLICATION_DATA {
                return None;
            }
            each(start..start + len);
            at = start + body;
        }
        Some(at)
    }
}

struct Direction {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Direction {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Self {
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => panic!("a cipher suite this spike does not know"),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).expect("key length");
        let iv = iv.as_ref().try_into().expect("iv length");
        Self { key: LessSafeKey::new(key), iv, sequence }
    }

    /// RFC 8446 section 5.3: the sequence number, left-padded, xor the iv.
    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, sequence) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= sequence;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

fn header(body: usize) -> [u8; HEADER] {
    let [high, low] = u16::try_from(body).expect("a record").to_be_bytes();
    [APPLICATION_DATA, 3, 3, high, low]
}
