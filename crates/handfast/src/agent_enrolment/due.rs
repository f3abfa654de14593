//! What an agent's enrolment has to do next. Pure: what is held, what went wrong, and the time.

use handfast_authority::{renew_at, retry_at};
use handfast_pki::Fingerprint;
use jiff::Timestamp;

/// The certificate in use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    pub(super) fingerprint: Fingerprint,
}

/// What is known before deciding.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    pub(super) held: Option<Held>,
    /// Whether there is a token to redeem, and whether it is another one than was redeemed last.
    pub(super) token: bool,
    pub(super) token_is_new: bool,
    /// Failures in a row, and the last of them.
    pub(super) failures: u32,
    pub(super) failed_at: Option<Timestamp>,
    /// Whether the last renewal was refused for good: revoked, or not enrolled.
    pub(super) refused: bool,
    /// Whether somebody wants a new certificate before its time.
    pub(super) hastened: bool,
    /// When the site that it is enrolled with said to renew, if it is in a hurry.
    pub(super) hinted: Option<Timestamp>,
    /// When it is asked about that next, if it is.
    pub(super) ask_at: Option<Timestamp>,
}

/// What to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Due {
    /// Ask when to renew.
    Ask,
    /// Nothing can be done before somebody brings a token.
    NeedsToken,
    /// Nothing before this moment.
    Nothing(Timestamp),
    /// Redeem the token.
    Redeem,
    /// Ask for a new certificate with the one in hand.
    Renew,
}

pub(super) fn due(known: &Known, now: Timestamp) -> Due {
    let held = known.held.filter(|held| now < held.not_after);
    let Some(held) = held else {
        return match (known.token, again_at(known, None)) {
            (false, _) => Due::NeedsToken,
            (true, Some(at)) if now < at => Due::Nothing(at),
            (true, _) => Due::Redeem,
        };
    };
    // Somebody brought another token because the enrolment ended.
    let anew = known.refused && known.token_is_new;
    let usual = renew_at(held.not_before, held.not_after, held.fingerprint.as_bytes());
    // Whoever was told that his enrolment has ended has nothing to wait for.
    let hurries = known.hastened || known.refused;
    let first = if hurries { now } else { known.hinted.map_or(usual, |hinted| hinted.min(usual)) };
    let again = match (known.refused, anew) {
        // Asking more often would change nothing; another token might.
        (true, false) => known.failed_at.map(|last| retry_at(u32::MAX, last, None)),
        (true, true) => again_at(known, None),
        (false, _) => again_at(known, Some(held.not_after)),
    };
    let at = again.map_or(first, |again| again.max(first));
    match (now < at, anew) {
        (true, _) => match known.ask_at.filter(|_| !known.refused) {
            Some(ask_at) if ask_at <= now => Due::Ask,
            Some(ask_at) => Due::Nothing(at.min(ask_at)),
            None => Due::Nothing(at),
        },
        (false, true) => Due::Redeem,
        (false, false) => Due::Renew,
    }
}

fn again_at(known: &Known, not_after: Option<Timestamp>) -> Option<Timestamp> {
    let last = known.failed_at?;
    (known.failures > 0).then(|| retry_at(known.failures, last, not_after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn held() -> Held {
        let fingerprint = Fingerprint([7; 32]);
        Held { not_before: at(-60), not_after: at(86_400), fingerprint }
    }

    #[test]
    fn who_is_in_a_hurry_renews_at_once_but_not_again_at_once() {
        let known = Known { held: Some(held()), hastened: true, ..Known::default() };
        assert_eq!(due(&known, at(0)), Due::Renew);
        let failed = Known { failures: 1, failed_at: Some(at(0)), ..known };
        assert!(matches!(due(&failed, at(0)), Due::Nothing(again) if again > at(0)));
        let refused = Known { refused: true, ..failed };
        assert!(matches!(due(&refused, at(1)), Due::Nothing(_)));
    }

    #[test]
    fn without_a_certificate_the_token_is_redeemed_and_tried_again_later() {
        let known = Known { token: true, ..Known::default() };
        assert_eq!(due(&known, at(0)), Due::Redeem);
        assert_eq!(due(&Known::default(), at(0)), Due::NeedsToken);
        let failed = Known { failures: 3, failed_at: Some(at(0)), ..known };
        assert_eq!(due(&failed, at(1)), Due::Nothing(at(8)));
        assert_eq!(due(&failed, at(8)), Due::Redeem);
        // However often it failed, a minute is the longest.
        let failed = Known { failures: 40, failed_at: Some(at(0)), ..known };
        assert_eq!(due(&failed, at(1)), Due::Nothing(at(60)));
    }

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_life_give_or_take() {
        let known = Known { held: Some(held()), ..Known::default() };
        let Due::Nothing(first) = due(&known, at(0)) else { panic!("too early") };
        assert!(first >= at(51_840) && first <= at(63_360), "{first}");
        assert_eq!(due(&known, first), Due::Renew);
        let failed = Known { failures: 1, failed_at: Some(first), ..known };
        assert!(matches!(due(&failed, first), Due::Nothing(again) if again > first));
        // A token that lies there is for the day when there is nothing to renew with.
        let known = Known { token: true, token_is_new: true, ..known };
        assert_eq!(due(&known, first), Due::Renew);
        assert_eq!(due(&known, at(86_400)), Due::Redeem);
    }

    #[test]
    fn what_was_said_hastens_a_renewal_and_does_not_delay_it() {
        let known = Known { held: Some(held()), hinted: Some(at(100)), ..Known::default() };
        assert_eq!(due(&known, at(99)), Due::Nothing(at(100)));
        assert_eq!(due(&known, at(100)), Due::Renew);
        // A failure is waited out all the same.
        let failed = Known { failures: 1, failed_at: Some(at(100)), ..known };
        assert!(matches!(due(&failed, at(100)), Due::Nothing(again) if again > at(100)));
        let late = Known { hinted: Some(at(86_399)), ..known };
        assert!(matches!(due(&late, at(99)), Due::Nothing(at) if at < self::at(63_361)));
        assert_eq!(due(&late, at(63_361)), Due::Renew);
    }

    #[test]
    fn it_is_asked_while_nothing_else_is_due_and_by_nobody_who_was_refused() {
        let known = Known { held: Some(held()), ask_at: Some(at(600)), ..Known::default() };
        assert_eq!(due(&known, at(599)), Due::Nothing(at(600)));
        assert_eq!(due(&known, at(600)), Due::Ask);
        assert_eq!(due(&known, at(63_361)), Due::Renew);
        let refused = Known { refused: true, failures: 1, failed_at: Some(at(600)), ..known };
        assert_eq!(due(&refused, at(601)), Due::Nothing(at(660)), "what was answered is final");
        let brought = Known { token: true, token_is_new: true, ..refused };
        assert_eq!(due(&brought, at(602)), Due::Redeem, "long before its life is over");
        assert_eq!(due(&Known { held: None, ..known }, at(600)), Due::NeedsToken);
    }

    #[test]
    fn what_was_refused_for_good_is_enrolled_anew_by_another_token_only() {
        let refused = Known {
            held: Some(held()),
            token: true,
            refused: true,
            failures: 1,
            failed_at: Some(at(70_000)),
            ..Known::default()
        };
        assert_eq!(due(&refused, at(70_003)), Due::Nothing(at(70_060)), "once a minute");
        assert_eq!(due(&refused, at(70_060)), Due::Renew);
        let brought = Known { token_is_new: true, ..refused };
        assert_eq!(due(&brought, at(70_003)), Due::Redeem);
    }
}
