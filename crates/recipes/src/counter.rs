//! A number that many change.

use crate::Error;
use crate::backoff::random_part;
use crate::parents::create_above;
use farrier_client::{Acl, Client, perms};
use std::time::Duration;

/// How often an addition is tried while others come in between.
const ATTEMPTS_MAX: u32 = 10_000;

/// Longest pause before another attempt; a random part of it is taken.
const BACKOFF_MAX: Duration = Duration::from_millis(50);

/// How the number stands in the znode. Everybody who shares a counter has to use the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Encoding {
    /// Decimal text, as kazoo's Counter writes integers.
    #[default]
    Decimal,
    /// 32 bits, big-endian, as Curator's SharedCount and kazoo's Counter with `support_curator`.
    Int32,
    /// 64 bits, big-endian, as Curator's DistributedAtomicLong.
    Int64,
}

impl Encoding {
    /// The bytes of a number, or `None` if it has too many bits.
    #[must_use]
    pub fn encode(self, number: i64) -> Option<Vec<u8>> {
        match self {
            Self::Decimal => Some(number.to_string().into_bytes()),
            Self::Int32 => i32::try_from(number).ok().map(|number| number.to_be_bytes().to_vec()),
            Self::Int64 => Some(number.to_be_bytes().to_vec()),
        }
    }

    /// The number in these bytes, or what is wrong with them. No bytes are 0.
    fn decode(self, bytes: &[u8]) -> Result<i64, String> {
        let wrong = |expected: &str| format!("it holds {} bytes that are not {expected}", bytes.len());
        if bytes.is_empty() {
            return Ok(0);
        }
        match self {
            Self::Decimal => {
                let text = str::from_utf8(bytes).ok().filter(|text| !text.starts_with('+'));
                text.and_then(|text| text.parse().ok()).ok_or_else(|| wrong("a decimal number of 64 bits"))
            }
            Self::Int32 => {
                bytes.try_into().map(|b| i64::from(i32::from_be_bytes(b))).map_err(|_| wrong("a number of 32 bits"))
            }
            Self::Int64 => bytes.try_into().map(i64::from_be_bytes).map_err(|_| wrong("a number of 64 bits")),
        }
    }
}

/// A counter at a path.
///
/// ```no_run
/// # async fn run(client: farrier_client::Client) -> Result<(), farrier_recipes::Error> {
/// use farrier_recipes::Counter;
///
/// let visitors = Counter::new(&client, "/app/visitors");
/// println!("visitor number {}", visitors.add(1).await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Counter {
    client: Client,
    path: String,
    encoding: Encoding,
    acl: Vec<Acl<'static>>,
}

/// A counter's number, and the version of the znode that holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Reading {
    number: i64,
    /// `None` if there is no znode.
    version: Option<i32>,
}

impl Counter {
    /// The counter at `path`, which need not exist and then is 0, in decimal text. Nothing is sent.
    #[must_use]
    pub fn new(client: &Client, path: &str) -> Self {
        let acl = vec![Acl::world(perms::ALL)];
        Self { client: client.clone(), path: path.to_owned(), encoding: Encoding::default(), acl }
    }

