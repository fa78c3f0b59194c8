//! Scheme ip: addresses and prefixes in Java's spelling.

use core::net::{IpAddr, Ipv6Addr};

/// The text of a peer's address as Java prints it: IPv6 in eight groups without compression, IPv4 inside
/// IPv6 as IPv4.
#[must_use]
pub fn java_text(addr: IpAddr) -> String {
    match addr.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, e, f, g, h] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}:{e:x}:{f:x}:{g:x}:{h:x}")
        }
    }
}

/// An address left-aligned in 128 bits, and how many of them it has.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Address {
    bits: u128,
    len: u32,
}

impl Address {
    fn parse(text: &str) -> Option<Self> {
        if text.contains(':') {
            // No embedded IPv4, and no scope, which the standard parser refuses already.
            if text.contains('.') {
                return None;
            }
            let v6: Ipv6Addr = text.parse().ok()?;
            return Some(Self { bits: v6.to_bits(), len: 128 });
        }
        let mut bits = 0;
        let mut parts = 0;
        for part in text.split('.') {
            // As Java parses: a sign and leading zeros are let through.
            let octet: i32 = part.parse().ok()?;
            bits = bits << 8 | u128::from(u8::try_from(octet).ok()?);
            parts += 1;
            if parts > 4 {
                return None;
            }
        }
        (parts == 4).then_some(Self { bits: bits << 96, len: 32 })
    }

    const fn masked(self, prefix: u32) -> u128 {
        if prefix == 0 { 0 } else { self.bits & (u128::MAX << (128 - prefix)) }
    }
}

fn parse_prefix(expression: &str) -> Option<(Address, u32)> {
    let (address, prefix) = match expression.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (expression, None),
    };
    let address = Address::parse(address)?;
    let prefix = match prefix {
        None => address.len,
        Some(text) => u32::try_from(text.parse::<i32>().ok()?).ok()?,
    };
    (prefix <= address.len).then_some((address, prefix))
}

/// Whether an ACL may hold this id: an address, optionally `/bits`.
#[must_use]
pub fn is_valid(expression: &str) -> bool {
    parse_prefix(expression).is_some()
}

/// Whether a peer's address lies within the prefix of an ACL entry. Families never match each other.
#[must_use]
pub fn matches(peer: &str, expression: &str) -> bool {
    let (Some((prefix, bits)), Some(peer)) = (parse_prefix(expression), Address::parse(peer)) else {
        return false;
    };
    prefix.len == peer.len && prefix.masked(bits) == peer.masked(bits)
}
