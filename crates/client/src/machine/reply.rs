//! Bodies of replies, decoded.

use farrier_proto::client::ClientInfo;
use farrier_proto::multi::MultiHeader;
use farrier_proto::{Acl, DecodeError, ErrorCode, Field as _, OpCode, Reader, Stat};

/// What a reply holds, by the operation that it answers.
#[derive(Debug)]
pub(crate) enum Response {
    Nothing,
    Created(String, Option<Stat>),
    Stat(Stat),
    /// Null data is `None`.
    Data(Option<Vec<u8>>, Stat),
    Acl(Vec<Acl<'static>>, Stat),
    Children(Vec<String>, Option<Stat>),
    Paths(Vec<String>),
    Number(i32),
    /// Scheme and user.
    Identities(Vec<(String, String)>),
    Multi(Vec<Part>),
}

/// The result of one operation of a multi or multiRead.
#[derive(Debug)]
pub(crate) enum Part {
    /// 0 for an operation before the one that failed.
    Failed(i32),
    Done(Response),
}

impl Response {
    /// Decodes the body of a successful reply.
    pub(crate) fn read(op: OpCode, r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match op {
            OpCode::Create => Self::Created(text(r)?, None),
            OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
                let path = text(r)?;
                Self::Created(path, Some(Stat::read(r)?))
            }
            OpCode::Exists | OpCode::SetData | OpCode::SetAcl => Self::Stat(Stat::read(r)?),
            OpCode::GetData | OpCode::Reconfig => {
                let data = r.buffer()?.map(<[u8]>::to_vec);
                Self::Data(data, Stat::read(r)?)
            }
            OpCode::GetAcl => {
                let acl: Vec<Acl<'_>> = Vec::read(r)?;
                Self::Acl(acl.into_iter().map(Acl::into_owned).collect(), Stat::read(r)?)
            }
            OpCode::GetChildren => Self::Children(texts(r)?, None),
            OpCode::GetChildren2 => {
                let names = texts(r)?;
                Self::Children(names, Some(Stat::read(r)?))
            }
            OpCode::GetEphemerals => Self::Paths(texts(r)?),
            OpCode::GetAllChildrenNumber => Self::Number(r.i32()?),
            OpCode::WhoAmI => {
                let all: Vec<ClientInfo<'_>> = Vec::read(r)?;
                Self::Identities(all.into_iter().map(|i| (i.scheme.into_owned(), i.user.into_owned())).collect())
            }
            OpCode::Multi | OpCode::MultiRead => Self::Multi(parts(r)?),
            // The bodies of sync and addWatch repeat what was asked.
            OpCode::Delete
            | OpCode::Sync
            | OpCode::Ping
            | OpCode::Check
            | OpCode::CheckWatches
            | OpCode::RemoveWatches
            | OpCode::DeleteContainer
            | OpCode::Auth
            | OpCode::SetWatches
            | OpCode::SetWatches2
            | OpCode::Sasl
            | OpCode::AddWatch
            | OpCode::CreateSession
            | OpCode::CloseSession => Self::Nothing,
        })
    }
}

fn parts(r: &mut Reader<'_>) -> Result<Vec<Part>, DecodeError> {
    let mut parts = Vec::new();
    loop {
        let header = MultiHeader::read(r)?;
        if header.done {
            return Ok(parts);
        }
        if header.op == -1 {
            parts.push(Part::Failed(r.i32()?));
            continue;
        }
        let op = OpCode::from_code(header.op)
            .ok_or_else(|| DecodeError::Value { field: "result of a multi", value: i64::from(header.op) })?;
        if matches!(op, OpCode::Multi | OpCode::MultiRead) {
            return Err(DecodeError::Shape("a multi within a multi"));
        }
        parts.push(Part::Done(Response::read(op, r)?));
    }
}

fn text(r: &mut Reader<'_>) -> Result<String, DecodeError> {
    Ok(r.string()?.ok_or(DecodeError::Null("path"))?.into_owned())
}

fn texts(r: &mut Reader<'_>) -> Result<Vec<String>, DecodeError> {
    let n = r.count()?.unwrap_or(0);
    let mut all = Vec::new();
    for _ in 0..n {
        all.push(text(r)?);
    }
    Ok(all)
}

/// The code with this number; one that nobody defined is an error of the server's system.
pub(crate) fn code(err: i32) -> ErrorCode {
    ErrorCode::from_code(err).unwrap_or(ErrorCode::SystemError)
}
