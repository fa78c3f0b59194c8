//! Transactions as bytes, which share a block of memory with those before and behind them.
//!
//! Whoever holds transactions (the log's queue, what is outstanding, the history for followers) lets go of them in
//! their order, so a block lives hardly longer than its last transaction. One allocation serves hundreds of
//! them, and nothing is freed one by one on another thread.

use crate::limits::{TXN_BLOCK, TXN_SHARING_MAX};
use bytes::{Bytes, BytesMut};

/// The block that is being filled.
#[derive(Debug, Default)]
pub(crate) struct TxnBlocks {
    scratch: Vec<u8>,
    block: BytesMut,
}

impl TxnBlocks {
    /// What `write` appends to an empty buffer. A transaction that is longer than [`TXN_SHARING_MAX`] gets memory of its own.
    pub(crate) fn written(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        self.scratch.clear();
        write(&mut self.scratch);
        if self.scratch.len() > TXN_SHARING_MAX {
            return Bytes::from(std::mem::take(&mut self.scratch));
        }
        if self.block.capacity() < self.scratch.len() {
            self.block = BytesMut::with_capacity(TXN_BLOCK);
        }
        self.block.extend_from_slice(&self.scratch);
        self.block.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_share_blocks_and_long_ones_do_not() {
        let mut blocks = TxnBlocks::default();
        let lens = [0, 1, 200, TXN_SHARING_MAX, TXN_SHARING_MAX + 1, 3 * TXN_BLOCK, 7];
        let texts: Vec<Vec<u8>> =
            lens.iter().cycle().take(100).enumerate().map(|(i, len)| vec![i as u8; *len]).collect();
        let written: Vec<Bytes> = texts.iter().map(|t| blocks.written(|out| out.extend_from_slice(t))).collect();
        assert!(written.iter().zip(&texts).all(|(bytes, text)| bytes == text));

        let (one, next) = (blocks.written(|out| out.push(1)), blocks.written(|out| out.push(2)));
        assert_eq!(one.as_ptr().wrapping_add(1), next.as_ptr());
        assert!(blocks.scratch.capacity() <= TXN_BLOCK, "a long one's buffer is not kept");
    }
}
