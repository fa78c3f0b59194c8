//! A server whose tree is not its leader's: what it does for its clients, and how it gets out of that.

mod harness;

use farrier_proto::client::{CreateRequest, SetDataRequest};
use farrier_proto::stat::StatPersisted;
use farrier_proto::{OpCode, Owner, RawAcl, SessionId, Txn};
use farrier_replica::Input;
use farrier_storage::LoggedTxn;
use farrier_tree::digest::node_digest;
use harness::connect_frame;
use harness::encode;
use harness::ensemble::{Client, Cluster};
use std::borrow::Cow;

fn create(path: &str) -> Vec<u8> {
    create_with(path, 0)
}

fn create_with(path: &str, flags: i32) -> Vec<u8> {
    let open = RawAcl { perms: 31, scheme: Some("world".into()), id: Some("anyone".into()) };
    encode(&CreateRequest { path: Some(Cow::Borrowed(path)), data: None, acl: Some(vec![open]), flags })
}

/// Writes through the leader.
struct Writer {
    client: Client,
    written: i32,
    op: OpCode,
}

impl Writer {
    fn new(c: &mut Cluster) -> Self {
        let l = c.leader();
        Self { client: c.connect(l, 30_000), written: 0, op: OpCode::Create }
    }

    fn write(&mut self, c: &mut Cluster, n: i32) {
        for _ in 0..n {
            self.written += 1;
            let flags = if self.op == OpCode::CreateContainer { 4 } else { 0 };
            let body = create_with(&format!("/{}", self.written), flags);
            c.request(self.client, self.written, self.op, &body);
            assert_eq!(c.replies(self.client), [(self.written, 0)]);
        }
    }
}

fn notes(c: &Cluster, server: i64, text: &str) -> usize {
    c.notes.iter().filter(|(s, n)| *s == server && n.contains(text)).count()
}

/// Three servers, of which follower 1 hears digests that are not those of its own tree; nothing lasts yet.
fn misled() -> (Cluster, Writer) {
    let mut c = Cluster::of_three();
    assert_eq!(c.leader(), 2);
    let mut writer = Writer::new(&mut c);
    writer.write(&mut c, 1);
    c.misled = [1].into();
    writer.write(&mut c, 127);
    (c, writer)
}

#[test]
fn a_mismatch_that_lasts_fences_the_tree_and_the_leaders_state_lifts_that() {
    let (mut c, mut writer) = misled();
    let client = c.connect(1, 30_000);
    assert_eq!(notes(&c, 1, "digest mismatch"), 1, "the first is told");
    // A session's creation is a transaction as well, the 128th.
    assert!(c.replica(1).is_fenced() && !c.replica(1).is_serving());
    assert!(c.is_closed(client.conn));
    let newcomer = c.dial(1);
    c.frame(newcomer, &connect_frame(10_000, SessionId::NONE, &[0; 16], 0));
    assert!(c.is_closed(newcomer), "nobody is let in");

    // It goes on to log and to acknowledge: the other follower's disk stands still.
    c.hold_disk(3, true);
    writer.write(&mut c, 1);
    c.hold_disk(3, false);
    assert_eq!(c.log(1).len(), c.log(2).len());

    // A quorum stays without it, so it leaves and comes back with the leader's state.
    c.misled.clear();
    c.misled.insert(99);
    c.pass(3000);
    assert_eq!(notes(&c, 1, "its whole state is asked for"), 1);
    c.settle();
    assert_eq!((c.streams, c.replica(1).is_serving()), (1, true));
    let client = c.connect(1, 30_000);
    c.request(client, 1, OpCode::Create, &create("/through-1"));
    assert_eq!(c.replies(client), [(1, 0)]);
    writer.write(&mut c, 200);
    c.pass(60_000);
    assert_eq!(c.streams, 1);
}

