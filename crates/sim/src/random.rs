//! Chance, from one seed: xoshiro256++ over a splitmix64 start. Every component of a simulated world forks its own, so
//! that one component's draws do not disturb another's.

/// A source of numbers that depend on nothing but its seed.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}

const fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Random {
    /// The numbers of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        let mut s = seed;
        Self { state: [splitmix(&mut s), splitmix(&mut s), splitmix(&mut s), splitmix(&mut s)] }
    }

    /// Another source for the component called `label`. The same label twice gives different ones.
    #[must_use]
    pub fn fork(&mut self, label: &str) -> Self {
        let mut seed = self.draw();
        for byte in label.bytes() {
            seed = splitmix(&mut seed) ^ u64::from(byte);
        }
        Self::new(seed)
    }

    /// Any number.
    pub const fn draw(&mut self) -> u64 {
        let s = &mut self.state;
        let out = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        out
    }

    /// A number from 0 to `n` - 1.
    ///
    /// # Panics
    /// When `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "there is a number below it");
        ((u128::from(self.draw()) * u128::from(n)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    ///
    /// # Panics
    /// When `high` is below `low`, and for the whole range of 64 bits.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True `percent` times of a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of several.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.below(among.len() as u64) as usize]
    }

    /// The index of one of several, each as likely as its weight.
    ///
    /// # Panics
    /// When all weights are 0.
    pub fn weighted(&mut self, weights: &[u32]) -> usize {
        let mut at = self.below(weights.iter().map(|w| u64::from(*w)).sum());
        for (i, weight) in weights.iter().enumerate() {
            match at.checked_sub(u64::from(*weight)) {
                None => return i,
                Some(rest) => at = rest,
            }
        }
        unreachable!("the number is below the sum of the weights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_sequence_and_forks_differ() {
        let draw = |mut r: Random| (0..8).map(|_| r.draw()).collect::<Vec<_>>();
        assert_eq!(draw(Random::new(5)), draw(Random::new(5)));
        assert_ne!(draw(Random::new(5)), draw(Random::new(6)));
        let mut r = Random::new(5);
        let (a, b, c) = (r.fork("disk"), r.fork("disk"), r.fork("network"));
        assert!(draw(a.clone()) != draw(b) && draw(a) != draw(c));
    }

    #[test]
    fn bounds_hold_and_every_value_comes_up() {
        let mut r = Random::new(1);
        let mut seen = [false; 5];
        (0..200).for_each(|_| seen[r.below(5) as usize] = true);
        assert_eq!(seen, [true; 5]);
        assert!((0..200).all(|_| (3..=4).contains(&r.between(3, 4))));
        assert!((0..50).all(|_| r.weighted(&[0, 3, 0]) == 1));
        assert!((0..50).all(|_| !r.percent(0) && r.percent(100)));
    }
}
