//! Where contenders stand: a path, whose layout it has, and what their znodes look like.

use crate::names::{Layout, Queue, Role};
use crate::{Error, parents};
use farrier_client::{Acl, Client, perms};
use std::sync::Arc;

/// Options of a recipe whose contenders stand at its field `place`, by the options of that.
macro_rules! place_options {
    ($($(#[$doc:meta])* $option:ident($value:ident: $given:ty);)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $option(mut self, $value: $given) -> Self {
            self.place = self.place.$option($value);
            self
        }
    )*};
}
pub(crate) use place_options;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) client: Client,
    /// The parent of the contenders' znodes.
    pub(crate) dir: String,
    pub(crate) layout: Layout,
    pub(crate) role: Role,
    acl: Arc<[Acl<'static>]>,
    data: Arc<[u8]>,
}

impl Place {
    pub(crate) fn new(client: &Client, dir: impl Into<String>, role: Role) -> Self {
        let acl = [Acl::world(perms::ALL)].into();
        Self { client: client.clone(), dir: dir.into(), layout: Layout::default(), role, acl, data: [].into() }
    }

    pub(crate) fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    pub(crate) fn acl(mut self, acl: &[Acl<'static>]) -> Self {
        self.acl = acl.into();
        self
    }

    pub(crate) fn data(mut self, data: impl AsRef<[u8]>) -> Self {
        self.data = data.as_ref().into();
        self
    }

    /// The same path and looks, for another part.
    pub(crate) fn with_role(&self, role: Role) -> Self {
        Self { role, ..self.clone() }
    }

    pub(crate) fn znode_acl(&self) -> &[Acl<'static>] {
        &self.acl
    }

    pub(crate) fn znode_data(&self) -> &[u8] {
        &self.data
    }

    /// The path of a contender.
    pub(crate) fn child(&self, name: &str) -> String {
        if self.dir == "/" { format!("/{name}") } else { format!("{}/{name}", self.dir) }
    }

    /// The name of the contender with this path.
    pub(crate) fn name_of<'p>(&self, path: &'p str) -> &'p str {
        path.rsplit_once('/').map_or(path, |(_, name)| name)
    }

    /// Creates the path itself and what is missing above it.
    pub(crate) async fn create(&self) -> Result<(), farrier_client::Error> {
        match self.layout {
            Layout::Curator => parents::create_container(&self.client, &self.dir, &self.acl).await,
            Layout::Kazoo => parents::create_persistent(&self.client, &self.dir, &self.acl).await,
        }
    }

    /// Everybody in line.
    pub(crate) async fn queue(&self) -> Result<Queue, Error> {
        let names = match self.client.list(&self.dir).await {
            Ok(names) => names,
            Err(error) if error.is_no_node() => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        Queue::of(&self.dir, self.layout, self.role, names)
    }
}