#[test]
fn a_mismatch_that_comes_back_is_the_leaders() {
    let (mut c, mut writer) = misled();
    writer.write(&mut c, 1);
    assert!(c.replica(1).is_fenced());
    c.pass(5000);
    c.settle();
    assert_eq!(c.streams, 1, "it has the leader's state");
    writer.write(&mut c, 200);
    assert_eq!(notes(&c, 1, "the leader's tree is the odd one"), 1);
    assert!(c.replica(1).is_serving());
    let counted = c.replica(1).stats().digest_mismatches;
    writer.write(&mut c, 200);
    c.pass(60_000);
    assert_eq!((c.streams, c.replica(1).stats().digest_mismatches), (1, counted), "nothing is compared any more");
    assert!(c.replica(1).is_serving());
}

#[test]
fn nobody_leaves_whom_the_others_need() {
    let (mut c, mut writer) = misled();
    c.crash(3);
    writer.write(&mut c, 1);
    assert!(c.replica(1).is_fenced());
    c.pass(30_000);
    assert!(c.replica(1).is_fenced(), "the leader would have no quorum without it");
    assert_eq!(c.leader(), 2);
    writer.write(&mut c, 1);
    c.start(3);
    c.pass(10_000);
    c.settle();
    assert_eq!((c.streams, c.replica(1).is_serving()), (1, true));
}

#[test]
fn a_mismatch_that_ends_fences_nothing() {
    let (mut c, mut writer) = misled();
    c.misled = [99].into();
    writer.write(&mut c, 1);
    assert_eq!(notes(&c, 1, "the digests agree again"), 1);
    c.misled = [1].into();
    writer.write(&mut c, 127);
    assert!(c.replica(1).is_serving());
    // Nor does one that ends behind the verdict.
    writer.write(&mut c, 1);
    assert!(c.replica(1).is_fenced());
    c.misled = [99].into();
    writer.write(&mut c, 1);
    assert!(c.replica(1).is_serving());
    c.pass(5000);
    assert_eq!((c.streams, notes(&c, 1, "its whole state is asked for")), (0, 0));
    c.misled = [1].into();
    writer.write(&mut c, 128);
    assert!(c.replica(1).is_fenced(), "nothing was given, so this is no second time");
}

#[test]
fn a_state_in_doubt_gets_into_no_snapshot() {
    let mut c = Cluster::of_three_with(|config, _| config.snap_count = 20);
    let mut writer = Writer::new(&mut c);
    c.misled = [1, 3].into();
    writer.write(&mut c, 60);
    let of_the_leader = c.snapshots;
    assert!(of_the_leader >= 3, "{of_the_leader}");
    c.misled = [99].into();
    writer.write(&mut c, 1);
    assert_eq!(c.snapshots, of_the_leader + 2, "the others take theirs once they are sure again");
}

#[test]
fn a_state_that_comes_into_doubt_while_its_image_is_gathered_gets_into_no_snapshot() {
    let mut c = Cluster::of_three_with(|config, _| (config.snap_count, config.image_slice) = (20, 1));
    let mut writer = Writer::new(&mut c);
    writer.write(&mut c, 20);
    assert_eq!(c.snapshots, 0, "the clock stands still, and all three gather");
    c.misled = [1].into();
    writer.write(&mut c, 1);
    c.pass(1000);
    assert_eq!(c.snapshots, 2);
    c.misled = [99].into();
    writer.write(&mut c, 20);
    c.pass(1000);
    assert_eq!(c.snapshots, 5, "one on each server");
}

#[test]
fn a_fenced_server_reads_its_disk_again_when_the_term_ends() {
    let (mut c, mut writer) = misled();
    writer.write(&mut c, 1);
    assert!(c.replica(1).is_fenced());
    c.misled = [99].into();
    c.ask(2, Input::HandOver);
    c.run();
    c.settle();
    assert_eq!((c.streams, c.replica(1).is_serving()), (0, true));
    assert_ne!(c.leader(), 2);
}

