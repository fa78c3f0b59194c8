//! Machines in network namespaces, and links between them whose faults the tests decide.
//!
//! Every machine is a network namespace with an interface of its own, `wire`. A wire is a VXLAN interface
//! over a veth pair: what it sends comes to a UDP socket here as Ethernet frames, and the switch behind
//! that socket forwards, delays or loses each frame by the direction in which it goes. So one means covers
//! all faults, for each pair and each direction apart, and none of `netem`, `nft` or a bridge is needed,
//! which not every kernel has. Neighbours are written down on every machine: a cut is silent, as behind a
//! router.
//!
//! The process first moves into a network and a mount namespace of its own ([`isolate`]). Everything that
//! is made here lives in those (names of namespaces, interfaces, directories on a tmpfs), and the kernel
//! removes it when the process is gone, however it ends; servers die with the process that started them.

use crate::ensemble::Place;
use anyhow::{Context as _, Result, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Set in a process that has namespaces of its own.
const ISOLATED: &str = "FARRIER_ISOLATED";
/// Directories of servers in such a process; the file system above it is private.
const DIRECTORIES: &str = "/run/farrier";
/// Where `ip` keeps the names of network namespaces.
const NAMES: &str = "/run/netns";
/// Port of VXLAN.
const VXLAN_PORT: u16 = 4789;
/// Bytes of VXLAN's own header, before the Ethernet frame.
const VXLAN_HEADER: usize = 8;
/// Bytes of an Ethernet header.
const ETHERNET_HEADER: usize = 14;
/// The largest datagram.
const DATAGRAM_MAX: usize = 65_535;
/// How often the switch looks whether it should end.
const SWITCH_LOOK: Duration = Duration::from_millis(50);
/// Most machines of one network.
const MACHINES_MAX: usize = 32;

/// Replaces this process by itself in network and mount namespaces of its own, with `environment` added; returns in the
/// replacement. Needs root or user namespaces.
pub fn isolate(environment: &[(&str, OsString)]) -> Result<()> {
    if std::env::var_os(ISOLATED).is_some() {
        run("mount", &["-t", "tmpfs", "-o", "size=1g", "farrier", "/run"]).context("a private /run")?;
        fs::create_dir_all(DIRECTORIES)?;
        return Ok(());
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net"]);
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.arg("--").arg(std::env::current_exe()?).args(std::env::args_os().skip(1));
    command.env(ISOLATED, "1").env("TMPDIR", DIRECTORIES).envs(environment.iter().map(|(k, v)| (k, v)));
    Err(command.exec()).context("running unshare, of util-linux")
}

/// Whether this process has namespaces of its own.
#[must_use]
pub fn is_isolated() -> bool {
    std::env::var_os(ISOLATED).is_some()
}

/// A tmpfs of this size on a directory, in this process's mount namespace.
pub fn mount_small(dir: &Path, bytes: u64) -> Result<()> {
    ensure!(is_isolated(), "only processes with a mount namespace of their own mount anything");
    fs::create_dir_all(dir)?;
    let (options, dir) = (format!("size={bytes}"), dir.to_str().context("a path that is text")?);
    run("mount", &["-t", "tmpfs", "-o", &options, "farrier-small", dir])
}

/// Takes away what [`mount_small`] made.
pub fn unmount(dir: &Path) -> Result<()> {
    run("umount", &["--lazy", dir.to_str().context("a path that is text")?])
}

/// What happens to frames in one direction between two machines.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Way {
    /// All are lost.
    pub cut: bool,
    /// So many of a hundred are lost.
    pub loss_percent: u64,
    /// They arrive so much later.
    pub delay: Duration,
}

impl Way {
    /// Nothing arrives.
    pub const CUT: Self = Self { cut: true, loss_percent: 0, delay: Duration::ZERO };
}

/// Machines, numbered from 0, and one more for clients.
#[derive(Debug)]
pub struct Net {
    servers: usize,
    ways: Arc<Mutex<Ways>>,
    ends: Arc<AtomicBool>,
    switch: Option<JoinHandle<()>>,
}

impl Net {
    /// Makes machines and their links, all whole. The process must be isolated.
    pub fn new(servers: usize) -> Result<Self> {
        ensure!(is_isolated(), "networks are made only in a network namespace of one's own");
        ensure!(servers < MACHINES_MAX, "more than {MACHINES_MAX} machines");
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, VXLAN_PORT)).context("the switch's socket")?;
        for machine in 0..=servers {
            make(machine, servers).with_context(|| format!("making {}", name(machine)))?;
        }
        let ways =
            Arc::new(Mutex::new(Ways { machines: servers + 1, ways: vec![Way::default(); (servers + 1).pow(2)] }));
        let ends = Arc::new(AtomicBool::new(false));
        let switch = Switch {
            socket,
            ways: ways.clone(),
            ends: ends.clone(),
            waiting: BinaryHeap::new(),
            number: 0,
            random: 0x2545_f491_4f6c_dd1d,
        };
        let switch = std::thread::Builder::new().name("switch".into()).spawn(move || switch.run())?;
        Ok(Self { servers, ways, ends, switch: Some(switch) })
    }

    /// The machine of the clients.
    #[must_use]
    pub const fn clients(&self) -> usize {
        self.servers
    }

    /// Moves this thread, and what it starts from now on, to the machine of the clients.
    pub fn enter(&self) -> Result<()> {
        let file = File::open(Path::new(NAMES).join(name(self.servers)))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).context("entering a namespace")
    }

    /// Where a server on this machine runs. It is killed when the thread that started it ends.
    #[must_use]
    pub fn place(&self, machine: usize) -> Place {
        let launcher =
            ["nsenter", &format!("--net={NAMES}/{}", name(machine)), "--", "setpriv", "--pdeathsig", "KILL", "--"];
        Place { ip: IpAddr::V4(address(machine)), launcher: launcher.map(OsString::from).into() }
    }

    /// Decides over one direction.
    pub fn set(&self, from: usize, to: usize, way: Way) {
        self.lock().set(from, to, way);
    }

    /// Decides over both directions between each of these and each of those.
    pub fn set_between(&self, these: &[usize], those: &[usize], way: Way) {
        let mut ways = self.lock();
        for (&a, &b) in these.iter().flat_map(|a| those.iter().map(move |b| (a, b))).filter(|(a, b)| a != b) {
            ways.set(a, b, way);
            ways.set(b, a, way);
        }
    }

    /// Makes all links whole.
    pub fn heal(&self) {
        self.lock().ways.fill(Way::default());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ways> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        // Its panic has been printed, and the namespaces end with the process at the latest.
        let _ = self.switch.take().map(JoinHandle::join);
    }
}

