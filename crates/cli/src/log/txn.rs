//! One logged transaction, as lines for people and as JSON.

use farrier_proto::{ErrorCode, SessionId, Txn, TxnDigest, TxnHeader, TxnType};
use serde_json::{Map, Value, json};

use crate::output::{FAINT, GOOD, Out};
use crate::values::{acl, acl_json, base64, hex, length, plain, quoted, time};

/// A record of a log, decoded.
pub(super) struct Record<'a> {
    pub(super) file: &'a str,
    /// Where the record starts, in bytes.
    pub(super) offset: u64,
    /// Bytes of the transaction.
    pub(super) len: usize,
    pub(super) header: TxnHeader,
    pub(super) body: Txn<'a>,
    pub(super) digest: Option<TxnDigest>,
}

impl Record<'_> {
    /// A line; one more for each part of a multi.
    pub(super) fn print(&self, data: bool, out: &mut Out) -> anyhow::Result<()> {
        let TxnHeader { session, cxid, zxid, time: at, .. } = self.header;
        let session = if session == SessionId::NONE { "server".to_owned() } else { format!("session {session}") };
        let digest = self.digest.as_ref().map(|d| format!(", digest {}", digest(d))).unwrap_or_default();
        let place = format!("[{} bytes at {}{digest}]", self.len, self.offset);
        out.line(format_args!(
            "  {}  {}  {session} cxid {cxid}  {}  {}",
            out.paint(GOOD, zxid),
            time(at),
            text(&self.body, data),
            out.paint(FAINT, place),
        ))?;
        let Txn::Multi(parts) = &self.body else { return Ok(()) };
        for part in parts {
            out.line(format_args!("      {}", text(part, data)))?;
        }
        Ok(())
    }

    pub(super) fn json(&self, data: bool) -> Value {
        let mut object = fields(&self.body, data);
        let TxnHeader { session, cxid, zxid, time, .. } = self.header;
        let more = json!({
            "file": self.file,
            "offset": self.offset,
            "length": self.len,
            "zxid": zxid.to_string(),
            "time": time,
            "session": session.to_string(),
            "cxid": cxid,
            "digest": self.digest.as_ref().map(|d| hex(d.tree)),
            "digestVersion": self.digest.as_ref().map(|d| d.version),
        });
        if let Value::Object(more) = more {
            object.extend(more);
        }
        Value::Object(object)
    }
}

/// The digest of the one algorithm that there is; another one with its number.
fn digest(digest: &TxnDigest) -> String {
    if digest.version == TxnDigest::VERSION {
        hex(digest.tree)
    } else {
        format!("{} (version {})", hex(digest.tree), digest.version)
    }
}

/// The names by which Apache's tools call them.
const fn name(kind: TxnType) -> &'static str {
    match kind {
        TxnType::Error => "error",
        TxnType::CreateSession => "createSession",
        TxnType::CloseSession => "closeSession",
        TxnType::Create => "create",
        TxnType::Delete => "delete",
        TxnType::SetData => "setData",
        TxnType::SetAcl => "setACL",
        TxnType::Check => "check",
        TxnType::Multi => "multi",
        TxnType::Create2 => "create2",
        TxnType::Reconfig => "reconfig",
        TxnType::CreateContainer => "createContainer",
        TxnType::DeleteContainer => "deleteContainer",
        TxnType::CreateTtl => "createTTL",
    }
}

/// A code by name where it has one.
fn error(code: i32) -> String {
    ErrorCode::from_code(code).map_or_else(|| code.to_string(), |code| code.to_string())
}

