//! The public half of a key, as its token tells it.

use std::path::Path;

use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass};
use handfast_pki::PublicKey;
use yasna::models::ObjectIdentifier;

use crate::error::TokenError;
use crate::session::{find, for_reading};
use crate::uri::TokenUri;

/// Reads the public key object beside the private key.
pub(crate) fn read(uri: &TokenUri, directory: &Path) -> Result<PublicKey, TokenError> {
    let token = uri.token_text();
    let spki = for_reading(uri, directory, |session| {
        let object = find(session, uri, ObjectClass::PUBLIC_KEY)?;
        let attributes = |kinds: &[AttributeType]| {
            session.get_attributes(object, kinds).map_err(|error| TokenError::of(&token, &error))
        };
        let kind = attributes(&[AttributeType::KeyType])?;
        match kind.first() {
            Some(Attribute::KeyType(KeyType::EC)) => {
                let found = attributes(&[AttributeType::EcParams, AttributeType::EcPoint])?;
                Ok(ec(&found))
            }
            Some(Attribute::KeyType(KeyType::RSA)) => {
                let found = attributes(&[AttributeType::Modulus, AttributeType::PublicExponent])?;
                Ok(rsa(&found))
            }
            other => Err(TokenError::Unsupported { algorithm: format!("the type {other:?}") }),
        }
    })?;
    let spki = spki.ok_or_else(|| TokenError::Failed {
        token: token.clone(),
        what: "it keeps a public key without its parts".to_owned(),
    })?;
    PublicKey::from_spki(&spki).map_err(|source| TokenError::PublicKey { token, source })
}

fn ec(attributes: &[Attribute]) -> Option<Vec<u8>> {
    let curve = attributes.iter().find_map(|each| match each {
        Attribute::EcParams(der) => Some(der),
        _ => None,
    })?;
    let point = attributes.iter().find_map(|each| match each {
        Attribute::EcPoint(der) => Some(der),
        _ => None,
    })?;
    // The standard wants an OCTET STRING; some tokens give the point itself.
    let point = yasna::decode_der::<Vec<u8>>(point).unwrap_or_else(|_| point.clone());
    Some(spki(&[1, 2, 840, 10_045, 2, 1], Some(curve), &point))
}

fn rsa(attributes: &[Attribute]) -> Option<Vec<u8>> {
    let modulus = attributes.iter().find_map(|each| match each {
        Attribute::Modulus(number) => Some(number),
        _ => None,
    })?;
    let exponent = attributes.iter().find_map(|each| match each {
        Attribute::PublicExponent(number) => Some(number),
        _ => None,
    })?;
    let key = yasna::construct_der(|writer| {
        writer.write_sequence(|numbers| {
            numbers.next().write_bigint_bytes(modulus, true);
            numbers.next().write_bigint_bytes(exponent, true);
        });
    });
    Some(spki(&[1, 2, 840, 113_549, 1, 1, 1], None, &key))
}

/// A SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7); without parameters they are NULL.
fn spki(algorithm: &[u64], parameters: Option<&[u8]>, key: &[u8]) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_sequence(|identifier| {
                identifier.next().write_oid(&ObjectIdentifier::from_slice(algorithm));
                match parameters {
                    Some(der) => identifier.next().write_der(der),
                    None => identifier.next().write_null(),
                }
            });
            writer.next().write_bitvec_bytes(key, key.len() * 8);
        });
    })
}
