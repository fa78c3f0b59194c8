//! Admission of connect requests: a token bucket, and before it runs dry random early drops whose
//! probability rises while it is empty and falls while it is full enough (the BLUE algorithm).

use crate::config::ConnectionThrottleConfig;

/// A small generator (splitmix64): decisions need to be spread, not secret.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not 0.
    pub(crate) const fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// A number in [0, 1).
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[derive(Debug)]
pub(crate) struct ConnectionThrottle {
    config: ConnectionThrottleConfig,
    tokens: u64,
    filled_at: u64,
    adjusted_at: u64,
    drop_chance: f64,
}

impl ConnectionThrottle {
    pub(crate) const fn new(config: ConnectionThrottleConfig) -> Self {
        let tokens = config.tokens;
        Self { config, tokens, filled_at: 0, adjusted_at: 0, drop_chance: 0.0 }
    }

    /// How likely the next connect request is to be refused although there is a token for it.
    pub(crate) const fn drop_chance(&self) -> f64 {
        self.drop_chance
    }

    /// Whether a connect request is admitted now; takes its charge.
    pub(crate) fn admit(&mut self, now: u64, renew: bool, random: &mut Random) -> bool {
        let c = &self.config;
        if c.tokens == 0 {
            return true;
        }
        let refills = now.saturating_sub(self.filled_at) / c.fill_time;
        if refills > 0 {
            self.filled_at += refills * c.fill_time;
            self.tokens = c.tokens.min(self.tokens.saturating_add(refills.saturating_mul(c.fill_count)));
        }
        let charge = if renew { c.renew_weight } else { c.session_weight };
        if let Some(freeze) = c.freeze_time {
            // As in Apache, whose ratio is of what is missing, and for which only a bucket without a token is empty.
            if now.saturating_sub(self.adjusted_at) > freeze {
                self.adjusted_at = now;
                let missing = c.tokens - self.tokens;
                if missing == c.tokens {
                    self.drop_chance = (self.drop_chance + c.drop_increase).min(1.0);
                } else if missing as f64 <= (c.tokens as f64 * c.decrease_ratio).round() {
                    self.drop_chance = (self.drop_chance - c.drop_decrease).max(0.0);
                }
            }
            if self.drop_chance > 0.0 && random.unit() < self.drop_chance {
                return false;
            }
        }
        if self.tokens < charge {
            return false;
        }
        self.tokens -= charge;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(freeze_time: Option<u64>, decrease_ratio: f64) -> ConnectionThrottle {
        ConnectionThrottle::new(ConnectionThrottleConfig {
            tokens: 3,
            fill_time: 10,
            fill_count: 1,
            freeze_time,
            drop_increase: 1.0,
            drop_decrease: 1.0,
            decrease_ratio,
            session_weight: 1,
            renew_weight: 1,
        })
    }

    #[test]
    fn the_bucket_empties_and_refills() {
        let (mut t, mut r) = (throttle(None, 0.0), Random::new(1));
        assert_eq!((0..5).filter(|_| t.admit(0, false, &mut r)).count(), 3);
        assert!(t.admit(10, false, &mut r));
        assert!(!t.admit(19, false, &mut r));
        assert_eq!((0..9).filter(|_| t.admit(10_000, true, &mut r)).count(), 3, "never above its size");
    }

    #[test]
    fn drops_begin_when_it_is_empty_and_end_when_no_more_is_missing_than_the_ratio_says() {
        // Of three tokens, none, one (rounded), or all may be missing.
        for (ratio, ends_at) in [(0.0, 30), (0.4, 20), (1.0, 10)] {
            let (mut t, mut r) = (throttle(Some(1), ratio), Random::new(1));
            assert_eq!((0..3).filter(|_| t.admit(1, false, &mut r)).count(), 3);
            assert!(!t.admit(4, false, &mut r), "empty");
            for tokens_at in [10, 20, 30] {
                assert_eq!(t.admit(tokens_at, false, &mut r), tokens_at >= ends_at, "ratio {ratio} at {tokens_at}");
                if tokens_at >= ends_at {
                    break;
                }
            }
        }
    }

    #[test]
    fn the_chance_changes_no_more_often_than_once_in_the_freeze_time() {
        let mut r = Random::new(1);
        let mut t = throttle(Some(0), 0.0);
        t.config.drop_increase = 0.25;
        assert_eq!((0..3).filter(|_| t.admit(0, false, &mut r)).count(), 3);
        for _ in 0..4 {
            assert!(!t.admit(1, false, &mut r), "empty");
        }
        assert!((t.drop_chance() - 0.25).abs() < 1e-9, "one step in a millisecond: {}", t.drop_chance());
        assert!(!t.admit(2, false, &mut r));
        assert!((t.drop_chance() - 0.5).abs() < 1e-9, "{}", t.drop_chance());
    }
}
