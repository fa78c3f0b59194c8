//! Taking a contender's znode away again, whatever becomes of connections meanwhile.

use crate::limits::PAUSE;
use crate::place::Place;
use farrier_client::{Call, Error, ErrorCode};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// A contender that goes: its path, or what its name begins with if nobody saw it yet.
#[derive(Clone, Debug)]
pub(crate) struct Withdrawal {
    pub(crate) place: Place,
    pub(crate) prefix: String,
    pub(crate) path: Option<String>,
    /// Where the work runs: the last handle may be dropped outside of any runtime.
    pub(crate) runtime: Handle,
}

impl Withdrawal {
    /// Puts the deletion in line at once, and sees to it in the background until a server has answered or the session
    /// has ended. The receiver gets the first outcome that says something.
    pub(crate) fn begin(self) -> oneshot::Receiver<Result<(), Error>> {
        let (report, outcome) = oneshot::channel();
        let first = self.path.as_ref().map(|path| self.place.client.delete(path).send());
        let runtime = self.runtime.clone();
        runtime.spawn(self.run(first, report));
        outcome
    }

    async fn run(mut self, mut first: Option<Call<()>>, report: oneshot::Sender<Result<(), Error>>) {
        let mut report = Some(report);
        let mut told = |result: Result<(), Error>| {
            if let Some(report) = report.take() {
                // Nobody waits for it after a drop.
                let _ = report.send(result);
            }
        };
        let mut was_unknown = false;
        loop {
            let result = match (first.take(), &self.path) {
                (Some(call), _) => call.await,
                (None, Some(path)) => self.place.client.delete(path).await,
                (None, None) => match self.find().await {
                    Ok(Some(path)) => {
                        self.path = Some(path);
                        continue;
                    }
                    Ok(None) => Ok(()),
                    Err(error) => Err(error),
                },
            };
            match result {
                Ok(()) => return told(Ok(())),
                // The deletion whose answer was lost, or the end of the session.
                Err(error) if error.is_no_node() && was_unknown => return told(Ok(())),
                Err(Error::Unknown { .. }) => was_unknown = true,
                Err(error @ Error::NotDone { .. }) => told(Err(error)),
                Err(Error::QueueFull { .. }) => self.place.client.sleep(PAUSE).await,
                // A server that is too busy, takes no writes now, or is one that the session has left: none of them says
                // anything about the znode.
                Err(Error::Refused {
                    code: ErrorCode::ThrottledOp | ErrorCode::SessionMoved | ErrorCode::NotReadOnly,
                    ..
                }) => self.place.client.sleep(PAUSE).await,
                Err(error) => return told(Err(error)),
            }
        }
    }

    /// The path of the znode whose creation nobody saw. What had been sent before on any connection is executed or
    /// refused once the sync is answered, so what is not there then never comes.
    async fn find(&self) -> Result<Option<String>, Error> {
        find(&self.place, &self.prefix).await
    }
}

/// Takes a contender away when it is dropped.
#[derive(Debug)]
pub(crate) struct Armed(Option<Withdrawal>);

impl Armed {
    pub(crate) const fn new(withdrawal: Withdrawal) -> Self {
        Self(Some(withdrawal))
    }

    /// Gives up taking it away.
    pub(crate) fn disarm(mut self) -> Withdrawal {
        self.0.take().expect("only this call takes it, and ends its owner")
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        if let Some(withdrawal) = self.0.take() {
            drop(withdrawal.begin());
        }
    }
}

/// The first znode in `place` whose name begins with `prefix`, after all that was sent before.
pub(crate) async fn find(place: &Place, prefix: &str) -> Result<Option<String>, Error> {
    place.client.sync(&place.dir).await?;
    let names = match place.client.list(&place.dir).await {
        Ok(names) => names,
        Err(error) if error.is_no_node() => return Ok(None),
        Err(error) => return Err(error),
    };
    let own = names.into_iter().filter(|name| name.starts_with(prefix));
    Ok(own.min().map(|name| place.child(&name)))
}