/// What a digest has for a znode at this path more than for the one that is there.
fn excess_at(c: &Cluster, server: i64, path: &str, as_if_at: &str) -> u64 {
    let node = c.replica(server).tree().node(path).expect("a znode");
    u64::from(node_digest(as_if_at, node.data(), &node.persisted())).wrapping_sub(node.digest())
}

/// As [`misled`], by a leader that encodes paths in ASCII; `more` is what else its digests are off by.
fn misled_by_charset(more: u64) -> (Cluster, Writer, Client) {
    let mut c = Cluster::of_three_with(|config, _| config.snap_count = 20);
    assert_eq!(c.leader(), 2);
    let mut writer = Writer::new(&mut c);
    for (xid, path) in [(-1, "/\u{e9}"), (-2, "/\u{e9}/\u{fc}")] {
        c.request(writer.client, xid, OpCode::Create, &create(path));
        assert_eq!(c.replies(writer.client), [(xid, 0)]);
    }
    let client = c.connect(1, 30_000);
    let excess = excess_at(&c, 2, "/\u{e9}", "/?").wrapping_add(excess_at(&c, 2, "/\u{e9}/\u{fc}", "/?/?"));
    c.off_by = Box::new(move |_| excess.wrapping_add(more));
    c.misled = [1].into();
    writer.write(&mut c, 128);
    (c, writer, client)
}

const CHARSET: &str = "-Dfile.encoding=UTF-8";

#[test]
fn a_leader_that_knows_ascii_only_fences_nobody() {
    let (mut c, mut writer, client) = misled_by_charset(0);
    assert!(c.replica(1).is_serving() && !c.is_closed(client.conn));
    assert_eq!((notes(&c, 1, CHARSET), notes(&c, 1, "digest mismatch")), (1, 1));
    writer.write(&mut c, 300);
    c.request(client, 1, OpCode::Create, &create("/through-1"));
    assert_eq!(c.replies(client), [(1, 0)]);

    // One more such znode: its digests are compared with what the old ones make until they are looked at again.
    c.misled = [99].into();
    c.request(writer.client, -3, OpCode::Create, &create("/\u{20ac}"));
    assert_eq!(c.replies(writer.client), [(-3, 0)]);
    let mut excess = excess_at(&c, 2, "/\u{e9}", "/?").wrapping_add(excess_at(&c, 2, "/\u{e9}/\u{fc}", "/?/?"));
    excess = excess.wrapping_add(excess_at(&c, 2, "/\u{20ac}", "/?"));
    c.off_by = Box::new(move |_| excess);
    c.misled = [1].into();
    writer.write(&mut c, 200);
    c.pass(11_000);
    writer.write(&mut c, 200);
    assert!(c.replica(1).is_serving() && !c.is_closed(client.conn));
    assert_eq!((notes(&c, 1, CHARSET), notes(&c, 1, "digest mismatch")), (1, 1), "told once in a term");
    let counted = c.replica(1).stats().digest_mismatches;

    // A difference is one all the same, though it is judged later.
    c.off_by = Box::new(move |_| excess.wrapping_add(1));
    writer.write(&mut c, 200);
    assert!(c.replica(1).stats().digest_mismatches > counted && c.replica(1).is_serving());
    c.pass(11_000);
    writer.write(&mut c, 1);
    assert!(c.replica(1).is_fenced() && c.is_closed(client.conn));
}

#[test]
fn a_tree_that_differs_is_fenced_whatever_the_charset() {
    let (c, _, client) = misled_by_charset(1);
    assert!(c.replica(1).is_fenced() && c.is_closed(client.conn));
    assert_eq!(notes(&c, 1, CHARSET), 0);
}

#[test]
fn a_leader_that_knows_ascii_only_keeps_nobody_from_snapshots() {
    let (mut c, mut writer, _) = misled_by_charset(0);
    // As if such a znode had changed.
    c.off_by = Box::new(|_| 1);
    writer.write(&mut c, 1);
    let before = c.snapshots;
    writer.write(&mut c, 20);
    assert_eq!(c.snapshots, before + 3, "one on each server");
}

