//! Jute, ZooKeeper's serialization: fields concatenated in order, big-endian, no tags.
//!
//! | type | bytes |
//! |---|---|
//! | byte, boolean | 1 |
//! | int, long | 4, 8 |
//! | buffer, ustring | `int n`, then n bytes; `n = -1` is null |
//! | vector | `int n`, then n elements; `n = -1` is null, other negative counts read as empty |

use crate::DecodeError;
use std::borrow::Cow;

/// A nullable string field. Text that is not UTF-8 decodes with U+FFFD in place of each bad sequence,
/// as in Java, and is then refused as a path.
pub type JStr<'a> = Option<Cow<'a, str>>;

/// A nullable byte field. Null and empty are distinct and both survive storage.
pub type JBuf<'a> = Option<Cow<'a, [u8]>>;

/// A cursor over received bytes. Lengths are checked against what is left, so nothing is allocated
/// on the word of a length field.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    pos: usize,
}

impl<'a> Reader<'a> {
    /// A cursor at the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, pos: 0 }
    }

    /// Offset of the next byte.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.pos
    }

    /// The bytes not yet read.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.pos..]
    }

    /// Whether everything was read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pos == self.bytes.len()
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let have = self.bytes.len() - self.pos;
        if n > have {
            return Err(DecodeError::Short { field, need: n, have });
        }
        let out = &self.bytes[self.pos..self.pos + n];
        self.pos += n;
        Ok(out)
    }

    /// Goes past these bytes if they come next.
    pub(crate) fn skip(&mut self, known: &[u8]) -> bool {
        let is_next = self.rest().starts_with(known);
        self.pos += if is_next { known.len() } else { 0 };
        is_next
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let have = self.bytes.len() - self.pos;
        let Some(chunk) = self.bytes[self.pos..].first_chunk::<N>() else {
            return Err(DecodeError::Short { field, need: N, have });
        };
        self.pos += N;
        Ok(*chunk)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>("byte")?[0])
    }

    /// A boolean; any non-zero byte is true.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.array::<1>("boolean")?[0] != 0)
    }

    /// A 32-bit integer.
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array("int")?))
    }

    /// A 64-bit integer.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array("long")?))
    }

    /// A nullable run of bytes.
    pub fn buffer(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        self.counted("buffer")
    }

    /// A nullable string.
    pub fn string(&mut self) -> Result<JStr<'a>, DecodeError> {
        let text = |bytes| std::str::from_utf8(bytes).map_or_else(|_| Cow::Owned(lossy(bytes)), Cow::Borrowed);
        Ok(self.counted("string")?.map(text))
    }

    fn counted(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, DecodeError> {
        let len = self.i32()?;
        match usize::try_from(len) {
            Ok(n) => self.take(n, field).map(Some),
            Err(_) if len == -1 => Ok(None),
            Err(_) => Err(DecodeError::Length { field, len, max: self.bytes.len() }),
        }
    }

    /// The element count of a vector: `None` for null, 0 for any other negative count. The caller
    /// reads the elements; each takes at least one byte, so a count beyond the bytes that are left
    /// is refused here.
    pub fn count(&mut self) -> Result<Option<usize>, DecodeError> {
        let len = self.i32()?;
        match usize::try_from(len) {
            Ok(n) if n > self.bytes.len() - self.pos => {
                Err(DecodeError::Short { field: "vector", need: n, have: self.bytes.len() - self.pos })
            }
            Ok(n) => Ok(Some(n)),
            Err(_) if len == -1 => Ok(None),
            Err(_) => Ok(Some(0)),
        }
    }
}

/// A value with a place in a record. The lifetime is that of the bytes it may borrow from.
pub trait Field<'a>: Sized {
    /// Decodes the value at the cursor.
    fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError>;
    /// Appends the value's bytes.
    fn write(&self, out: &mut Vec<u8>);
}

impl<'a> Field<'a> for bool {
    fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        r.bool()
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl<'a> Field<'a> for i32 {
    fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        r.i32()
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }
}

impl<'a> Field<'a> for i64 {
    fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        r.i64()
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }
}

impl<'a> Field<'a> for JStr<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        r.string()
    }
    fn write(&self, out: &mut Vec<u8>) {
        put_buffer(out, self.as_deref().map(str::as_bytes));
    }
}

impl<'a> Field<'a> for JBuf<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(r.buffer()?.map(Cow::Borrowed))
    }
    fn write(&self, out: &mut Vec<u8>) {
        put_buffer(out, self.as_deref());
    }
}

/// A string that may not be null.
impl<'a> Field<'a> for Cow<'a, str> {
    fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        r.string()?.ok_or(DecodeError::Null("string"))
    }
    fn write(&self, out: &mut Vec<u8>) {
        put_buffer(out, Some(self.as_bytes()));
    }
}

/// Items of a list for which there is room from the beginning, if it claims so many.
const LIST_USUAL: usize = 4;

impl<'a, T: Field<'a>> Field<'a> for Option<Vec<T>> {
    fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let Some(n) = r.count()? else { return Ok(None) };
        let mut items = Vec::with_capacity(n.min(LIST_USUAL));
        for _ in 0..n {
            items.push(T::read(r)?);
        }
        Ok(Some(items))
    }
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            None => put_i32(out, -1),
            Some(items) => items.write(out),
        }
    }
}

/// A vector that may not be null.
impl<'a, T: Field<'a>> Field<'a> for Vec<T> {
    fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        <Option<Self>>::read(r)?.ok_or(DecodeError::Null("vector"))
    }
    fn write(&self, out: &mut Vec<u8>) {
        put_len(out, self.len());
        for item in self {
            item.write(out);
        }
    }
}

