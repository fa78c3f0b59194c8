//! multi and multiRead.

use super::write::ANY;
use super::{Base, NewZnode, Value, request};
use crate::call::{Again, Call, Said, Target, Wrong};
use crate::machine::{Part, Response};
use crate::watch::Watch;
use crate::{Client, Error};
use farrier_proto::client::{PathVersion, PathWatch, SetDataRequest};
use farrier_proto::multi::{MultiHeader, put_end};
use farrier_proto::{ErrorCode, Field as _, OpCode, Stat, path};

/// One operation of a multi.
#[derive(Clone, Copy, Debug)]
pub enum Op<'a> {
    /// Creates a znode.
    Create(NewZnode<'a>),
    /// Deletes a znode.
    Delete {
        /// Its path.
        path: &'a str,
        /// Its data's version, or any.
        version: Option<i32>,
    },
    /// Sets data.
    Set {
        /// The znode's path.
        path: &'a str,
        /// The new data.
        data: &'a [u8],
        /// The data's version before, or any.
        version: Option<i32>,
    },
    /// Fails the multi unless the znode exists with this version of its data.
    Check {
        /// The znode's path.
        path: &'a str,
        /// Its data's version, or any.
        version: Option<i32>,
    },
}

impl<'a> Op<'a> {
    /// Creates a persistent znode that is open to everybody; other ones by [`Op::Create`].
    pub fn create(path: &'a str, data: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self::Create(NewZnode::new(path, data))
    }

    /// Deletes a znode if it has this version, or with `None` in any case.
    pub fn delete(path: &'a str, version: impl Into<Option<i32>>) -> Self {
        Self::Delete { path, version: version.into() }
    }

    /// Sets data if it has this version, or with `None` in any case.
    pub fn set(path: &'a str, data: &'a (impl AsRef<[u8]> + ?Sized), version: impl Into<Option<i32>>) -> Self {
        Self::Set { path, data: data.as_ref(), version: version.into() }
    }

    /// Checks that a znode exists and has this version, or with `None` that it exists.
    pub fn check(path: &'a str, version: impl Into<Option<i32>>) -> Self {
        Self::Check { path, version: version.into() }
    }

    /// The path that it is about.
    #[must_use]
    pub const fn path(&self) -> &'a str {
        match self {
            Self::Create(znode) => znode.path,
            Self::Delete { path, .. } | Self::Set { path, .. } | Self::Check { path, .. } => path,
        }
    }

    /// Appends it to the body of a multi; or what is wrong with it.
    fn write(&self, client: &Client, out: &mut Vec<u8>) -> Result<(), &'static str> {
        if let Self::Create(znode) = self {
            let kind = znode.kind()?;
            put_header(out, kind.op);
            znode.write(kind, &znode.full_path(client), out);
            return Ok(());
        }
        path::validate(self.path())?;
        let path = Some(client.full_path(self.path()).into());
        match *self {
            Self::Create(_) => {}
            Self::Delete { version, .. } => {
                put_header(out, OpCode::Delete);
                PathVersion { path, version: version.unwrap_or(ANY) }.write(out);
            }
            Self::Set { data, version, .. } => {
                put_header(out, OpCode::SetData);
                SetDataRequest { path, data: Some(data.into()), version: version.unwrap_or(ANY) }.write(out);
            }
            Self::Check { version, .. } => {
                put_header(out, OpCode::Check);
                PathVersion { path, version: version.unwrap_or(ANY) }.write(out);
            }
        }
        Ok(())
    }
}

impl<'a> From<NewZnode<'a>> for Op<'a> {
    fn from(znode: NewZnode<'a>) -> Self {
        Self::Create(znode)
    }
}

fn put_header(out: &mut Vec<u8>, op: OpCode) {
    MultiHeader { op: op.code(), done: false, err: -1 }.write(out);
}

/// What an operation of a multi did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OpResult {
    /// Of [`Op::Create`].
    Created {
        /// Its path: with the digits if it is sequential, without the chroot.
        path: String,
        /// Its stat, if the server tells it. Old ones of Apache's don't, as ZOOKEEPER-4026 says, and neither do newer ones
        /// in an ensemble that Farrier leads, unless `farrier.peers` says there that none is old. [`Client::exists`] reads it
        /// then, as it is by now.
        stat: Option<Stat>,
    },
    /// Of [`Op::Delete`].
    Deleted,
    /// Of [`Op::Set`].
    Set(Stat),
    /// Of [`Op::Check`].
    Checked,
}

/// Several writes as one. See [`Client::multi`]. Answers with one result for each operation; if one fails, nothing
/// is done, and the error names it ([`Error::Refused`] with its index).
#[derive(Clone, Debug)]
#[must_use = "a request is sent by awaiting it or by `send`"]
pub struct Multi<'a> {
    base: Base<'a>,
    ops: Vec<Op<'a>>,
}

impl<'a> Multi<'a> {
    pub(crate) const fn new(client: &'a Client, ops: Vec<Op<'a>>) -> Self {
        Self { base: Base::new(client, "/"), ops }
    }