/// One `Way` for each pair.
#[derive(Debug)]
struct Ways {
    machines: usize,
    ways: Vec<Way>,
}

impl Ways {
    fn set(&mut self, from: usize, to: usize, way: Way) {
        self.ways[from * self.machines + to] = way;
    }

    fn get(&self, from: usize, to: usize) -> Option<Way> {
        (from < self.machines && to < self.machines).then(|| self.ways[from * self.machines + to])
    }
}

/// A frame that has not arrived yet: due, number of arrival, machine, datagram.
type Waiting = Reverse<(Instant, u64, usize, Vec<u8>)>;

struct Switch {
    socket: UdpSocket,
    ways: Arc<Mutex<Ways>>,
    ends: Arc<AtomicBool>,
    waiting: BinaryHeap<Waiting>,
    number: u64,
    random: u64,
}

impl Switch {
    fn run(mut self) {
        let mut buf = vec![0; DATAGRAM_MAX];
        while !self.ends.load(Ordering::Relaxed) {
            let patience = self.deliver_due();
            if self.socket.set_read_timeout(Some(patience)).is_err() {
                return;
            }
            match self.socket.recv_from(&mut buf) {
                Ok((len, SocketAddr::V4(from))) => {
                    let [.., machine, _] = from.ip().octets();
                    self.take(usize::from(machine), &mut buf[..len]);
                }
                Ok((_, SocketAddr::V6(_))) => {}
                // Whatever a machine that just went reports is no concern of the others.
                Err(e) if e.kind() == ErrorKind::InvalidInput => return,
                Err(_) => {}
            }
        }
    }

    /// Sends what is due; returns how long to wait for the next.
    fn deliver_due(&mut self) -> Duration {
        let now = Instant::now();
        while let Some(Reverse((due, ..))) = self.waiting.peek() {
            if *due > now {
                return (*due - now).min(SWITCH_LOOK);
            }
            if let Some(Reverse((_, _, to, datagram))) = self.waiting.pop() {
                self.send(to, &datagram);
            }
        }
        SWITCH_LOOK
    }

    fn take(&mut self, from: usize, datagram: &mut [u8]) {
        let Some(to) = destination(datagram) else { return };
        let way = self.ways.lock().unwrap_or_else(PoisonError::into_inner).get(from, to);
        let Some(way) = way else { return };
        if way.cut || self.dice() < way.loss_percent {
            return;
        }
        fill_checksum(&mut datagram[VXLAN_HEADER + ETHERNET_HEADER..]);
        if way.delay.is_zero() {
            self.send(to, datagram);
        } else {
            self.number += 1;
            self.waiting.push(Reverse((Instant::now() + way.delay, self.number, to, datagram.to_vec())));
        }
    }

    fn send(&self, to: usize, datagram: &[u8]) {
        // Lost frames are what TCP is for.
        let _ = self.socket.send_to(datagram, (underlay(to, 2), VXLAN_PORT));
    }

    /// Marsaglia's xorshift.
    fn dice(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 100
    }
}

/// The machine to which a frame is addressed; none for broadcasts.
fn destination(datagram: &[u8]) -> Option<usize> {
    match datagram.get(VXLAN_HEADER..VXLAN_HEADER + ETHERNET_HEADER)? {
        [0x02, 0, 0, 0, 0, machine, ..] => Some(usize::from(*machine)),
        _ => None,
    }
}

