//! The znodes above those of a recipe, and the paths below them.

use farrier_client::{Acl, Client, Error, ErrorCode, NewZnode};

/// The path of a recipe without the slashes that a caller may have put at its end. The root keeps its own.
pub(crate) fn trimmed(path: &str) -> String {
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() && !path.is_empty() { "/".to_owned() } else { trimmed.to_owned() }
}

/// The path of a child of `parent`, which may be the root.
pub(crate) fn child(parent: &str, name: &str) -> String {
    format!("{}/{name}", parent.trim_end_matches('/'))
}

/// Creates what is missing of `path` and above it, empty: `path` itself as a container where the servers have them
/// (they delete it when its last child has gone), what is above it persistent.
///
/// # Errors
///
/// A server refused to create one that does not exist, or did not answer.
pub(crate) async fn create_container(client: &Client, path: &str, acl: &[Acl<'_>]) -> Result<(), Error> {
    create_above(client, path, acl).await?;
    let container = client.create_new(NewZnode::new(path, b"").acl(acl).container()).await;
    match container {
        // Servers before 3.5 know no containers.
        Err(error) if error.code() == Some(ErrorCode::Unimplemented) => {
            created(client, path, client.create(path, b"").acl(acl).await).await
        }
        other => created(client, path, other).await,
    }
}

/// Creates what is missing of `path` and above it, empty and persistent.
///
/// # Errors
///
/// As [`create_container`].
pub(crate) async fn create_persistent(client: &Client, path: &str, acl: &[Acl<'_>]) -> Result<(), Error> {
    create_above(client, path, acl).await?;
    created(client, path, client.create(path, b"").acl(acl).await).await
}

/// Creates what is missing above `path`, empty and persistent.
///
/// # Errors
///
/// As [`create_container`].
pub(crate) async fn create_above(client: &Client, path: &str, acl: &[Acl<'_>]) -> Result<(), Error> {
    let above = path.match_indices('/').map(|(at, _)| &path[..at]).filter(|parent| !parent.is_empty());
    for parent in above {
        created(client, parent, client.create(parent, b"").acl(acl).await).await?;
    }
    Ok(())
}

/// An existing znode is as good as a created one; so is one that this client could not create.
async fn created<T>(client: &Client, path: &str, result: Result<T, Error>) -> Result<(), Error> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if error.is_node_exists() => Ok(()),
        Err(error) => match client.exists(path).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) | Err(_) => Err(error),
        },
    }
}
