//! What may happen at a moment.

use super::net::ConnKey;
use crate::observe::{ClientId, DialId};
use farrier_proto::{ServerId, Zxid};
use farrier_zab::{LinkId, ReadId};

/// A look into the log for a learner.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Look {
    /// [`farrier_replica::Action::Locate`].
    Locate { read: ReadId, link: LinkId, zxid: Zxid },
    /// [`farrier_replica::Action::ReadTxns`].
    ReadTxns { read: ReadId, link: LinkId, after: Zxid, to: Zxid },
}

/// Something that a process does by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Task {
    /// The replica's deadline.
    Timer,
    /// The next commands for the log.
    Log,
    /// The word of what the log did.
    Completions,
    /// The snapshot that was asked for is written.
    Snapshot,
    /// The next log segment is prepared.
    Prepare,
    /// The same again, after it failed.
    PrepareAgain,
    /// Old files are removed.
    Purge,
    /// Something is looked up in the log.
    Look(Look),
    /// A dial of the learner channel is answered, or nobody waits any longer.
    Dialled { attempt: u32, leader: ServerId, answered: bool },
    /// The next attempt to reach a server's election port.
    ElectionDial { to: ServerId },
    /// An orderly stop takes too long.
    StopOverdue,
}

/// What happens to a guest.
#[derive(Clone, Copy, Debug)]
pub(crate) enum GuestEvent {
    /// Its deadline.
    Timer,
    /// Its dial is answered, or nobody waits any longer.
    Dialled { dial: DialId, server: ServerId, answered: bool },
    /// Its process is scheduled no more, or again.
    Paused(bool),
}

/// Something that happens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// A message arrives.
    Deliver { conn: ConnKey, to: usize },
    /// Everything sent by an end is with its system.
    Flushed { conn: ConnKey, end: usize },
    /// A process of a server does something; `life` tells which process.
    Process { server: ServerId, life: u32, task: Task },
    /// A process begins, unless one was begun since, or is planned anew.
    Start { server: ServerId, planned: u32 },
    /// A client's deadline.
    ClientTimer { client: ClientId },
    /// A client's dial is answered, or nobody waits any longer.
    ClientDialled { client: ClientId, dial: DialId, server: ServerId, answered: bool },
    /// Something of a guest.
    Guest { guest: usize, event: GuestEvent },
    /// A planned fault begins.
    FaultBegins(usize),
    /// It ends.
    FaultEnds(usize),
    /// Clients reach nobody either, as a part of this fault.
    ClientsCut(usize),
    /// Clients have settled for a planned fault, which begins now.
    ClientsReady(usize),
    /// They do again.
    ClientsBack(usize),
}
