//! Guests: programs in a simulated world that are not the simulator's own, as state machines that get bytes and time.
//!
//! Who implements [`Guests`] brings them, with whatever they run on; the world connects them to its servers, lets their
//! processes stand still and their connections break, and asks after every step whether all is well.

use crate::engine::World;
use crate::observe::{DialId, Phase};
use crate::plan::Plan;
use crate::run::{Outcome, catch};
use bytes::Bytes;
use farrier_proto::ServerId;

/// What comes to a guest. It has one connection at a time; what is of an earlier one is not given.
#[derive(Clone, Debug)]
pub enum Given {
    /// Nothing but time, or the word that it wanted a turn.
    Time,
    /// The connection that it dialled stands.
    Connected(DialId),
    /// It could not be made, or is gone.
    Lost(DialId),
    /// A whole frame arrived on it, without its length word.
    Frame(DialId, Bytes),
}

/// What a guest wants.
#[derive(Clone, Debug)]
pub enum Wish {
    /// A connection to a server, in place of the one there is. The name is the guest's own, and new each time.
    Dial {
        /// To be quoted.
        dial: DialId,
        /// The server.
        server: ServerId,
        /// How long it may take, in microseconds.
        within_us: u64,
    },
    /// The end of the connection, or of the attempt to make it.
    Hangup,
    /// To send a whole frame, without its length word, on the connection that stands.
    Send(Bytes),
}

/// All guests of a world, named by numbers from 0.
pub trait Guests {
    /// How many.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives a guest something, at `now` microseconds. Answers when it wants time again at the latest.
    fn step(&mut self, guest: usize, now: u64, given: Given, wishes: &mut Vec<Wish>) -> Option<u64>;

    /// Lets whatever the guests do beside their connections go on as far as it can. A guest that wants a step then; `None`
    /// if none of those does that are awake.
    fn work(&mut self, is_awake: &dyn Fn(usize) -> bool) -> Option<usize>;

    /// Whether all is well. Asked when nothing more is to be done in this moment.
    ///
    /// # Errors
    /// What is not.
    fn judge(&mut self) -> Result<(), String>;

    /// Nothing hinders anybody from now on: each is to show that it gets somewhere.
    fn begin_service(&mut self);

    /// Who has not since.
    fn unserved(&self) -> Option<String>;

    /// They are to end.
    fn stop(&mut self);

    /// Whether all have.
    fn have_ended(&self) -> bool;

    /// The last word, with what the ensemble is left with: children and data of a path.
    ///
    /// # Errors
    /// What is not as it must be.
    fn finish(&mut self, left: &dyn Left) -> Result<String, String>;
}

/// What an ensemble that has come to rest shows.
pub trait Left {
    /// Names of the children of a path; none if it is not there.
    fn children(&self, path: &str) -> Vec<String>;

    /// The data of a path.
    fn data(&self, path: &str) -> Option<Vec<u8>>;
}

impl Left for World {
    fn children(&self, path: &str) -> Vec<String> {
        let node = self.first_tree().and_then(|tree| tree.node(path));
        node.map(|node| node.children().map(str::to_owned).collect()).unwrap_or_default()
    }

    fn data(&self, path: &str) -> Option<Vec<u8>> {
        self.first_tree()?.node(path)?.data().map(<[u8]>::to_vec)
    }
}

/// A guest's process stands still for a while.
#[derive(Clone, Copy, Debug)]
pub struct Pause {
    /// Which.
    pub guest: usize,
    /// From when on, in microseconds.
    pub at: u64,
    /// How long, in microseconds.
    pub lasts: u64,
}

/// Guests do everything once more within this, when nothing hinders them. Microseconds.
const SERVICE_US: u64 = 180_000_000;

/// All end within this. Microseconds.
const END_US: u64 = 120_000_000;

/// Plays a plan with guests in it.
#[must_use]
pub fn run(plan: Plan, guests: Box<dyn Guests>, pauses: &[Pause], keep_transcript: bool) -> Outcome {
    catch(World::new(plan, keep_transcript), |world| {
        world.guests.come(guests);
        world.entertain(pauses);
    })
}

impl World {
    fn entertain(&mut self, pauses: &[Pause]) {
        self.begin();
        self.wake_guests();
        pauses.iter().for_each(|pause| self.plan_pause(*pause));
        self.run_until(self.plan.safety_ms * 1000);
        if !self.heals() {
            return;
        }
        self.guests.all().begin_service();
        if !self.run_while(self.now + SERVICE_US, |w| w.guests.unserved().is_some()) {
            let what = self.guests.unserved().unwrap_or_default();
            self.fail("guests", format!("nothing hinders anybody for {} s, and {what}", SERVICE_US / 1_000_000));
        }
        self.guests.all().stop();
        self.wake_guests();
        if !self.run_while(self.now + END_US, |w| !w.guests.have_ended()) {
            self.fail("guests", format!("{} s after they were asked to end not all have", END_US / 1_000_000));
        }
        if !self.comes_to_rest() {
            return;
        }
        self.tell_phase(Phase::Settled);
        self.inspect_all();
        self.finish_checks();
        let mut guests = self.guests.go();
        match guests.finish(self) {
            Ok(done) => self.transcript.line(self.now, || done),
            Err(what) => self.fail("guests", what),
        }
    }
}
