//! The token that a backend asks for, in the header in which it looks for it.

use std::fmt;

use http::{HeaderName, HeaderValue, header};

/// What every call to a backend brings along.
#[derive(Clone, Eq, PartialEq)]
pub struct Authentication {
    name: HeaderName,
    value: HeaderValue,
}

impl Authentication {
    /// As an OAP looks for it: `authentication: TOKEN`. None where the token cannot stand in a header.
    pub fn token(token: &str) -> Option<Self> {
        Self::of(HeaderName::from_static("authentication"), token)
    }

    /// As collectors of OpenTelemetry look for it: `authorization: Bearer TOKEN`. A token that says its scheme itself
    /// (`Basic ...`) goes as it is.
    pub fn bearer(token: &str) -> Option<Self> {
        let says_scheme = token.split_once(' ').is_some_and(|(scheme, _)| {
            SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme))
        });
        if says_scheme {
            return Self::of(header::AUTHORIZATION, token);
        }
        Self::of(header::AUTHORIZATION, &format!("Bearer {token}"))
    }

    pub(super) fn header(&self) -> (HeaderName, HeaderValue) {
        (self.name.clone(), self.value.clone())
    }

    fn of(name: HeaderName, text: &str) -> Option<Self> {
        let mut value = HeaderValue::from_str(text).ok().filter(|value| !value.is_empty())?;
        value.set_sensitive(true);
        Some(Self { name, value })
    }
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: <redacted>", self.name)
    }
}

const SCHEMES: [&str; 2] = ["Basic", "Bearer"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_backend_finds_it_where_it_looks() {
        let said = |authentication: Option<Authentication>| {
            let (name, value) = authentication.expect("it can be sent").header();
            format!("{name}: {}", value.to_str().expect("visible"))
        };
        assert_eq!(said(Authentication::token("s3cret")), "authentication: s3cret");
        assert_eq!(said(Authentication::bearer("s3cret")), "authorization: Bearer s3cret");
        assert_eq!(said(Authentication::bearer("basic dTpw")), "authorization: basic dTpw");
        assert_eq!(said(Authentication::bearer("a b")), "authorization: Bearer a b");
        for bad in ["", "a\nb"] {
            assert_eq!(Authentication::token(bad), None);
        }
        let shown = format!("{:?}", Authentication::bearer("s3cret").expect("it can be sent"));
        assert_eq!(shown, "authorization: <redacted>");
    }
}
