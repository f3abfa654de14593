//! One session with a token, logged in, with the key found and proven.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use aws_lc_rs::{digest, rand};
use cryptoki::context::Pkcs11;
use cryptoki::error::RvError;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use handfast_pki::{KeyAlgorithm, PublicKey};

use crate::error::{TokenError, answer};
use crate::module::{Module, State};
use crate::pin;
use crate::uri::TokenUri;

/// A session that can sign with the key.
pub(crate) struct Open {
    module: Arc<Module>,
    generation: u64,
    /// Always there, until it is closed.
    session: Option<Session>,
    key: ObjectHandle,
    token: String,
}

impl Open {
    /// Opens a session, logs in, finds the key, and has it sign something that must verify.
    pub(crate) fn new(
        uri: &TokenUri,
        directory: &Path,
        expected: &PublicKey,
    ) -> Result<Self, TokenError> {
        let module = Module::at(&directory.join(&uri.module));
        let opened = {
            let state = module.using()?;
            let library = state.library().ok_or_else(|| gone(uri))?;
            let slot = slot(library, uri)?;
            let token = uri.token_text();
            offers(library, slot, &token, expected.algorithm())?;
            let session = logged_in(&module, &state, slot, uri, directory)?;
            let key = match find(&session, uri, ObjectClass::PRIVATE_KEY) {
                Ok(key) => key,
                Err(error) => {
                    close(session);
                    return Err(error);
                }
            };
            let generation = state.generation;
            Self { module: Arc::clone(&module), generation, session: Some(session), key, token }
        };
        opened.prove(uri, expected)?;
        Ok(opened)
    }

    /// Whether the session and the key are still there.
    pub(crate) fn check(&self, uri: &TokenUri) -> Result<(), TokenError> {
        let _state = self.current(uri)?;
        let session = self.session.as_ref().ok_or_else(|| gone(uri))?;
        session.get_session_info().map_err(|error| TokenError::of(&self.token, &error))?;
        find(session, uri, ObjectClass::PRIVATE_KEY).map(drop)
    }

    /// Signs, with the algorithm that goes with the key in certificates.
    pub(crate) fn sign(
        &self,
        uri: &TokenUri,
        algorithm: KeyAlgorithm,
        message: &[u8],
    ) -> Result<Vec<u8>, TokenError> {
        let _state = self.current(uri)?;
        let session = self.session.as_ref().ok_or_else(|| gone(uri))?;
        let raw = |mechanism: &Mechanism<'_>, data: &[u8]| {
            session
                .sign(mechanism, self.key, data)
                .map_err(|error| TokenError::of(&self.token, &error))
        };
        match algorithm {
            KeyAlgorithm::EcdsaP256 => {
                ecdsa_der(&raw(&Mechanism::Ecdsa, hash(&digest::SHA256, message).as_ref())?)
            }
            KeyAlgorithm::EcdsaP384 => {
                ecdsa_der(&raw(&Mechanism::Ecdsa, hash(&digest::SHA384, message).as_ref())?)
            }
            other if other.is_rsa() => {
                let mut info = SHA256_INFO.to_vec();
                info.extend_from_slice(hash(&digest::SHA256, message).as_ref());
                return raw(&Mechanism::RsaPkcs, &info);
            }
            other => return Err(TokenError::Unsupported { algorithm: other.to_string() }),
        }
        .ok_or_else(|| TokenError::Failed {
            token: self.token.clone(),
            what: "its signature has an odd length".to_owned(),
        })
    }

    /// The key must be the one of the certificate, and the token must really sign with it.
    fn prove(&self, uri: &TokenUri, expected: &PublicKey) -> Result<(), TokenError> {
        let mut challenge = b"handfast: is this the key of the certificate? ".to_vec();
        let mut nonce = [0; 32];
        let random = rand::fill(&mut nonce);
        if random.is_err() {
            // The question is then the same as before; the answer must verify all the same.
            tracing::debug!("no random number for the question to a token");
        }
        challenge.extend_from_slice(&nonce);
        let mismatch = || TokenError::Mismatch { token: self.token.clone(), key: uri.key_text() };
        match self.sign(uri, expected.algorithm(), &challenge) {
            Ok(signature) => expected.verify(&challenge, &signature).map_err(|_| mismatch()),
            Err(TokenError::Failed { what, .. }) if what.contains(WRONG_TYPE) => Err(mismatch()),
            Err(error) => Err(error),
        }
    }

    /// The library, if it is still the one that the session was opened with.
    fn current(&self, uri: &TokenUri) -> Result<std::sync::RwLockReadGuard<'_, State>, TokenError> {
        let state = self.module.using()?;
        if state.generation == self.generation { Ok(state) } else { Err(gone(uri)) }
    }

    /// Asks the module to look for tokens anew.
    pub(crate) fn restart_module(uri: &TokenUri, directory: &Path) -> bool {
        Module::at(&directory.join(&uri.module)).restart()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        match self.module.using() {
            Ok(state) if state.generation == self.generation => close(session),
            // Sessions of a module that was started anew since are gone, and their numbers may be others'; one that has
            // ended with the process must not be called at all. Dropping a session would call it.
            _ => std::mem::forget(session),
        }
    }
}

