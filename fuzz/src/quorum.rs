//! What other servers may send: the learner channel in both directions, and the election port.

use bytes::Bytes;
use farrier_proto::quorum::{
    ElectionHeader, ElectionRound, LeaderPacket, LearnerPacket, Notification, PacketError, ServerState, Vote, measure,
    measure_notification,
};
use farrier_proto::{Blocks, ServerId};

/// Small, so that it is met.
const DATA_MAX: usize = 4096;

/// Takes packets off a stream until it lies, or ends inside one. Hands on each, and measures it again without
/// what follows.
fn each_packet(data: &[u8], mut packet: impl FnMut(&[u8])) {
    let mut rest = data;
    while let Ok(Some(len)) = measure(rest, DATA_MAX) {
        assert!((20..=rest.len()).contains(&len), "a packet of {len} bytes in {}", rest.len());
        let (whole, behind) = rest.split_at(len);
        assert_eq!(measure(whole, DATA_MAX), Ok(Some(len)));
        assert_eq!(measure(&whole[..len - 1], DATA_MAX), Ok(None), "one byte is missing");
        packet(whole);
        rest = behind;
    }
}

/// What a leader sends its learners.
pub fn fuzz_leader_packets(data: &[u8]) {
    let mut blocks = Blocks::default();
    each_packet(data, |bytes| match LeaderPacket::read(bytes, &mut blocks) {
        Ok(packet) => {
            let mut again = Vec::new();
            packet.write(&mut again);
            assert_eq!(LeaderPacket::read(&again, &mut blocks).as_ref(), Ok(&packet));
        }
        Err(PacketError::Unknown(kind)) => assert_eq!(kind.to_be_bytes(), bytes[..4]),
        Err(PacketError::Malformed(_)) => {}
    });
}

/// What learners send their leader; and the same bytes as the header and the messages of an election connection.
pub fn fuzz_learner_packets(data: &[u8]) {
    let mut blocks = Blocks::default();
    each_packet(data, |bytes| match LearnerPacket::read(bytes, &mut blocks) {
        Ok(packet) => {
            let mut again = Vec::new();
            packet.write(&mut again);
            match (LearnerPacket::read(&again, &mut blocks), &packet) {
                // A learner without an id sends nothing about itself.
                (
                    Ok(LearnerPacket::FollowerInfo { accepted: a, .. }),
                    LearnerPacket::FollowerInfo { accepted: b, info },
                )
                | (
                    Ok(LearnerPacket::ObserverInfo { accepted: a, .. }),
                    LearnerPacket::ObserverInfo { accepted: b, info },
                ) if info.server.is_none() => assert_eq!(a, *b),
                (again, packet) => assert_eq!(again.as_ref(), Ok(packet)),
            }
        }
        Err(PacketError::Unknown(kind)) => assert_eq!(kind.to_be_bytes(), bytes[..4]),
        Err(PacketError::Malformed(_)) => {}
    });
    election(data);
}

fn election(data: &[u8]) {
    let mut rest = data;
    if let Ok(Some((header, len))) = ElectionHeader::parse(data) {
        assert_eq!(ElectionHeader::parse(&data[..len]), Ok(Some((header.clone(), len))));
        assert_eq!(ElectionHeader::parse(&data[..len - 1]), Ok(None), "one byte is missing");
        if let [(host, port)] = &header.addresses[..] {
            let mut again = Vec::new();
            ElectionHeader::write(header.server, host, *port, &mut again);
            assert_eq!(ElectionHeader::parse(&again), Ok(Some((header.clone(), again.len()))));
        }
        if !header.addresses.is_empty() {
            let mut again = Vec::new();
            let addresses = header.addresses.iter().map(|(host, port)| (host.as_str(), *port));
            ElectionHeader::write_several(header.server, addresses, &mut again);
            assert_eq!(ElectionHeader::parse(&again), Ok(Some((header, again.len()))));
        }
        rest = &data[len..];
    }
    while let Ok(Some(len)) = measure_notification(rest) {
        let (frame, behind) = rest.split_at(len);
        rest = behind;
        let Ok(Some(notification)) = Notification::read(&frame[4..]) else { continue };
        let mut again = Vec::new();
        notification.write(&mut again);
        assert_eq!(measure_notification(&again), Ok(Some(again.len())));
        let read = Notification::read(&again[4..]).expect("what was written is read").expect("its state is known");
        // The short form has no version.
        let version = if notification.version > 1 { notification.version } else { 0 };
        assert_eq!(read, Notification { version, ..notification });
    }
}

const TXN: &[u8] =
    b"\0\0\0\0\0\0\0\x07\0\0\0\x01\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0\x09\xff\xff\xff\xff\xff\xff\xff\x9b";

fn packet(kind: u8, data: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = [&[0, 0, 0, kind][..], b"\0\0\0\x01\0\0\0\x02"].concat();
    match data {
        None => bytes.extend([0xff; 4]),
        Some(data) => {
            bytes.extend((data.len() as u32).to_be_bytes());
            bytes.extend(data);
        }
    }
    bytes.extend([0xff; 4]);
    bytes
}

pub(crate) fn leader_seeds() -> Vec<Vec<u8>> {
    let handshake =
        [packet(17, Some(b"\0\x01\0\0")), packet(13, None), packet(10, Some(b"version=0")), packet(12, None)];
    let broadcast = [packet(2, Some(TXN)), packet(4, None), packet(5, None), packet(8, Some(TXN)), packet(7, None)];
    let designated = [b"\0\0\0\0\0\0\0\x02", TXN].concat();
    let others = [
        packet(14, None),
        packet(15, None),
        packet(6, Some(b"\0\0\0\0\0\0\0\x07\x01")),
        packet(9, Some(&designated[..8])),
        packet(19, Some(&designated)),
    ];
    vec![handshake.concat(), broadcast.concat(), others.concat()]
}

pub(crate) fn learner_seeds() -> Vec<Vec<u8>> {
    let info = b"\0\0\0\0\0\0\0\x03\0\x01\0\0\0\0\0\0\0\0\0\x09";
    let session = b"\0\0\0\0\0\0\0\x07\0\0\x27\x10";
    let mut request = packet(1, Some(b"\0\0\0\0\0\0\0\x07\0\0\0\x05\0\0\0\x09\0\0\0\x01/"));
    request.truncate(request.len() - 4);
    request.extend(b"\0\0\0\x01\0\0\0\x02ip\0\0\0\x09127.0.0.1");
    let handshake = [packet(11, Some(info)), packet(18, Some(b"\0\0\0\x01")), packet(3, None), packet(16, None)];
    let broadcast = [packet(5, Some(session)), packet(6, Some(session)), request, packet(3, None)];
    let notification = Notification {
        state: ServerState::Looking,
        vote: Vote { leader: ServerId(3), zxid: 1 << 32 | 6, peer_epoch: 1 },
        round: ElectionRound(2),
        version: Notification::VERSION,
        config: Some(Bytes::from_static(b"server.1=a:1:2:participant\nversion=0")),
    };
    let mut connection = Vec::new();
    ElectionHeader::write(ServerId(3), "::1", 3888, &mut connection);
    notification.write(&mut connection);
    Notification { version: 0, ..notification }.write(&mut connection);
    vec![handshake.concat(), broadcast.concat(), connection]
}
