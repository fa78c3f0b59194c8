//! A walk through a subtree: parents before their children, children by name, with a few requests on
//! their way at a time.

use farrier_client::{Call, Client, Error};

/// Lists of children that are asked for ahead.
const AHEAD: usize = 64;

/// A znode of the walk.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: String,
    /// Its name; that of the root of the walk is its path.
    pub(crate) name: String,
    /// 0 for the root of the walk.
    pub(crate) depth: usize,
    /// Whether it is the last child of its parent.
    pub(crate) last: bool,
    /// How many children it has.
    pub(crate) children: usize,
}

struct Pending {
    found: Found,
    call: Option<Call<Vec<String>>>,
}

/// Goes through a subtree. Memory grows with the depth and with the children of the znodes on the way down.
pub(crate) struct Walk<'c> {
    client: &'c Client,
    stack: Vec<Pending>,
    /// Whether to descend from a znode.
    descend: Box<dyn Fn(&str) -> bool + 'c>,
}

impl<'c> Walk<'c> {
    pub(crate) fn new(client: &'c Client, path: &str) -> Self {
        Self::choosing(client, path, |_| true)
    }

    /// A walk that leaves out what is below paths that are not chosen.
    pub(crate) fn choosing(client: &'c Client, path: &str, descend: impl Fn(&str) -> bool + 'c) -> Self {
        let found = Found { path: path.to_owned(), name: path.to_owned(), depth: 0, last: true, children: 0 };
        Self { client, stack: vec![Pending { found, call: None }], descend: Box::new(descend) }
    }

    /// The next znode. One that is deleted meanwhile is left out, unless it is the first.
    pub(crate) async fn next(&mut self) -> Result<Option<Found>, Error> {
        while let Some(Pending { mut found, call }) = self.stack.pop() {
            if found.depth > 0 && !(self.descend)(&found.path) {
                continue;
            }
            let call = call.unwrap_or_else(|| self.client.list(&found.path).send());
            let mut names = match call.await {
                Ok(names) => names,
                Err(error) if error.is_no_node() && found.depth > 0 => continue,
                Err(error) => return Err(error),
            };
            names.sort_unstable();
            found.children = names.len();
            self.push(&found, names);
            return Ok(Some(found));
        }
        Ok(None)
    }

    fn push(&mut self, parent: &Found, names: Vec<String>) {
        let count = names.len();
        for (index, name) in names.into_iter().enumerate().rev() {
            let path = join(&parent.path, &name);
            let last = index + 1 == count;
            let found = Found { path, name, depth: parent.depth + 1, last, children: 0 };
            self.stack.push(Pending { found, call: None });
        }
        // The ones on top come next.
        for pending in self.stack.iter_mut().rev().take(AHEAD) {
            if pending.call.is_none() && (self.descend)(&pending.found.path) {
                pending.call = Some(self.client.list(&pending.found.path).send());
            }
        }
    }
}

/// The path of a child.
pub(crate) fn join(parent: &str, name: &str) -> String {
    if parent == "/" { format!("/{name}") } else { format!("{parent}/{name}") }
}
