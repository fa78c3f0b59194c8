//! A conversation recorded from an Apache server, byte for byte: session id and times are fixed, all else
//! follows.

mod harness;

use farrier_replica::{ConnId, Input, Time};
use harness::World;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let text = String::from_utf8(digits).expect("digits");
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("digits")).collect()
}

fn send(world: &mut World, conn: ConnId, hex: &str) {
    let frame = bytes(hex);
    world.frame(conn, &frame[4..]);
}

#[track_caller]
fn expect(world: &mut World, conn: ConnId, hex: &str) {
    let (got, want) = (world.take(conn), bytes(hex));
    let show = |b: &[u8]| b.iter().map(|x| format!("{x:02x}")).collect::<String>();
    assert_eq!(show(&got), show(&want));
}

const CONNECT: &str =
    "0000002d0000000000000000000000000000271000000000000000000000001000000000000000000000000000000000 00";

#[test]
fn a_recorded_conversation() {
    let mut w = World::at(harness::config(), Time { mono: 5_000_000, wall: 0x12_3456 });
    w.now.wall = 1_700_000_000_000;

    let c1 = w.dial();
    send(&mut w, c1, CONNECT);
    expect(&mut w, c1, "00000025000000000000271001000012345600000000001028dca4e895de729d466f3f4d668d25c000");

    // create("/a", "hello")
    send(
        &mut w,
        c1,
        "000000360000000100000001000000022f610000000568656c6c6f000000010000001f00000005776f726c6400000006616e796f6e6500000000",
    );
    expect(&mut w, c1, "0000001600000001000000000000000200000000000000022f61");

    // getData with a watch
    send(&mut w, c1, "0000000f0000000200000004000000022f6101");
    expect(
        &mut w,
        c1,
        "0000005d000000020000000000000002000000000000000568656c6c6f000000000000000200000000000000020000018bcfe568000000018bcfe568000000000000000000000000000000000000000000000000050000000000000000000000 02",
    );

    // another client connects and sets it
    let c2 = w.dial();
    send(&mut w, c2, CONNECT);
    w.take(c2);
    w.now.wall = 1_700_000_001_000;
    send(&mut w, c2, "000000190000000100000005000000022f610000000362796500000000");
    expect(
        &mut w,
        c2,
        "0000005400000001000000000000000400000000000000000000000200000000000000040000018bcfe568000000018bcfe56be8000000010000000000000000000000000000000000000003000000000000000000000002",
    );
    expect(&mut w, c1, "0000001effffffff0000000000000004000000000000000300000003000000022f61");

    // a failing multi
    send(
        &mut w,
        c1,
        "0000006a000000030000000e0000000100ffffffff000000022f6200000000000000010000001f00000005776f726c6400000006616e796f6e65000000000000000200ffffffff000000032f7a7affffffff0000000d00ffffffff000000022f6100000001ffffffff01ffffffff",
    );
    expect(
        &mut w,
        c1,
        "0000004000000003000000000000000500000000ffffffff000000000000000000ffffffff00ffffff9bffffff9bffffffff00fffffffefffffffeffffffff01ffffffff",
    );

    // ping
    send(&mut w, c1, "00000008fffffffe0000000b");
    expect(&mut w, c1, "00000010fffffffe000000000000000500000000");

    // a successful multi
    send(
        &mut w,
        c1,
        "00000069000000040000000e0000000d00ffffffff000000022f61000000010000000100ffffffff000000022f6200000000000000010000001f00000005776f726c6400000006616e796f6e65000000000000000200ffffffff000000022f6200000000ffffffff01ffffffff",
    );
    expect(
        &mut w,
        c1,
        "0000003a000000040000000000000006000000000000000d0000000000000000010000000000000000022f62000000020000000000ffffffff01ffffffff",
    );

    // re-attachment on a new connection closes the old one
    let c3 = w.dial();
    send(
        &mut w,
        c3,
        "0000002d0000000000000000000000060000271001000012345600000000001028dca4e895de729d466f3f4d668d25c000",
    );
    expect(&mut w, c3, "00000025000000000000271001000012345600000000001028dca4e895de729d466f3f4d668d25c000");
    assert!(w.closed.contains(&c1));

    // setWatches2 with a catch-up event
    send(
        &mut w,
        c3,
        "0000003cfffffff800000069000000000000000300000001000000022f6100000001000000022f650000000000000001000000022f7000000001000000022f72",
    );
    expect(
        &mut w,
        c3,
        "0000001effffffffffffffffffffffff000000000000000300000003000000022f61 00000010fffffff8000000000000000600000000",
    );

    // addauth, and an error reply
    send(&mut w, c3, "00000020fffffffc00000064000000000000000664696765737400000006626f623a7077");
    expect(&mut w, c3, "00000010fffffffc000000000000000000000000");
    send(&mut w, c3, "000000100000000100000003000000032f7a7a00");
    expect(&mut w, c3, "00000010000000010000000000000006ffffff9b");

    // create2, ephemeral sequential, null data, scheme auth
    send(
        &mut w,
        c3,
        "0000002d000000020000000f000000052f612f6e2dffffffff000000010000001f00000004617574680000000000000003",
    );
    expect(
        &mut w,
        c3,
        "00000067000000020000000000000007000000000000000f2f612f6e2d30303030303030303030000000000000000700000000000000070000018bcfe56be80000018bcfe56be8000000000000000000000000010000123456000000000000000000000000000000000007",
    );

    // multiRead
    send(
        &mut w,
        c3,
        "0000004200000003000000160000000400ffffffff000000022f61000000000800ffffffff000000032f7a7a000000000800ffffffff000000022f6100ffffffff01ffffffff",
    );
    expect(
        &mut w,
        c3,
        "000000970000000300000000000000070000000000000004000000000000000003627965000000000000000200000000000000040000018bcfe568000000018bcfe56be80000000100000001000000000000000000000000000000030000000100000000 00000007ffffffff00ffffff9bffffff9b000000080000000000000000010000000c6e2d30303030303030303030ffffffff01ffffffff",
    );

    // closeSession, then the dead session, then an unknown operation
    send(&mut w, c3, "0000000800000004fffffff5");
    expect(&mut w, c3, "0000001000000004000000000000000800000000");
    assert!(w.closed.contains(&c3));
    let c4 = w.dial();
    send(
        &mut w,
        c4,
        "0000002d0000000000000000000000080000271001000012345600000000001028dca4e895de729d466f3f4d668d25c000",
    );
    expect(&mut w, c4, "0000002500000000000000000000000000000000000000100000000000000000000000000000000000");
    assert!(w.closed.contains(&c4));
    send(&mut w, c2, "000000080000000100000063");
    expect(&mut w, c2, "0000001000000001fffffffffffffffffffffffa");
    assert!(w.closed.contains(&c2));
    w.step(Input::ClientDown { conn: c4 });
}
