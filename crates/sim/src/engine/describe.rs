//! Words for the transcript. Short: no bytes of transactions and no whole trees.

use crate::observe::{ServerEvent, What};
use farrier_replica::Input;

/// One line for an observation.
pub(crate) fn observation(what: &What) -> String {
    match what {
        What::Server(id, event) => format!("{id} {}", server(event)),
        What::Client(id, event) => format!("client {} {event:?}", id.0),
        What::FaultBegan(id, fault) => format!("fault {} begins: {fault:?}", id.0),
        What::FaultEnded(id) => format!("fault {} is over", id.0),
        What::Phase(phase) => format!("=== {phase:?} ==="),
    }
}

fn server(event: &ServerEvent) -> String {
    match event {
        ServerEvent::Appended { zxid, txn } => format!("Appended {zxid} ({} bytes)", txn.len()),
        ServerEvent::Applied { zxid, digest, .. } => format!("Applied {zxid} digest {digest:x?}"),
        ServerEvent::Inspected { zxid, digest, znodes, sessions } => {
            format!("Inspected {zxid} digest {digest:x?}: {} znodes, {} sessions", znodes.len(), sessions.len())
        }
        other => format!("{other:?}"),
    }
}

/// What a completion says.
pub(crate) fn completion(input: &Input<'_>) -> String {
    match input {
        Input::Durable { id } => format!("Durable w{}", id.0),
        Input::Truncated { id, state } => format!("Truncated w{} done={}", id.0, state.is_some()),
        Input::Reloaded { id, .. } => format!("Reloaded w{}", id.0),
        other => format!("{other:?}"),
    }
}