/// By how much Apache's prediction of this transaction is off if it takes what is created for a znode of `owner`.
fn owner_excess(txn: &LoggedTxn<'_>, owner: Owner) -> u64 {
    let header = &txn.header;
    let (path, data, applied) = match &txn.txn {
        Txn::Create(t) | Txn::Create2(t) => (&t.path, &t.data, Owner::Persistent),
        Txn::CreateContainer(t) => (&t.path, &t.data, Owner::Container),
        _ => return 0,
    };
    let digest = |owner: Owner| {
        let stat = StatPersisted {
            czxid: header.zxid,
            mzxid: header.zxid,
            pzxid: header.zxid,
            ctime: header.time,
            mtime: header.time,
            ephemeral_owner: owner.encode(),
            ..StatPersisted::ZERO
        };
        u64::from(node_digest(path, data.as_deref(), &stat))
    };
    digest(owner).wrapping_sub(digest(applied))
}

#[test]
fn creates_that_apache_takes_for_other_ones_fence_nobody() {
    for owner in [Owner::Container, Owner::Persistent, Owner::Ephemeral(SessionId::NONE)] {
        for goes_on in [false, true] {
            let mut c = Cluster::of_three();
            let mut writer = Writer::new(&mut c);
            let client = c.connect(1, 30_000);
            // All of them while something is outstanding, or each for itself.
            let mut carried = 0_u64;
            c.off_by = Box::new(move |txn| {
                let owner = if owner == Owner::Ephemeral(SessionId::NONE) {
                    Owner::Ephemeral(txn.header.session)
                } else {
                    owner
                };
                let own = owner_excess(txn, owner);
                carried = if goes_on { carried.wrapping_add(own) } else { own };
                carried
            });
            c.misled = [1].into();
            writer.op = if owner == Owner::Container { OpCode::Create } else { OpCode::CreateContainer };
            writer.write(&mut c, 200);
            assert!(c.replica(1).is_serving() && !c.is_closed(client.conn), "{owner:?} {goes_on}");
            assert!(c.replica(1).stats().digest_mismatches >= 200);
            assert_eq!(notes(&c, 1, "digest mismatch"), 0);

            // What else they are off by is a difference.
            c.off_by = Box::new(|txn| owner_excess(txn, Owner::Container).wrapping_add(1));
            writer.write(&mut c, 128);
            assert!(c.replica(1).is_fenced());
        }
    }
}

#[test]
fn what_apache_counts_wrongly_may_change_while_it_goes_on() {
    let mut c = Cluster::of_three();
    let mut writer = Writer::new(&mut c);
    let client = c.connect(1, 30_000);
    c.off_by = Box::new(|txn| owner_excess(txn, Owner::Container));
    c.misled = [1].into();
    writer.write(&mut c, 1);
    // Its data is set while the create is outstanding, and a child created, and that is followed by others.
    let set = encode(&SetDataRequest { path: Some("/1".into()), data: None, version: -1 });
    for (excess, op, body) in [(1001, OpCode::SetData, set), (1002, OpCode::Create, create("/1/child"))] {
        c.off_by = Box::new(move |_| excess);
        c.request(writer.client, -1, op, &body);
        assert_eq!(c.replies(writer.client), [(-1, 0)]);
        writer.write(&mut c, 200);
    }
    assert!(c.replica(1).is_serving() && !c.is_closed(client.conn));
    // Where nothing such changes, it can't become another value, but it can end.
    c.off_by = Box::new(|_| 1000);
    writer.write(&mut c, 127);
    c.off_by = Box::new(|_| 0);
    writer.write(&mut c, 1);
    c.off_by = Box::new(|_| 1002);
    writer.write(&mut c, 127);
    assert!(c.replica(1).is_serving());
    writer.write(&mut c, 1);
    assert!(c.replica(1).is_fenced());
}
