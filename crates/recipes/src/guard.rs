//! What a holder of a lock can do that nobody else can.

use crate::hold::Hold;
use crate::{Error, Token};
use farrier_client::{Client, ErrorCode, Op, OpResult};
use std::ops::Deref;

/// A lock that is held, or was; see [`Hold`] for what it tells of that.
///
/// It is not re-entrant: whoever acquires the same lock again waits for itself.
#[derive(Debug)]
#[must_use = "the lock is released when its guard is dropped"]
pub struct Guard(Hold);

impl Deref for Guard {
    type Target = Hold;

    fn deref(&self) -> &Hold {
        &self.0
    }
}

impl Guard {
    pub(crate) const fn new(hold: Hold) -> Self {
        Self(hold)
    }

    /// The number by which a resource outside of the ensemble can tell this holder from those before and after it.
    #[must_use]
    pub fn token(&self) -> Token {
        Token::of(self.czxid())
    }

    /// Writes under the lock: all of it is done while the lock is held, or none of it. Unlike a look at the state this
    /// can't be overtaken, however long this process was stopped before the servers got it. The results are those of
    /// `ops`, as of [`Client::multi`].
    ///
    /// # Errors
    ///
    /// [`Error::LockLost`]: nothing was done. Otherwise as [`Client::multi`].
    pub async fn multi<'a>(&'a self, ops: impl IntoIterator<Item = Op<'a>>) -> Result<Vec<OpResult>, Error> {
        if self.state() == crate::HoldState::Lost {
            return Err(Error::LockLost { path: self.path().to_owned() });
        }
        let result = guarded_multi(self.client(), self.path(), ops).await;
        if matches!(result, Err(Error::LockLost { .. })) {
            self.lose();
        }
        result
    }

    /// Releases the lock and tells how that went. Dropping the guard does the same in the background; so does this call
    /// once it is made, should it be dropped before its end.
    ///
    /// # Errors
    ///
    /// [`Error::LockLost`] if the lock was no longer held, so that others may have held it while this holder thought it
    /// did. Another error says that no server has answered yet; the release is seen to in the background.
    pub async fn release(self) -> Result<(), Error> {
        self.0.release().await
    }
}

/// Writes under a lock that somebody holds, who tells the path of its znode ([`Hold::path`]), from any session that may
/// read that znode: a multi that first checks that the znode exists. Its name is never used again, so in the order of the
/// leader the lock is held by the same holder when the writes are done.
///
/// # Errors
///
/// [`Error::LockLost`]: the znode is gone and nothing was done. Otherwise as [`Client::multi`], counted without the check.
pub async fn guarded_multi<'a>(
    client: &'a Client,
    lock_node: &'a str,
    ops: impl IntoIterator<Item = Op<'a>>,
) -> Result<Vec<OpResult>, Error> {
    let check = Op::check(lock_node, None);
    match client.multi(std::iter::once(check).chain(ops)).await {
        Ok(mut results) => {
            // That of the check.
            results.remove(0);
            Ok(results)
        }
        Err(farrier_client::Error::Refused { code: ErrorCode::NoNode, index: Some(0), .. }) => {
            Err(Error::LockLost { path: lock_node.to_owned() })
        }
        Err(mut error) => {
            if let farrier_client::Error::Refused { index, .. } = &mut error {
                // The check is none of the caller's operations.
                *index = index.and_then(|index| index.checked_sub(1));
            }
            Err(error.into())
        }
    }
}
