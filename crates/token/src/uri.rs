//! PKCS #11 URIs (RFC 7512): which module, which token, which key, and where the PIN is.
//!
//! The PIN itself is not accepted in a URI: URIs are copied, logged and shown.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A URI of one key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenUri {
    /// `module-path`: the library to load.
    pub module: PathBuf,
    /// `token`: the token's label.
    pub token: Option<String>,
    /// `serial`: the token's serial number.
    pub serial: Option<String>,
    /// `object`: the key's label.
    pub object: Option<String>,
    /// `id`: the key's identifier.
    pub id: Option<Vec<u8>>,
    /// `pin-source`: the file that holds the PIN.
    pub pin_source: Option<PathBuf>,
}

impl TokenUri {
    /// The longest URI read, in octets.
    pub const MAX: usize = 4096;

    /// The token, as a message names it.
    pub(crate) fn token_text(&self) -> String {
        match (&self.token, &self.serial) {
            (Some(label), _) => label.clone(),
            (None, Some(serial)) => format!("serial {serial}"),
            (None, None) => "any".to_owned(),
        }
    }

    /// The key, as a message names it.
    pub(crate) fn key_text(&self) -> String {
        let id = self.id.as_ref().map(|id| {
            let hex: Vec<_> = id.iter().map(|octet| format!("{octet:02x}")).collect();
            format!("id {}", hex.join(""))
        });
        let object = self.object.as_ref().map(|object| format!("object {object:?}"));
        let parts: Vec<_> = object.into_iter().chain(id).collect();
        parts.join(" ")
    }
}

impl FromStr for TokenUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        if text.len() > Self::MAX {
            return Err(UriError::TooLong { octets: text.len() });
        }
        let rest = text
            .get(..7)
            .filter(|scheme| scheme.eq_ignore_ascii_case("pkcs11:"))
            .and_then(|_| text.get(7..))
            .ok_or(UriError::Scheme)?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut read = Read::default();
        for attribute in path.split(';').filter(|each| !each.is_empty()) {
            read.path(attribute)?;
        }
        for attribute in query.split('&').filter(|each| !each.is_empty()) {
            read.query(attribute)?;
        }
        read.finish()
    }
}

/// A URI as it is being read: each attribute once.
#[derive(Default)]
struct Read {
    module: Option<String>,
    token: Option<String>,
    serial: Option<String>,
    object: Option<String>,
    id: Option<Vec<u8>>,
    pin_source: Option<String>,
}

impl Read {
    fn path(&mut self, attribute: &str) -> Result<(), UriError> {
        let (name, value) = pair(attribute)?;
        match name {
            "id" => once(&mut self.id, name, decoded(name, value)?),
            "object" => once(&mut self.object, name, text(name, value)?),
            "serial" => once(&mut self.serial, name, text(name, value)?),
            "token" => once(&mut self.token, name, text(name, value)?),
            "type" if value == "private" => Ok(()),
            "type" => Err(UriError::Type { value: value.to_owned() }),
            // They say more about the same token; label and serial number are enough.
            "manufacturer" | "model" => Ok(()),
            other => Err(UriError::Unknown { name: other.to_owned() }),
        }
    }

    fn query(&mut self, attribute: &str) -> Result<(), UriError> {
        let (name, value) = pair(attribute)?;
        match name {
            "module-path" => once(&mut self.module, name, text(name, value)?),
            "pin-source" => once(&mut self.pin_source, name, text(name, value)?),
            "pin-value" => Err(UriError::PinInUri),
            other => Err(UriError::Unknown { name: other.to_owned() }),
        }
    }

    fn finish(self) -> Result<TokenUri, UriError> {
        let pin_source = match self.pin_source.as_deref() {
            None => None,
            Some(source) => {
                let path = source.strip_prefix("file:").unwrap_or(source);
                // `file:///run/pin` as well as `file:/run/pin`.
                let path = path.strip_prefix("//").unwrap_or(path);
                if path.is_empty() || path.starts_with('|') {
                    return Err(UriError::PinSource { value: source.to_owned() });
                }
                Some(PathBuf::from(path))
            }
        };
        if self.object.is_none() && self.id.is_none() {
            return Err(UriError::NoKey);
        }
        if self.token.is_none() && self.serial.is_none() {
            return Err(UriError::NoToken);
        }
        Ok(TokenUri {
            module: self.module.map(PathBuf::from).ok_or(UriError::NoModule)?,
            token: self.token,
            serial: self.serial,
            object: self.object,
            id: self.id,
            pin_source,
        })
    }
}

impl fmt::Display for TokenUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in token `{}`", self.key_text(), self.token_text())
    }
}

fn pair(attribute: &str) -> Result<(&str, &str), UriError> {
    attribute.split_once('=').ok_or_else(|| UriError::Unknown { name: attribute.to_owned() })
}

fn once<T>(place: &mut Option<T>, name: &str, value: T) -> Result<(), UriError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(UriError::Twice { name: name.to_owned() }),
    }
}

fn text(name: &str, value: &str) -> Result<String, UriError> {
    String::from_utf8(decoded(name, value)?)
        .ok()
        .filter(|text| !text.contains('\0'))
        .ok_or_else(|| UriError::Encoding { name: name.to_owned() })
}

