//! Bytes of the worked examples, cut at every length, and lengths that lie.

use super::*;
use crate::{Blocks, DecodeError};

const DATA_MAX: usize = 2_097_150;

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap()).collect()
}

fn from_learner(packet: &[u8]) -> Result<LearnerPacket, PacketError> {
    LearnerPacket::read(packet, &mut Blocks::default())
}

fn from_leader(packet: &[u8]) -> Result<LeaderPacket, PacketError> {
    LeaderPacket::read(packet, &mut Blocks::default())
}

/// Whole in `measure` and nowhere before, and not confused by what follows.
fn measured(bytes: &[u8]) {
    for cut in 0..bytes.len() {
        assert_eq!(measure(&bytes[..cut], DATA_MAX), Ok(None), "cut at {cut}");
    }
    assert_eq!(measure(bytes, DATA_MAX), Ok(Some(bytes.len())));
    let followed = [bytes, b"\0\0\0\x05BenWasHere"].concat();
    assert_eq!(measure(&followed, DATA_MAX), Ok(Some(bytes.len())));
}

fn learner(hex: &str, packet: &LearnerPacket) {
    let bytes = unhex(hex);
    measured(&bytes);
    assert_eq!(from_learner(&bytes).as_ref(), Ok(packet));
    let mut out = vec![7];
    packet.write(&mut out);
    assert_eq!(out[1..], bytes, "{packet:?}");
    for cut in 0..bytes.len() {
        assert!(matches!(from_learner(&bytes[..cut]), Err(PacketError::Malformed(_))), "cut at {cut}");
    }
    let longer = [&bytes[..], b"\0"].concat();
    assert!(matches!(from_learner(&longer), Err(PacketError::Malformed(DecodeError::Shape(_)))));
}

fn leader(hex: &str, packet: &LeaderPacket) {
    let bytes = unhex(hex);
    measured(&bytes);
    assert_eq!(from_leader(&bytes).as_ref(), Ok(packet));
    let mut out = vec![7];
    packet.write(&mut out);
    assert_eq!(out[1..], bytes, "{packet:?}");
    for cut in 0..bytes.len() {
        assert!(matches!(from_leader(&bytes[..cut]), Err(PacketError::Malformed(_))), "cut at {cut}");
    }
}

const TXN: &str = "0200001505de0000 00000001 0000000100000002 000001a204466704 00000001
    00000002 2f61 00000005 68656c6c6f 00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65 00 00000001
    00000002 000000021cd793a4";

#[test]
fn what_learners_send() {
    let info = LearnerInfo {
        server: Some(ServerId(1)),
        protocol_version: LEARNER_PROTOCOL_VERSION,
        config_version: 0x1_0000_0000,
        cumulative: false,
    };
    let ours = LearnerInfo { cumulative: true, ..info };
    learner(
        "0000000b 0000000100000000 0000001c 0000000000000001 00010000 0000000100000000 6661727269657231 ffffffff",
        &LearnerPacket::FollowerInfo { accepted: AcceptedEpoch(1), info: ours },
    );
    learner(
        "0000000b 0000000100000000 00000014 0000000000000001 00010000 0000000100000000 ffffffff",
        &LearnerPacket::FollowerInfo { accepted: AcceptedEpoch(1), info },
    );
    learner(
        "00000010 0000000100000000 00000014 0000000000000001 00010000 0000000100000000 ffffffff",
        &LearnerPacket::ObserverInfo { accepted: AcceptedEpoch(1), info },
    );
    learner(
        "00000012 0000000100000002 00000004 ffffffff ffffffff",
        &LearnerPacket::AckEpoch { last_logged: 0x1_0000_0002, current: None },
    );
    learner(
        "00000012 0000000100000002 00000004 00000001 ffffffff",
        &LearnerPacket::AckEpoch { last_logged: 0x1_0000_0002, current: Some(CurrentEpoch(1)) },
    );
    learner("00000003 0000000100000002 ffffffff ffffffff", &LearnerPacket::Ack { zxid: Zxid::new(1, 2) });
    learner(
        "00000005 0000000200000006 0000000c 0200001505de0000 00002710 ffffffff",
        &LearnerPacket::Ping { zxid: 0x2_0000_0006, touched: vec![(SessionId(0x0200_0015_05de_0000), 10_000)] },
    );
    learner(
        "00000005 0000000200000006 00000000 ffffffff",
        &LearnerPacket::Ping { zxid: 0x2_0000_0006, touched: Vec::new() },
    );
    learner(
        "00000006 ffffffffffffffff 0000000c 0200001505de0000 00002710 ffffffff",
        &LearnerPacket::Revalidate { session: SessionId(0x0200_0015_05de_0000), timeout: 10_000 },
    );
    let body = unhex("00000002 2f62 00000001 78 00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65 00000001");
    learner(
        "00000001 ffffffffffffffff 0000003a 0100001505c50000 00000001 00000001
         00000002 2f62 00000001 78 00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65 00000001
         00000001 00000002 6970 00000009 3132372e302e302e31",
        &LearnerPacket::Request(ForwardedRequest {
            session: SessionId(0x0100_0015_05c5_0000),
            cxid: 1,
            op: 1,
            body: body.into(),
            identities: Identities::of([("ip", "127.0.0.1")].into_iter(), &mut Blocks::default()),
        }),
    );
    learner(
        "00000001 ffffffffffffffff 00000010 0100001505c50000 00000000 fffffff5 ffffffff",
        &LearnerPacket::Request(ForwardedRequest {
            session: SessionId(0x0100_0015_05c5_0000),
            cxid: 0,
            op: -11,
            body: Bytes::new(),
            identities: Identities::NONE,
        }),
    );
}

