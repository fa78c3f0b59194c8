//! The driver: inputs by mutation, and what became of them.

use crate::Target;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Longest input, in bytes.
const INPUT_MAX: usize = 4096;

/// What a run did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ran {
    /// Inputs.
    pub inputs: u64,
    /// Time that they took.
    pub took: Duration,
}

/// An input on which a body panicked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The input.
    pub input: Vec<u8>,
    /// How many inputs came before it.
    pub index: u64,
    /// The panic's words.
    pub message: String,
}

struct Random(u64);

impl Random {
    /// splitmix64.
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    const fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

fn noise(random: &mut Random) -> Vec<u8> {
    let max = [8, 64, 512, 2048][random.below(4)];
    (0..random.below(max)).map(|_| random.next() as u8).collect()
}

fn input(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    if seeds.is_empty() || random.below(8) == 0 {
        return noise(random);
    }
    let mut input = seeds[random.below(seeds.len())].clone();
    for _ in 0..random.below(6) {
        mutate(random, &mut input, seeds);
    }
    input.truncate(INPUT_MAX);
    input
}

fn mutate(random: &mut Random, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let at = random.below(input.len() + 1);
    match random.below(8) {
        0 => input.truncate(at),
        1 => {
            let end = (at + 1 + random.below(16)).min(input.len());
            input.drain(at..end);
        }
        2 => {
            let more: Vec<u8> = (0..1 + random.below(8)).map(|_| random.next() as u8).collect();
            input.splice(at..at, more);
        }
        3 => {
            // A length or count at its edges.
            let edges = [0, 1, -1, -2, i32::MAX, i32::MIN, 0x7f, 0xffff, 1 << 20];
            let edge = edges[random.below(edges.len())].to_be_bytes();
            for (to, from) in input[at..].iter_mut().zip(edge) {
                *to = from;
            }
        }
        4 => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        5 => {
            let end = (at + random.below(32)).min(input.len());
            let copy = input[at..end].to_vec();
            input.splice(at..at, copy);
        }
        _ => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
    }
}

/// Runs a body for so long on inputs that follow from `seed`.
///
/// # Errors
/// The first input on which it panics.
pub fn run(target: &Target, seed: u64, time: Duration) -> Result<Ran, Failure> {
    let seeds = (target.seeds)();
    let mut random = Random(seed);
    let start = Instant::now();
    let mut inputs = 0;
    while start.elapsed() < time {
        let data = input(&mut random, &seeds);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.body)(&data))) {
            let message = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                .unwrap_or_default();
            return Err(Failure { input: data, index: inputs, message });
        }
        inputs += 1;
    }
    Ok(Ran { inputs, took: start.elapsed() })
}
