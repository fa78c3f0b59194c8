//! Repair of the directories of a server that isn't running.
//!
//! It brings together what `farrier_storage::repair` needs: the operating system's files, the locks, the
//! limits of the configuration, and a tree that can refuse a record. It decides nothing itself.

use crate::config::ServerConfig;
use crate::disk::{DirectoryLock, RealDisk};
use crate::mapping;
use crate::server::StartError;
use farrier_replica::TreeRestore;
use farrier_storage::RecoverOptions;
use farrier_storage::repair::{self, Repaired, Report};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

/// Who works in the directories.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    /// The server of the configuration.
    Configured,
    /// Nobody says: the files tell whether it is a member of an ensemble.
    Unknown,
}

/// Looks at the directories of `config` and changes nothing in them, which may be on a disk that takes no writes any more.
///
/// # Errors
/// Missing directories, a server that runs on them, or files that no repair can help.
pub fn examine(config: &ServerConfig, whose: Whose) -> Result<Report, StartError> {
    let disk = RealDisk::open_to_read(&config.data_dir, &config.data_log_dir)?;
    let _lock = DirectoryLock::to_read(&config.data_dir, &config.data_log_dir)?;
    let mut state = TreeRestore::new(mapping::tree(config), 0);
    Ok(repair::examine(&disk, &options(config, whose, &disk)?, &mut state)?)
}

/// Moves what is bad aside, so that a server starts on what is left. The client port, unless it is 0, must
/// be free: a Java server takes no lock, and its port tells that it runs.
///
/// # Errors
/// As [`examine`], and a client port that is taken.
pub fn accept_loss(config: &ServerConfig, whose: Whose) -> Result<Repaired, StartError> {
    let address = config.client.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let address = SocketAddr::new(address, config.client.port);
    let _port = TcpListener::bind(address).map_err(|error| StartError::Bind { address, error })?;
    let disk = RealDisk::open(&config.data_dir, &config.data_log_dir, false)?;
    let _lock = DirectoryLock::acquire(&config.data_dir, &config.data_log_dir)?;
    let mut state = TreeRestore::new(mapping::tree(config), 0);
    Ok(repair::accept_loss(&disk, &options(config, whose, &disk)?, &mut state)?)
}

fn options(config: &ServerConfig, whose: Whose, disk: &RealDisk) -> Result<RecoverOptions, StartError> {
    let options = mapping::recover(config, disk);
    let standalone = match whose {
        Whose::Configured => options.standalone,
        Whose::Unknown => !repair::is_members(disk)?,
    };
    Ok(RecoverOptions { standalone, ..options })
}
