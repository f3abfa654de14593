//! The exit codes of the `handfast` command: one enum, documented in `docs/exit-codes.md`, which a test compares with it.
//!
//! What does not happen here: deciding which failure gets which code (see [`crate::failure`]).

/// How a `handfast` command ended, as the calling shell sees it.
///
/// The numbers are part of the interface: they never change meaning, new ones are added at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Everything that was asked for was done.
    Success = 0,
    /// The operation was understood and tried, and did not succeed.
    Failed = 1,
    /// The command line itself is wrong: unknown flag, missing argument, value out of range.
    Usage = 2,
    /// A file that was handed in (resource, certificate, key, token) is missing, unreadable as what it should be, or contradicts itself.
    BadInput = 3,
    /// No node runs on this home, or a node or host cannot be reached.
    NoNode = 4,
    /// The other side refused: token spent, expired or unknown, a TLS handshake that failed, or a policy that does not allow it.
    Refused = 5,
    /// The home, or the data directory of a collector or relay, cannot be used: another process holds it, or its permissions forbid it.
    Home = 6,
    /// Something did not happen within the time allowed.
    TimedOut = 7,
    /// A port that was asked for is taken by another program.
    PortInUse = 8,
    /// A command that asks a question found that the answer is no: nothing is due, nothing expires, somebody is not ready.
    No = 9,
    /// What was asked for waits for a second person: the two-person rule wants one.
    Waiting = 10,
    /// What was asked about is not there.
    NotFound = 11,
}

impl Exit {
    /// All codes, in numeric order.
    pub(crate) const ALL: [Self; 12] = [
        Self::Success,
        Self::Failed,
        Self::Usage,
        Self::BadInput,
        Self::NoNode,
        Self::Refused,
        Self::Home,
        Self::TimedOut,
        Self::PortInUse,
        Self::No,
        Self::Waiting,
        Self::NotFound,
    ];

    /// The number given to the shell.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    /// The stable word for the code, as it appears in `-o json` errors and in the documentation.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::BadInput => "bad-input",
            Self::Failed => "failed",
            Self::Home => "home",
            Self::No => "no",
            Self::NoNode => "no-node",
            Self::NotFound => "not-found",
            Self::PortInUse => "port-in-use",
            Self::Refused => "refused",
            Self::Success => "ok",
            Self::TimedOut => "timed-out",
            Self::Usage => "usage",
            Self::Waiting => "waiting",
        }
    }

    /// One sentence for people.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::BadInput => {
                "A file that was handed in (resource, certificate, key, token) is missing, unreadable or contradicts itself."
            }
            Self::Failed => "The operation was tried and did not succeed.",
            Self::Home => {
                "The home, or the data directory of a collector or relay, cannot be used: another process holds it, or its permissions forbid it."
            }
            Self::No => {
                "A command that asks a question found that the answer is no: nothing is due, nothing expires, somebody is not ready."
            }
            Self::NoNode => "No node runs on this home, or a node or host cannot be reached.",
            Self::NotFound => "What was asked about is not there.",
            Self::PortInUse => "A port that was asked for is taken by another program.",
            Self::Refused => {
                "The other side refused: token spent, expired or unknown, a TLS handshake that failed, or a policy that does not allow it."
            }
            Self::Success => "Everything that was asked for was done.",
            Self::TimedOut => "Something did not happen within the time allowed.",
            Self::Usage => {
                "The command line is wrong: unknown flag, missing argument, value out of range."
            }
            Self::Waiting => "It waits for a second person, who types `handfast approve`.",
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> String {
        let rows = Exit::ALL
            .map(|exit| format!("| {} | `{}` | {} |\n", exit.code(), exit.word(), exit.meaning()));
        format!("| Code | Word | Meaning |\n|---|---|---|\n{}", rows.concat())
    }

    #[test]
    fn the_documented_table_is_the_table_in_the_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/exit-codes.md");
        let page = std::fs::read_to_string(path).expect("docs/exit-codes.md is readable");
        assert!(
            page.contains(&table()),
            "docs/exit-codes.md has drifted; its table must be:\n{}",
            table()
        );
    }

    #[test]
    fn codes_are_numbered_without_gaps_and_words_are_unique() {
        let mut words = std::collections::BTreeSet::new();
        for (index, exit) in Exit::ALL.iter().enumerate() {
            assert_eq!(usize::from(exit.code()), index);
            assert!(words.insert(exit.word()), "{} appears twice", exit.word());
        }
    }
}
