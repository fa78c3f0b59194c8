//! Preparation and application together: what a client of one server sees of writes.

mod changes;
mod creates;
mod multis;
mod predict;
mod sessions;
mod sizes;

use super::*;
use crate::{Outcome, TreeConfig};
use farrier_proto::txn::{read_txn, write_txn};
use farrier_proto::{RawAcl, Stat, TxnHeader};
use std::collections::VecDeque;

/// The session that most requests come from.
const ME: SessionId = SessionId(0x100);
const OTHER: SessionId = SessionId(-7);

/// A tree and its preparation. Transactions go through their bytes and wait until [`Server::apply`], which
/// compares the digest that was predicted.
struct Server {
    tree: Tree,
    prep: Prep,
    zxid: Zxid,
    time: i64,
    session: SessionId,
    ids: Vec<Identity>,
    unapplied: VecDeque<Vec<u8>>,
}

impl Server {
    fn with(config: TreeConfig, auth: AuthConfig) -> Self {
        let mut server = Self {
            tree: Tree::new(config),
            prep: Prep::new(Arc::new(auth), farrier_proto::limits::TXN_MAX),
            zxid: Zxid::new(1, 0),
            time: 1000,
            session: ME,
            ids: Vec::new(),
            unapplied: VecDeque::new(),
        };
        for session in [OTHER, ME] {
            server.session = session;
            assert_eq!(server.run(WriteRequest::CreateSession { timeout: 4000 }), Outcome::Done);
        }
        server
    }

    fn new() -> Self {
        Self::with(TreeConfig::default(), AuthConfig::default())
    }

    /// With TTL nodes.
    fn extended() -> Self {
        Self::with(TreeConfig { extended_types: true, ..TreeConfig::default() }, AuthConfig::default())
    }

    fn prepare<'r>(&mut self, request: WriteRequest<'r>) -> Prepared<'r> {
        self.zxid = self.zxid.next().unwrap();
        self.time += 1;
        let ctx =
            RequestContext { session: self.session, cxid: 5, zxid: self.zxid, time: self.time, identities: &self.ids };
        let prepared = self.prep.prepare(&self.tree, &ctx, request);
        assert_eq!(prepared.error.is_some(), matches!(prepared.txn, Txn::Error(_)));
        assert_eq!(prepared.digest.is_some(), prepared.error.is_none() && self.tree.config().digest);
        let header = TxnHeader {
            session: self.session,
            cxid: 5,
            zxid: self.zxid,
            time: self.time,
            kind: prepared.txn.kind().code(),
        };
        let mut bytes = Vec::new();
        write_txn(&mut bytes, &header, &prepared.txn, prepared.digest.clone());
        let (_, txn, digest) = read_txn(&bytes).unwrap();
        assert_eq!((&txn, &digest), (&prepared.txn, &prepared.digest), "a transaction survives its bytes");
        self.unapplied.push_back(bytes);
        prepared
    }

    /// Applies the oldest transaction that waits.
    fn apply(&mut self) -> Outcome {
        let bytes = self.unapplied.pop_front().unwrap();
        let (header, txn, digest) = read_txn(&bytes).unwrap();
        // To look ahead changes nothing.
        self.prep.foresee(&self.tree, self.zxid);
        let mut changes = Vec::new();
        let outcome = self.tree.apply_prepared(&header, &txn, Some(&mut changes), &self.prep);
        if let Some(digest) = digest {
            assert_eq!(digest, TxnDigest::new(self.tree.digest()), "the digest after {txn:?}");
        }
        self.prep.applied(header.zxid);
        outcome
    }

    /// Prepares and applies, after everything that waits.
    fn run(&mut self, request: WriteRequest<'_>) -> Outcome {
        self.prepare(request);
        while self.unapplied.len() > 1 {
            self.apply();
        }
        let outcome = self.apply();
        assert_eq!(self.prep.outstanding(), 0, "nothing is outstanding once all is applied");
        outcome
    }

    fn code(&mut self, request: WriteRequest<'_>) -> i32 {
        code_of(&self.run(request))
    }

    fn ok(&mut self, request: WriteRequest<'_>) -> Outcome {
        let what = format!("{request:?}");
        let outcome = self.run(request);
        assert_eq!(code_of(&outcome), 0, "{what}");
        outcome
    }

    /// The path that a create made.
    fn created(&mut self, request: WriteRequest<'_>) -> (String, Stat) {
        match self.ok(request) {
            Outcome::Created { path, stat } => (path, stat),
            other => panic!("not a create: {other:?}"),
        }
    }

    fn stat(&self, path: &str) -> Stat {
        self.tree.node(path).unwrap().stat()
    }

    fn multi(&mut self, ops: Vec<MultiOp<'_>>) -> Vec<Outcome> {
        match self.run(WriteRequest::Multi(ops)) {
            Outcome::Multi(outcomes) => outcomes,
            other => panic!("not a multi: {other:?}"),
        }
    }

    fn codes(&mut self, ops: Vec<MultiOp<'_>>) -> Vec<i32> {
        let code = |o: &Outcome| if let Outcome::Failed(code) = o { *code } else { 0 };
        self.multi(ops).iter().map(code).collect()
    }
}

