//! A group: who is there, with a payload of each, for as long as the session of each lives.
//!
//! A member is an ephemeral child of the group's path. Ours are named `<32 hex digits>__party__` as those of kazoo's
//! Party, which overlooks other names; Curator's GroupMember and this recipe take any ephemeral child for a member.

use crate::limits::{PAUSE, READS_AHEAD};
use crate::mirror::{Depth, Mirror, Step, Znode};
use crate::parents::create_container;
use crate::standing::watch_for_end;
use crate::steady::{delete_in_background, is_passing, until_answered};
use crate::{Error, Unique};
use farrier_client::{Acl, Client, Error as ClientError, SessionId, Stat, Watch, Zxid, perms};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

/// What stands behind the UUID in a member's name.
const MARK: &str = "__party__";

/// Changes of the payload that may wait for a server, of one member.
const PAYLOADS_MAX: usize = 64;

/// A group at a path.
///
/// ```no_run
/// # async fn run(client: farrier_client::Client) -> Result<(), farrier_recipes::Error> {
/// use farrier_recipes::Group;
///
/// let group = Group::new(&client, "/app/workers");
/// let membership = group.join(b"10.0.0.7:8080").await?;
/// let mut watch = group.watch();
/// println!("I am {:?}; first {:?}", membership.id(), watch.next().await?);
/// membership.leave().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Group {
    client: Client,
    path: String,
    acl: Vec<Acl<'static>>,
}

/// Somebody who is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// The name of the znode. Of members by this recipe a new one with each time they join, by hand or after a lost
    /// session.
    pub id: String,
    /// What the member says of itself.
    pub payload: Vec<u8>,
    /// When it joined, in the order of all that ever happened.
    pub joined: Zxid,
    /// Its session.
    pub session: SessionId,
}

/// A change of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupEvent {
    /// A member is there.
    Joined(Member),
    /// A member left, or its session ended.
    Left(Member),
    /// A member has another payload.
    Payload(Member),
    /// All members that were there at first have been told.
    Loaded,
    /// Somebody may have come and gone without being told, or had other payloads in between: the connection was lost, or
    /// the events were read too slowly. What is different now follows.
    Missed,
}

impl Group {
    /// The group at `path`, which need not exist. Nothing is sent.
    #[must_use]
    pub fn new(client: &Client, path: &str) -> Self {
        Self { client: client.clone(), path: path.to_owned(), acl: vec![Acl::world(perms::ALL)] }
    }

