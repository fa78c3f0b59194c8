//! The names of contenders: what they contend for, by whose rules, and in which order.
//!
//! A name is `PREFIX MARK DIGITS`. The prefix holds a UUID, the mark tells the recipe and whose layout it is, and the
//! servers append the digits: the number of children that the parent has had, 32 bits that wrap.

use crate::{Error, Unique};
use std::fmt;

/// Whose names the znodes of a lock or an election have. The layouts exclude each other's holders in no way, so a path
/// has one of them, and who finds the other's children there is refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Layout {
    /// Those of Curator (Java). Its paths are containers, which the servers delete when they are empty.
    #[default]
    Curator,
    /// Those of kazoo (Python), whose election is its lock. Its paths are persistent, since kazoo makes them only once.
    Kazoo,
}

/// What somebody contends for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Lock,
    Candidate,
    Reader,
    Writer,
    Permit,
}

/// What stands between the UUID and the digits, which tells everything else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mark {
    CuratorLock,
    CuratorLatch,
    CuratorReader,
    CuratorWriter,
    CuratorLease,
    KazooLock,
    KazooReader,
}

impl Mark {
    const ALL: [Self; 7] = [
        Self::CuratorLock,
        Self::CuratorLatch,
        Self::CuratorReader,
        Self::CuratorWriter,
        Self::CuratorLease,
        Self::KazooLock,
        Self::KazooReader,
    ];

    const fn text(self) -> &'static str {
        match self {
            Self::CuratorLock => "lock-",
            Self::CuratorLatch => "latch-",
            Self::CuratorReader => "__READ__",
            Self::CuratorWriter => "__WRIT__",
            Self::CuratorLease => "lease-",
            Self::KazooLock => "__lock__",
            Self::KazooReader => "__rlock__",
        }
    }

    /// Whose it is, for people.
    const fn owner(self) -> &'static str {
        match self {
            Self::CuratorLock => "a lock of Curator's layout",
            Self::CuratorLatch => "an election of Curator's layout",
            Self::CuratorReader | Self::CuratorWriter => "a read-write lock of Curator's layout",
            Self::CuratorLease => "a semaphore",
            Self::KazooLock => "a lock, an election or a read-write lock of kazoo's layout",
            Self::KazooReader => "a read-write lock of kazoo's layout",
        }
    }

    const fn is_reader(self) -> bool {
        matches!(self, Self::CuratorReader | Self::KazooReader)
    }
}

impl Layout {
    pub(crate) const fn mark(self, role: Role) -> Mark {
        match (self, role) {
            // Only Curator has a semaphore that others can share.
            (_, Role::Permit) => Mark::CuratorLease,
            (Self::Curator, Role::Lock) => Mark::CuratorLock,
            (Self::Curator, Role::Candidate) => Mark::CuratorLatch,
            (Self::Curator, Role::Reader) => Mark::CuratorReader,
            (Self::Curator, Role::Writer) => Mark::CuratorWriter,
            (Self::Kazoo, Role::Reader) => Mark::KazooReader,
            (Self::Kazoo, Role::Lock | Role::Candidate | Role::Writer) => Mark::KazooLock,
        }
    }

    /// The beginning of the name of a new contender, behind which the servers write the digits.
    pub(crate) fn name(self, role: Role, unique: Unique) -> String {
        let mark = self.mark(role).text();
        match self {
            Self::Curator => format!("_c_{unique}-{mark}"),
            Self::Kazoo => format!("{}{mark}", unique.hex()),
        }
    }

    /// Whether a child with this mark takes part in what `role` contends for.
    fn admits(self, role: Role, mark: Mark) -> bool {
        let counterpart = match role {
            Role::Reader => Role::Writer,
            Role::Writer => Role::Reader,
            Role::Lock | Role::Candidate | Role::Permit => role,
        };
        mark == self.mark(role) || mark == self.mark(counterpart)
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Curator => "curator",
            Self::Kazoo => "kazoo",
        })
    }
}

/// Mark and number of a contender's name; `None` if it is the name of something else.
fn parse(name: &str) -> Option<(Mark, i32)> {
    Mark::ALL.into_iter().find_map(|mark| {
        let digits = &name[name.rfind(mark.text())? + mark.text().len()..];
        number(digits).map(|number| (mark, number))
    })
}

