//! Exponential backoff: how long to wait between attempts, and when to give up. Pure: time is an argument.

use std::time::Duration;

/// Pauses that double from `initial` up to `max`, and end after `give_up_after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The pause after the first attempt.
    pub initial: Duration,
    /// The longest pause.
    pub max: Duration,
    /// Counted from the first attempt.
    pub give_up_after: Duration,
}

impl Backoff {
    /// The pause after attempt number `attempt`, counted from 0, at `elapsed` since the first one; `None` to give up. The
    /// last pause is cut short, so that one more attempt is made when the time is up.
    pub fn pause(&self, attempt: u32, elapsed: Duration) -> Option<Duration> {
        let pause = self.initial.saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(self.max);
        let left = self.give_up_after.checked_sub(elapsed).filter(|left| !left.is_zero())?;
        Some(pause.min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_maximum_and_end() {
        let ms = Duration::from_millis;
        let backoff = Backoff { initial: ms(200), max: ms(5_000), give_up_after: ms(60_000) };
        let pauses: Vec<_> =
            (0..7).map(|attempt| backoff.pause(attempt, ms(0)).map(|pause| pause.as_millis())).collect();
        assert_eq!(pauses, [200, 400, 800, 1_600, 3_200, 5_000, 5_000].map(Some));
        assert_eq!(backoff.pause(u32::MAX, ms(59_000)), Some(ms(1_000)), "the last attempt comes when the time is up");
        assert_eq!(backoff.pause(3, ms(60_000)), None);
    }
}
