//! What comes of answers that no Farrier server gives.

use crate::support::{patient, patiently, scripted_server};
use farrier_client::{Error, NewZnode, Op, OpResult, ReadOp};
use farrier_proto::client::put_reply;
use farrier_proto::jute::{put_buffer, put_str};
use farrier_proto::multi::{put_end, put_result};
use farrier_proto::{Field as _, OpCode, Stat, Xid, Zxid};

fn reply(xid: Xid, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_reply(&mut bytes, xid, 9, Ok(()), body);
    bytes
}

fn stat(version: i32) -> Stat {
    let (zxid, none) = (Zxid::from_wire(9), 0);
    Stat {
        czxid: zxid,
        mzxid: zxid,
        ctime: 1,
        mtime: 1,
        version,
        cversion: none,
        aversion: none,
        ephemeral_owner: 0,
        data_length: none,
        num_children: none,
        pzxid: zxid,
    }
}

#[tokio::test]
async fn a_multi_may_be_answered_as_if_plain_creates_had_been_asked_for() {
    let server = scripted_server(|xid, op, _| {
        assert_eq!(op, OpCode::Multi);
        reply(xid, |out| {
            put_result(out, OpCode::Check);
            put_result(out, OpCode::Create);
            put_str(out, "/app/z-0000000003");
            put_result(out, OpCode::SetData);
            stat(4).write(out);
            put_end(out);
        })
    });
    let client = patient(&format!("{}/app", server.await)).connect().await.expect("a session");
    let ops = [Op::check("/", None), NewZnode::new("/z-", b"").sequential().into(), Op::set("/", b"", None)];
    let done = client.multi(ops).await.expect("done");
    let created = OpResult::Created { path: "/z-0000000003".to_owned(), stat: None };
    assert_eq!(done, [OpResult::Checked, created, OpResult::Set(stat(4))]);
}

#[tokio::test]
async fn an_answer_of_another_kind_leaves_open_what_a_write_did() {
    let server = scripted_server(|xid, op, _| {
        reply(xid, |out| {
            if op == OpCode::MultiRead {
                put_result(out, OpCode::Delete);
            }
            put_end(out);
        })
    });
    let address = server.await.to_string();
    let client = patient(&address).connect().await.expect("a session");
    let error = client.multi([Op::create("/a", b"")]).await.expect_err("it has no result");
    assert!(matches!(&error, Error::Unknown { server, .. } if **server == *address), "{error}");
    let error = client.multi_read([ReadOp::Get("/a")]).await.expect_err("a read is no deletion");
    assert!(matches!(&error, Error::Unreadable { server, .. } if **server == *address), "{error}");
}

#[tokio::test]
async fn a_read_with_too_long_an_answer_fails_at_once_and_disturbs_no_later_one() {
    let server = scripted_server(|xid, op, _| {
        reply(xid, |out| {
            if op == OpCode::GetData {
                put_buffer(out, Some(&[0; 2000]));
            }
            stat(1).write(out);
        })
    });
    let client = patient(&server.await.to_string()).reply_max(1000).connect().await.expect("a session");
    let error = patiently("an answer", client.get("/a").watch()).await.expect_err("it is too long");
    assert!(matches!(&error, Error::Unreadable { .. }) && error.to_string().contains("reply_max"), "{error}");
    assert_eq!(client.exists("/a").await.expect("answered"), Some(stat(1)));
}
