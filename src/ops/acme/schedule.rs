//! When to ask for a certificate: numbers in, numbers out.

use std::time::Duration;

/// The last third of a certificate's life is for its renewal, as CAs advise: 30 of 90 days, 2 of 6.
const LAST: u64 = 3;
/// Renewals are spread over a thirtieth of the life, so that machines that began together do not come together.
const SPREAD: u64 = 30;
/// After the first failure.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// Each pause is so many times the one before: 1, 4, 16 minutes. Let's Encrypt takes 5 failures per name and hour.
const GROWTH: u32 = 4;
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3600);

/// From when to when a certificate is good. Unix time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub not_before: u64,
    pub not_after: u64,
}

/// A random number, of the whole range of a `u16`: what keeps those apart who would do the same at the same time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Jitter(pub u16);

impl Jitter {
    /// From nothing up to nearly all of `whole`.
    fn of(self, whole: u64) -> u64 {
        (u128::from(whole) * u128::from(self.0) / (u128::from(u16::MAX) + 1)) as u64
    }
}

/// When to renew it: before the last third of its life begins, by a random part of the spread.
pub(super) fn renewal(validity: Validity, jitter: Jitter) -> u64 {
    let life = validity.not_after.saturating_sub(validity.not_before);
    validity.not_after - life / LAST - jitter.of(life / SPREAD)
}

/// How long to leave the CA alone after it gave this one, whenever it says that its life began: a third of what is left.
pub(super) fn rest(validity: Validity, now: u64) -> Duration {
    Duration::from_secs(validity.not_after.saturating_sub(now) / LAST)
}

/// How long to wait after so many failures in a row, at least 1: longer each time, and up to a quarter longer than that.
pub(super) fn pause(failures: u32, jitter: Jitter) -> Duration {
    let factor = GROWTH.saturating_pow(failures.saturating_sub(1));
    let pause = FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE);
    pause + Duration::from_millis(jitter.of(pause.as_millis() as u64 / 4))
}

/// A time for people, in its largest unit: `59 days`, `5 hours`, `30 seconds`.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        172_800.. => format!("{} days", seconds / 86_400),
        7_200.. => format!("{} hours", seconds / 3600),
        120.. => format!("{} minutes", seconds / 60),
        _ => format!("{seconds} seconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: u64 = 86_400;

    fn good_for(days: u64) -> Validity {
        Validity { not_before: 1_700_000_000, not_after: 1_700_000_000 + days * DAY }
    }

    #[test]
    fn a_third_of_the_life_is_left_and_renewals_are_spread() {
        let left = |days, jitter| {
            let validity = good_for(days);
            validity.not_after - renewal(validity, Jitter(jitter))
        };
        assert_eq!(left(90, 0), 30 * DAY);
        assert_eq!(left(90, u16::MAX / 2 + 1), 30 * DAY + 3 * DAY / 2);
        assert_eq!(left(6, 0), 2 * DAY, "short-lived ones too");
        assert!((33 * DAY - 10..33 * DAY).contains(&left(90, u16::MAX)));
    }

    proptest! {
        #[test]
        fn a_renewal_lies_within_the_life(not_before: u64, not_after: u64, jitter: u16) {
            let at = renewal(Validity { not_before, not_after }, Jitter(jitter));
            prop_assert!(at <= not_after);
            prop_assert!(at >= not_before.min(not_after));
        }
    }

    #[test]
    fn a_certificate_that_begins_in_its_last_third_is_not_renewed_at_once() {
        let validity = good_for(365);
        let now = validity.not_after - 30 * DAY;
        assert!(renewal(validity, Jitter(0)) < now);
        assert_eq!(rest(validity, now), Duration::from_secs(10 * DAY));
        let fresh = good_for(90);
        assert!(
            fresh.not_before + rest(fresh, fresh.not_before).as_secs() < renewal(fresh, Jitter(u16::MAX))
        );
    }

    #[test]
    fn pauses_grow_up_to_six_hours() {
        let minutes = |failures| pause(failures, Jitter(0)).as_secs() / 60;
        assert_eq!([1, 2, 3, 4, 5, 6, 7, u32::MAX].map(minutes), [1, 4, 16, 64, 256, 360, 360, 360]);
        let longest = pause(u32::MAX, Jitter(u16::MAX));
        assert!(longest > Duration::from_secs(7 * 3600) && longest < Duration::from_secs(8 * 3600));
        // In the first hour no more than Let's Encrypt takes: at 0, 1, 5 and 21 minutes.
        let times: u64 = (1..=4).map(minutes).sum();
        assert!(times > 60);
    }

    #[test]
    fn spans_are_for_people() {
        assert_eq!(
            [89 * DAY, 2 * DAY - 1, 7_199, 119].map(span),
            ["89 days", "47 hours", "119 minutes", "119 seconds"]
        );
    }
}
