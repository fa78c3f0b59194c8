//! setWatches and setWatches2: a client that reconnected tells which watches it holds, and hears at once
//! of what changed meanwhile.

use crate::limits::PATH_WORK;
use crate::reads::Scope;
use farrier_proto::client::{EventType, SetWatches, SetWatches2, put_event};
use farrier_proto::jute::JStr;
use farrier_proto::perms;
use farrier_proto::{DecodeError, Field, OpCode, Reader};
use farrier_tree::{Node, WatchKind};

/// Zxid in the header of an event that catches up.
const CATCH_UP: i64 = -1;

type Paths<'a> = Option<Vec<JStr<'a>>>;

/// Arms what did not fire and appends an event for what did. Returns the number of events; nothing is
/// armed or appended when the request does not decode.
pub(crate) fn run(
    scope: &mut Scope<'_>,
    op: OpCode,
    body: &mut Reader<'_>,
    out: &mut Vec<u8>,
) -> Result<usize, DecodeError> {
    let request = if op == OpCode::SetWatches2 {
        SetWatches2::read(body)?
    } else {
        SetWatches2 { classic: SetWatches::read(body)?, persistent: Some(Vec::new()), recursive: Some(Vec::new()) }
    };
    let since = if farrier_proto::planted!(RewatchMissesChanges) { i64::MAX } else { request.classic.relative_zxid };
    let data = checked(&request.classic.data)?;
    let exist = checked(&request.classic.exist)?;
    let child = checked(&request.classic.child)?;
    let persistent = checked(&request.persistent)?;
    let recursive = checked(&request.recursive)?;

    scope.works(PATH_WORK * (data.len() + exist.len() + child.len() + persistent.len() + recursive.len()));
    let mut events = 0;
    for path in data {
        let event = match scope.tree.node(path) {
            None => Some(EventType::NodeDeleted),
            Some(n) if n.stat().mzxid.to_wire() > since => Some(EventType::NodeDataChanged),
            Some(_) => None,
        };
        events += fire_or_arm(scope, out, path, event, WatchKind::Data);
    }
    for path in exist {
        let event = scope.tree.node(path).map(|_| EventType::NodeCreated);
        events += fire_or_arm(scope, out, path, event, WatchKind::Data);
    }
    for path in child {
        let event = match scope.tree.node(path) {
            None => Some(EventType::NodeDeleted),
            Some(n) if n.stat().pzxid.to_wire() > since => Some(EventType::NodeChildrenChanged),
            Some(_) => None,
        };
        events += fire_or_arm(scope, out, path, event, WatchKind::Child);
    }
    for path in persistent {
        scope.watches.add(path, scope.conn, WatchKind::Persistent);
    }
    for path in recursive {
        scope.watches.add(path, scope.conn, WatchKind::Recursive);
    }
    Ok(events)
}

fn checked<'a>(paths: &'a Paths<'_>) -> Result<Vec<&'a str>, DecodeError> {
    let paths = paths.as_ref().ok_or(DecodeError::Null("vector"))?;
    paths.iter().map(|p| p.as_deref().ok_or(DecodeError::Null("path"))).collect()
}

/// Unlike Apache, an event about a node that the client may not read is not sent; the watch counts as
/// fired, as it does for events of live changes.
fn fire_or_arm(
    scope: &mut Scope<'_>,
    out: &mut Vec<u8>,
    path: &str,
    event: Option<EventType>,
    kind: WatchKind,
) -> usize {
    let Some(event) = event else {
        if farrier_proto::planted!(RewatchNotArmed) {
            return 0;
        }
        scope.watches.add(path, scope.conn, kind);
        return 0;
    };
    let visible = |n: Node<'_>| scope.permits(&n, perms::READ);
    if !scope.tree.node(path).is_none_or(visible) {
        return 0;
    }
    put_event(out, CATCH_UP, event, path);
    1
}