#[test]
fn what_leaders_send() {
    leader(
        "00000011 0000000100000000 00000004 00010000 ffffffff",
        &LeaderPacket::LeaderInfo { epoch: 1, protocol_version: LEARNER_PROTOCOL_VERSION, cumulative: false },
    );
    leader(
        "00000011 0000000100000000 0000000c 00010000 6661727269657231 ffffffff",
        &LeaderPacket::LeaderInfo { epoch: 1, protocol_version: LEARNER_PROTOCOL_VERSION, cumulative: true },
    );
    let zxid = Zxid::new(1, 2);
    leader("0000000d 0000000100000002 ffffffff ffffffff", &LeaderPacket::Diff { zxid });
    leader("0000000e 0000000100000002 ffffffff ffffffff", &LeaderPacket::Trunc { zxid });
    leader("0000000f 0000000100000002 ffffffff ffffffff", &LeaderPacket::Snap { zxid });
    leader("00000004 0000000100000002 ffffffff ffffffff", &LeaderPacket::Commit { zxid });
    leader(
        "0000000a 0000000200000000 00000009 76657273696f6e3d30 ffffffff",
        &LeaderPacket::NewLeader { zxid: Zxid::new(2, 0), config: Bytes::from_static(b"version=0") },
    );
    leader(
        "0000000a 0000000200000000 ffffffff ffffffff",
        &LeaderPacket::NewLeader { zxid: Zxid::new(2, 0), config: Bytes::new() },
    );
    leader("0000000c ffffffffffffffff ffffffff ffffffff", &LeaderPacket::UpToDate);
    let txn = Bytes::from(unhex(TXN));
    leader(
        &format!("00000002 0000000100000002 0000005b {TXN} ffffffff"),
        &LeaderPacket::Proposal { zxid, txn: txn.clone() },
    );
    leader(
        &format!("00000008 0000000100000002 0000005b {TXN} ffffffff"),
        &LeaderPacket::Inform { zxid, txn: txn.clone() },
    );
    leader(
        "00000009 0000000200000006 00000008 0000000000000002 ffffffff",
        &LeaderPacket::CommitAndActivate { zxid: Zxid::new(2, 6), designated: ServerId(2) },
    );
    leader(
        &format!("00000013 0000000100000002 00000063 0000000000000002 {TXN} ffffffff"),
        &LeaderPacket::InformAndActivate { zxid, designated: ServerId(2), txn },
    );
    leader("00000005 0000000200000006 ffffffff ffffffff", &LeaderPacket::Ping { zxid: 0x2_0000_0006 });
    leader(
        "00000006 ffffffffffffffff 00000009 0200001505de0000 01 ffffffff",
        &LeaderPacket::Revalidate { session: SessionId(0x0200_0015_05de_0000), valid: true },
    );
    leader("00000007 0000000000000000 ffffffff ffffffff", &LeaderPacket::Sync);
}