    /// Who may do what with znodes that this handle creates; everybody everything by default.
    #[must_use]
    pub fn acl(mut self, acl: &[Acl<'static>]) -> Self {
        self.acl = acl.to_vec();
        self
    }

    /// Joins, and stays until the membership is dropped: after a lost session it joins again as soon as the client has a
    /// new one, and so it does when somebody deletes its znode. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The servers refuse the znode, or no server answered within the time of a request. Then nothing is left of it.
    pub async fn join(&self, payload: impl AsRef<[u8]>) -> Result<Membership, Error> {
        let (joined, first) = oneshot::channel();
        let (payloads, orders) = mpsc::channel(PAYLOADS_MAX);
        let (leave, leaving) = oneshot::channel();
        let (told, state) = watch::channel(None);
        let member = Participant {
            client: self.client.clone(),
            group: self.path.clone(),
            acl: self.acl.clone(),
            payload: payload.as_ref().to_vec(),
            told,
        };
        Handle::current().spawn(member.run(joined, orders, leaving));
        // If the call is dropped before its end, this is, and the participant leaves.
        let membership = Membership { payloads, leave, state };
        first.await.unwrap_or_else(|_| Err(ClientError::Closed.into()))?;
        Ok(membership)
    }

    /// The members now, those that joined first before the others.
    ///
    /// # Errors
    ///
    /// Those of reads.
    pub async fn members(&self) -> Result<Vec<Member>, Error> {
        let names = match self.client.list(&self.path).await {
            Ok(names) => names,
            Err(error) if error.is_no_node() => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let paths: Vec<String> =
            names.iter().map(|name| format!("{}/{name}", self.path.trim_end_matches('/'))).collect();
        let mut members = Vec::with_capacity(paths.len());
        for chunk in paths.chunks(READS_AHEAD) {
            let reads: Vec<_> = chunk.iter().map(|path| (path, self.client.get(path).send())).collect();
            for (path, read) in reads {
                match read.await {
                    Ok(value) => members.extend(member(path, &value.data, &value.stat)),
                    Err(error) if error.is_no_node() => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        members.sort_by_key(|member| member.joined);
        Ok(members)
    }

    /// Follows the group.
    #[must_use]
    pub fn watch(&self) -> GroupWatch {
        GroupWatch { mirror: Mirror::new(&self.client, &self.path, Depth::Children) }
    }
}

/// A child of the group, if it is a member.
fn member(path: &str, payload: &[u8], stat: &Stat) -> Option<Member> {
    let id = path.rsplit('/').next().unwrap_or(path).to_owned();
    (stat.ephemeral_owner != 0).then(|| Member {
        id,
        payload: payload.to_vec(),
        joined: stat.czxid,
        session: SessionId(stat.ephemeral_owner),
    })
}

/// Follows a group; made by [`Group::watch`].
#[derive(Debug)]
pub struct GroupWatch {
    mirror: Mirror,
}

impl GroupWatch {
    /// The next change, in the order in which they came; at first everybody who is there, and then
    /// [`GroupEvent::Loaded`]. Goes on through reconnects and lost sessions of this client, and says so by
    /// [`GroupEvent::Missed`]. Waits for a server as long as there is none; cancelling the call loses nothing.
    ///
    /// # Errors
    ///
    /// The servers refuse to show the group, or the client has ended.
    pub async fn next(&mut self) -> Result<GroupEvent, Error> {
        let member = |znode: &Znode| member(&znode.path, &znode.data, &znode.stat);
        loop {
            let event = match self.mirror.next().await? {
                Step::Added(new) => member(&new).map(GroupEvent::Joined),
                Step::Changed { new, .. } => member(&new).map(GroupEvent::Payload),
                Step::Removed(old) => member(&old).map(GroupEvent::Left),
                Step::Loaded => Some(GroupEvent::Loaded),
                Step::Missed => Some(GroupEvent::Missed),
            };
            if let Some(event) = event {
                return Ok(event);
            }
        }
    }

    /// The members as of the newest event that [`Self::next`] has prepared, those that joined first before the others.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        let znodes = self.mirror.known().values();
        let mut members: Vec<Member> = znodes.filter_map(|z| member(&z.path, &z.data, &z.stat)).collect();
        members.sort_by_key(|member| member.joined);
        members
    }
}

/// Whoever waits to be told how something went.
type Reply = oneshot::Sender<Result<(), Error>>;

/// Being a member of a group. It lasts until it is dropped, which leaves the group in the background, or ended by
/// [`Self::leave`].
#[derive(Debug)]
#[must_use = "whoever drops it leaves the group"]
pub struct Membership {
    payloads: mpsc::Sender<(Vec<u8>, Reply)>,
    leave: oneshot::Sender<Reply>,
    state: watch::Receiver<Option<String>>,
}

impl Membership {
    /// The id under which this member is known now; `None` while its session is lost and it did not join again yet, or if
    /// it can't.
    #[must_use]
    pub fn id(&self) -> Option<String> {
        self.state.borrow().clone()
    }

    /// The id, to wait for changes. It ends when the client does, or the servers refuse to let the member join again.
    #[must_use]
    pub fn ids(&self) -> watch::Receiver<Option<String>> {
        self.state.clone()
    }

    /// Changes the payload, now and for all later times of joining.
    ///
    /// # Errors
    ///
    /// [`ClientError::Unknown`]: the answer was lost. [`ClientError::NotDone`]: it did not reach the servers. In both cases
    /// the member has the new payload when it joins again, and it is safe to repeat the call.
    pub async fn set_payload(&self, payload: impl AsRef<[u8]>) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        if self.payloads.send((payload.as_ref().to_vec(), reply)).await.is_err() {
            return Err(ClientError::Closed.into());
        }
        // Without an answer the participant has ended, with the client or by a refusal.
        answer.await.unwrap_or_else(|_| Err(ClientError::Closed.into()))
    }

    /// Leaves the group, also while the member is about to join again.
    ///
    /// # Errors
    ///
    /// No server has answered within the time of a request; the member goes in the background.
    pub async fn leave(self) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        if self.leave.send(reply).is_err() {
            return Err(ClientError::Closed.into());
        }
        answer.await.unwrap_or_else(|_| Err(ClientError::Closed.into()))
    }
}

/// What keeps a member in its group, as a task of its own.
struct Participant {
    client: Client,
    group: String,
    acl: Vec<Acl<'static>>,
    payload: Vec<u8>,
    told: watch::Sender<Option<String>>,
}

/// Why a participant is no longer a member under its id.
enum End {
    /// Its znode is gone; a new one is to be made.
    Lost,
    /// Whoever asked to leave waits for an answer; nobody does if the membership was dropped.
    Left(Option<Reply>),
    Failed(Error),
}

impl Participant {
    async fn run(
        mut self,
        joined: Reply,
        mut payloads: mpsc::Receiver<(Vec<u8>, Reply)>,
        mut leaving: oneshot::Receiver<Reply>,
    ) {
        let mut joined = Some(joined);
        loop {
            let id = match Unique::for_path(&self.client, &self.group) {
                Ok(unique) => format!("{}{MARK}", unique.hex()),
                Err(error) => return self.refused(joined, error),
            };
            let path = format!("{}/{id}", self.group.trim_end_matches('/'));
            let first = joined.is_some();
            let created = tokio::select! {
                biased;
                created = self.create(&path, first) => created,
                asked = &mut leaving => return self.leave(&path, asked.ok()).await,
            };
            if let Err(error) = created {
                // Of a creation whose answer is open the znode may come yet.
                self.withdraw(&path);
                return self.refused(joined, error.into());
            }
            self.told.send_replace(Some(id));
            if let Some(joined) = joined.take() {
                // Nobody may wait for it any more; then it leaves below.
                let _ = joined.send(Ok(()));
            }
            let end = self.stay(&path, &mut payloads, &mut leaving).await;
            self.told.send_replace(None);
            match end {
                End::Lost => {}
                End::Left(asked) => return self.leave(&path, asked).await,
                End::Failed(error) => return self.refused(None, error),
            }
        }
    }

    /// Takes the znode away, whether or not the answer to its creation ever came.
    async fn leave(&self, path: &str, asked: Option<Reply>) {
        let Some(asked) = asked else { return self.withdraw(path) };
        let gone = async {
            // What was sent before is executed or refused once this is answered.
            self.client.sync(&self.group).await?;
            self.client.delete(path).await
        };
        let answer = match gone.await {
            Err(error) if !error.is_no_node() => {
                self.withdraw(path);
                Err(error.into())
            }
            Ok(()) | Err(_) => Ok(()),
        };
        // Nobody may wait for it any more.
        let _ = asked.send(answer);
    }

    fn refused(&self, joined: Option<Reply>, error: Error) {
        match joined {
            // Nobody may wait for it any more.
            Some(joined) => drop(joined.send(Err(error))),
            None if self.client.has_ended() => {}
            None => tracing::warn!(group = self.group, %error, "a member cannot join its group again"),
        }
    }

    /// Creates the znode. The first time ends with the time of a request; later ones go on until they succeed.
    async fn create(&self, path: &str, first: bool) -> Result<(), ClientError> {
        loop {
            let created = self.client.create(path, &self.payload).acl(&self.acl).ephemeral().await;
            match created {
                Ok(_) => return Ok(()),
                // Its name is nobody else's: this is the one whose answer was lost.
                Err(error) if error.is_node_exists() => return Ok(()),
                Err(error) if error.is_no_node() => {
                    let made = create_container(&self.client, &self.group, &self.acl).await;
                    if let Err(error) = made
                        && (first || !is_passing(&error) || self.client.has_ended())
                    {
                        return Err(error);
                    }
                }
                Err(error @ ClientError::NotDone { .. }) if first => return Err(error),
                Err(error) if is_passing(&error) && !self.client.has_ended() => self.client.sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Deletes the znode in the background, as long as the client lives.
    fn withdraw(&self, path: &str) {
        delete_in_background(&Handle::current(), &self.client, vec![path.to_owned()]);
    }

    /// Waits for the end of the znode, and does what the member wants meanwhile.
    async fn stay(
        &mut self,
        path: &str,
        payloads: &mut mpsc::Receiver<(Vec<u8>, Reply)>,
        leaving: &mut oneshot::Receiver<Reply>,
    ) -> End {
        let mut eye = None;
        loop {
            tokio::select! {
                biased;
                gone = self.gone(path, &mut eye) => {
                    return gone.map_or_else(|error| End::Failed(error.into()), |()| End::Lost);
                }
                Some((payload, reply)) = payloads.recv() => {
                    let set = self.client.set(path, &payload).send();
                    self.payload = payload;
                    // Nobody may wait for it any more.
                    let _ = reply.send(set.await.map(drop).map_err(Error::from));
                }
                asked = &mut *leaving => return End::Left(asked.ok()),
            }
        }
    }

    /// Waits until the znode is gone. Cancelling the call loses nothing.
    async fn gone(&self, path: &str, eye: &mut Option<Watch>) -> Result<(), ClientError> {
        loop {
            if let Some(watch) = eye {
                watch.next().await;
                *eye = None;
            }
            *eye = until_answered(&self.client, || watch_for_end(&self.client, path)).await?;
            if eye.is_none() {
                return Ok(());
            }
        }
    }
}
