//! A server whose tree is not its leader's: what it does for its clients, and how it gets out of that.

mod harness;

use farrier_proto::client::CreateRequest;
use farrier_proto::{OpCode, RawAcl, SessionId};
use farrier_replica::Input;
use harness::connect_frame;
use harness::encode;
use harness::ensemble::{Client, Cluster};
use std::borrow::Cow;

fn create(path: &str) -> Vec<u8> {
    let open = RawAcl { perms: 31, scheme: Some("world".into()), id: Some("anyone".into()) };
    encode(&CreateRequest { path: Some(Cow::Borrowed(path)), data: None, acl: Some(vec![open]), flags: 0 })
}

/// Writes through the leader.
struct Writer {
    client: Client,
    written: i32,
}

impl Writer {
    fn new(c: &mut Cluster) -> Self {
        let l = c.leader();
        Self { client: c.connect(l, 30_000), written: 0 }
    }

    fn write(&mut self, c: &mut Cluster, n: i32) {
        for _ in 0..n {
            self.written += 1;
            c.request(self.client, self.written, OpCode::Create, &create(&format!("/{}", self.written)));
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