    /// How the number stands in the znode.
    #[must_use]
    pub const fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// Who may do what with the znode, should this handle create it; everybody everything by default.
    #[must_use]
    pub fn acl(mut self, acl: &[Acl<'static>]) -> Self {
        self.acl = acl.to_vec();
        self
    }

    /// The number now.
    ///
    /// # Errors
    ///
    /// Those of a read; [`Error::Unreadable`] if the znode holds something else.
    pub async fn get(&self) -> Result<i64, Error> {
        Ok(self.read().await?.number)
    }

    /// Adds `n`, which may be negative, and tells the sum. Creates the znode and what is missing above it.
    ///
    /// # Errors
    ///
    /// [`farrier_client::Error::Unknown`] in [`Error::Client`] if the answer was lost: it was added once or not at all, and
    /// it is not tried again. [`Error::Unreadable`] if the znode holds something else, [`Error::Invalid`] if the sum has
    /// too many bits: nothing was added then.
    pub async fn add(&self, n: i64) -> Result<i64, Error> {
        for attempt in 1.. {
            let now = self.read().await?;
            let sum = now.number.checked_add(n).ok_or_else(|| self.too_large(now.number, n))?;
            match self.write(sum, now).await {
                Ok(()) => return Ok(sum),
                Err(Error::Client(error)) if is_outdated(&error) && attempt < ATTEMPTS_MAX => {
                    self.client.sleep(random_part(&self.client, BACKOFF_MAX)).await;
                    if error.is_node_exists() || error.is_no_node() {
                        // The read was old.
                        self.client.sync(&self.path).await?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        unreachable!("the attempts are bounded")
    }

    /// Sets the number to `new` if it is `expected`; whether it was.
    ///
    /// # Errors
    ///
    /// As [`Self::add`].
    pub async fn compare_and_set(&self, expected: i64, new: i64) -> Result<bool, Error> {
        for attempt in 1.. {
            // A number that is old would be refused by its version; one that differs may only be old.
            let mut now = self.read().await?;
            if now.number != expected {
                self.client.sync(&self.path).await?;
                now = self.read().await?;
                if now.number != expected {
                    return Ok(false);
                }
            }
            match self.write(new, now).await {
                Ok(()) => return Ok(true),
                Err(Error::Client(error)) if is_outdated(&error) && attempt < ATTEMPTS_MAX => {
                    self.client.sync(&self.path).await?;
                }
                Err(error) => return Err(error),
            }
        }
        unreachable!("the attempts are bounded")
    }

    async fn read(&self) -> Result<Reading, Error> {
        let value = match self.client.get(&self.path).await {
            Ok(value) => value,
            Err(error) if error.is_no_node() => return Ok(Reading { number: 0, version: None }),
            Err(error) => return Err(error.into()),
        };
        let number = self.encoding.decode(&value.data);
        let number = number.map_err(|found| Error::Unreadable { path: self.path.clone(), found })?;
        Ok(Reading { number, version: Some(value.stat.version) })
    }

    /// Writes a number in place of what was read.
    async fn write(&self, number: i64, read: Reading) -> Result<(), Error> {
        let bytes = self
            .encoding
            .encode(number)
            .ok_or_else(|| self.too_large(read.number, number.saturating_sub(read.number)))?;
        match read.version {
            Some(version) => {
                self.client.set(&self.path, &bytes).version(version).await?;
            }
            None => {
                create_above(&self.client, &self.path, &self.acl).await?;
                self.client.create(&self.path, &bytes).acl(&self.acl).await?;
            }
        }
        Ok(())
    }

    fn too_large(&self, number: i64, n: i64) -> Error {
        let reason =
            format!("{number} and {n} make more than its encoding ({:?}) holds; nothing was added", self.encoding);
        Error::Invalid { path: self.path.clone(), reason }
    }
}

/// Whether others changed the number since it was read.
fn is_outdated(error: &farrier_client::Error) -> bool {
    error.is_bad_version() || error.is_node_exists() || error.is_no_node()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_encoding_reads_what_it_writes_and_nothing_else() {
        for (encoding, number, bytes) in [
            (Encoding::Decimal, -12, &b"-12"[..]),
            (Encoding::Decimal, i64::MIN, b"-9223372036854775808"),
            (Encoding::Int32, -2, &[0xff, 0xff, 0xff, 0xfe]),
            (Encoding::Int64, 258, &[0, 0, 0, 0, 0, 0, 1, 2]),
        ] {
            assert_eq!(encoding.encode(number).as_deref(), Some(bytes));
            assert_eq!(encoding.decode(bytes), Ok(number));
        }
        assert_eq!(Encoding::Int32.encode(1 << 31), None);
        for (encoding, bytes) in [
            (Encoding::Decimal, &b"1.5"[..]),
            (Encoding::Decimal, b"+1"),
            (Encoding::Decimal, b" 1"),
            (Encoding::Decimal, b"9223372036854775808"),
            (Encoding::Int32, b"12345"),
            (Encoding::Int64, b"1234"),
        ] {
            assert!(encoding.decode(bytes).is_err_and(|why| why.contains("bytes that are not")), "{bytes:?}");
        }
        for encoding in [Encoding::Decimal, Encoding::Int32, Encoding::Int64] {
            assert_eq!(encoding.decode(b""), Ok(0), "what kazoo creates first");
        }
    }
}
