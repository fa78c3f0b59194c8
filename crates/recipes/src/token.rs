//! Fencing tokens.

use farrier_client::Zxid;
use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// Tells holders of one lock apart, and which of two held it later: the transaction that created the holder's znode. A
/// resource that remembers the largest token that it has seen, and refuses smaller ones, takes nothing from a holder that
/// was overtaken.
///
/// It grows from holder to holder, across changes of the servers' leader, and across deletion and creation of the lock's
/// path. It is written as a decimal signed 64-bit number and compared as a number, never as text.
///
/// Its limits: it orders one history of one ensemble only, so an ensemble that is restored from a backup must start in an
/// epoch above every earlier one; and two contenders that were created in one multi have the same token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(i64);

impl Token {
    pub(crate) const fn of(czxid: Zxid) -> Self {
        Self(czxid.to_wire())
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Token {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compared_as_numbers() {
        let (older, newer) = (Token::of(Zxid::new(1, 9)), Token::of(Zxid::new(2, 1)));
        assert!(older < newer);
        assert_eq!(newer.to_string(), "8589934593");
        assert_eq!(newer.to_string().parse(), Ok(newer));
        let read = |text: &str| text.parse::<Token>().expect("a number");
        assert!(read("9") < read("10"), "as text it would be the other way round");
        assert!("0x9".parse::<Token>().is_err());
    }
}
