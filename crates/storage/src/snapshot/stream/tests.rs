use super::super::tests::TestState;
use super::*;
use crate::state::NodeRecord;
use crate::testing::Nodes;
use farrier_proto::jute::{put_buffer, put_i32, put_i64};
use std::convert::Infallible;

const MAX: usize = 4096;

fn stream_of<I: Image>(image: &I) -> Vec<u8> {
    let mut out = Vec::new();
    let nodes = write_stream::<_, Infallible>(image, &mut |bytes| {
        assert!(!bytes.is_empty() && bytes.len() <= GATHER);
        out.extend_from_slice(bytes);
        Ok(())
    });
    let mut counted = 0;
    let mut count = |_: NodeRecord<'_>| {
        counted += 1;
        Ok::<(), Infallible>(())
    };
    image.nodes(&mut count).unwrap();
    assert_eq!(nodes, Ok(counted));
    out
}

/// Feeds all of it in pieces of `size`; answers the bytes consumed.
fn feed(bytes: &[u8], size: usize, max: usize, zxid: Zxid, state: &mut dyn Restore) -> Result<usize, SnapshotError> {
    let mut reader = StreamReader::new(max);
    let mut consumed = 0;
    for piece in bytes.chunks(size) {
        let progress = reader.feed(piece, state)?;
        consumed += progress.consumed;
        if progress.complete {
            break;
        }
        assert_eq!(progress.consumed, piece.len(), "all is taken until the end is seen");
    }
    assert_eq!(reader.bytes(), consumed as u64);
    reader.finish(zxid, state)?;
    Ok(consumed)
}

/// The state as a reader of a stream has it: there is no digest in one.
fn small() -> TestState {
    let mut state = TestState::small(Zxid::new(1, 9));
    state.loaded(Zxid::new(1, 9), None).unwrap();
    state
}

#[test]
fn the_stream_is_the_files_body_and_a_signature() {
    let image = small();
    let stream = stream_of(&image);
    let disk = crate::mem::MemDisk::default();
    let written = crate::snapshot::write_snapshot(&disk, &image, &Default::default()).unwrap();
    let file = disk.content(&written.path).unwrap();
    let body = stream.len() - SIGNATURE_BYTES.len();
    assert_eq!(stream[..body], file[16..16 + body]);
    assert_eq!(stream[body..], *b"\x00\x00\x00\x0aBenWasHere");
    assert_eq!(file[16 + body + 8..][..5], [0, 0, 0, 1, b'/'], "a seal follows in the file");
}

#[test]
fn a_round_trip_cut_at_every_byte() {
    let image = small();
    let stream = stream_of(&image);
    let mut long = stream.clone();
    long.extend_from_slice(b"the next packet");
    for cut in 0..=long.len() {
        let mut reader = StreamReader::new(MAX);
        let mut state = TestState::default();
        let first = reader.feed(&long[..cut], &mut state).unwrap();
        let second = reader.feed(&long[cut..], &mut state).unwrap();
        assert_eq!(first.consumed + second.consumed, stream.len(), "{cut}");
        assert!(second.complete && first.complete == (cut >= stream.len()), "{cut}");
        assert_eq!(reader.feed(b"more", &mut state).unwrap(), Progress { consumed: 0, complete: true });
        reader.finish(Zxid::new(1, 9), &mut state).unwrap();
        assert_eq!(state, image, "{cut}");
    }
    for size in 1..80 {
        let mut state = TestState::default();
        assert_eq!(feed(&long, size, MAX, Zxid::new(1, 9), &mut state).unwrap(), stream.len());
        assert_eq!(state, image, "{size}");
    }
}

