//! Bounds that more than one crate relies on, and the relations between them.

/// Largest client frame accepted by default, in bytes without the length word
/// (`jute.maxbuffer`; one byte less than 1 MiB, as in Apache).
pub const JUTE_MAX_BUFFER: usize = 0xf_ffff;

/// Default of `zookeeper.jute.maxbuffer.extrasize` when `jute.maxbuffer` has its default: room for
/// what a server adds to a request before it is logged or sent to a peer.
pub const JUTE_EXTRA_SIZE: usize = JUTE_MAX_BUFFER;

/// Smallest value that `jute.maxbuffer.extrasize` may take.
pub const JUTE_EXTRA_SIZE_MIN: usize = 1024;

/// Largest transaction (header, body and digest) that a peer or an Apache log reader with default
/// settings can decode.
pub const TXN_MAX: usize = JUTE_MAX_BUFFER + JUTE_EXTRA_SIZE;

/// Bytes of a client's identities in a forwarded request. Apache bounds each string and not their number.
pub const LEARNER_IDENTITIES_MAX: usize = 4 << 20;

/// Components of the path of a znode that is created; one that is there already may have any number. Apache has no such limit,
/// and calls itself once for each component where it writes a snapshot or counts for a quota: between 2,500 and 4,000 of
/// them end a server with the stack that a JVM has by default, and end it again at each start.
pub const PATH_DEPTH_MAX: usize = 1000;

/// Operations in one multi. The smallest operation takes 18 bytes (header, empty path, version), so
/// a default frame holds fewer; the bound matters where `jute.maxbuffer` was raised.
pub const MULTI_OPS_MAX: usize = 1 << 20;

/// Operations of a multi for which its decoders have room from the beginning.
pub const MULTI_USUAL: usize = 16;

/// Length of a session password in bytes.
pub const PASSWORD_LEN: usize = 16;

const _: () = assert!(TXN_MAX >= JUTE_MAX_BUFFER + JUTE_EXTRA_SIZE_MIN);
const _: () = assert!(TXN_MAX == 2_097_150);
