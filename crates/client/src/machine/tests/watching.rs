//! Watches that come and go while answers are late, lost, or not waited for.

use super::*;

/// A watch that somebody asks for with `addWatch`; its queue, and the answer.
fn add(rig: &mut Rig, path: &str, deadline: Time) -> (Arc<EventQueue>, Answer) {
    let queue = Arc::<EventQueue>::default();
    let id = rig.machine.fresh_id();
    let registration = Registration { kind: WatchKind::Persistent, path: path.into(), id, queue: Arc::clone(&queue) };
    let (reply, answer) = oneshot::channel();
    let effect = Some(Effect::Set(registration));
    rig.machine.submit(rig.now, deadline, OpCode::AddWatch, Some(reply), effect, |_| {}).expect("there is room");
    (queue, answer)
}

fn remove(rig: &mut Rig, path: &str, deadline: Time) -> Answer {
    let (reply, answer) = oneshot::channel();
    let effect = Some(Effect::Remove(path.into(), WatcherType::Any));
    rig.machine.submit(rig.now, deadline, OpCode::RemoveWatches, Some(reply), effect, |_| {}).expect("there is room");
    answer
}

/// What a reader of a watch gets, and whether the watch has ended behind it.
fn read(queue: &EventQueue) -> (usize, bool) {
    let cx = std::task::Context::from_waker(std::task::Waker::noop());
    let mut events = 0;
    loop {
        match queue.poll(&cx) {
            std::task::Poll::Ready(Some(_)) => events += 1,
            std::task::Poll::Ready(None) => return (events, true),
            std::task::Poll::Pending => return (events, false),
        }
    }
}

#[test]
fn watches_end_with_the_answer_and_not_when_somebody_reads_it() {
    let mut rig = Rig::connected(settings(1));
    let (old, _) = add(&mut rig, "/x", Time::MAX);
    rig.sent();
    rig.reply(1, 1, Ok(()), b"");
    let _removed = remove(&mut rig, "/x", Time::MAX);
    let (new, _added) = add(&mut rig, "/x", Time::MAX);
    rig.sent();
    // Events, and then both answers, come in one piece.
    let mut bytes = Vec::new();
    put_event(&mut bytes, 2, EventType::NodeDataChanged, "/x");
    put_reply(&mut bytes, Xid(2), 2, Ok(()), |_| {});
    put_reply(&mut bytes, Xid(3), 2, Ok(()), |_| {});
    put_event(&mut bytes, 3, EventType::NodeDataChanged, "/x");
    rig.receive(&bytes);
    assert_eq!(read(&old), (1, true), "what came before its end is told");
    assert_eq!(read(&new), (1, false), "it was set after that");
    assert!(rig.machine.watches.has(WatchKind::Persistent, "/x"));
}

#[test]
fn watches_end_though_nobody_waits_for_the_answer() {
    for late in [false, true] {
        let mut rig = Rig::connected(settings(1));
        let (queue, _) = add(&mut rig, "/x", Time::MAX);
        rig.sent();
        rig.reply(1, 1, Ok(()), b"");
        let mut removed = remove(&mut rig, "/x", if late { at(100) } else { Time::MAX });
        rig.sent();
        if late {
            rig.tick(100);
            assert!(matches!(outcome(&mut removed), Err(Failure::NotDone { .. })));
        }
        drop(removed);
        rig.reply(2, 1, Ok(()), b"");
        assert_eq!(read(&queue), (0, true), "late: {late}");
        rig.lose();
        rig.dial();
        rig.handshake();
        rig.accept(1, 0xabc, TIMEOUT, false);
        assert_eq!(rig.ops(), [], "late: {late}: nothing is set again");
    }
    // One that is refused removes nothing.
    let mut rig = Rig::connected(settings(1));
    let (queue, _) = add(&mut rig, "/x", Time::MAX);
    rig.sent();
    rig.reply(1, 1, Ok(()), b"");
    drop(remove(&mut rig, "/x", Time::MAX));
    rig.sent();
    rig.reply(2, 1, Err(ErrorCode::ThrottledOp), b"");
    assert_eq!(read(&queue), (0, false));
}

#[test]
fn a_watch_that_was_given_up_before_its_answer_is_removed_from_the_server() {
    let mut rig = Rig::connected(settings(1));
    let (queue, mut answer) = add(&mut rig, "/x", at(100));
    rig.sent();
    rig.tick(100);
    assert!(matches!(outcome(&mut answer), Err(Failure::NotDone { .. })));
    // As whoever waited for it does.
    queue.close();
    rig.machine.unwatch(rig.now, WatchKind::Persistent, "/x", rig.machine.next_id);
    assert_eq!(rig.ops(), [], "it is on its way");
    rig.reply(1, 1, Ok(()), b"");
    assert!(!rig.machine.watches.has(WatchKind::Persistent, "/x"));
    assert_eq!(rig.ops(), [OpCode::RemoveWatches]);
}

#[test]
fn a_watch_tells_what_came_before_the_end_of_the_client() {
    for refused in [false, true] {
        let mut rig = Rig::connected(Settings { identities: vec![("digest".into(), b"a:b".to_vec())], ..settings(1) });
        let (queue, _set) = add(&mut rig, "/w", Time::MAX);
        rig.machine.close(rig.now, Time::MAX, None).expect("it is open");
        rig.sent();
        rig.reply(1, 1, Ok(()), b"");
        let mut bytes = Vec::new();
        put_event(&mut bytes, 5, EventType::NodeDataChanged, "/w");
        if refused {
            put_reply(&mut bytes, Xid::AUTH, 0, Err(ErrorCode::AuthFailed), |_| {});
        } else {
            put_reply(&mut bytes, Xid(2), 6, Ok(()), |_| {});
        }
        rig.receive(&bytes);
        assert!(rig.machine.has_ended());
        assert_eq!(read(&queue), (1, true), "refused: {refused}");
    }
}
