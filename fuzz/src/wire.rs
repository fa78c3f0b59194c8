//! Decoders of the wire and of configuration files.

use farrier_proto::client::{
    AuthPacket, ClientInfo, ConnectRequest, ConnectResponse, CreateRequest, CreateTtlRequest, PathKind, PathOnly,
    PathVersion, PathWatch, ReconfigRequest, ReplyHeader, RequestHeader, SaslToken, SetAclRequest, SetDataRequest,
    SetWatches, SetWatches2, WatcherEvent,
};
use farrier_proto::multi::{MultiHeader, read_multi, read_multi_read};
use farrier_proto::txn::{read_header, read_txn, write_txn};
use farrier_proto::{Field, Reader, Stat, Txn, TxnDigest};
use farrier_server::config::properties;
use std::fmt::Debug;

/// Decodes, and if that succeeds, encodes and compares. Encoding may be longer: text that is not UTF-8
/// has become U+FFFD.
fn same<'a, T: Field<'a> + PartialEq + Debug>(data: &'a [u8], bytes: &'a mut Vec<u8>) {
    let mut reader = Reader::new(data);
    let Ok(value) = T::read(&mut reader) else { return };
    assert!(reader.position() <= data.len(), "a reader stays within its bytes");
    value.write(bytes);
    let bytes: &'a [u8] = bytes;
    let mut again = Reader::new(bytes);
    assert_eq!(T::read(&mut again).as_ref(), Ok(&value));
    assert!(again.is_empty(), "an encoder writes what its decoder reads");
}

macro_rules! records {
    ($($name:ident),*) => {
        /// Every record of the client protocol.
        pub fn fuzz_records(data: &[u8]) {
            $(same::<$name<'_>>(data, &mut Vec::new());)*
            same::<ConnectRequest<'_>>(data, &mut Vec::new());
            same::<ConnectResponse>(data, &mut Vec::new());
            same::<RequestHeader>(data, &mut Vec::new());
            same::<ReplyHeader>(data, &mut Vec::new());
            same::<MultiHeader>(data, &mut Vec::new());
            same::<Stat>(data, &mut Vec::new());
        }
    };
}
records! {
    CreateRequest, CreateTtlRequest, PathVersion, PathWatch, SetDataRequest, PathOnly, SetAclRequest, SetWatches,
    SetWatches2, PathKind, AuthPacket, SaslToken, ReconfigRequest, WatcherEvent, ClientInfo
}

/// The bodies of multi and multiRead.
pub fn fuzz_multi(data: &[u8]) {
    let mut reader = Reader::new(data);
    if let Ok(ops) = read_multi(&mut reader) {
        assert!(ops.len() <= data.len(), "every operation takes bytes");
    }
    let _ = read_multi_read(&mut Reader::new(data));
}

/// Transactions as logs hold them.
pub fn fuzz_txn(data: &[u8]) {
    let _ = read_header(data);
    let Ok((header, txn, digest)) = read_txn(data) else { return };
    match &txn {
        // Lists that no server writes: two empty paths are a digest if nothing follows, and a null list is left out,
        // behind which only a digest of the usual version is told from a list.
        Txn::CloseSession(Some(paths)) if paths.len() == 2 && paths.iter().all(|path| path.is_empty()) => return,
        Txn::CloseSession(None) if digest.as_ref().is_some_and(|d| d.version != TxnDigest::VERSION) => return,
        _ => {}
    }
    let mut bytes = Vec::new();
    write_txn(&mut bytes, &header, &txn, digest.clone());
    let again = read_txn(&bytes).expect("what was written is read");
    assert_eq!(again, (header, txn, digest));
}

/// The text of a configuration file.
pub fn fuzz_properties(data: &[u8]) {
    let Ok(found) = properties::parse(data) else { return };
    let lines = 1 + data.iter().filter(|b| matches!(b, b'\n' | b'\r')).count();
    for entry in &found.entries {
        assert!((1..=lines).contains(&entry.line), "line {} of {lines}", entry.line);
        assert_eq!((entry.key.trim(), entry.value.trim()), (&*entry.key, &*entry.value), "they are trimmed");
    }
}

fn request(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

const ACL: &[u8] = b"\0\0\0\x01\0\0\0\x1f\0\0\0\x05world\0\0\0\x06anyone";

pub(crate) fn record_seeds() -> Vec<Vec<u8>> {
    vec![
        request(&[b"\0\0\0\x02/a\0\0\0\x01x", ACL, b"\0\0\0\x04\0\0\0\0\0\0\x27\x10"]),
        request(&[b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x75\x30\0\0\0\0\0\0\0\0\0\0\0\x10", &[0; 16], b"\0"]),
        request(&[b"\0\0\0\0\0\0\0\x05\0\0\0\x01\0\0\0\x02/a\0\0\0\x01\0\0\0\x02/b", &[0; 12]]),
        request(&[b"\0\0\0\x02/a\xff\xff\xff\xff\0\0\0\x01"]),
    ]
}

pub(crate) fn multi_seeds() -> Vec<Vec<u8>> {
    let end = b"\xff\xff\xff\xff\x01\xff\xff\xff\xff";
    let create = request(&[b"\0\0\0\x01\0\xff\xff\xff\xff\0\0\0\x02/a\0\0\0\x01x", ACL, b"\0\0\0\0"]);
    let delete = b"\0\0\0\x02\0\xff\xff\xff\xff\0\0\0\x02/a\xff\xff\xff\xff";
    let ttl = request(&[b"\0\0\0\x15\0\xff\xff\xff\xff\0\0\0\x02/t\0\0\0\0", ACL, b"\0\0\0\x05\0\0\0\0\0\0\x27\x10"]);
    let read = b"\0\0\0\x04\0\xff\xff\xff\xff\0\0\0\x02/a\0";
    vec![request(&[&create, delete, &ttl, end]), request(&[read, read, end])]
}

pub(crate) fn txn_seeds() -> Vec<Vec<u8>> {
    // A closeSession without a list of paths, behind which the digest's version could pass for two of them.
    let bodiless = [&[0; 28], &b"\xff\xff\xff\xf5\0\0\0\x02\0\0\0\0\0\0\0\x09"[..]].concat();
    crate::disk::record_seeds().into_iter().map(|s| s[1..].to_vec()).chain([bodiless]).collect()
}

pub(crate) fn properties_seeds() -> Vec<Vec<u8>> {
    let plain =
        "tickTime=2000\n# comment\ndataDir = /tmp/\\\n   zk\r\n! x\nserver.1=a:1:2\\u00e9\\:3\nkey:value\nempty\n";
    vec![plain.into(), "\u{feff}schl\u{fc}ssel=wert\\".into(), b"a=\xff\xfe\\u12".to_vec()]
}
