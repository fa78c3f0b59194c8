//! Requests that wait for a server, for recipes that go on until they are dropped.

use crate::limits::PAUSE;
use farrier_client::{Client, Error, ErrorCode, Multi, Op};
use tokio::runtime::Handle;

/// The answer to a request that changes nothing, or whose repetition is harmless. It is made again until a server
/// answers it, which ends when the client does.
///
/// # Errors
///
/// A server refused it, or the client has ended.
pub(crate) async fn until_answered<T, R>(client: &Client, mut request: impl FnMut() -> R) -> Result<T, Error>
where
    R: IntoFuture<Output = Result<T, Error>>,
{
    loop {
        match request().await {
            Err(error) if is_passing(&error) && !client.has_ended() => client.sleep(PAUSE).await,
            other => return other,
        }
    }
}

/// Deletes znodes, all or none. That is put in line at once, and seen to in the background until a server has answered.
/// Whatever it is refused for, they are gone, or go with the session.
pub(crate) fn delete_in_background(runtime: &Handle, client: &Client, paths: Vec<String>) {
    fn deletion<'p>(client: &'p Client, paths: &'p [String]) -> Multi<'p> {
        client.multi(paths.iter().map(|path| Op::delete(path, None)))
    }
    let client = client.clone();
    let first = deletion(&client, &paths).send();
    runtime.spawn(async move {
        if first.await.is_err() {
            let again = async || {
                // What was sent before is executed or refused once this is answered.
                client.sync("/").await?;
                deletion(&client, &paths).await
            };
            let _ = until_answered(&client, again).await;
        }
    });
}

/// Whether it says nothing about the request, but only that no server dealt with it now.
pub(crate) fn is_passing(error: &Error) -> bool {
    match error {
        Error::NotDone { .. } | Error::Unknown { .. } | Error::SessionExpired { .. } | Error::QueueFull { .. } => true,
        Error::Refused { code, .. } => {
            use ErrorCode as C;
            // A client that may read only goes on to look for a server that takes writes.
            matches!(code, C::ThrottledOp | C::SessionExpired | C::SessionMoved | C::NotReadOnly)
        }
        _ => false,
    }
}
