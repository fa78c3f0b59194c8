//! The open files of a program that runs servers: as many as the system lets it have. A JVM does the same for Apache's,
//! whose units and shells are mostly left at a low limit that any program may raise.

use farrier_bench::open_files;

/// What is asked for; some systems would allow any number, and programs that are started from here inherit it.
const WANTED: u64 = 1 << 20;

/// Below this a few hundred clients that come back at once can be too many.
const ENOUGH: u64 = 4096;

/// Raises the limit, and warns where it stays low.
pub(crate) fn raise() {
    const REMEDY: &str = "raise the limit by `ulimit -n` where it is started, or by LimitNOFILE= in its systemd unit";
    match open_files::allow(WANTED) {
        Ok(limit) if limit < ENOUGH => {
            tracing::warn!("no more than {limit} files can be open, and each connection is one: {REMEDY}");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!("the limit of open files stays as it is: {error}; {REMEDY}"),
    }
}
