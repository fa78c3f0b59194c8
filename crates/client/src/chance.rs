//! Where random numbers come from.

use parking_lot::Mutex;

/// SplitMix64: small, seeded, and good enough to spread clients.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 for 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }
}

/// What names and pauses of recipes are drawn from.
#[derive(Debug)]
pub(crate) enum Chance {
    /// The system: names must not meet those of any other client.
    System,
    /// A seed, in simulations.
    Seeded(Mutex<Random>),
}

impl Chance {
    pub(crate) const fn seeded(seed: u64) -> Self {
        Self::Seeded(Mutex::new(Random(!seed)))
    }

    pub(crate) fn draw(&self) -> Result<[u8; 16], getrandom::Error> {
        let mut bytes = [0; 16];
        match self {
            Self::System => getrandom::fill(&mut bytes)?,
            Self::Seeded(random) => {
                let mut random = random.lock();
                bytes[..8].copy_from_slice(&random.next().to_be_bytes());
                bytes[8..].copy_from_slice(&random.next().to_be_bytes());
            }
        }
        Ok(bytes)
    }
}
