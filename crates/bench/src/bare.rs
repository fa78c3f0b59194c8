//! Bare servers: sockets, and none of what requests are for. What a row costs on one of them is what it costs at least.

use anyhow::{Context as _, Result, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Of a measurement on a bare server, not counted.
pub(crate) const RAMP: Duration = Duration::from_millis(300);
/// Bytes that one read may bring.
const READ_MAX: usize = 64 << 10;
/// Longest frame that is looked at.
const FRAME_MAX: usize = 4096;
/// Events that one wait may bring.
const EVENTS_MAX: usize = 1024;

/// A connection, and what of it waits for room.
pub(crate) struct Conn {
    stream: TcpStream,
    unsent: Vec<u8>,
    /// What came of a frame that is not whole yet; for those who look at frames.
    pub(crate) partial: Vec<u8>,
}

impl Conn {
    /// What came, 0 if nothing is there.
    ///
    /// # Errors
    ///
    /// The connection is gone.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stream.read(buffer) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(0),
            other => other,
        }
    }

    /// Sends this behind whatever waits.
    ///
    /// # Errors
    ///
    /// The connection is gone.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        if self.unsent.is_empty() {
            sent = self.write(bytes)?;
        }
        self.unsent.extend_from_slice(&bytes[sent..]);
        Ok(())
    }

    /// Sends what waits, as far as the socket takes it; whether nothing waits any more.
    ///
    /// # Errors
    ///
    /// The connection is gone.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        let unsent = std::mem::take(&mut self.unsent);
        let mut sent = 0;
        while sent < unsent.len() {
            match self.write(&unsent[sent..])? {
                0 => break,
                n => sent += n,
            }
        }
        self.unsent = unsent;
        self.unsent.drain(..sent);
        Ok(self.unsent.is_empty())
    }

    /// 0 if there is no room.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.stream.write(bytes) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(0),
            other => other,
        }
    }

    /// Calls `heard` with every frame that is whole by now, without its length.
    ///
    /// # Errors
    ///
    /// The connection is gone, or a frame is longer than any that these servers are sent.
    pub(crate) fn frames(&mut self, buffer: &mut [u8], mut heard: impl FnMut(&[u8])) -> io::Result<()> {
        loop {
            let n = self.read(buffer)?;
            self.partial.extend_from_slice(&buffer[..n]);
            let mut at = 0;
            while let Some((prefix, rest)) = self.partial[at..].split_first_chunk::<4>() {
                let len = u32::from_be_bytes(*prefix) as usize;
                if len > FRAME_MAX {
                    return Err(ErrorKind::InvalidData.into());
                }
                let Some(frame) = rest.get(..len) else { break };
                heard(frame);
                at += prefix.len() + len;
            }
            self.partial.drain(..at);
            if n < buffer.len() {
                // Whatever comes from now on makes another event.
                return Ok(());
            }
        }
    }
}

/// Serves on one thread until the process ends. `ready` is told the number of a connection that something came for, or that
/// takes more again, and may use the buffer; its error drops that connection.
///
/// # Errors
///
/// The listener or the system fails, or there are more than `conns_max` connections.
pub(crate) fn serve(
    listener: &TcpListener,
    conns_max: usize,
    mut ready: impl FnMut(&mut [Option<Conn>], usize, &mut [u8]) -> io::Result<()>,
) -> Result<()> {
    const LISTENER: u64 = u64::MAX;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("creating an epoll")?;
    epoll::add(&epoll, listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let mut conns: Vec<Option<Conn>> = Vec::new();
    let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS_MAX);
    let mut buffer = vec![0; READ_MAX];
    loop {
        match epoll::wait(&epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e).context("waiting for requests"),
        }
        for event in events.drain(..) {
            if event.data.u64() == LISTENER {
                let (stream, _) = match listener.accept() {
                    Ok(accepted) => accepted,
                    Err(e) if e.kind() == ErrorKind::WouldBlock => continue,
                    Err(e) => return Err(e).context("accepting"),
                };
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                let index = conns.iter().position(Option::is_none).unwrap_or(conns.len());
                ensure!(index < conns_max, "more than {conns_max} connections to a bare server");
                let data = epoll::EventData::new_u64(u64::try_from(index)?);
                epoll::add(
                    &epoll,
                    &stream,
                    data,
                    epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET,
                )?;
                if index == conns.len() {
                    conns.push(None);
                }
                conns[index] = Some(Conn { stream, unsent: Vec::new(), partial: Vec::new() });
                continue;
            }
            let index = usize::try_from(event.data.u64())?;
            if ready(&mut conns, index, &mut buffer).is_err() {
                conns[index] = None;
            }
        }
    }
}
