//! What follows a SNAP packet on the learner channel: the body of a snapshot and a signature, without any
//! framing. Only the content tells where it ends.

use super::body::{Failure, GATHER, Parser, Step, write_body};
use super::read::SnapshotError;
use crate::state::{Image, Restore};
use farrier_proto::Zxid;
use farrier_proto::jute::put_str;

/// Ends the stream, as a string.
const SIGNATURE: &str = "BenWasHere";
/// The same with its length.
const SIGNATURE_BYTES: [u8; 14] = *b"\0\0\0\x0aBenWasHere";

/// What errors call the stream.
const NAME: &str = "the snapshot from the leader";

/// Writes `image` as the stream behind a SNAP packet, signature included, in pieces of at most 64 KiB. Returns
/// the number of znodes.
///
/// # Errors
/// The first error of `sink`, which is not called again.
pub fn write_stream<I: Image, E>(image: &I, sink: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<u64, E> {
    let mut gathered = Vec::with_capacity(2 * GATHER);
    let mut hand_on = |gathered: &mut Vec<u8>| {
        gathered.chunks(GATHER).try_for_each(&mut *sink)?;
        gathered.clear();
        // One large znode is no reason to keep its memory.
        gathered.shrink_to(2 * GATHER);
        Ok(())
    };
    let nodes = write_body(image, &mut gathered, &mut hand_on)?;
    put_str(&mut gathered, SIGNATURE);
    hand_on(&mut gathered)?;
    Ok(nodes)
}

/// What [`StreamReader::feed`] made of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Bytes of this call that belong to the stream; those behind are of the next packet.
    pub consumed: usize,
    /// The signature was read: the stream is over.
    pub complete: bool,
}

/// Reads the stream behind a SNAP packet, however it is cut into pieces. At most one field's worth of bytes is
/// held back between two calls.
#[derive(Debug)]
pub struct StreamReader {
    parser: Parser,
    max: usize,
    /// The beginning of a piece.
    held: Vec<u8>,
    /// Bytes that are needed before another look makes sense.
    need: usize,
    /// Bytes before `held`.
    offset: u64,
    complete: bool,
    failed: bool,
}

impl StreamReader {
    /// A reader at the start of a stream. `max` bounds a path, a znode's data and an ACL list, each in bytes.
    #[must_use]
    pub const fn new(max: usize) -> Self {
        let parser = Parser::new(max);
        Self { parser, max, held: Vec::new(), need: 1, offset: 0, complete: false, failed: false }
    }

    /// Takes the next bytes. Once the signature was read nothing more is consumed.
    ///
    /// # Errors
    /// Any [`SnapshotError`] but one of the disk; `state` is then partly filled and of no use, and the reader
    /// is as well.
    ///
    /// # Panics
    /// After an error.
    pub fn feed(&mut self, bytes: &[u8], state: &mut dyn Restore) -> Result<Progress, SnapshotError> {
        assert!(!self.failed, "a stream that broke is not read on");
        if self.complete {
            return Ok(Progress { consumed: 0, complete: true });
        }
        let before = self.held.len();
        if before == 0 {
            let taken = self.take(bytes, state)?;
            if !self.complete {
                self.held.extend_from_slice(&bytes[taken..]);
            }
            return Ok(Progress { consumed: if self.complete { taken } else { bytes.len() }, complete: self.complete });
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        let taken = self.take(&held, state)?;
        if self.complete {
            return Ok(Progress { consumed: taken - before, complete: true });
        }
        held.drain(..taken);
        self.held = held;
        Ok(Progress { consumed: bytes.len(), complete: false })
    }

    /// Uncompressed bytes of the stream so far.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.offset + self.held.len() as u64
    }

    /// Znodes so far.
    #[must_use]
    pub const fn nodes(&self) -> u64 {
        self.parser.nodes
    }

    /// The stream is over, and `state` is that of the packet's zxid: ends with [`Restore::loaded`].
    ///
    /// # Errors
    /// The signature has not come yet, or the state refuses what it has got.
    pub fn finish(self, zxid: Zxid, state: &mut dyn Restore) -> Result<(), SnapshotError> {
        if !self.complete {
            let message = "it ends before its signature".to_owned();
            return Err(self.error(Failure::Damaged(message)));
        }
        state.loaded(zxid, None).map_err(|reason| self.error(Failure::Refused(reason)))
    }

    /// Takes whole pieces from the start of `window`; answers their bytes.
    fn take(&mut self, window: &[u8], state: &mut dyn Restore) -> Result<usize, SnapshotError> {
        let mut at = 0;
        while window.len() - at >= self.need {
            match self.step(&window[at..], state) {
                Ok(Step::Took(n) | Step::Skip(n) | Step::End(n)) => {
                    at += n;
                    self.offset += n as u64;
                    self.need = 1;
                    if self.complete {
                        break;
                    }
                }
                Ok(Step::Need { bytes, .. }) => self.need = bytes,
                Err(failure) => {
                    self.failed = true;
                    return Err(self.error(failure));
                }
            }
        }
        Ok(at)
    }

    fn step(&mut self, window: &[u8], state: &mut dyn Restore) -> Result<Step, Failure> {
        if !self.parser.has_ended() {
            return self.parser.step(window, state);
        }
        match window.get(..SIGNATURE_BYTES.len()) {
            None => Ok(Step::Need { bytes: SIGNATURE_BYTES.len(), what: "the signature" }),
            Some(bytes) if bytes == SIGNATURE_BYTES => {
                self.complete = true;
                Ok(Step::Took(SIGNATURE_BYTES.len()))
            }
            Some(bytes) => Err(Failure::Damaged(format!("the signature is {}", bytes.escape_ascii()))),
        }
    }

    fn error(&self, failure: Failure) -> SnapshotError {
        failure.at(NAME.to_owned(), self.offset, self.max)
    }
}

#[cfg(test)]
mod tests;