/// A session for reading what is public.
pub(crate) fn for_reading<T>(
    uri: &TokenUri,
    directory: &Path,
    read: impl FnOnce(&Session) -> Result<T, TokenError>,
) -> Result<T, TokenError> {
    let module = Module::at(&directory.join(&uri.module));
    let state = module.using()?;
    let library = state.library().ok_or_else(|| gone(uri))?;
    let slot = slot(library, uri)?;
    let session = logged_in(&module, &state, slot, uri, directory)?;
    let done = read(&session);
    close(session);
    done
}

/// The one object that the URI names.
pub(crate) fn find(
    session: &Session,
    uri: &TokenUri,
    class: ObjectClass,
) -> Result<ObjectHandle, TokenError> {
    let token = uri.token_text();
    let mut template = vec![Attribute::Class(class)];
    template.extend(uri.object.iter().map(|label| Attribute::Label(label.clone().into_bytes())));
    template.extend(uri.id.iter().map(|id| Attribute::Id(id.clone())));
    let found = session.find_objects(&template).map_err(|error| TokenError::of(&token, &error))?;
    match found.as_slice() {
        [one] => Ok(*one),
        [] => Err(TokenError::KeyMissing {
            what: if class == ObjectClass::PUBLIC_KEY { "public key" } else { "private key" },
            token,
            key: uri.key_text(),
        }),
        several => Err(TokenError::Ambiguous { token, key: uri.key_text(), count: several.len() }),
    }
}

fn close(session: Session) {
    if let Err(error) = session.close() {
        tracing::debug!(%error, "a session with a token did not close in order");
    }
}

fn slot(library: &Pkcs11, uri: &TokenUri) -> Result<Slot, TokenError> {
    let token = uri.token_text();
    let failed = |error| TokenError::of(&token, &error);
    let mut others = Vec::new();
    let mut fitting = Vec::new();
    for slot in library.get_slots_with_token().map_err(failed)? {
        // One that cannot be asked is not the one.
        let Ok(info) = library.get_token_info(slot) else { continue };
        let label = info.label().trim_end();
        let serial = info.serial_number().trim_end();
        if uri.token.as_deref().is_none_or(|wanted| wanted == label)
            && uri.serial.as_deref().is_none_or(|wanted| wanted == serial)
        {
            fitting.push(slot);
        } else if !label.is_empty() {
            others.push(format!("`{label}`"));
        }
    }
    match fitting.as_slice() {
        [one] => Ok(*one),
        [] => Err(TokenError::TokenMissing { token, others }),
        several => Err(TokenError::AmbiguousToken { wanted: token.clone(), count: several.len() }),
    }
}