fn code_of(outcome: &Outcome) -> i32 {
    match outcome {
        Outcome::Failed(code) => *code,
        Outcome::Done | Outcome::Created { .. } | Outcome::Stat(_) | Outcome::Multi(_) => 0,
    }
}

fn entry(perms: i32, scheme: &'static str, id: &'static str) -> RawAcl<'static> {
    RawAcl { perms, scheme: Some(scheme.into()), id: Some(id.into()) }
}

fn open() -> Vec<RawAcl<'static>> {
    vec![entry(perms::ALL, "world", "anyone")]
}

fn raw_create<'r>(path: &'r str, flags: i32) -> CreateRequest<'r> {
    CreateRequest { path: Some(path.into()), data: Some(b"".into()), acl: Some(open()), flags }
}

fn create(path: &str, flags: i32) -> WriteRequest<'_> {
    WriteRequest::Create { op: OpCode::Create, request: raw_create(path, flags), ttl: None }
}

fn create_op(op: OpCode, path: &str, flags: i32) -> WriteRequest<'_> {
    WriteRequest::Create { op, request: raw_create(path, flags), ttl: None }
}

fn create_data<'r>(path: &'r str, data: &'r [u8]) -> WriteRequest<'r> {
    let request = CreateRequest { data: Some(data.into()), ..raw_create(path, 0) };
    WriteRequest::Create { op: OpCode::Create, request, ttl: None }
}

fn create_acl<'r>(path: &'r str, acl: Vec<RawAcl<'r>>) -> WriteRequest<'r> {
    let request = CreateRequest { acl: Some(acl), ..raw_create(path, 0) };
    WriteRequest::Create { op: OpCode::Create, request, ttl: None }
}

fn create_ttl(path: &str, flags: i32, ttl: i64) -> WriteRequest<'_> {
    WriteRequest::Create { op: OpCode::CreateTtl, request: raw_create(path, flags), ttl: Some(ttl) }
}

fn path_version(path: &str, version: i32) -> PathVersion<'_> {
    PathVersion { path: Some(path.into()), version }
}

fn delete(path: &str, version: i32) -> WriteRequest<'_> {
    WriteRequest::Delete(path_version(path, version))
}

fn raw_set<'r>(path: &'r str, data: &'r [u8], version: i32) -> SetDataRequest<'r> {
    SetDataRequest { path: Some(path.into()), data: Some(data.into()), version }
}

fn set<'r>(path: &'r str, data: &'r [u8], version: i32) -> WriteRequest<'r> {
    WriteRequest::SetData(raw_set(path, data, version))
}

fn set_acl<'r>(path: &'r str, acl: Vec<RawAcl<'r>>, version: i32) -> WriteRequest<'r> {
    WriteRequest::SetAcl(SetAclRequest { path: Some(path.into()), acl: Some(acl), version })
}

fn m_create(path: &str, flags: i32) -> MultiOp<'_> {
    MultiOp::Create { op: OpCode::Create, request: raw_create(path, flags), ttl: None }
}

fn m_delete(path: &str, version: i32) -> MultiOp<'_> {
    MultiOp::Delete(path_version(path, version))
}

fn m_set<'r>(path: &'r str, data: &'r [u8], version: i32) -> MultiOp<'r> {
    MultiOp::SetData(raw_set(path, data, version))
}

fn m_check(path: &str, version: i32) -> MultiOp<'_> {
    MultiOp::Check(path_version(path, version))
}
