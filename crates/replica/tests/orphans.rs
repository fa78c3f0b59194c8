//! Ephemerals whose session does not exist, as logs of older servers leave them: a transaction ends them, on a server alone and
//! under a new leader, and nothing else touches the tree (safety contract 7).

mod harness;

use farrier_proto::client::CreateRequest;
use farrier_proto::{OpCode, RawAcl, SessionId, Txn};
use farrier_storage::LoggedTxn;
use harness::ensemble::Cluster;
use harness::{World, config, encode};

fn ephemeral(path: &str) -> Vec<u8> {
    let open = RawAcl { perms: 31, scheme: Some("world".into()), id: Some("anyone".into()) };
    encode(&CreateRequest { path: Some(path.into()), data: None, acl: Some(vec![open]), flags: 1 })
}

#[test]
fn a_server_alone_ends_them() {
    let mut before = World::new(config());
    let mut sessions = Vec::new();
    for path in ["/lost", "/kept"] {
        let (conn, session) = before.connect(30_000);
        before.request(conn, 1, OpCode::Create, &ephemeral(path));
        assert_eq!(before.replies(conn), [(1, 0)]);
        sessions.push(session);
    }
    let mut w = before.restart_without(config(), sessions[0]);
    w.sync_at_once = false;
    let last = w.replica.tree().zxid();
    w.pass(1);
    assert_eq!(w.appended.iter().map(|(_, zxid)| *zxid).collect::<Vec<_>>(), [last.next().expect("room in the epoch")]);
    assert!(w.replica.tree().node("/lost").is_some(), "until the transaction is durable");
    w.sync();
    let has = |path| w.replica.tree().node(path).is_some();
    assert_eq!((has("/lost"), has("/kept")), (false, true));
}

#[test]
fn a_new_leader_ends_them_everywhere() {
    let mut c = Cluster::of_three();
    let leader = c.leader();
    let mut sessions = Vec::new();
    for path in ["/lost", "/kept"] {
        let client = c.connect(leader, 30_000);
        c.request(client, 1, OpCode::Create, &ephemeral(path));
        assert_eq!(c.replies(client), [(1, 0)]);
        sessions.push(client.session);
    }
    c.stop_and_forget(sessions[0]);
    for server in [1, 2, 3] {
        c.start(server);
    }
    c.settle();
    c.pass(1000);
    for server in [1, 2, 3] {
        let closed: Vec<SessionId> = c
            .log(server)
            .iter()
            .map(|(_, txn)| LoggedTxn::read(txn).expect("a transaction"))
            .filter(|txn| matches!(txn.txn, Txn::CloseSession(_)))
            .map(|txn| txn.header.session)
            .collect();
        assert_eq!(closed, [sessions[0]]);
        let has = |path| c.replica(server).tree().node(path).is_some();
        assert_eq!((has("/lost"), has("/kept")), (false, true), "server {server}");
    }
}
