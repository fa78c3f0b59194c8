//! `cargo run -p farrier-fuzz -- [--seconds N] [--target NAME]... [--seed N] [--input HEX]`
//!
//! Runs every target (or the named ones) for so many seconds each. Ends with 1 at the first panic, after
//! it has printed the input and how to run it again.

use farrier_fuzz::{TARGETS, Target, run};
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

const USAGE: &str = "usage: farrier-fuzz [--seconds N] [--target NAME]... [--seed N] [--input HEX]";

struct Arguments {
    seconds: u64,
    targets: Vec<&'static Target>,
    seed: u64,
    input: Option<Vec<u8>>,
}

fn say(text: &str) {
    // Nobody listens if this fails.
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || text.len() % 2 == 1 {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

fn parse() -> Option<Arguments> {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    let mut arguments = Arguments { seconds: 10, targets: Vec::new(), seed: clock, input: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next()?;
        match &*word {
            "--seconds" => arguments.seconds = value.parse().ok()?,
            "--seed" => arguments.seed = value.parse().ok()?,
            "--target" => arguments.targets.push(TARGETS.iter().find(|t| t.name == value)?),
            "--input" => arguments.input = Some(unhex(&value)?),
            _ => return None,
        }
    }
    if arguments.targets.is_empty() {
        arguments.targets.extend(TARGETS);
    }
    Some(arguments)
}

fn main() -> ExitCode {
    let Some(arguments) = parse() else {
        let names: Vec<&str> = TARGETS.iter().map(|t| t.name).collect();
        say(&format!("{USAGE}\ntargets: {}", names.join(" ")));
        return ExitCode::from(2);
    };
    let mut code = ExitCode::SUCCESS;
    for target in arguments.targets {
        if let Some(input) = &arguments.input {
            (target.body)(input);
            continue;
        }
        match run(target, arguments.seed, Duration::from_secs(arguments.seconds)) {
            Ok(ran) => {
                let rate = ran.inputs as f64 / ran.took.as_secs_f64();
                say(&format!("{:<18} {:>9} inputs, {rate:>8.0} per second", target.name, ran.inputs));
            }
            Err(failure) => {
                let hex: String = failure.input.iter().map(|b| format!("{b:02x}")).collect();
                say(&format!(
                    "{} failed at input {} of seed {}: {}\nagain: farrier-fuzz --target {} --input {hex}",
                    target.name, failure.index, arguments.seed, failure.message, target.name
                ));
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}
