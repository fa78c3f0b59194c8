//! The connections, by their names.

use crate::conn::Conn;
use crate::io::ConnId;
use hashbrown::HashMap;

/// All connections. Whatever one request brings asks for the same connection several times over, so the answer to the last
/// question is kept.
#[derive(Debug, Default)]
pub(crate) struct Conns {
    places: HashMap<ConnId, u32, foldhash::fast::FixedState>,
    /// Boxed, so that a place that is free costs little.
    slots: Vec<Option<Box<Conn>>>,
    free: Vec<u32>,
    last: Option<(ConnId, u32)>,
}

impl Conns {
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn contains(&self, id: ConnId) -> bool {
        self.place(id).is_some()
    }

    pub(crate) fn get(&self, id: ConnId) -> Option<&Conn> {
        self.slots[self.place(id)? as usize].as_deref()
    }

    pub(crate) fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        let place = self.place(id)?;
        self.last = Some((id, place));
        self.slots[place as usize].as_deref_mut()
    }

    fn place(&self, id: ConnId) -> Option<u32> {
        match self.last {
            Some((last, place)) if last == id => Some(place),
            _ => self.places.get(&id).copied(),
        }
    }

    /// Adds a connection.
    ///
    /// # Panics
    /// When there is one of this name.
    pub(crate) fn insert(&mut self, id: ConnId, conn: Conn) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 connections")
        });
        self.slots[place as usize] = Some(Box::new(conn));
        let before = self.places.insert(id, place);
        assert!(before.is_none(), "a connection's name is used once");
    }

    pub(crate) fn remove(&mut self, id: ConnId) -> Option<Box<Conn>> {
        let place = self.places.remove(&id)?;
        self.last = None;
        self.free.push(place);
        self.slots[place as usize].take()
    }

    /// In no particular order, but the same one for the same history.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConnId, &Conn)> {
        self.places.iter().filter_map(|(id, place)| Some((*id, self.slots[*place as usize].as_deref()?)))
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut Conn> {
        self.slots.iter_mut().filter_map(Option::as_deref_mut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Time;

    fn conn(port: u16) -> Conn {
        Conn::new(([127, 0, 0, 1], port).into(), Time { mono: 0, wall: 0 })
    }

    fn ports(conns: &Conns) -> Vec<(u64, u16)> {
        let mut all: Vec<_> = conns.iter().map(|(id, c)| (id.0, c.peer.port())).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn a_name_leads_to_its_connection_and_to_none_once_that_is_gone() {
        let mut conns = Conns::default();
        for n in 1..=3 {
            conns.insert(ConnId(n), conn(n as u16));
        }
        for n in [1, 1, 2, 1, 3] {
            assert_eq!(conns.get_mut(ConnId(n)).map(|c| c.peer.port()), Some(n as u16));
            assert_eq!(conns.get(ConnId(n)).map(|c| c.peer.port()), Some(n as u16));
        }
        // The one that was asked for last: its place goes to another.
        assert_eq!(conns.remove(ConnId(3)).map(|c| c.peer.port()), Some(3));
        conns.insert(ConnId(4), conn(4));
        assert!(!conns.contains(ConnId(3)) && conns.get(ConnId(3)).is_none() && conns.get_mut(ConnId(3)).is_none());
        assert!(conns.remove(ConnId(3)).is_none());
        assert_eq!(conns.get(ConnId(4)).map(|c| c.peer.port()), Some(4));
        assert_eq!(ports(&conns), [(1, 1), (2, 2), (4, 4)]);
        assert_eq!(conns.values_mut().count(), conns.len());
    }

    #[test]
    #[should_panic(expected = "a connection's name is used once")]
    fn a_name_is_used_once() {
        let mut conns = Conns::default();
        conns.insert(ConnId(1), conn(1));
        conns.insert(ConnId(1), conn(2));
    }
}