/// Whether the token can sign as a CA with a key of this kind has to.
fn offers(
    library: &Pkcs11,
    slot: Slot,
    token: &str,
    algorithm: KeyAlgorithm,
) -> Result<(), TokenError> {
    let (wanted, name) = match algorithm {
        KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384 => (MechanismType::ECDSA, "CKM_ECDSA"),
        other if other.is_rsa() => (MechanismType::RSA_PKCS, "CKM_RSA_PKCS"),
        other => return Err(TokenError::Unsupported { algorithm: other.to_string() }),
    };
    let list = library.get_mechanism_list(slot).map_err(|error| TokenError::of(token, &error))?;
    let signs = list.contains(&wanted)
        && library.get_mechanism_info(slot, wanted).is_ok_and(|info| info.sign());
    if signs {
        return Ok(());
    }
    Err(TokenError::MechanismMissing {
        token: token.to_owned(),
        mechanism: name,
        algorithm: algorithm.to_string(),
    })
}

fn logged_in(
    module: &Module,
    state: &State,
    slot: Slot,
    uri: &TokenUri,
    directory: &Path,
) -> Result<Session, TokenError> {
    let token = uri.token_text();
    let failed = |error| TokenError::of(&token, &error);
    let library = state.library().ok_or_else(|| gone(uri))?;
    // One at a time: a wrong PIN must be tried once, not once per session.
    let mut refused = module.logins.lock().unwrap_or_else(PoisonError::into_inner);
    let info = library.get_token_info(slot).map_err(failed)?;
    let session = library.open_ro_session_no_drop(slot).map_err(failed)?;
    let entered = (|| {
        if !info.login_required() {
            return Ok(());
        }
        let Some(pin) = pin::read(uri, directory)? else {
            return Err(TokenError::PinNeeded { token: token.clone() });
        };
        let no = || TokenError::PinRefused {
            token: token.clone(),
            source_of_pin: uri.pin_source.as_ref().map_or_else(String::new, |source| {
                format!("`{}`", directory.join(source).display())
            }),
        };
        let before = refused.entry(token.clone()).or_default();
        if before.contains(&pin) {
            return Err(no());
        }
        if info.user_pin_locked() || info.user_pin_final_try() {
            return Err(TokenError::PinBlocked {
                token: token.clone(),
                locked: info.user_pin_locked(),
            });
        }
        let secret = cryptoki::types::AuthPin::from(pin.as_str());
        match session.login(UserType::User, Some(&secret)) {
            Ok(()) => Ok(()),
            Err(error) => match answer(&error) {
                // Login is for the whole process, and another session was faster.
                Some(RvError::UserAlreadyLoggedIn) => Ok(()),
                Some(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange) => {
                    before.push(pin);
                    Err(no())
                }
                Some(RvError::PinLocked) => {
                    Err(TokenError::PinBlocked { token: token.clone(), locked: true })
                }
                _ => Err(failed(error)),
            },
        }
    })();
    match entered {
        Ok(()) => Ok(session),
        Err(error) => {
            close(session);
            Err(error)
        }
    }
}

fn gone(uri: &TokenUri) -> TokenError {
    TokenError::Failed { token: uri.token_text(), what: "its module was started anew".to_owned() }
}

fn hash(algorithm: &'static digest::Algorithm, message: &[u8]) -> digest::Digest {
    digest::digest(algorithm, message)
}

/// From the two numbers side by side (PKCS #11) to a SEQUENCE of INTEGERs (RFC 3279 section 2.2.3).
fn ecdsa_der(raw: &[u8]) -> Option<Vec<u8>> {
    if raw.is_empty() || !raw.len().is_multiple_of(2) {
        return None;
    }
    let (r, s) = raw.split_at(raw.len() / 2);
    Some(yasna::construct_der(|writer| {
        writer.write_sequence(|numbers| {
            for number in [r, s] {
                numbers.next().write_bigint_bytes(number, true);
            }
        });
    }))
}

/// What modules answer when the key is of another type than the mechanism.
const WRONG_TYPE: &str = "KeyTypeInconsistent";

/// The DigestInfo of SHA-256, up to the hash (RFC 8017 section 9.2, note 1).
const SHA256_INFO: &[u8] = &[
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];
