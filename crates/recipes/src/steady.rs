//! Requests that wait for a server, for recipes that go on until they are dropped.

use farrier_client::{Client, Error, ErrorCode};
use std::time::Duration;

/// Pause before a request is made again that no server answered.
const PAUSE: Duration = Duration::from_millis(100);

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

/// Whether it says nothing about the request, but only that no server dealt with it now.
pub(crate) fn is_passing(error: &Error) -> bool {
    match error {
        Error::NotDone { .. } | Error::Unknown { .. } | Error::SessionExpired { .. } | Error::QueueFull { .. } => true,
        Error::Refused { code, .. } => {
            matches!(code, ErrorCode::ThrottledOp | ErrorCode::SessionExpired | ErrorCode::SessionMoved)
        }
        _ => false,
    }
}
