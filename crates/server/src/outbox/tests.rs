//! The queue between replica and worker, one thread at a time.

use crate::outbox::{Deliveries, Delivery, Outbox};
use farrier_replica::ConnId;

#[test]
fn an_attending_worker_is_spared_ordinary_wake_ups_only() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let outbox = Outbox::default();
        let woken = async || tokio::select! { biased; () = outbox.wait() => true, () = async {} => false };
        outbox.wake();
        assert!(woken().await);
        outbox.attend();
        outbox.wake();
        assert!(!woken().await, "it looks anyway");
        outbox.wake_always();
        assert!(woken().await, "no look in the queue tells it what this is about");
    });
}

#[test]
fn deliveries_keep_their_order_and_bytes() {
    let outbox = Outbox::default();
    outbox.push(ConnId(1), Delivery::Send(b"one"));
    outbox.push(ConnId(2), Delivery::Pause);
    outbox.push(ConnId(1), Delivery::Send(b"three"));
    outbox.push(ConnId(1), Delivery::Close);
    let mut batch = Deliveries::default();
    outbox.take(&mut batch);
    let mut seen = Vec::new();
    batch.drain(|conn, d| seen.push(format!("{} {d:?}", conn.0)));
    assert_eq!(seen, ["1 Send([111, 110, 101])", "2 Pause", "1 Send([116, 104, 114, 101, 101])", "1 Close"]);
    outbox.take(&mut batch);
    batch.drain(|_, _| panic!("everything was taken before"));
}

#[test]
fn only_frames_are_frames_of_one_connection_and_nothing_else() {
    let mut batch = Deliveries::default();
    let outbox = Outbox::default();
    let mut only = |deliveries: &[(u64, Delivery<'_>)]| {
        for (conn, delivery) in deliveries {
            outbox.push(ConnId(*conn), *delivery);
        }
        outbox.take(&mut batch);
        let only = batch.only_frames().map(|(conn, frames)| (conn.0, frames.to_vec()));
        batch.clear();
        assert_eq!(batch.only_frames(), None);
        only
    };
    assert_eq!(only(&[]), None);
    assert_eq!(only(&[(7, Delivery::Send(b"one"))]), Some((7, b"one".to_vec())));
    assert_eq!(only(&[(7, Delivery::Send(b"one")), (7, Delivery::Close)]), None);
    assert_eq!(only(&[(7, Delivery::ReportFlush)]), None);
}