#[test]
fn large_states_pass_in_bounded_pieces() {
    let image = Nodes::up_to(3000);
    let stream = stream_of(&image);
    assert!(stream.len() > 4 * GATHER);
    for size in [1000, 4096, 70_000, stream.len()] {
        let mut state = Nodes::default();
        feed(&stream, size, MAX, image.zxid(), &mut state).unwrap();
        assert_eq!(state, Nodes { loaded: Some(image.zxid()), ..Nodes::up_to(3000) });
    }
    // A sink that fails is not called again.
    let mut calls = 0;
    let failed = write_stream(&image, &mut |_| {
        calls += 1;
        if calls == 2 { Err("gone") } else { Ok(()) }
    });
    assert_eq!((failed, calls), (Err("gone"), 2));
}

#[test]
fn a_stream_that_breaks_off_is_never_loaded() {
    let stream = stream_of(&small());
    for len in 0..stream.len() {
        let mut state = TestState::default();
        let error = feed(&stream[..len], 50, MAX, Zxid::new(1, 9), &mut state).unwrap_err();
        assert!(error.to_string().contains("before its signature"), "{len}: {error}");
    }
    for at in stream.len() - 14..stream.len() {
        let mut bad = stream.clone();
        bad[at] ^= 1;
        assert!(feed(&bad, 50, MAX, Zxid::new(1, 9), &mut TestState::default()).is_err(), "{at}");
    }
}

/// Whatever a length says, no more is held back than the limit and what came last.
#[test]
fn hostile_lengths_are_refused_before_their_bytes() {
    let start = |sessions: i32, acls: i32| {
        let mut out = Vec::new();
        put_i32(&mut out, sessions);
        put_i32(&mut out, acls);
        out
    };
    let mut node = start(0, 0);
    put_i32(&mut node, 2);
    node.extend_from_slice(b"/a");
    let mut path = start(0, 0);
    put_i32(&mut path, i32::MAX);
    let mut data = node.clone();
    put_i32(&mut data, i32::try_from(MAX).unwrap() + 1);
    let mut negative = node;
    put_i32(&mut negative, -2);
    let mut null = start(0, 0);
    put_i32(&mut null, -1);
    let mut acl = start(0, 1);
    put_i64(&mut acl, 1);
    put_i32(&mut acl, i32::MAX);
    for _ in 0..MAX {
        put_i32(&mut acl, 31);
        put_buffer(&mut acl, Some(b""));
        put_buffer(&mut acl, Some(b""));
    }
    let mut scheme = start(0, 1);
    put_i64(&mut scheme, 1);
    put_i32(&mut scheme, 1);
    put_i32(&mut scheme, 31);
    put_i32(&mut scheme, i32::MAX);
    let cases: [(&str, Vec<u8>, bool); 8] = [
        ("path", path, true),
        ("data", data, true),
        ("negative", negative, false),
        ("null", null, false),
        ("acl", acl, true),
        ("scheme", scheme, true),
        ("sessions", start(-1, 0), false),
        ("acls", start(0, -1), false),
    ];
    for (name, bytes, is_limit) in cases {
        for size in [1, 7, 100_000] {
            let mut reader = StreamReader::new(MAX);
            let mut held = 0;
            let error = bytes
                .chunks(size)
                .find_map(|piece| {
                    let fed = reader.feed(piece, &mut TestState::default());
                    held = held.max(reader.held.capacity());
                    fed.err()
                })
                .unwrap_or_else(|| panic!("{name} is refused"));
            assert_eq!(matches!(error, SnapshotError::Limit { .. }), is_limit, "{name}: {error}");
            assert!(held <= 4 * MAX + 100_000, "{name}: {held}");
        }
    }
}

#[test]
fn a_state_that_refuses_ends_the_stream() {
    let mut out = Vec::new();
    put_i32(&mut out, 0);
    put_i32(&mut out, 0);
    put_buffer(&mut out, Some(b"/refuse"));
    put_buffer(&mut out, None);
    put_i64(&mut out, -1);
    out.extend_from_slice(&[0; 60]);
    let mut reader = StreamReader::new(MAX);
    let error = reader.feed(&out, &mut TestState::default()).unwrap_err();
    assert!(matches!(error, SnapshotError::Refused { offset: 8, .. }), "{error}");
}
