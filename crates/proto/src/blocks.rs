//! Pieces of bytes that are kept for a while, such as transactions, in blocks of memory that they share.
//!
//! Whoever holds them (the log's queue, what is outstanding, the history for followers) lets go of them in the order in
//! which they came, so a block lives hardly longer than its last piece. One allocation serves hundreds of
//! them, and nothing is freed one by one on another thread.

use bytes::{Bytes, BytesMut};

/// Bytes of a block, and of the longest piece that shares one.
const BLOCK: usize = 64 << 10;
const SHARING_MAX: usize = BLOCK / 8;

/// The block that is being filled.
#[derive(Debug, Default)]
pub struct Blocks {
    scratch: Vec<u8>,
    block: BytesMut,
}

impl Blocks {
    /// What `write` appends to an empty buffer. A piece of more than 8 KiB gets memory of its own.
    pub fn written(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        let mut scratch = std::mem::take(&mut self.scratch);
        write(&mut scratch);
        if scratch.len() > SHARING_MAX {
            return Bytes::from(scratch);
        }
        let piece = self.copied(&scratch);
        scratch.clear();
        self.scratch = scratch;
        piece
    }

    /// A copy of these bytes, which need not be kept any longer.
    pub fn copied(&mut self, piece: &[u8]) -> Bytes {
        if piece.len() > SHARING_MAX {
            return Bytes::copy_from_slice(piece);
        }
        if self.block.capacity() < piece.len() {
            self.block = BytesMut::with_capacity(BLOCK);
        }
        self.block.extend_from_slice(piece);
        self.block.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_share_blocks_and_long_ones_do_not() {
        let mut blocks = Blocks::default();
        let lens = [0, 1, 200, SHARING_MAX, SHARING_MAX + 1, 3 * BLOCK, 7];
        let texts: Vec<Vec<u8>> =
            lens.iter().cycle().take(100).enumerate().map(|(i, len)| vec![i as u8; *len]).collect();
        let written: Vec<Bytes> = texts.iter().map(|t| blocks.written(|out| out.extend_from_slice(t))).collect();
        let copied: Vec<Bytes> = texts.iter().map(|t| blocks.copied(t)).collect();
        for (i, text) in texts.iter().enumerate() {
            assert!(written[i] == text && copied[i] == text, "piece {i}");
        }

        let (one, next) = (blocks.written(|out| out.push(1)), blocks.copied(&[2]));
        assert_eq!(one.as_ptr().wrapping_add(1), next.as_ptr());
        assert!(blocks.scratch.capacity() <= BLOCK, "a long one's buffer is not kept");
    }
}
