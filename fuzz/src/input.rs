//! Arbitrary bytes taken apart as choices, and the words that choices are made of.

/// Bytes as a source of choices; zeros when they have run out.
#[derive(Debug)]
pub(crate) struct Choices<'a> {
    bytes: &'a [u8],
}

/// Paths that meet each other often, valid and not.
const PATHS: [&str; 24] = [
    "/",
    "",
    "/a",
    "/a/b",
    "/a/b/c",
    "/b",
    "/b/",
    "/a/../b",
    "/zookeeper",
    "/zookeeper/quota",
    "/zookeeper/quota/a",
    "/zookeeper/quota/a/zookeeper_limits",
    "/zookeeper/quota/a/zookeeper_stats",
    "/zookeeper/config",
    "/seq-",
    "/a/seq-",
    "/a/seq-0000000000",
    "/a\u{0}b",
    "/\u{fffd}",
    "/\u{1f600}",
    "relative",
    "//",
    "/a//b",
    "/c",
];

impl<'a> Choices<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    /// Below `n`, which is not 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    /// Mostly small, sometimes at the edges.
    pub(crate) fn int(&mut self) -> i32 {
        match self.byte() {
            b @ 0..=199 => i32::from(b % 8),
            200..=229 => -1,
            230..=236 => i32::MAX,
            237..=243 => i32::MIN,
            _ => i32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()]),
        }
    }

    pub(crate) fn long(&mut self) -> i64 {
        match self.byte() {
            b @ 0..=199 => i64::from(b % 8),
            200..=219 => -1,
            220..=229 => i64::MAX,
            230..=239 => i64::MIN,
            240..=247 => i64::from(self.int()) << 40,
            _ => i64::from(self.int()),
        }
    }

    pub(crate) fn path(&mut self) -> &'static str {
        PATHS[self.below(PATHS.len())]
    }

    pub(crate) fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(n.min(self.bytes.len()));
        self.bytes = rest;
        taken
    }

    /// Null, empty, short, a quota, or long.
    pub(crate) fn data(&mut self) -> Option<Vec<u8>> {
        match self.below(8) {
            0 => None,
            1 => Some(Vec::new()),
            2 => Some(b"count=2,bytes=10=;byteHardLimit=20;countHardLimit=3".to_vec()),
            3 => Some(vec![b'x'; 300 * self.below(200)]),
            _ => {
                let n = self.below(20);
                Some(self.take(n).to_vec())
            }
        }
    }

    pub(crate) const fn rest(&mut self) -> &'a [u8] {
        let rest = self.bytes;
        self.bytes = &[];
        rest
    }
}
