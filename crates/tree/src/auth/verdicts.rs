//! What was found out about long lists, for whoever asks about the same ones again and again.

use super::{AuthConfig, Identity};
use crate::acl_table::SharedAcl;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// Entries of a list up to which it costs less to look at them than to remember.
const SHORT_MAX: usize = 16;

/// Verdicts of [`AuthConfig::permits`] for the same identities, as long as one request or one commit takes: it may ask tens of
/// thousands of times about a list that is as long as a client could make it.
#[derive(Debug, Default)]
pub struct Verdicts {
    /// By the list's place in memory, which no other one takes while this holds it, and the permission.
    known: RefCell<BTreeMap<(usize, i32), (SharedAcl, bool)>>,
    looked_at: Cell<usize>,
}

impl Verdicts {
    /// Whether `ids`, which are the same in all calls, may do `perm` under `acl`.
    #[must_use]
    pub fn permits(&self, auth: &AuthConfig, acl: &SharedAcl, perm: i32, ids: &[Identity]) -> bool {
        if !Self::are_kept_for(acl) {
            return auth.permits(acl, perm, ids);
        }
        let place = (acl.as_ptr().addr(), perm);
        if let Some((_, verdict)) = self.known.borrow().get(&place) {
            return *verdict;
        }
        let verdict = auth.permits(acl, perm, ids);
        self.looked_at.set(self.looked_at.get() + acl.len());
        self.known.borrow_mut().insert(place, (SharedAcl::clone(acl), verdict));
        verdict
    }

    /// Whether the list is long enough.
    #[must_use]
    pub fn are_kept_for(acl: &SharedAcl) -> bool {
        acl.len() > SHORT_MAX
    }

    /// Entries of long lists that were looked at.
    #[must_use]
    pub const fn looked_at(&self) -> usize {
        self.looked_at.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_proto::{Acl, perms};

    fn list(len: usize, last: &str) -> SharedAcl {
        let entry = |id: String| Acl { perms: perms::READ, scheme: "digest".into(), id: id.into() };
        (1..len).map(|n| entry(format!("user{n}:x"))).chain([entry(last.to_owned())]).collect()
    }

    #[test]
    fn a_long_list_is_looked_through_once_for_each_permission() {
        let auth = AuthConfig::default();
        let who = [Identity::new("digest", "bob:x")];
        let (bobs, others, short) = (list(1000, "bob:x"), list(1000, "al:x"), list(16, "bob:x"));
        let verdicts = Verdicts::default();
        for _ in 0..3 {
            assert!(verdicts.permits(&auth, &short, perms::READ, &who));
        }
        assert_eq!(verdicts.looked_at(), 0, "not worth remembering");
        for _ in 0..3 {
            assert!(verdicts.permits(&auth, &bobs, perms::READ, &who));
            assert!(!verdicts.permits(&auth, &others, perms::READ, &who));
            assert!(!verdicts.permits(&auth, &bobs, perms::WRITE, &who));
        }
        assert_eq!(verdicts.looked_at(), 3000);
        drop(bobs);
        let again = list(1000, "al:x");
        assert!(!verdicts.permits(&auth, &again, perms::READ, &who), "no list is taken for one that is gone");
    }
}