fn text(body: &Txn<'_>, with_data: bool) -> String {
    let name = name(body.kind());
    let shown = |data: &Option<_>| {
        let data: Option<&[u8]> = Option::as_deref(data);
        match data.filter(|_| with_data) {
            Some(data) => format!("{} {}", length(Some(data)), quoted(data)),
            None => length(data),
        }
    };
    match body {
        Txn::Error(code) => format!("{name} {}", error(*code)),
        Txn::CreateSession(timeout) => format!("{name} timeout {timeout} ms"),
        Txn::CloseSession(None) => format!("{name} and its ephemerals"),
        Txn::CloseSession(Some(paths)) if paths.is_empty() => format!("{name} without ephemerals"),
        Txn::CloseSession(Some(paths)) => {
            format!("{name} and {}", paths.iter().map(|p| plain(p)).collect::<Vec<_>>().join(" "))
        }
        Txn::Create(t) | Txn::Create2(t) => format!(
            "{name} {}: {}, acl {}, {}parent cversion {}",
            plain(&t.path),
            shown(&t.data),
            acl(&t.acl),
            if t.ephemeral { "ephemeral, " } else { "" },
            t.parent_cversion
        ),
        Txn::CreateContainer(t) => format!(
            "{name} {}: {}, acl {}, parent cversion {}",
            plain(&t.path),
            shown(&t.data),
            acl(&t.acl),
            t.parent_cversion
        ),
        Txn::CreateTtl(t) => format!(
            "{name} {}: {}, acl {}, ttl {} ms, parent cversion {}",
            plain(&t.path),
            shown(&t.data),
            acl(&t.acl),
            t.ttl,
            t.parent_cversion
        ),
        Txn::Delete(path) | Txn::DeleteContainer(path) => format!("{name} {}", plain(path)),
        Txn::SetData(t) | Txn::Reconfig(t) => {
            format!("{name} {}: {}, version {}", plain(&t.path), shown(&t.data), t.version)
        }
        Txn::SetAcl(t) => format!("{name} {}: acl {}, aversion {}", plain(&t.path), acl(&t.acl), t.version),
        Txn::Check(t) => format!("{name} {}: version {}", plain(&t.path), t.version),
        Txn::Multi(parts) => format!("{name} of {}", parts.len()),
    }
}

/// The fields of a body, under the names of ZooKeeper's records.
fn fields(body: &Txn<'_>, with_data: bool) -> Map<String, Value> {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("type", name(body.kind()).into());
    let put_data = |data: Option<&[u8]>, put: &mut dyn FnMut(&str, Value) -> Option<Value>| {
        put("dataLength", data.map(<[u8]>::len).into());
        if with_data {
            put("data", base64(data));
        }
    };
    match body {
        Txn::Error(code) => {
            put("err", (*code).into());
            put("error", ErrorCode::from_code(*code).map(|code| format!("{code:?}")).into());
        }
        Txn::CreateSession(timeout) => {
            put("timeout", (*timeout).into());
        }
        Txn::CloseSession(paths) => {
            put("paths", paths.as_ref().map(|paths| paths.iter().map(|p| json!(p)).collect::<Vec<_>>()).into());
        }
        Txn::Create(t) | Txn::Create2(t) => {
            put("path", json!(t.path));
            put_data(t.data.as_deref(), &mut put);
            put("acl", acl_json(&t.acl));
            put("ephemeral", t.ephemeral.into());
            put("parentCversion", t.parent_cversion.into());
        }
        Txn::CreateContainer(t) => {
            put("path", json!(t.path));
            put_data(t.data.as_deref(), &mut put);
            put("acl", acl_json(&t.acl));
            put("parentCversion", t.parent_cversion.into());
        }
        Txn::CreateTtl(t) => {
            put("path", json!(t.path));
            put_data(t.data.as_deref(), &mut put);
            put("acl", acl_json(&t.acl));
            put("parentCversion", t.parent_cversion.into());
            put("ttl", t.ttl.into());
        }
        Txn::Delete(path) | Txn::DeleteContainer(path) => {
            put("path", json!(path));
        }
        Txn::SetData(t) | Txn::Reconfig(t) => {
            put("path", json!(t.path));
            put_data(t.data.as_deref(), &mut put);
            put("version", t.version.into());
        }
        Txn::SetAcl(t) => {
            put("path", json!(t.path));
            put("acl", acl_json(&t.acl));
            put("version", t.version.into());
        }
        Txn::Check(t) => {
            put("path", json!(t.path));
            put("version", t.version.into());
        }
        Txn::Multi(parts) => {
            put("operations", parts.iter().map(|part| Value::Object(fields(part, with_data))).collect());
        }
    }
    object
}
