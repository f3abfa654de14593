//! What is wrong with what somebody sends, whoever it is: the reasons that refused calls are counted by.

use std::fmt;

/// Why a call is refused for what it is, and not for whom it claims to come from.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Flaw {
    /// It cannot be read, or does not say whose it is.
    Malformed,
    /// Its sender has used up what he may send.
    OverQuota,
    /// A message, or its headers, are larger than any that is taken.
    TooLarge,
    /// A message that had begun did not come to its end in time.
    TooSlow,
    /// The token that is asked for is missing, or another.
    WrongToken,
}

impl Flaw {
    /// Every one.
    pub const ALL: [Self; 5] =
        [Self::Malformed, Self::OverQuota, Self::TooLarge, Self::TooSlow, Self::WrongToken];

    /// Its name in metrics and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::OverQuota => "over-quota",
            Self::TooLarge => "too-large",
            Self::TooSlow => "too-slow",
            Self::WrongToken => "wrong-token",
        }
    }

    /// What to do about whoever sends it.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::Malformed => {
                "look what runs there: an agent that speaks another protocol than this port's (`handfast collector \
                 status` shows which is which), a proxy that changes bytes, or no agent at all"
            }
            Self::OverQuota => {
                "find out why it reports so much (sampling at the agent, a loop in its program), or allow more: \
                 `quotas` of the Collector"
            }
            Self::TooLarge => {
                "let the agent send smaller messages (its batch or buffer size); 50 MiB, and 16 KiB of headers, is \
                 what any agent needs"
            }
            Self::TooSlow => {
                "look at the line between it and here; where it is good, somebody holds connections open on purpose"
            }
            Self::WrongToken => {
                "set `SW_AGENT_AUTHENTICATION` at the agent to the token of this collector; if no agent runs there, \
                 somebody is guessing"
            }
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
