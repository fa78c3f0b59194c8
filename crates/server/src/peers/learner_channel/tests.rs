use super::*;
use crate::peers::MemberAddresses;
use crate::peers::address::Endpoint;
use farrier_proto::Zxid;
use farrier_proto::quorum::LeaderPacket;
use farrier_replica::{SnapshotImage, TreeRestore};
use farrier_storage::write_stream;
use farrier_tree::TreeConfig;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::timeout;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

type ReplicaInput = farrier_replica::Input<'static>;

/// The channel under test, and what it reported.
struct Rig {
    channel: Rc<LearnerChannel>,
    port: u16,
    inputs: mpsc::UnboundedReceiver<ReplicaInput>,
}

/// Server 1, with a leader 2 whose quorum port is that.
fn rig(leader: u16) -> Rig {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket");
    let port = listener.local_addr().expect("it is bound").port();
    let quorum = vec![Endpoint { host: "127.0.0.1".into(), port: leader }];
    let members = BTreeMap::from([(ServerId(2), MemberAddresses { quorum, election: Vec::new() })]);
    let settings = PeerSettings { field_max: 1 << 16, ..PeerSettings::patient(ServerId(1), members) };
    let (sender, inputs) = mpsc::unbounded_channel();
    let report: Report = Rc::new(move |list| {
        for input in list.drain(..) {
            let _ = sender.send(input);
        }
    });
    let channel = Rc::new(LearnerChannel::new(Rc::new(settings), report, Arc::default()));
    channel.listen(listener);
    Rig { channel, port, inputs }
}

impl Rig {
    async fn any_input(&mut self) -> ReplicaInput {
        timeout(PATIENCE, self.inputs.recv()).await.expect("in time").expect("the rig reports")
    }

    async fn input(&mut self) -> Input {
        match self.any_input().await {
            ReplicaInput::Zab(input) => input,
            other => panic!("not {other:?}"),
        }
    }

    /// What comes behind reports that a snapshot goes on.
    async fn behind_progress(&mut self, link: LinkId) -> ReplicaInput {
        loop {
            match self.any_input().await {
                ReplicaInput::Zab(Input::SnapProgress { link: on }) => assert_eq!(on, link),
                other => return other,
            }
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.expect("it listens")
    }

    /// A learner that has said its first word.
    async fn learner(&mut self) -> (TcpStream, LinkId) {
        let mut stream = self.connect().await;
        stream.write_all(&bytes(&ACK)).await.expect("it reads");
        let Input::LinkUp { link, kind: LinkKind::Learner } = self.input().await else {
            panic!("it is announced first")
        };
        assert_eq!(self.input().await, Input::LearnerPacket { link, packet: ACK });
        (stream, link)
    }
}

const ACK: LearnerPacket = LearnerPacket::Ack { zxid: Zxid::new(1, 2) };

fn bytes(packet: &LearnerPacket) -> Vec<u8> {
    let mut out = Vec::new();
    packet.write(&mut out);
    out
}

fn leaders(packet: &LeaderPacket) -> Vec<u8> {
    let mut out = Vec::new();
    packet.write(&mut out);
    out
}

/// All until the other side closes.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("in time");
    all
}

fn image() -> Box<SnapshotImage> {
    Box::new(TreeRestore::new(TreeConfig::default(), 0).image())
}

fn stream_of(image: &SnapshotImage) -> Vec<u8> {
    let mut out = Vec::new();
    let taken: Result<u64, std::convert::Infallible> = write_stream(image, &mut |piece| {
        out.extend_from_slice(piece);
        Ok(())
    });
    assert!(taken.is_ok_and(|nodes| nodes > 0));
    out
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn strangers_are_closed_and_never_announced() {
    run(async {
        let mut rig = rig(1);
        let mut too_long = leaders(&LeaderPacket::Proposal { zxid: Zxid::new(1, 1), txn: vec![0; 5000].into() });
        too_long[3] = 1;
        for garbage in [&b"GET / HTTP/1.0\r\n\r\n"[..], &[0; 40], &[0xff; 20], &too_long, b"\0\0"] {
            let mut stream = rig.connect().await;
            stream.write_all(garbage).await.expect("it reads");
            stream.shutdown().await.expect("it is open");
            assert_eq!(rest(&mut stream).await, b"", "{garbage:?}");
        }
        assert!(rig.inputs.try_recv().is_err());
        rig.learner().await;
    });
}

#[test]
fn packets_come_in_order_however_they_are_cut_and_not_while_paused() {
    run(async {
        let mut rig = rig(1);
        let (mut stream, link) = rig.learner().await;
        let ping = LearnerPacket::Ping { zxid: 3, touched: Vec::new() };
        let both = [bytes(&ping), bytes(&ACK)].concat();
        stream.write_all(&both[..7]).await.expect("it reads");
        tokio::task::yield_now().await;
        stream.write_all(&both[7..]).await.expect("it reads");
        assert_eq!(rig.input().await, Input::LearnerPacket { link, packet: ping.clone() });
        assert_eq!(rig.input().await, Input::LearnerPacket { link, packet: ACK });

        rig.channel.pause(link);
        stream.write_all(&both).await.expect("it reads");
        // Others are served meanwhile; what they cause comes after what would have come before it.
        let (_other, _) = rig.learner().await;
        assert!(rig.inputs.try_recv().is_err());
        rig.channel.resume(link);
        assert_eq!(rig.input().await, Input::LearnerPacket { link, packet: ping });
        assert_eq!(rig.input().await, Input::LearnerPacket { link, packet: ACK });

        stream.write_all(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0, 0, 0]).await.expect("it reads");
        assert_eq!(rig.input().await, Input::LinkDown { link }, "a length out of bounds");
        assert_eq!(rest(&mut stream).await, b"");
    });
}

