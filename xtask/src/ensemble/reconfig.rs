//! An Apache leader changes the members under a Farrier: its files follow as Apache's do, either program starts from
//! them.

use super::Bench;
use anyhow::{Context as _, Result, ensure};
use farrier_proto::OpCode;
use farrier_testkit::enc::body;
use farrier_testkit::ensemble::{Members, Settings};
use farrier_testkit::raw::{Client, Connect, Sessions};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The Farrier; the last one leads.
const FARRIER: usize = 0;
const LEFT: usize = 1;
const LEADER: usize = 2;
/// How long files may take to follow.
const WRITTEN_MAX: Duration = Duration::from_secs(30);

pub(super) fn run(bench: &Bench<'_>) -> Result<String> {
    let (a, f) = (&bench.apache, &bench.farrier);
    let mut settings = Settings { tick_ms: 1000, list_clients: true, ..Settings::default() };
    settings.zoo.push("reconfigEnabled=true".to_owned());
    // Farrier's own setting is the same, but nobody asks it to reconfigure.
    settings.flags.push("zookeeper.skipACL=yes".to_owned());
    bench.with("reconfig", &[f, a, a], None, settings, |members| {
        followed(members, "server.3=").context("the first configuration of an established leader")?;

        // A member leaves.
        let mut client = Client::open(members.addr(LEADER), &Connect::default(), &Sessions::default())?;
        let request = body().null().opt(Some(b"2")).null().l(-1);
        let reply = client.call(OpCode::Reconfig, request)?;
        ensure!(reply.err == 0, "server 2 cannot be taken out of the ensemble: error {}", reply.err);
        let gone = followed(members, "server.3=")?;
        ensure!(!gone.contains("server.2="), "server 2 is still in the files:\n{gone}");
        client.create("/behind-it", b"1").and_then(|r| r.path())?;
        members.kill(LEFT)?;

        // Both programs start from what Farrier wrote.
        let apache = members.target(LEADER).clone();
        let farrier = members.target(FARRIER).clone();
        for target in [&farrier, &apache, &farrier] {
            members.stop(FARRIER)?;
            members.swap(FARRIER, target)?;
            members.spawn_as_it_is(FARRIER)?;
            members.wait_serving_of(&[FARRIER, LEADER]).with_context(|| format!("{} starts", members.name(FARRIER)))?;
            let mut client = Client::open(members.addr(FARRIER), &Connect::default(), &Sessions::default())?;
            client.set("/behind-it", b"2", -1).and_then(|r| r.stat())?;
        }
        Ok("the files followed, and both programs start from them".to_owned())
    })
}

/// Waits until the Farrier's main file names the same version as the leader's, in a file with the same lines. Returns
/// those.
fn followed(members: &Members, with: &str) -> Result<String> {
    let end = Instant::now() + WRITTEN_MAX;
    loop {
        let (ours, theirs) = (dynamic(members, FARRIER), dynamic(members, LEADER));
        if let (Some((our_name, our_lines)), Some((their_name, their_lines))) = (&ours, &theirs)
            && our_name.file_name() == their_name.file_name()
            && our_lines == their_lines
            && our_lines.contains(with)
        {
            return Ok(our_lines.clone());
        }
        ensure!(Instant::now() < end, "the files differ: {ours:?} here, {theirs:?} on the leader");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The file that a member's main file names, and what it holds. Apache writes lines in no order and with or without a
/// newline at the end.
fn dynamic(members: &Members, index: usize) -> Option<(PathBuf, String)> {
    let main = fs::read_to_string(members.config_file(index)).ok()?;
    let path = PathBuf::from(main.lines().find_map(|l| l.strip_prefix("dynamicConfigFile="))?.trim());
    let text = fs::read_to_string(&path).ok()?;
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    Some((path, lines.join("\n")))
}