/// Reads the digits as servers write them: ten characters with leading zeros, sign included; the least number has one
/// more.
pub(crate) fn number(digits: &str) -> Option<i32> {
    let number = digits.parse().ok()?;
    (format!("{number:010}") == digits).then_some(number)
}

/// The digits of a contender's name, as they stand there.
pub(crate) fn digits(name: &str) -> Option<&str> {
    let (mark, _) = parse(name)?;
    name.rfind(mark.text()).map(|at| &name[at + mark.text().len()..])
}

/// Somebody in line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) mark: Mark,
    number: i32,
}

/// Everybody in line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Queue(Vec<Contender>);

impl Queue {
    /// Finds the contenders among the children of `path`, where `role` contends.
    ///
    /// # Errors
    ///
    /// A child takes part in something else.
    pub(crate) fn of(path: &str, layout: Layout, role: Role, names: Vec<String>) -> Result<Self, Error> {
        let mut queue = Vec::with_capacity(names.len());
        for name in names {
            let Some((mark, number)) = parse(&name) else { continue };
            if !layout.admits(role, mark) {
                return Err(Error::OtherLayout { path: path.to_owned(), found: name, layout: mark.owner() });
            }
            queue.push(Contender { name, mark, number });
        }
        Ok(Self(queue))
    }

    /// Whom the contender of this name waits for: the nearest before it that excludes it. `None` if it is not in line.
    pub(crate) fn before(&self, name: &str) -> Option<Option<&Contender>> {
        let own = self.0.iter().find(|contender| contender.name == name)?;
        let excludes = |other: &&Contender| !(own.mark.is_reader() && other.mark.is_reader());
        let distance = |other: &&Contender| other.number.wrapping_sub(own.number);
        let before = self.0.iter().filter(excludes).filter(|other| distance(other) < 0);
        Some(before.max_by_key(distance))
    }