/// The path with which most requests and transactions begin, behind their headers, if that is what the bytes look like.
/// Nothing about it is checked but that it is there and absolute.
#[must_use]
pub fn leading_path(bytes: &[u8]) -> Option<&[u8]> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let path = rest.get(..usize::try_from(i32::from_be_bytes(*len)).ok()?)?;
    path.starts_with(b"/").then_some(path)
}

/// Appends a 32-bit integer.
pub fn put_i32(out: &mut Vec<u8>, v: i32) {
    out.extend_from_slice(&v.to_be_bytes());
}

/// Appends a 64-bit integer.
pub fn put_i64(out: &mut Vec<u8>, v: i64) {
    out.extend_from_slice(&v.to_be_bytes());
}

/// Appends a length or count.
///
/// # Panics
/// When `n` does not fit a 32-bit signed integer, which no bounded record reaches.
pub fn put_len(out: &mut Vec<u8>, n: usize) {
    put_i32(out, i32::try_from(n).expect("a record is bounded far below 2 GiB"));
}

/// Appends a nullable run of bytes.
pub fn put_buffer(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_i32(out, -1),
        Some(b) => {
            put_len(out, b.len());
            out.extend_from_slice(b);
        }
    }
}

/// Appends a string that is not null.
pub fn put_str(out: &mut Vec<u8>, s: &str) {
    put_buffer(out, Some(s.as_bytes()));
}

/// Declares records: structs whose [`Field`] implementation reads and writes the fields in order.
macro_rules! record {
    ($($(#[$doc:meta])* pub struct $name:ident <$lt:lifetime> { $($(#[$fdoc:meta])* pub $field:ident : $ty:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct $name<$lt> { $($(#[$fdoc])* pub $field: $ty,)* }
        impl<$lt> $crate::jute::Field<$lt> for $name<$lt> {
            fn read(r: &mut $crate::jute::Reader<$lt>) -> Result<Self, $crate::DecodeError> {
                Ok(Self { $($field: $crate::jute::Field::read(r)?,)* })
            }
            fn write(&self, out: &mut Vec<u8>) { $($crate::jute::Field::write(&self.$field, out);)* }
        }
    )*};
}
pub(crate) use record;

macro_rules! plain_record {
    ($($(#[$doc:meta])* pub struct $name:ident { $($(#[$fdoc:meta])* pub $field:ident : $ty:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct $name { $($(#[$fdoc])* pub $field: $ty,)* }
        impl<'a> $crate::jute::Field<'a> for $name {
            fn read(r: &mut $crate::jute::Reader<'a>) -> Result<Self, $crate::DecodeError> {
                Ok(Self { $($field: $crate::jute::Field::read(r)?,)* })
            }
            fn write(&self, out: &mut Vec<u8>) { $($crate::jute::Field::write(&self.$field, out);)* }
        }
    )*};
}
pub(crate) use plain_record;

macro_rules! newtype_field {
    ($($name:ty, $inner:ty, $from:expr, $to:expr;)*) => {$(
        impl<'a> Field<'a> for $name {
            fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
                <$inner>::read(r).map($from)
            }
            fn write(&self, out: &mut Vec<u8>) {
                let to: fn(&Self) -> $inner = $to;
                to(self).write(out);
            }
        }
    )*};
}
newtype_field! {
    crate::Zxid, i64, Self::from_wire, |z| z.to_wire();
    crate::SessionId, i64, Self, |s| s.0;
    crate::Xid, i32, Self, |x| x.0;
}

/// Text with U+FFFD in place of each bad sequence. A char beyond the BMP, which Java writes as two surrogates of three bytes and
/// does not read back, comes to two of them, as in Java.
fn lossy(mut bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    loop {
        let (good, len) = match std::str::from_utf8(bytes) {
            Ok(good) => {
                text.push_str(good);
                return text;
            }
            Err(error) => (error.valid_up_to(), error.error_len()),
        };
        let (good, bad) = bytes.split_at(good);
        text.push_str(std::str::from_utf8(good).expect("it was looked at"));
        text.push(char::REPLACEMENT_CHARACTER);
        let len = match bad {
            [0xED, 0xA0..=0xBF, 0x80..=0xBF, ..] => 3,
            [0xED, 0xA0..=0xBF, ..] => 2,
            _ => len.unwrap_or(bad.len()),
        };
        bytes = &bad[len..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_text_reads_as_in_java() {
        for (bytes, expected) in [
            (&b"a\xffb"[..], "a\u{fffd}b"),
            (b"u\xed\xa0\xbd\xed\xb8\x80.", "u\u{fffd}\u{fffd}."),
            (b"\xed\xa0", "\u{fffd}"),
            (b"\xed\xa0A", "\u{fffd}A"),
            (b"\xe2\x82", "\u{fffd}"),
            (b"\xff\xff", "\u{fffd}\u{fffd}"),
            ("é😀".as_bytes(), "é😀"),
        ] {
            let mut out = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
            out.extend_from_slice(bytes);
            assert_eq!(Reader::new(&out).string().unwrap().as_deref(), Some(expected), "{bytes:?}");
        }
    }

    #[test]
    fn bytes_tell_the_path_that_they_begin_with_if_there_is_one() {
        let bytes = |len: i32, rest: &[u8]| [&len.to_be_bytes()[..], rest].concat();
        assert_eq!(leading_path(&bytes(2, b"/ab")), Some(b"/a".as_slice()));
        assert_eq!(leading_path(&bytes(3, b"/ab")), Some(b"/ab".as_slice()));
        for without in [bytes(4, b"/ab"), bytes(-1, b"/ab"), bytes(0, b""), bytes(2, b"ab"), vec![0; 3], vec![]] {
            assert_eq!(leading_path(&without), None, "{without:?}");
        }
    }
}
