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
        if let Some(bits) = usual_v4(text.as_bytes()) {
            return Some(Self { bits: u128::from(bits) << 96, len: 32 });
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

    fn is_within(self, expression: &str) -> bool {
        let is_v6 = self.len == 128;
        // The other family's entries are not worth reading.
        if expression.contains(':') != is_v6 {
            return false;
        }
        parse_prefix(expression)
            .is_some_and(|(prefix, bits)| prefix.len == self.len && prefix.masked(bits) == self.masked(bits))
    }

    const fn masked(self, prefix: u32) -> u128 {
        if prefix == 0 { 0 } else { self.bits & (u128::MAX << (128 - prefix)) }
    }
}

/// An IPv4 address in its usual spelling: four numbers of one to three digits. Lists may have many, and are read at each check.
fn usual_v4(text: &[u8]) -> Option<u32> {
    let (mut bits, mut octet, mut digits, mut dots) = (0, 0_u32, 0, 0);
    for byte in text {
        match byte {
            b'0'..=b'9' if digits < 3 => {
                octet = octet * 10 + u32::from(byte - b'0');
                digits += 1;
            }
            b'.' if digits > 0 && octet < 256 && dots < 3 => {
                bits = bits << 8 | octet;
                (octet, digits) = (0, 0);
                dots += 1;
            }
            _ => return None,
        }
    }
    (dots == 3 && digits > 0 && octet < 256).then_some(bits << 8 | octet)
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

/// Whether a peer's address lies within the prefix of any of these ACL entries. Families never match each other.
#[must_use]
pub fn is_within_any<'a>(peer: &str, mut expressions: impl Iterator<Item = &'a str>) -> bool {
    // Most lists have no address, and the peer's is then not looked at.
    let Some(first) = expressions.next() else { return false };
    let Some(peer) = Address::parse(peer) else { return false };
    peer.is_within(first) || expressions.any(|expression| peer.is_within(expression))
}
