//! Names that are never used twice.

use crate::Error;
use farrier_client::Client;
use std::fmt;

/// A random UUID (version 4), as it stands in the names of znodes: by it a recipe knows its own znode again after a
/// lost reply, and nobody else ever makes one of that name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Unique(u128);

impl Unique {
    /// Draws one.
    ///
    /// # Errors
    ///
    /// The system's source of random numbers failed.
    pub fn draw() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self::from_bytes(bytes))
    }

    /// Draws one for the name of a znode at or below `path`.
    pub(crate) fn for_path(client: &Client, path: &str) -> Result<Self, Error> {
        client.random_bytes().map(Self::from_bytes).map_err(|error| Error::Invalid {
            path: path.to_owned(),
            reason: format!("the system gives no random number for the name of a znode: {error}; nothing was done"),
        })
    }

    /// Makes one of 16 random bytes: four bits become the version, two the variant (RFC 9562, section 5.4).
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        const VERSION: u128 = 0xf << 76;
        const VARIANT: u128 = 0b11 << 62;
        Self(u128::from_be_bytes(bytes) & !VERSION & !VARIANT | 4 << 76 | 0b10 << 62)
    }

    /// 32 hexadecimal digits without dashes, as kazoo writes them.
    #[must_use]
    pub fn hex(self) -> String {
        format!("{:032x}", self.0)
    }
}

/// With dashes, as Java and Curator write them.
impl fmt::Display for Unique {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = self.hex();
        write!(f, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_both_ways() {
        let unique = Unique::from_bytes([0xff; 16]);
        assert_eq!(unique.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(unique.hex(), "ffffffffffff4fffbfffffffffffffff");
        assert_eq!(Unique::from_bytes([0; 16]).to_string(), "00000000-0000-4000-8000-000000000000");
    }
}