#[test]
fn transactions_follow_each_other_in_memory_of_their_own() {
    let bytes = unhex(&format!("00000002 0000000100000002 0000005b {TXN} ffffffff"));
    let mut blocks = Blocks::default();
    let mut read = || match LeaderPacket::read(&bytes, &mut blocks) {
        Ok(LeaderPacket::Proposal { txn, .. }) => txn,
        other => panic!("it is a proposal: {other:?}"),
    };
    let (one, next) = (read(), read());
    assert_eq!(one, next);
    assert_eq!(one.as_ptr().wrapping_add(one.len()), next.as_ptr());
}

#[test]
fn types_that_are_not_for_us() {
    let packet = |kind: u8| [&[0, 0, 0, kind][..], &[0; 8], &[0xff; 8]].concat();
    for kind in [0, 2, 4, 7, 8, 9, 10, 12, 13, 14, 15, 17, 19, 20, 99] {
        assert_eq!(from_learner(&packet(kind)), Err(PacketError::Unknown(kind.into())));
    }
    for kind in [0, 1, 3, 11, 16, 18, 20, 99] {
        assert_eq!(from_leader(&packet(kind)), Err(PacketError::Unknown(kind.into())));
    }
}

#[test]
fn null_where_data_belongs() {
    let packet = |kind: u8| [&[0, 0, 0, kind][..], &[0; 8], &[0xff; 8]].concat();
    for kind in [1, 5, 6, 18] {
        let read = from_learner(&packet(kind));
        assert!(matches!(read, Err(PacketError::Malformed(DecodeError::Null(_)))), "{kind}: {read:?}");
    }
    for kind in [2, 6, 8, 9, 17, 19] {
        let read = from_leader(&packet(kind));
        assert!(matches!(read, Err(PacketError::Malformed(DecodeError::Null(_)))), "{kind}: {read:?}");
    }
}

#[test]
fn data_of_the_wrong_length() {
    let packet = |kind: u8, n: u8| {
        let mut bytes = [&[0, 0, 0, kind][..], &[0; 8], &[0, 0, 0, n]].concat();
        bytes.extend(vec![1; n.into()]);
        bytes.extend([0xff; 4]);
        bytes
    };
    for (kind, n) in [(1, 15), (5, 11), (5, 13), (6, 11), (18, 3)] {
        let read = from_learner(&packet(kind, n));
        assert!(matches!(read, Err(PacketError::Malformed(DecodeError::Short { .. }))), "{kind}: {read:?}");
    }
    for (kind, n) in [(6, 8), (9, 7), (17, 3), (19, 7)] {
        let read = from_leader(&packet(kind, n));
        assert!(matches!(read, Err(PacketError::Malformed(DecodeError::Short { .. }))), "{kind}: {read:?}");
    }
}