#[test]
fn what_was_sent_before_a_snapshot_and_behind_it_arrives_before_the_link_closes() {
    run(async {
        let mut rig = rig(1);
        let (mut stream, link) = rig.learner().await;
        let (sync, up) = (LeaderPacket::Sync, LeaderPacket::UpToDate);
        let expected = [
            leaders(&sync),
            leaders(&LeaderPacket::Snap { zxid: farrier_storage::Image::zxid(&*image()) }),
            stream_of(&image()),
            leaders(&up),
        ];
        let ports = &rig.channel.ports;
        ports.send(link, |out| sync.write(out));
        ports.send_snapshot(link, image());
        ports.send(link, |out| up.write(out));
        ports.report_flush(link).expect("it is there").flush();
        rig.channel.close_link(link, "the test is over");
        assert_eq!(rest(&mut stream).await, expected.concat());
        assert_eq!(rig.input().await, Input::Flushed { link });
        drop(stream);
        rig.channel.close().await;
        assert!(rig.inputs.try_recv().is_err(), "a link that was closed is not reported as lost");
    });
}

#[test]
fn a_leader_is_dialled_and_its_snapshot_arrives_whole() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let mut rig = rig(listener.local_addr().expect("it is bound").port());
        rig.channel.dial(ServerId(2));
        let (mut leader, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("it dials");
        let Input::LinkUp { link, kind: LinkKind::Leader(ServerId(2)) } = rig.input().await else { panic!("it is up") };
        rig.channel.ports.send(link, |out| ACK.write(out)).expect("it is there").flush();
        let mut said = vec![0; bytes(&ACK).len()];
        leader.read_exact(&mut said).await.expect("the packet");
        assert_eq!(said, bytes(&ACK));

        let zxid = Zxid::new(3, 4);
        let all =
            [leaders(&LeaderPacket::Snap { zxid }), stream_of(&image()), leaders(&LeaderPacket::UpToDate)].concat();
        for piece in all.chunks(11) {
            leader.write_all(piece).await.expect("it reads");
            tokio::task::yield_now().await;
        }
        assert_eq!(rig.input().await, Input::SnapProgress { link });
        match rig.behind_progress(link).await {
            ReplicaInput::SnapReceived { link: on, zxid: at, .. } => assert_eq!((on, at), (link, zxid)),
            other => panic!("not {other:?}"),
        }
        assert_eq!(rig.input().await, Input::LeaderPacket { link, packet: LeaderPacket::UpToDate });

        // A stream that is none ends the link, and only the link.
        leader.write_all(&leaders(&LeaderPacket::Snap { zxid })).await.expect("it reads");
        leader.write_all(&[0xee; 64]).await.expect("it reads");
        match rig.behind_progress(link).await {
            ReplicaInput::Zab(input) => assert_eq!(input, Input::LinkDown { link }),
            other => panic!("not {other:?}"),
        }

        drop(listener);
        rig.channel.dial(ServerId(2));
        assert_eq!(rig.input().await, Input::DialFailed { leader: ServerId(2) });
        rig.channel.dial(ServerId(8));
        assert_eq!(rig.input().await, Input::DialFailed { leader: ServerId(8) }, "in no configuration");
    });
}

#[test]
fn a_snapshot_over_a_slow_link_is_told_to_go_on_by_whatever_little_arrives() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let mut rig = rig(listener.local_addr().expect("it is bound").port());
        rig.channel.dial(ServerId(2));
        let (mut leader, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("it dials");
        let Input::LinkUp { link, .. } = rig.input().await else { panic!("it is up") };

        leader.write_all(&leaders(&LeaderPacket::Snap { zxid: Zxid::new(3, 4) })).await.expect("it reads");
        assert_eq!(rig.input().await, Input::SnapProgress { link }, "the header is a sign of life");
        let stream = stream_of(&image());
        let (last, front) = stream.split_last().expect("it is not empty");
        for byte in &front[..3] {
            tokio::time::sleep(Duration::from_millis(250)).await;
            assert!(rig.inputs.try_recv().is_err(), "nothing arrived");
            leader.write_all(&[*byte]).await.expect("it reads");
            assert_eq!(rig.input().await, Input::SnapProgress { link });
        }
        // Not each time, where much comes at once.
        for byte in &front[3..] {
            leader.write_all(&[*byte]).await.expect("it reads");
            tokio::task::yield_now().await;
        }
        leader.write_all(&[*last]).await.expect("it reads");
        let mut reports = 0;
        while let ReplicaInput::Zab(Input::SnapProgress { .. }) = rig.any_input().await {
            reports += 1;
        }
        assert!(reports < front.len() / 2, "{reports} reports of {} bytes", front.len());
    });
}