/// Percent-decoding (RFC 3986 section 2.1).
fn decoded(name: &str, value: &str) -> Result<Vec<u8>, UriError> {
    let bad = || UriError::Encoding { name: name.to_owned() };
    let mut out = Vec::with_capacity(value.len());
    let mut octets = value.bytes();
    while let Some(octet) = octets.next() {
        if octet != b'%' {
            out.push(octet);
            continue;
        }
        let mut digit = || {
            let digit = octets.next().map(char::from).and_then(|digit| digit.to_digit(16));
            digit.and_then(|digit| u8::try_from(digit).ok()).ok_or_else(bad)
        };
        out.push(digit()? << 4 | digit()?);
    }
    if out.is_empty() { Err(bad()) } else { Ok(out) }
}

/// What is wrong with a PKCS #11 URI.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum UriError {
    /// Broken percent-encoding, or not text.
    #[error("the value of `{name}` in the PKCS #11 URI is not percent-encoded text, or empty")]
    Encoding {
        /// The attribute.
        name: String,
    },
    /// No key is named.
    #[error("the PKCS #11 URI names no key: add `object=LABEL` or `id=%01`")]
    NoKey,
    /// No module is named.
    #[error(
        "the PKCS #11 URI names no module: add `?module-path=/usr/lib/softhsm/libsofthsm2.so`, with yours"
    )]
    NoModule,
    /// No token is named.
    #[error("the PKCS #11 URI names no token: add `token=LABEL` or `serial=NUMBER`")]
    NoToken,
    /// A secret where none belongs.
    #[error(
        "the PKCS #11 URI holds the PIN itself (`pin-value`), and URIs are copied and shown: write the PIN \
         into a file that only the node may read, and name it with `pin-source=file:/path`"
    )]
    PinInUri,
    /// Not a file.
    #[error("`pin-source={value}` in the PKCS #11 URI is no file: use `pin-source=file:/path`")]
    PinSource {
        /// What stands there.
        value: String,
    },
    /// Another scheme.
    #[error(
        "it is no PKCS #11 URI: write `pkcs11:token=LABEL;object=LABEL?module-path=FILE` (RFC 7512)"
    )]
    Scheme,
    /// Over [`TokenUri::MAX`].
    #[error("{octets} octets are too many for a PKCS #11 URI: 4096 at most")]
    TooLong {
        /// Its length.
        octets: usize,
    },
    /// An attribute twice.
    #[error("`{name}` stands twice in the PKCS #11 URI")]
    Twice {
        /// The attribute.
        name: String,
    },
    /// Not a private key.
    #[error(
        "`type={value}` in the PKCS #11 URI names something that cannot sign: leave it out, or write `type=private`"
    )]
    Type {
        /// What stands there.
        value: String,
    },
    /// An attribute that we cannot honour.
    #[error(
        "`{name}` in the PKCS #11 URI is not understood: use token, serial, object, id, type, module-path \
         and pin-source"
    )]
    Unknown {
        /// The attribute.
        name: String,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "pkcs11:token=site%20west;object=site-ca;id=%01%aB?module-path=/usr/lib/m.so&pin-source=file:/run/pin";

    #[test]
    fn a_uri_is_read() {
        let uri: TokenUri = GOOD.parse().unwrap();
        assert_eq!(uri.token.as_deref(), Some("site west"));
        assert_eq!(uri.object.as_deref(), Some("site-ca"));
        assert_eq!(uri.id.as_deref(), Some(&[1, 0xab][..]));
        assert_eq!(uri.module, PathBuf::from("/usr/lib/m.so"));
        assert_eq!(uri.pin_source, Some(PathBuf::from("/run/pin")));
        assert_eq!(uri.key_text(), "object \"site-ca\" id 01ab");
        let slashes = GOOD.replace("file:/run", "file:///run").parse::<TokenUri>().unwrap();
        assert_eq!(slashes, uri);
    }

    #[test]
    fn what_cannot_be_honoured_is_named() {
        let no = |text: &str| text.parse::<TokenUri>().unwrap_err();
        assert_eq!(no("https://x"), UriError::Scheme);
        assert_eq!(no("pkcs"), UriError::Scheme);
        assert_eq!(no("pkcs11:token=a;object=b"), UriError::NoModule);
        assert_eq!(no("pkcs11:token=a?module-path=/m"), UriError::NoKey);
        assert_eq!(no("pkcs11:object=a?module-path=/m"), UriError::NoToken);
        assert_eq!(no(&format!("{GOOD}&pin-value=1234")), UriError::PinInUri);
        assert_eq!(
            no(&GOOD.replace("file:/run/pin", "|cat%20x")),
            UriError::PinSource { value: "|cat x".to_owned() }
        );
        assert_eq!(no(&GOOD.replace("%01", "%0")), UriError::Encoding { name: "id".to_owned() });
        assert_eq!(
            no(&GOOD.replace("object=", "objekt=")),
            UriError::Unknown { name: "objekt".to_owned() }
        );
        assert_eq!(
            no(&GOOD.replace(";object", ";token=b;object")),
            UriError::Twice { name: "token".to_owned() }
        );
        assert!(matches!(no(&GOOD.replace(";object", ";type=cert;object")), UriError::Type { .. }));
        assert!(matches!(no(&"pkcs11:x".repeat(1000)), UriError::TooLong { .. }));
        assert!(!format!("{}", no(&format!("{GOOD}&pin-value=1234"))).contains("1234"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
            let _ = text.parse::<TokenUri>();
            let _ = format!("pkcs11:{text}").parse::<TokenUri>();
        }
    }
}
