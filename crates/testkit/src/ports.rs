//! Ports for servers of tests.

use anyhow::{Result, bail};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Ports are taken from here, below the range from which Linux gives ports to outgoing connections:
/// otherwise a client's connection could sit on the port of a server that is about to start again.
const PORTS: std::ops::Range<u16> = 25_000..32_000;
/// How far apart the ports of two calls of this process start.
const PORTS_PER_CALL: u32 = 64;

/// How many times ports were asked for.
static CALLS: AtomicU16 = AtomicU16::new(0);

/// Different free ports of the loopback interface, all held until the last is found.
pub fn free_ports(count: usize) -> Result<Vec<u16>> {
    let width = PORTS.end - PORTS.start;
    let spread = std::process::id().wrapping_mul(97) % u32::from(width);
    // Servers that start side by side in one process look in different places, because ports are
    // free again between this and the start of the servers.
    let calls = u32::from(CALLS.fetch_add(1, Ordering::Relaxed));
    let first = u16::try_from((spread + calls * PORTS_PER_CALL) % u32::from(width)).unwrap_or_default();
    let mut held = Vec::new();
    for step in 0..width {
        let port = PORTS.start + (first + step) % width;
        held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
        if held.len() == count {
            return held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect();
        }
    }
    bail!("no {count} ports of {PORTS:?} are free")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_and_are_outside_the_range_of_outgoing_connections() {
        let mut ports = free_ports(9).expect("there are free ports");
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 9);
        assert!(ports.iter().all(|p| PORTS.contains(p)));
    }
}
