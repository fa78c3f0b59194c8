//! Everything that a server shows of its tree, and the comparison of what several show.

use crate::enc::body;
use crate::raw::{Answer, Client, Connect, PATIENCE, Sessions, four_letter_word};
use anyhow::{Context as _, Result, bail, ensure};
use farrier_proto::{Acl, OpCode, Stat};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Requests in flight at once.
const DEPTH: usize = 128;

/// One znode as a client sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Its data.
    pub data: Option<Vec<u8>>,
    /// Its stat.
    pub stat: Stat,
    /// Its access control list.
    pub acl: Vec<Acl<'static>>,
}

/// A tree by path.
pub type Tree = BTreeMap<String, Seen>;

/// Reads the whole tree of one server, after a sync.
pub fn walk(addr: SocketAddr) -> Result<Tree> {
    let mut client = Client::open(addr, &Connect::default(), &Sessions::default())?;
    client.sync("/")?.ok().context("sync")?;
    let mut tree = Tree::new();
    let mut level = vec!["/".to_owned()];
    while !level.is_empty() {
        let mut next = Vec::new();
        for batch in level.chunks(DEPTH) {
            for path in batch {
                client.send(OpCode::GetData.code(), body().s(path).z(0))?;
                client.send(OpCode::GetChildren.code(), body().s(path).z(0))?;
                client.send(OpCode::GetAcl.code(), body().s(path))?;
            }
            for path in batch {
                let (data, children, acl) = (reply(&mut client)?, reply(&mut client)?, reply(&mut client)?);
                let all_there = [&data, &children, &acl].iter().all(|reply| reply.err == 0);
                ensure!(all_there, "{path} went while the tree was read");
                tree.insert(path.clone(), Seen { data: data.data()?, stat: data.stat()?, acl: acl.acl()? });
                let parent = if path == "/" { "" } else { path };
                next.extend(children.names()?.into_iter().map(|name| format!("{parent}/{name}")));
            }
        }
        level = next;
    }
    client.close()?;
    Ok(tree)
}

fn reply(client: &mut Client) -> Result<crate::raw::Reply> {
    match client.answer(PATIENCE)? {
        Answer::Reply(reply) => Ok(reply),
        other => bail!("{other} instead of a reply while the tree was read"),
    }
}

/// The first few differences of two trees; empty if they are equal.
///
/// Of `/zookeeper/config` only the data counts: every server writes that znode by itself when it starts,
/// with its own clock.
#[must_use]
pub fn differences(one: &Tree, other: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for path in one.keys().chain(other.keys().filter(|p| !one.contains_key(*p))) {
        let (a, b) = (one.get(path), other.get(path));
        let equal = match (a, b) {
            (Some(a), Some(b)) if path == "/zookeeper/config" => a.data == b.data,
            (Some(a), Some(b)) => a == b,
            (None, _) | (_, None) => false,
        };
        if !equal {
            found.push(format!("{path}: {a:?} and {b:?}"));
        }
    }
    found.truncate(5);
    found
}

/// Digests by zxid, as the word `hash` tells them; nothing from a server without that word.
pub fn digests(addr: SocketAddr) -> Result<BTreeMap<u64, String>> {
    let text = four_letter_word(addr, "hash")?;
    Ok(text
        .lines()
        .filter_map(|line| {
            let (zxid, digest) = line.split_once(':')?;
            Some((u64::from_str_radix(zxid.trim().trim_start_matches("0x"), 16).ok()?, digest.trim().to_owned()))
        })
        .collect())
}

/// One value of the word `mntr`.
pub fn mntr(addr: SocketAddr, key: &str) -> Result<Option<String>> {
    let text = four_letter_word(addr, "mntr")?;
    Ok(text.lines().find_map(|line| {
        let (found, value) = line.split_once(char::is_whitespace)?;
        (found == key).then(|| value.trim().to_owned())
    }))
}

/// A stat of nothing but zeros.
#[cfg(test)]
pub(crate) fn blank_stat() -> Stat {
    use farrier_proto::Field as _;
    Stat::read(&mut farrier_proto::Reader::new(&[0; Stat::LEN])).expect("any bytes are a stat")
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_proto::perms;

    #[test]
    fn differences_are_told_except_where_servers_may_differ() {
        let seen = |data: &[u8], mtime| Seen {
            data: Some(data.to_vec()),
            stat: Stat { mtime, ..blank_stat() },
            acl: vec![Acl::world(perms::ALL)],
        };
        let tree =
            |root: Seen, config: Seen| Tree::from([("/".to_owned(), root), ("/zookeeper/config".to_owned(), config)]);
        let one = tree(seen(b"a", 1), seen(b"c", 1));
        assert!(differences(&one, &tree(seen(b"a", 1), seen(b"c", 2))).is_empty());
        assert_eq!(differences(&one, &tree(seen(b"a", 2), seen(b"c", 1))).len(), 1);
        assert_eq!(differences(&one, &tree(seen(b"a", 1), seen(b"d", 1))).len(), 1);
        let mut closed = seen(b"a", 1);
        closed.acl = vec![Acl::world(perms::READ)];
        assert_eq!(differences(&one, &tree(closed, seen(b"c", 1))).len(), 1);
        assert_eq!(differences(&one, &Tree::new()).len(), 2);
        assert_eq!(differences(&Tree::new(), &one).len(), 2);
    }
}