#[test]
fn who_a_learner_is_goes_by_length() {
    let read = |data: &str| {
        let data = unhex(data);
        let bytes = [&unhex("0000000b 0000000700000000")[..], &[0, 0, 0, data.len() as u8], &data, &[0xff; 4]].concat();
        match from_learner(&bytes) {
            Ok(LearnerPacket::FollowerInfo { accepted: AcceptedEpoch(7), info }) => {
                (info.server.map(|s| s.0), info.protocol_version, info.config_version)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(read(""), (None, 1, 0));
    assert_eq!(read("00000000000000"), (None, 1, 0));
    assert_eq!(read("0000000000000003"), (Some(3), 1, 0));
    assert_eq!(read("0000000000000003 00010000"), (Some(3), 0x10000, 0));
    assert_eq!(read("0000000000000003 00010000 00000000000000"), (Some(3), 0x10000, 0));
    assert_eq!(read("0000000000000003 00010000 0000000000000009 ff"), (Some(3), 0x10000, 9));

    // What a later version may say behind the tag.
    let more = from_learner(&unhex(
        "0000000b 0000000700000000 0000001d 0000000000000003 00010000 0000000000000009 6661727269657231 ff ffffffff",
    ));
    let info =
        LearnerInfo { server: Some(ServerId(3)), protocol_version: 0x10000, config_version: 9, cumulative: true };
    assert_eq!(more, Ok(LearnerPacket::FollowerInfo { accepted: AcceptedEpoch(7), info }));
    let more = unhex("00000011 0000000100000000 0000000d 00010000 6661727269657231 ff ffffffff");
    let info = LeaderPacket::LeaderInfo { epoch: 1, protocol_version: 0x10000, cumulative: true };
    assert_eq!(from_leader(&more), Ok(info));

    let null = from_learner(&unhex("0000000b 0000000700000000 ffffffff ffffffff")).unwrap();
    let info = LearnerInfo { server: None, protocol_version: 1, config_version: 0, cumulative: false };
    assert_eq!(null, LearnerPacket::FollowerInfo { accepted: AcceptedEpoch(7), info });
}

#[test]
fn lengths_that_lie_are_refused_before_the_bytes_arrive() {
    let start = "00000002 0000000100000002";
    let refused = |hex: &str| measure(&unhex(&format!("{start} {hex}")), 100);
    for data in ["00000065", "7fffffff", "fffffffe", "80000000"] {
        assert!(matches!(refused(data), Err(DecodeError::Length { .. })), "{data}");
    }
    assert_eq!(refused("00000064"), Ok(None));
    for count in ["00080001", "7fffffff"] {
        assert!(matches!(refused(&format!("ffffffff {count}")), Err(DecodeError::Length { .. })), "{count}");
    }
    for string in ["00400001", "7fffffff", "fffffffe"] {
        assert!(matches!(refused(&format!("ffffffff 00000001 {string}")), Err(DecodeError::Length { .. })), "{string}");
    }
    assert_eq!(refused("ffffffff 00080000"), Ok(None));
    assert_eq!(refused("ffffffff 80000000"), Ok(Some(20)), "a negative count is an empty vector");
}

#[test]
fn identities_are_bounded_together() {
    let mut bytes = unhex("00000001 ffffffffffffffff 00000010 0100001505c50000 00000000 00000001 00000005");
    let million = vec![b'x'; 1 << 20];
    for _ in 0..5 {
        crate::jute::put_buffer(&mut bytes, Some(b"s"));
        crate::jute::put_buffer(&mut bytes, Some(&million));
    }
    assert!(matches!(measure(&bytes, DATA_MAX), Err(DecodeError::Length { field: "identity", .. })));
}

#[test]
fn an_identity_is_never_null() {
    let start = "00000001 ffffffffffffffff 00000010 0100001505c50000 00000000 00000001 00000001";
    for identity in ["ffffffff 00000001 78", "00000001 78 ffffffff"] {
        let read = from_learner(&unhex(&format!("{start} {identity}")));
        assert!(matches!(read, Err(PacketError::Malformed(DecodeError::Null(_)))), "{read:?}");
    }
}

const CONFIG: &str = "server.1=10.0.0.1:2888:3888:participant\nserver.2=10.0.0.2:2888:3888:participant\n\
                      server.3=10.0.0.3:2888:3888:participant\nversion=0";

const NOTIFICATION: &str = "00000000 0000000000000003 0000000100000006 0000000000000002 0000000000000001
    00000002 00000081
    7365727665722e313d31302e302e302e313a323838383a333838383a7061727469636970616e740a
    7365727665722e323d31302e302e302e323a323838383a333838383a7061727469636970616e740a
    7365727665722e333d31302e302e302e333a323838383a333838383a7061727469636970616e740a
    76657273696f6e3d30";

fn notification() -> Notification {
    Notification {
        state: ServerState::Looking,
        vote: Vote { leader: ServerId(3), zxid: 0x1_0000_0006, peer_epoch: 1 },
        round: ElectionRound(2),
        version: Notification::VERSION,
        config: Some(Bytes::from_static(CONFIG.as_bytes())),
    }
}

#[test]
fn a_notification_and_its_frame() {
    let bytes = unhex(&format!("000000ad {NOTIFICATION}"));
    let mut out = vec![7];
    notification().write(&mut out);
    assert_eq!(out[1..], bytes);
    assert_eq!(Notification::read(&bytes[4..]), Ok(Some(notification())));
    for cut in 0..bytes.len() {
        assert_eq!(measure_notification(&bytes[..cut]), Ok(None), "cut at {cut}");
    }
    assert_eq!(measure_notification(&[&bytes[..], b"\0\0"].concat()), Ok(Some(bytes.len())));
    for frame in ["00000000", "ffffffff", "80000000", "00080001"] {
        assert!(matches!(measure_notification(&unhex(frame)), Err(DecodeError::Length { .. })), "{frame}");
    }
    assert_eq!(measure_notification(&unhex("00080000")), Ok(None));
}

#[test]
fn notifications_of_every_age() {
    let bytes = unhex(NOTIFICATION);
    for cut in 0..bytes.len() {
        let read = Notification::read(&bytes[..cut]);
        match cut {
            28 => {
                let expected = Notification { version: 0, config: None, ..notification() };
                assert_eq!(read, Ok(Some(expected)), "the epoch is that of the zxid");
            }
            40 => assert_eq!(read, Ok(Some(Notification { version: 0, config: None, ..notification() }))),
            _ => assert!(matches!(read, Err(DecodeError::Short { .. })), "cut at {cut}: {read:?}"),
        }
    }
    let mut one = bytes[..44].to_vec();
    one[39] = 1;
    assert_eq!(Notification::read(&one), Ok(Some(Notification { version: 1, config: None, ..notification() })));
    let mut three = bytes.clone();
    three[39] = 3;
    assert_eq!(Notification::read(&three), Ok(Some(Notification { version: 3, ..notification() })));
    let mut out = Vec::new();
    Notification { version: 0, ..notification() }.write(&mut out);
    assert_eq!((out[..4].to_vec(), out.len()), (vec![0, 0, 0, 40], 44));

    let mut none = bytes[..40].to_vec();
    none.extend([0; 4]);
    assert_eq!(Notification::read(&none), Ok(Some(Notification { config: None, ..notification() })));
    for len in [[0xff; 4], [0x80, 0, 0, 0], [0, 0, 0, 1], [0x7f, 0xff, 0xff, 0xff]] {
        none.splice(40.., len);
        assert!(Notification::read(&none).is_err(), "a configuration of {len:?} bytes");
    }
}

#[test]
fn notifications_say_a_state_or_are_ignored() {
    let mut bytes = unhex(NOTIFICATION);
    for (code, state) in [ServerState::Looking, ServerState::Following, ServerState::Leading, ServerState::Observing]
        .into_iter()
        .enumerate()
    {
        bytes[3] = code as u8;
        assert_eq!(Notification::read(&bytes), Ok(Some(Notification { state, ..notification() })));
        assert_eq!(state.code(), code as i32);
    }
    bytes[3] = 4;
    assert_eq!(Notification::read(&bytes), Ok(None));
    bytes[0] = 0xff;
    assert_eq!(Notification::read(&bytes), Ok(None));
}

fn header(server: i64, addresses: &[(&str, u16)]) -> ElectionHeader {
    let addresses = addresses.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect();
    ElectionHeader { server: ServerId(server), addresses }
}

fn header_bytes(version: u8, text: &str) -> Vec<u8> {
    let mut bytes = unhex("ffffffffffff0000 0000000000000003");
    bytes[7] = version;
    crate::jute::put_str(&mut bytes, text);
    bytes
}

#[test]
fn the_first_words_on_an_election_connection() {
    let bytes = unhex("ffffffffffff0000 0000000000000003 0000000f 3132372e302e302e313a3233383833");
    let mut out = vec![7];
    ElectionHeader::write(ServerId(3), "127.0.0.1", 23883, &mut out);
    assert_eq!(out[1..], bytes);
    for cut in 0..bytes.len() {
        assert_eq!(ElectionHeader::parse(&bytes[..cut]), Ok(None), "cut at {cut}");
    }
    let followed = [&bytes[..], b"\0\0\0\x28"].concat();
    assert_eq!(ElectionHeader::parse(&followed), Ok(Some((header(3, &[("127.0.0.1", 23883)]), bytes.len()))));

    let old = unhex("0000000000000005 00000028");
    assert_eq!(ElectionHeader::parse(&old[..7]), Ok(None));
    assert_eq!(ElectionHeader::parse(&old), Ok(Some((header(5, &[]), 8))), "before 3.5");
}

#[test]
fn addresses_in_brackets_in_rows_and_wild() {
    for host in ["::1", "[::1]"] {
        let mut out = Vec::new();
        ElectionHeader::write(ServerId(3), host, 3888, &mut out);
        assert_eq!(out, header_bytes(0, "[::1]:3888"));
        assert_eq!(ElectionHeader::parse(&out), Ok(Some((header(3, &[("::1", 3888)]), out.len()))));
    }
    let parse = |text: &str| ElectionHeader::parse(&header_bytes(1, text)).map(|found| found.unwrap().0);
    assert_eq!(parse("a:1|[::2]:2|c.d:65535"), Ok(header(3, &[("a", 1), ("::2", 2), ("c.d", 65535)])));
    assert_eq!(parse("0.0.0.0:1|b:2"), Ok(header(3, &[("b", 2)])));
    assert_eq!(parse("[::]:1"), Ok(header(3, &[])));
    let bad =
        ["a", "a:", ":1", "a:b", "a:1:2", "::1:3888", "[::1]", "[::1:3888", "a:65536", "a:-1", "a:+1", "a:1|", "|"];
    let brackets = ["[[::1]]:38", "[a]b]:1", "[[a]:1", "a]:1", "a[b:1", "[]:1"];
    for text in bad.into_iter().chain(brackets) {
        assert!(matches!(parse(text), Err(DecodeError::Shape(_))), "{text}");
    }
}

#[test]
fn several_addresses_go_in_one_header() {
    let wrote = |addresses: &[(&str, u16)]| {
        let mut out = Vec::new();
        ElectionHeader::write_several(ServerId(3), addresses.iter().copied(), &mut out);
        out
    };
    assert_eq!(wrote(&[("a", 1)]), header_bytes(1, "a:1"));
    let three = [("a", 1), ("[::2]", 2), ("c.d", 65535)];
    assert_eq!(wrote(&three), header_bytes(1, "a:1|[::2]:2|c.d:65535"));
    let long = "x".repeat(ELECTION_ADDRESS_MAX - 10);
    let out = wrote(&[(&long, 1), ("too.long", 2), ("a", 3)]);
    assert_eq!(ElectionHeader::parse(&out), Ok(Some((header(3, &[(&long, 1), ("a", 3)]), out.len()))));
}

#[test]
fn headers_that_lie() {
    for version in ["ffffffffffff0002", "ffffffffffffffff", "8000000000000000"] {
        let read = ElectionHeader::parse(&unhex(version));
        assert!(matches!(read, Err(DecodeError::Value { .. })), "{version}: {read:?}");
    }
    for len in ["00000000", "00000801", "7fffffff", "ffffffff", "80000000"] {
        let read = ElectionHeader::parse(&unhex(&format!("ffffffffffff0000 0000000000000003 {len}")));
        assert!(matches!(read, Err(DecodeError::Length { .. })), "{len}: {read:?}");
    }
    assert_eq!(ElectionHeader::parse(&unhex("ffffffffffff0000 0000000000000003 00000800")), Ok(None));
    let mut bytes = header_bytes(0, "xx:3888");
    bytes[20] = 0xff;
    assert!(matches!(ElectionHeader::parse(&bytes), Err(DecodeError::Shape(_))));
}

#[test]
fn votes_compare_by_epoch_then_zxid_then_server() {
    let vote = |peer_epoch, zxid, leader| Vote { leader: ServerId(leader), zxid, peer_epoch };
    assert!(vote(2, 0, 0) > vote(1, 9, 9));
    assert!(vote(1, 2, 0) > vote(1, 1, 9));
    assert!(vote(1, 1, 2) > vote(1, 1, 1));
    assert!(vote(0, 0, 0) > vote(0, -1, 9), "signed");
    assert!(vote(i64::MIN, 0, 0) > Vote::NONE);
}
