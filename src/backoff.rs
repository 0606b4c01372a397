//! Pauses between tries that failed. Pure: time is an argument.

use std::time::Duration;

/// Each pause is twice as long as the one before, up to a longest; there is none once the time is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub longest: Duration,
    /// From the first try on.
    pub give_up_after: Duration,
}

impl Backoff {
    /// The pause after try number `tried`, counted from 0, at `elapsed` since the first; `None` to give up.
    pub fn pause(&self, tried: u32, elapsed: Duration) -> Option<Duration> {
        let pause = self.first.saturating_mul(1_u32.checked_shl(tried).unwrap_or(u32::MAX)).min(self.longest);
        let left = self.give_up_after.checked_sub(elapsed).filter(|left| !left.is_zero())?;
        Some(pause.min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_end() {
        let ms = Duration::from_millis;
        let backoff = Backoff { first: ms(200), longest: ms(5_000), give_up_after: ms(60_000) };
        let pauses: Vec<_> = (0..7).map(|tried| backoff.pause(tried, ms(0)).map(|pause| pause.as_millis())).collect();
        assert_eq!(pauses, [200, 400, 800, 1_600, 3_200, 5_000, 5_000].map(Some));
        assert_eq!(backoff.pause(u32::MAX, ms(59_000)), Some(ms(1_000)), "the last try comes when the time is up");
        assert_eq!(backoff.pause(3, ms(60_000)), None);
    }
}
