//! Packets for peers that a worker writes before it sleeps.
//!
//! What the requests of one connection bring is often followed by those of the next: one write takes all of them, and wakes
//! the peer once. Each thread knows what it has put off; others who flush the same link write that as well.

use super::Port;
use smallvec::SmallVec;
use std::cell::RefCell;
use std::sync::Arc;

/// Turns of connections after which a worker that does not sleep writes.
const TURNS_MAX: usize = 8;

#[derive(Debug, Default)]
struct Later {
    ports: SmallVec<[Arc<Port>; 4]>,
    turns: usize,
}

thread_local! {
    static LATER: RefCell<Later> = RefCell::default();
}

/// Something was put into the outboxes of these links. [`flush`] follows before this thread sleeps.
pub(crate) fn put_off(ports: impl IntoIterator<Item = Arc<Port>>) {
    let due = LATER.with_borrow_mut(|later| {
        for port in ports {
            if !later.ports.iter().any(|known| Arc::ptr_eq(known, &port)) {
                later.ports.push(port);
            }
        }
        if later.ports.is_empty() {
            return false;
        }
        later.turns += 1;
        later.turns == TURNS_MAX
    });
    if due {
        flush();
    }
}

/// Writes what was put off.
pub(crate) fn flush() {
    let Later { ports, .. } = LATER.take();
    for port in ports {
        port.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::super::ports::Ports;
    use super::*;
    use farrier_proto::Zxid;
    use farrier_proto::quorum::LearnerPacket;
    use farrier_zab::LinkId;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn what_is_put_off_leaves_before_sleep_or_behind_some_turns() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mine = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut theirs = listener.accept().await.unwrap().0;
        let (_read, write) = mine.into_split();
        write.writable().await.unwrap();
        let ports = Ports::default();
        ports.open(LinkId(1), write);
        let packet = LearnerPacket::Ack { zxid: Zxid::new(1, 1) };
        let turn = || put_off(ports.send(LinkId(1), |out| packet.write(out)));
        let mut arrived = vec![0; 1000];

        turn();
        assert!(theirs.try_read(&mut arrived).is_err(), "nothing was written yet");
        flush();
        let one = theirs.read(&mut arrived).await.unwrap();

        turn();
        // Turns that bring nothing for peers count as well: those that did wait for them.
        (2..TURNS_MAX).for_each(|_| put_off([]));
        assert!(theirs.try_read(&mut arrived).is_err(), "nothing was written yet");
        turn();
        assert_eq!(theirs.read(&mut arrived).await.unwrap(), 2 * one);
        flush();
        assert!(theirs.try_read(&mut arrived).is_err(), "nothing was left");
    }
}