    /// Sends it.
    pub fn send(self) -> Call<Vec<OpResult>> {
        let client = self.base.client;
        let mut body = Vec::new();
        for (index, op) in self.ops.iter().enumerate() {
            if let Err(rule) = op.write(client, &mut body) {
                let reason = format!("operation {index}, counted from 0, of {}: {rule}", op.path());
                return self.base.refuse("multi", &reason);
            }
        }
        put_end(&mut body);
        let about: Vec<(OpKind, String)> = self.ops.iter().map(|op| (OpKind::of(op), op.path().to_owned())).collect();
        let finish = move |said: Said, target: &Target, _: Option<Watch>| match said {
            Ok(Response::Multi(parts)) => results(parts, &about, target),
            Ok(_) => Err(Wrong::Kind),
            Err(refusal) => {
                let about = refusal.index.and_then(|index| about.get(index));
                let mut wrong = target.refused(refusal);
                if let (Wrong::Error(Error::Refused { path, .. }), Some((_, failed))) = (&mut wrong, about) {
                    path.clone_from(failed);
                }
                Err(wrong)
            }
        };
        self.base.submit("multi", OpCode::Multi, Again::Never, |out, _| out.extend_from_slice(&body), finish)
    }
}
request!(Multi => Vec<OpResult>);

#[derive(Clone, Copy, Debug)]
enum OpKind {
    Create,
    Delete,
    Set,
    Check,
}

impl OpKind {
    const fn of(op: &Op<'_>) -> Self {
        match op {
            Op::Create(_) => Self::Create,
            Op::Delete { .. } => Self::Delete,
            Op::Set { .. } => Self::Set,
            Op::Check { .. } => Self::Check,
        }
    }
}

fn results(parts: Vec<Part>, about: &[(OpKind, String)], target: &Target) -> Result<Vec<OpResult>, Wrong> {
    if parts.len() != about.len() {
        return Err(Wrong::Kind);
    }
    let one = |(part, (kind, _)): (Part, &(OpKind, String))| match (part, kind) {
        (Part::Done(Response::Created(path, stat)), OpKind::Create) => {
            Ok(OpResult::Created { path: target.without_chroot(&path).to_owned(), stat })
        }
        (Part::Done(Response::Nothing), OpKind::Delete) => Ok(OpResult::Deleted),
        (Part::Done(Response::Stat(stat)), OpKind::Set) => Ok(OpResult::Set(stat)),
        (Part::Done(Response::Nothing), OpKind::Check) => Ok(OpResult::Checked),
        _ => Err(Wrong::Kind),
    };
    parts.into_iter().zip(about).map(one).collect()
}

/// One read of a multi-read.
#[derive(Clone, Copy, Debug)]
pub enum ReadOp<'a> {
    /// Data and stat of the znode with this path.
    Get(&'a str),
    /// Names of its children.
    Children(&'a str),
}

/// What a read of a multi-read found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadResult {
    /// Of [`ReadOp::Get`].
    Value(Value),
    /// Of [`ReadOp::Children`]: names, in no order.
    Children(Vec<String>),
}

/// Several reads as one. See [`Client::multi_read`].
#[derive(Clone, Debug)]
#[must_use = "a request is sent by awaiting it or by `send`"]
pub struct MultiRead<'a> {
    base: Base<'a>,
    ops: Vec<ReadOp<'a>>,
}

impl<'a> MultiRead<'a> {
    pub(crate) const fn new(client: &'a Client, ops: Vec<ReadOp<'a>>) -> Self {
        Self { base: Base::new(client, "/"), ops }
    }

    /// Sends it.
    pub fn send(self) -> Call<Vec<Result<ReadResult, ErrorCode>>> {
        let mut body = Vec::new();
        for (index, op) in self.ops.iter().enumerate() {
            let (code, path) = match op {
                ReadOp::Get(path) => (OpCode::GetData, path),
                ReadOp::Children(path) => (OpCode::GetChildren, path),
            };
            if let Err(rule) = path::validate(path) {
                let reason = format!("operation {index}, counted from 0, of {path}: {rule}");
                return self.base.refuse("multi-read", &reason);
            }
            put_header(&mut body, code);
            PathWatch { path: Some(self.base.client.full_path(path).into()), watch: false }.write(&mut body);
        }
        put_end(&mut body);
        let finish = |said: Said, target: &Target, _: Option<Watch>| match said {
            Ok(Response::Multi(parts)) => parts.into_iter().map(found).collect(),
            Ok(_) => Err(Wrong::Kind),
            Err(refusal) => Err(target.refused(refusal)),
        };
        let again = Again::Body(body.clone());
        self.base.submit("multi-read", OpCode::MultiRead, again, |out, _| out.extend_from_slice(&body), finish)
    }
}
request!(MultiRead => Vec<Result<ReadResult, ErrorCode>>);

fn found(part: Part) -> Result<Result<ReadResult, ErrorCode>, Wrong> {
    match part {
        Part::Failed(err) => Ok(Err(ErrorCode::from_code(err).unwrap_or(ErrorCode::SystemError))),
        Part::Done(Response::Data(data, stat)) => Ok(Ok(ReadResult::Value(Value::new(data, stat)))),
        Part::Done(Response::Children(names, _)) => Ok(Ok(ReadResult::Children(names))),
        Part::Done(_) => Err(Wrong::Kind),
    }
}
