//! The clocks of one machine, which need not agree with the world's or with each other.

use farrier_replica::Time;

/// What every wall clock shows at the beginning, in milliseconds since 1970.
const WALL_ORIGIN: i64 = 1_700_000_000_000;

/// Where the true rate is.
pub(crate) const TRUE_RATE: u64 = 1000;

/// A machine's clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MachineClock {
    /// World's microseconds at which the rate was set.
    since: u64,
    /// Own microseconds at that moment.
    own: u64,
    /// Thousandths of the true rate.
    rate: u64,
    /// Milliseconds by which the wall clock is ahead.
    wall_ahead: i64,
}

impl Default for MachineClock {
    fn default() -> Self {
        Self { since: 0, own: 0, rate: TRUE_RATE, wall_ahead: 0 }
    }
}

impl MachineClock {
    /// Own microseconds since the machine was built.
    pub(crate) const fn own(&self, world: u64) -> u64 {
        self.own + (world - self.since) * self.rate / TRUE_RATE
    }

    /// What a process that began at `began` of the own microseconds reads.
    pub(crate) const fn time(&self, world: u64, began: u64) -> Time {
        Time { mono: (self.own(world) - began) / 1000, wall: WALL_ORIGIN + (world / 1000) as i64 + self.wall_ahead }
    }

    /// The first of the world's microseconds at which a process that began at `began` reads `mono` milliseconds.
    pub(crate) fn when(&self, mono: u64, began: u64) -> u64 {
        let own = began.saturating_add(mono.saturating_mul(1000));
        let ahead = u128::from(own.saturating_sub(self.own)) * u128::from(TRUE_RATE);
        let world = ahead.div_ceil(u128::from(self.rate));
        self.since.saturating_add(u64::try_from(world).unwrap_or(u64::MAX))
    }

    /// From now on it runs at so many thousandths of the true rate.
    pub(crate) const fn set_rate(&mut self, world: u64, rate: u64) {
        self.own = self.own(world);
        self.since = world;
        self.rate = rate;
    }

    /// The wall clock jumps.
    pub(crate) const fn jump(&mut self, ms: i64) {
        self.wall_ahead += ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_reached_exactly_when_it_is_read() {
        let mut clock = MachineClock::default();
        for (world, rate) in [(0, 1000), (1_234_567, 970), (9_999_999, 1031), (20_000_001, 1000)] {
            clock.set_rate(world, rate);
            let began = clock.own(world) / 2;
            for mono in [clock.time(world, began).mono + 1, clock.time(world, began).mono + 777] {
                let at = clock.when(mono, began);
                assert!(clock.time(at, began).mono >= mono && clock.time(at - 1, began).mono < mono);
            }
        }
    }

    #[test]
    fn a_jump_is_seen_by_the_wall_clock_only() {
        let mut clock = MachineClock::default();
        let before = clock.time(5_000_000, 0);
        clock.jump(-90_000);
        let after = clock.time(5_000_000, 0);
        assert_eq!((after.mono, after.wall), (before.mono, before.wall - 90_000));
    }
}
