//! What a command is about: a file, a TLS server, or a credential of this home.

use std::path::{Path, PathBuf};

/// What was named on the command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    File(PathBuf),
    Name(String),
    Server { host: String, port: u16 },
}

impl Target {
    /// A file that is there is meant as one; what ends with a port is a server.
    pub(super) fn of(text: &str) -> Self {
        if Path::new(text).is_file() {
            return Self::File(PathBuf::from(text));
        }
        match host_and_port(text) {
            Some((host, port)) => Self::Server { host: host.to_owned(), port },
            // Something with a slash is a path, and its absence is what is wrong.
            None if text.contains('/') => Self::File(PathBuf::from(text)),
            None => Self::Name(text.to_owned()),
        }
    }
}

/// Splits `host:port` and `[address]:port`. A name of a credential has no colon, so nothing is ambiguous.
pub(super) fn host_and_port(target: &str) -> Option<(&str, u16)> {
    let (host, port) = target.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then_some(())?;
    Some((host, port.parse().ok().filter(|port| *port > 0)?))
}

#[cfg(test)]
mod tests {
    use super::host_and_port;

    #[test]
    fn servers_are_told_from_names() {
        assert_eq!(host_and_port("localhost:443"), Some(("localhost", 443)));
        assert_eq!(host_and_port("[::1]:443"), Some(("::1", 443)));
        for other in ["handfast-site-server", ":443", "host:", "host:0", "host:70000", "a:b"] {
            assert_eq!(host_and_port(other), None, "{other}");
        }
    }
}