    /// The names, the first one first.
    pub(crate) fn into_names(mut self) -> Vec<String> {
        // The numbers wrap, so they have no order of their own; but all that wait at a time lie within half of their
        // range, so their distances from any of them have.
        let origin = self.0.first().map_or(0, |contender| contender.number);
        self.0.sort_by_key(|contender| contender.number.wrapping_sub(origin));
        self.0.into_iter().map(|contender| contender.name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00000000-0000-4000-8000-000000000000";

    fn queue(layout: Layout, role: Role, names: &[&str]) -> Result<Queue, Error> {
        Queue::of("/l", layout, role, names.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn names_are_those_of_the_originals() {
        let unique = Unique::from_bytes([0; 16]);
        assert_eq!(Layout::Curator.name(Role::Lock, unique), format!("_c_{ID}-lock-"));
        assert_eq!(Layout::Curator.name(Role::Candidate, unique), format!("_c_{ID}-latch-"));
        assert_eq!(Layout::Curator.name(Role::Reader, unique), format!("_c_{ID}-__READ__"));
        assert_eq!(Layout::Curator.name(Role::Writer, unique), format!("_c_{ID}-__WRIT__"));
        assert_eq!(Layout::Curator.name(Role::Permit, unique), format!("_c_{ID}-lease-"));
        let hex = ID.replace('-', "");
        assert_eq!(Layout::Kazoo.name(Role::Lock, unique), format!("{hex}__lock__"));
        assert_eq!(Layout::Kazoo.name(Role::Writer, unique), format!("{hex}__lock__"));
        assert_eq!(Layout::Kazoo.name(Role::Reader, unique), format!("{hex}__rlock__"));
    }

    #[test]
    fn names_are_read_and_others_are_left_alone() {
        for mark in Mark::ALL {
            for (digits, number) in
                [("0000000007", 7), ("-000000007", -7), ("2147483647", i32::MAX), ("-2147483648", i32::MIN)]
            {
                let name = format!("x{}{digits}", mark.text());
                assert_eq!(parse(&name), Some((mark, number)), "{name}");
                assert_eq!(super::digits(&name), Some(digits));
            }
        }
        for other in [
            "config",
            "lock-",
            "lock-7",
            "lock-00000000070",
            "lock-000000000x",
            "lock-2147483648",
            "__lock__",
            "0000000007",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn everybody_waits_for_the_nearest_before() {
        let names = ["b-lock-0000000003", "a-lock-0000000011", "c-lock-0000000002", "config"];
        let queue = queue(Layout::Curator, Role::Lock, &names).expect("one layout");
        let before = |name: &str| queue.before(name).map(|other| other.map(|c| c.name.as_str()));
        assert_eq!(before("c-lock-0000000002"), Some(None));
        assert_eq!(before("b-lock-0000000003"), Some(Some("c-lock-0000000002")));
        assert_eq!(before("a-lock-0000000011"), Some(Some("b-lock-0000000003")));
        assert_eq!(before("d-lock-0000000001"), None);
    }

    #[test]
    fn numbers_wrap() {
        // Whichever of them is listed first.
        let mut names = ["a-lock-2147483646", "b-lock-2147483647", "c-lock--2147483648", "d-lock--2147483647"];
        for _ in 0..names.len() {
            names.rotate_left(1);
            let queue = queue(Layout::Curator, Role::Lock, &names).expect("one layout");
            let order = queue.into_names();
            assert_eq!(order.iter().map(|name| &name[..1]).collect::<String>(), "abcd");
        }
        let names = ["b-lock-0000000000", "a-lock--000000001"];
        assert_eq!(
            queue(Layout::Curator, Role::Lock, &names).expect("one layout").into_names()[0],
            "a-lock--000000001"
        );
    }

    #[test]
    fn readers_wait_for_the_nearest_writer_and_writers_for_everybody() {
        for (layout, read, write) in
            [(Layout::Curator, "__READ__", "__WRIT__"), (Layout::Kazoo, "__rlock__", "__lock__")]
        {
            let name = |kind: &str, n: i32| format!("x{kind}{n:010}");
            let line = [(read, 1), (write, 2), (read, 3), (read, 4), (write, 5), (read, 6)].map(|(k, n)| name(k, n));
            let queue = Queue::of("/l", layout, Role::Reader, line.to_vec()).expect("one layout");
            let before = |n: usize| queue.before(&line[n]).expect("in line").map(|c| c.name.clone());
            assert_eq!(before(0), None);
            assert_eq!(before(1), Some(line[0].clone()));
            assert_eq!(before(2), Some(line[1].clone()));
            assert_eq!(before(3), Some(line[1].clone()), "not the reader between");
            assert_eq!(before(4), Some(line[3].clone()));
            assert_eq!(before(5), Some(line[4].clone()), "never past a waiting writer");
        }
    }

    #[test]
    fn another_layout_is_refused() {
        let refused = |layout, role, name: &str| match queue(layout, role, &["config", name]) {
            Err(Error::OtherLayout { path, found, .. }) => {
                assert_eq!((path.as_str(), found.as_str()), ("/l", name));
                true
            }
            Ok(_) => false,
            Err(other) => panic!("{other}"),
        };
        let (lock, latch, reader, writer) =
            ("x-lock-0000000001", "x-latch-0000000001", "x-__READ__0000000001", "x-__WRIT__0000000001");
        let (kazoo, kazoo_reader) = ("x__lock__0000000001", "x__rlock__0000000001");
        assert!(!refused(Layout::Curator, Role::Lock, lock));
        for name in [latch, reader, writer, kazoo, kazoo_reader, "x-lease-0000000001"] {
            assert!(refused(Layout::Curator, Role::Lock, name), "{name}");
        }
        for name in [reader, writer] {
            assert!(!refused(Layout::Curator, Role::Reader, name) && !refused(Layout::Curator, Role::Writer, name));
        }
        assert!(refused(Layout::Curator, Role::Reader, kazoo) && refused(Layout::Curator, Role::Writer, lock));
        assert!(!refused(Layout::Kazoo, Role::Lock, kazoo) && !refused(Layout::Kazoo, Role::Candidate, kazoo));
        assert!(refused(Layout::Kazoo, Role::Lock, kazoo_reader) && refused(Layout::Kazoo, Role::Lock, lock));
        assert!(!refused(Layout::Kazoo, Role::Reader, kazoo) && !refused(Layout::Kazoo, Role::Writer, kazoo_reader));
    }
}
