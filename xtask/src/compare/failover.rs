//! How long writes stand still when the leader is killed: `farrier_bench`'s row on the servers of a stage.

use crate::servers::{Ensemble, ROOT, Stage, VALUE_LEN};
use anyhow::Result;
use farrier_bench::failover::{self, Gap, Servers};
use std::net::SocketAddr;

impl Servers for Ensemble {
    fn addrs(&self) -> Vec<SocketAddr> {
        (0..self.size()).map(|index| self.addr(index)).collect()
    }

    fn wait_leader(&mut self) -> Result<usize> {
        self.wait_serving()
    }

    fn kill(&mut self, place: usize) -> Result<()> {
        self.kill(place)
    }

    fn bring_back(&mut self, place: usize) -> Result<()> {
        self.spawn(place)?;
        self.wait_first_reply(place)?;
        self.wait_serving()?;
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        self.check_alive()
    }
}

/// Kills the leader of three and brings it back; the gaps of both sessions.
pub(super) fn kill_leader(stage: &mut Stage, kill: u32) -> Result<Vec<Gap>> {
    failover::kill_leader(&mut stage.ensemble, kill, ROOT, VALUE_LEN)
}
