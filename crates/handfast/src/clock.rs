//! The one place where the command line reads the time of day. Everything below takes it as a parameter.

use jiff::Timestamp;

/// Now, as the system clock has it.
#[expect(clippy::disallowed_methods, reason = "the edge of the program: here the clock is read")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
