//! What the 64-bit owner field of a stored znode means.

use crate::SessionId;

/// Bits of a TTL in an owner field.
const TTL_BITS: u32 = 40;
/// Its place. Of an owner of 3.5.3 no more is read either, as in Apache.
const TTL_VALUE: u64 = (1 << TTL_BITS) - 1;
const TTL_MARK: u64 = 0xff00_0000_0000_0000;
const TTL_RESERVED: u64 = 0x00ff_ff00_0000_0000;
const CONTAINER: i64 = i64::MIN;

/// The kind of a znode, as its owner field tells.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Owner {
    /// Stays until deleted.
    Persistent,
    /// Lives with a session.
    Ephemeral(SessionId),
    /// Removed by the sweeper once it lost its last child.
    Container,
    /// Removed by the sweeper when it has no children and its data is older than this many
    /// milliseconds ([`Owner::TTL_MIN`] to [`Owner::TTL_MAX`]).
    Ttl(u64),
}

impl Owner {
    /// Smallest TTL in milliseconds.
    pub const TTL_MIN: i64 = 1;
    /// Largest TTL in milliseconds.
    pub const TTL_MAX: i64 = (1 << TTL_BITS) - 1;

    /// Reads an owner field. TTL owners exist only with extended types on; with `ttl_353`
    /// (`zookeeper.emulate353TTLNodes`) negative owners of 3.5.3 are TTLs too.
    ///
    /// With extended types on, top byte 0xff with non-zero reserved bits is no legal owner: `None`.
    #[must_use]
    pub const fn decode(raw: i64, extended_types: bool, ttl_353: bool) -> Option<Self> {
        let bits = raw.cast_unsigned();
        if raw == 0 {
            return Some(Self::Persistent);
        }
        if raw == CONTAINER {
            return Some(Self::Container);
        }
        if extended_types {
            if ttl_353 && raw < 0 {
                return Some(Self::Ttl(bits & TTL_VALUE));
            }
            if bits & TTL_MARK == TTL_MARK {
                if bits & TTL_RESERVED != 0 {
                    return None;
                }
                return Some(Self::Ttl(bits & TTL_VALUE));
            }
        }
        Some(Self::Ephemeral(SessionId(raw)))
    }

    /// The owner field.
    #[must_use]
    pub const fn encode(self) -> i64 {
        match self {
            Self::Persistent => 0,
            Self::Ephemeral(s) => s.0,
            Self::Container => CONTAINER,
            Self::Ttl(ms) => (TTL_MARK | ms).cast_signed(),
        }
    }

    /// The value of [`crate::Stat::ephemeral_owner`]: clients never see the markers.
    #[must_use]
    pub const fn visible(self) -> i64 {
        match self {
            Self::Ephemeral(s) => s.0,
            Self::Persistent | Self::Container | Self::Ttl(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers() {
        for o in [
            Owner::Persistent,
            Owner::Ephemeral(SessionId(-7)),
            Owner::Container,
            Owner::Ttl(1),
            Owner::Ttl(0xff_ffff_ffff),
        ] {
            if o != Owner::Ephemeral(SessionId(-7)) {
                assert_eq!(Owner::decode(o.encode(), true, false), Some(o));
            }
        }
        assert_eq!(Owner::Ttl(1000).encode().cast_unsigned(), 0xff00_0000_0000_03e8);
        assert_eq!(
            Owner::decode(Owner::Ttl(5).encode(), false, false),
            Some(Owner::Ephemeral(SessionId(Owner::Ttl(5).encode())))
        );
        assert_eq!(Owner::decode(-7, true, false), None, "reserved bits of a TTL");
        assert_eq!(Owner::decode(i64::MIN | 4000, true, true), Some(Owner::Ttl(4000)));
        assert_eq!(
            Owner::decode(Owner::Ttl(5).encode(), true, true),
            Some(Owner::Ttl(5)),
            "new ones are no older ones"
        );
        assert_eq!(Owner::decode(-7, true, true), Some(Owner::Ttl(0xff_ffff_fff9)), "as Apache reads it");
    }
}