/// Machines leave the checksum of TCP to their interface, and this is where their frames become real.
fn fill_checksum(packet: &mut [u8]) {
    const TCP: u8 = 6;
    let Some(&[first, _, long, short]) = packet.first_chunk::<4>() else { return };
    let (header, whole) = (usize::from(first & 15) * 4, usize::from(u16::from_be_bytes([long, short])));
    if first >> 4 != 4 || header < 20 || packet.len() < whole || whole < header + 20 || packet[9] != TCP {
        return;
    }
    packet[header + 16..header + 18].fill(0);
    let length = whole - header;
    let words = |bytes: &[u8]| -> u64 {
        bytes.chunks(2).map(|w| u64::from(u16::from_be_bytes([w[0], w.get(1).copied().unwrap_or(0)]))).sum()
    };
    let mut sum = words(&packet[12..20]) + u64::from(TCP) + length as u64 + words(&packet[header..whole]);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [.., high, low] = (!sum).to_be_bytes();
    packet[header + 16..header + 18].copy_from_slice(&[high, low]);
}

fn name(machine: usize) -> String {
    format!("m{machine}")
}

/// A machine's address on its wire.
fn address(machine: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 98, 0, octet(machine) + 1)
}

/// Addresses of the veth pair below a wire: 1 is the switch's end, 2 the machine's.
fn underlay(machine: usize, end: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, octet(machine), end)
}

fn octet(machine: usize) -> u8 {
    u8::try_from(machine).unwrap_or(u8::MAX)
}

fn make(machine: usize, servers: usize) -> Result<()> {
    let here = name(machine);
    let (near, far) = (underlay(machine, 1), underlay(machine, 2));
    run("ip", &["netns", "add", &here])?;
    batch(
        &[],
        &format!(
            "link add port{machine} type veth peer name port netns {here}\n\
             addr add {near}/24 dev port{machine}\n\
             link set port{machine} up\n"
        ),
    )?;
    let mut inside = format!(
        "link set lo up\n\
         addr add {far}/24 dev port\n\
         link set dev port up\n\
         link add wire type vxlan id 1 remote {near} dstport {VXLAN_PORT} dev port nolearning\n\
         link set dev wire address 02:00:00:00:00:{machine:02x} gso_max_size 32768\n\
         addr add {}/24 dev wire\n\
         link set dev wire up\n",
        address(machine)
    );
    for other in (0..=servers).filter(|&other| other != machine) {
        inside.push_str(&format!(
            "neigh add {} lladdr 02:00:00:00:00:{other:02x} dev wire nud permanent\n",
            address(other)
        ));
    }
    batch(&["-n", &here], &inside)
}

/// Lines for `ip -batch`.
fn batch(options: &[&str], lines: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(options)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("running ip, of iproute2")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(lines.as_bytes())?;
    }
    let status = child.wait()?;
    ensure!(status.success(), "ip {options:?} ended with {status}");
    Ok(())
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let status = Command::new(program).args(arguments).status().with_context(|| format!("running {program}"))?;
    if !status.success() {
        bail!("{program} {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twenty bytes of IPv4 and twenty of TCP with two bytes of data, as tcpdump would show them.
    fn packet() -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 42, 0, 0, 0, 0, 64, 6, 0, 0, 10, 98, 0, 1, 10, 98, 0, 2];
        packet.extend([0x12, 0x34, 0x08, 0x85, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 0xff, 0xff, 0xde, 0xad, 0, 0, 7, 9]);
        packet
    }

    #[test]
    fn a_receiver_finds_the_checksum_right() {
        let mut packet = packet();
        fill_checksum(&mut packet);
        let mut sum: u32 = 6 + 22;
        for word in packet[12..].chunks(2) {
            sum += u32::from(u16::from_be_bytes([word[0], word[1]]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        assert_eq!(sum, 0xffff);
    }

    #[test]
    fn what_is_no_whole_tcp_segment_stays_as_it_is() {
        for spoil in [(0, 0x65), (9, 17), (3, 60), (3, 30)] {
            let mut packet = packet();
            packet[spoil.0] = spoil.1;
            let before = packet.clone();
            fill_checksum(&mut packet);
            assert_eq!(packet, before, "{spoil:?}");
        }
        fill_checksum(&mut []);
    }

    #[test]
    fn frames_go_to_the_machine_of_their_address() {
        let mut datagram = vec![0; VXLAN_HEADER + ETHERNET_HEADER];
        datagram[VXLAN_HEADER..VXLAN_HEADER + 6].copy_from_slice(&[2, 0, 0, 0, 0, 4]);
        assert_eq!(destination(&datagram), Some(4));
        datagram[VXLAN_HEADER..VXLAN_HEADER + 6].fill(0xff);
        assert_eq!(destination(&datagram), None);
        assert_eq!(destination(&datagram[..12]), None);
    }

    #[test]
    fn ways_are_kept_apart_by_direction() {
        let mut ways = Ways { machines: 3, ways: vec![Way::default(); 9] };
        ways.set(0, 2, Way::CUT);
        assert_eq!(ways.get(0, 2), Some(Way::CUT));
        assert_eq!(ways.get(2, 0), Some(Way::default()));
        assert_eq!(ways.get(3, 0), None);
    }
}
