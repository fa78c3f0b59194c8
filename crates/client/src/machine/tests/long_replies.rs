//! Replies that are longer than the client takes.

use super::*;

const MAX: i32 = 100_000;

/// The beginning of a frame: its length, and what it answers.
fn announced(len: i32, xid: i32) -> Vec<u8> {
    [len.to_be_bytes(), xid.to_be_bytes()].concat()
}

#[test]
fn a_read_whose_reply_is_too_long_is_not_made_again() {
    for cut in 0..=8 {
        let mut rig = Rig::connected(settings(1));
        let (mut long, mut behind) = (rig.ask(OpCode::GetChildren), rig.ask(OpCode::GetData));
        rig.sent();
        let bytes = announced(MAX + 1, 1);
        rig.receive(&bytes[..cut]);
        rig.receive(&bytes[cut..]);
        assert_eq!(rig.hangups, 1, "cut at {cut}");
        let failure = outcome(&mut long);
        assert!(
            matches!(&failure, Err(Failure::Unreadable { server, reason }) if **server == *"h:1" && reason.contains("reply_max")),
            "cut at {cut}: {failure:?}"
        );
        assert!(matches!(outcome(&mut behind), Err(Failure::NotDone { again: true, .. })), "nothing is wrong with it");
    }
}

#[test]
fn a_write_whose_reply_is_too_long_may_have_been_done() {
    let mut rig = Rig::connected(settings(1));
    let mut write = rig.ask(OpCode::Multi);
    rig.sent();
    rig.receive(&announced(i32::MAX, 1));
    assert!(matches!(outcome(&mut write), Err(Failure::Unknown { reason, .. }) if reason.contains("reply_max")));
    assert_eq!(rig.hangups, 1);
}

#[test]
fn a_long_frame_that_answers_nothing_is_nobodys_reply() {
    for (len, xid) in [(-1, 1), (MAX + 1, 7), (MAX + 1, -1)] {
        let mut rig = Rig::connected(settings(1));
        let mut read = rig.ask(OpCode::GetData);
        rig.sent();
        rig.receive(&announced(len, xid));
        assert_eq!(rig.hangups, 1);
        assert!(matches!(outcome(&mut read), Err(Failure::NotDone { again: true, .. })));
    }
    // Before there is a session there is no reply either.
    let mut rig = Rig::new(settings(1));
    let mut read = rig.ask(OpCode::GetData);
    rig.handshake();
    rig.receive(&announced(MAX + 1, 1));
    assert!(rig.hangups == 1 && waits(&mut read));
}
