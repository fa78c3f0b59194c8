//! Bounds of the client, and the relations between them.

use farrier_proto::limits::JUTE_MAX_BUFFER;
use std::time::Duration;

/// Requests that wait for their turn or their answer, by default. One more is refused with
/// [`crate::Error::QueueFull`].
pub const OUTSTANDING_MAX: usize = 65_536;

/// Bytes of requests that wait to be sent, by default.
pub const UNSENT_BYTES_MAX: usize = 64 << 20;

/// Longest request by default, in bytes without the length word: what a server with the default
/// `jute.maxbuffer` accepts. A longer one would make it close the connection.
pub const REQUEST_MAX: usize = JUTE_MAX_BUFFER;

/// Longest reply by default. Servers do not bound a list of children, so it is larger than [`REQUEST_MAX`].
pub const REPLY_MAX: usize = 16 << 20;

/// Longest answer to a four-letter word that is read, in bytes.
pub const WORD_ANSWER_MAX: usize = 2 << 20;

/// Bytes of paths in one request that sets watches again after a reconnect.
pub const SET_WATCHES_MAX: usize = 128 << 10;

/// Watches that one client holds at a time.
pub const WATCHES_MAX: usize = 1 << 20;

/// Events that wait in one watch for whoever reads it. Further ones are dropped, and a
/// [`crate::WatchEvent::Missed`] stands in their place.
pub const WATCH_EVENTS_MAX: usize = 1024;

/// Servers in a connect string.
pub const SERVERS_MAX: usize = 256;

/// Identities that one client presents: what a Farrier server takes of a connection.
pub const IDENTITIES_MAX: usize = 64;

/// Calls of [`crate::Client::sleep`] that run at a time.
pub const SLEEPS_MAX: usize = 1 << 20;

/// Bytes that are taken from the socket at once.
pub(crate) const READ_CHUNK: usize = 64 << 10;

/// Shortest and longest wait when no server of the list was reachable. Every wait is a random part, at
/// least half, of a span that doubles from the one to the other.
pub(crate) const BACKOFF_MIN: Duration = Duration::from_millis(20);
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// A connection that lived this long was a good one: the next loss is not counted with what went before.
pub(crate) const STABLE: Duration = Duration::from_secs(1);

/// Shortest and longest time that one server gets to take a connection and a session.
pub(crate) const DIAL_MIN: Duration = Duration::from_secs(1);
pub(crate) const DIAL_MAX: Duration = Duration::from_secs(10);

/// Longest silence of ours before a ping, however long the session timeout is.
pub(crate) const PING_MAX: Duration = Duration::from_secs(10);

/// Pauses between two looks for a server that takes writes, while the connected one is read-only.
pub(crate) const PROBE_MIN: Duration = Duration::from_millis(100);
pub(crate) const PROBE_MAX: Duration = Duration::from_secs(60);

/// Longest sleep of a client's task while somebody relies on the lease or sleeps by the client's clock: the timers of a
/// runtime stand still while the machine is suspended, so this is how late the client may notice what it slept through.
pub(crate) const NAP_MAX: Duration = Duration::from_millis(250);

/// How long the last handle that is dropped lets the session's end take.
pub(crate) const FAREWELL: Duration = Duration::from_secs(2);

const _: () = assert!(SET_WATCHES_MAX * 2 < REQUEST_MAX, "one path more still fits");
const _: () = assert!(REQUEST_MAX < UNSENT_BYTES_MAX);
const _: () = assert!(WATCH_EVENTS_MAX > 1, "an event and the word that some were missed");
