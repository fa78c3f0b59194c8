//! The four-letter words, whose texts scripts read: their shape, line by line. Numbered from 951, since the list
//! of cases has only their framing. In a shape every number is `N`, a session or zxid `0xN`.

use crate::case::{Case, Ctx, Lane, Profile, list, yes};
use crate::raw::{Client, Conn, four_letter_word};
use anyhow::{Context as _, Result, bail};

/// The keys of `mntr` on a lone server that scripts depend on most, in the order in which Farrier has them.
const CLASSIC: [&str; 17] = [
    "zk_version",
    "zk_server_state",
    "zk_avg_latency",
    "zk_min_latency",
    "zk_max_latency",
    "zk_packets_received",
    "zk_packets_sent",
    "zk_num_alive_connections",
    "zk_outstanding_requests",
    "zk_znode_count",
    "zk_watch_count",
    "zk_ephemerals_count",
    "zk_approximate_data_size",
    "zk_open_file_descriptor_count",
    "zk_max_file_descriptor_count",
    "zk_uptime",
    "zk_global_sessions",
];

/// The shape of a text, its lines joined by `|`.
fn shape(text: &str) -> String {
    let text = text.replace("127.0.0.1", "IP");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(c) = rest.chars().next() {
        let digits = |s: &str, hex: bool| {
            s.bytes().take_while(|b| if hex { b.is_ascii_hexdigit() } else { b.is_ascii_digit() }).count()
        };
        if let Some(hex) = rest.strip_prefix("0x").filter(|hex| digits(hex, true) > 0) {
            out.push_str("0xN");
            rest = &hex[digits(hex, true)..];
        } else if c.is_ascii_digit() {
            out.push('N');
            rest = &rest[digits(rest, false)..];
        } else {
            out.push(if c == '\n' { '|' } else { c });
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// The same behind the version, which is another one on every server.
fn status(t: &Ctx<'_>, word: &str) -> Result<String> {
    let text = four_letter_word(t.addr(), word)?;
    let (version, rest) = text.split_once('\n').context("a first line")?;
    let Some(number) = version.strip_prefix("Zookeeper version: 3.9.") else { bail!("it begins with {version}") };
    // What probes cut out, and how the line ends.
    let Some((_, built)) = number.split_once('-').and_then(|(_, rest)| rest.split_once(", built on ")) else {
        bail!("no version and date: {version}")
    };
    Ok(format!("3.9.N-, built on {}|{}", shape(built), shape(rest)))
}

/// Keys of `key=value` lines, and the values that are the same on every server.
fn keys(text: &str) -> String {
    let pair = |line: &str| match line.split_once('=') {
        Some((key @ ("secureClientPort" | "clientPortListenBacklog" | "serverId"), value)) => format!("{key}={value}"),
        Some((key, value)) if value.ends_with("/version-2") => format!("{key}=DIR/version-2"),
        Some((key, _)) => key.to_owned(),
        None => line.to_owned(),
    };
    list(text.lines().map(pair))
}

/// Lists without their order.
fn sorted<'a>(lines: impl IntoIterator<Item = &'a str>) -> String {
    let mut lines: Vec<&str> = lines.into_iter().collect();
    lines.sort_unstable();
    lines.join(" ")
}

/// A dump's sets: how many entries they have, whether their heads tell that number, and the entries.
fn sets(lines: &[&str]) -> Result<String> {
    let (mut told, mut entries) = (0, Vec::new());
    for line in lines {
        match line.split_once(" expire at ") {
            Some((n, date)) => {
                // Weekday, month, day, time, zone, year.
                let words: Vec<&str> = date.trim_end_matches(':').split(' ').collect();
                if words.len() != 6 || words[3].split(':').count() != 3 || !date.ends_with(':') {
                    bail!("no date: {line}");
                }
                told += n.parse::<usize>()?;
            }
            None => entries.push(line.trim_start_matches('\t')),
        }
    }
    let shapes: Vec<String> = entries.iter().map(|e| shape(e)).collect();
    Ok(format!("{} told {}: {}", entries.len(), yes(told == entries.len()), shapes.join(", ")))
}

/// What telnet sends when it is interrupted.
const TELNET: &[u8] = &[0xff, 0xf4, 0xff, 0xfd];

/// The answer to bytes that are more than a word, or no text.
fn bytes(t: &Ctx<'_>, bytes: &[u8]) -> Result<String> {
    let mut conn = Conn::open(t.addr())?;
    conn.send(bytes)?;
    Ok(String::from_utf8_lossy(&conn.to_end()?).into_owned())
}

/// The client's session as texts write it.
fn id(c: &Client) -> String {
    format!("{:#x}", c.session)
}

pub(super) const CASES: &[Case] = &[
    Case::new(
        951,
        Profile::D,
        "srvr",
        "3.9.N-, built on N-N-N N:N UTC|Latency min/avg/max: N/N.N/N|Received: N|Sent: N|Connections: N|Outstanding: N|\
         Zxid: 0xN|Mode: standalone|Node count: N|",
        |t| {
            t.client()?.z()?;
            status(t, "srvr")
        },
    ),
    Case::new(
        952,
        Profile::D,
        "stat beside one client",
        "3.9.N-, built on N-N-N N:N UTC|Clients:| /IP:N[N](queued=N,recved=N,sent=N)| \
         /IP:N[N](queued=N,recved=N,sent=N)||Latency min/avg/max: N/N.N/N|Received: N|Sent: N|Connections: N|\
         Outstanding: N|Zxid: 0xN|Mode: standalone|Node count: N|",
        |t| {
            let mut c = t.client()?;
            c.z()?;
            status(t, "stat")
        },
    )
    .lane(Lane::Own),
    Case::new(
        953,
        Profile::D,
        "cons beside one client",
        " /IP:N[N](queued=N,recved=N,sent=N) | \
         /IP:N[N](queued=N,recved=N,sent=N,sid=0xN,lop=GETD,est=N,to=N,lcxid=0xN,lzxid=0xN,lresp=N,llat=N,minlat=N,\
         avglat=N,maxlat=N) and an empty line; its own sid, to=10000",
        |t| {
            let mut c = t.client()?;
            c.get("/", false)?.ok()?;
            let text = four_letter_word(t.addr(), "cons")?;
            let mut lines: Vec<&str> = text.lines().collect();
            let empty = if lines.pop() == Some("") { "an empty line" } else { "no empty line" };
            lines.sort_unstable_by_key(|line| line.len());
            let own = text.contains(&format!("sid={},", id(&c)));
            let shapes: Vec<String> = lines.iter().map(|line| shape(line)).collect();
            let timeout = if text.contains(",to=10000,") { "10000" } else { "another" };
            let sid = if own { "its own sid" } else { "another sid" };
            Ok(format!("{} and {empty}; {sid}, to={timeout}", shapes.join(" |")))
        },
    )
    .lane(Lane::Own),
    Case::new(
        954,
        Profile::D,
        "conf and dirs",
        "clientPort, secureClientPort=-1, dataDir=DIR/version-2, dataDirSize, dataLogDir=DIR/version-2, dataLogSize, \
         tickTime, maxClientCnxns, minSessionTimeout, maxSessionTimeout, clientPortListenBacklog=-1, serverId=0; \
         datadir_size: N|logdir_size: N|",
        |t| {
            let conf = four_letter_word(t.addr(), "conf")?;
            Ok(format!("{}; {}", keys(&conf), shape(&four_letter_word(t.addr(), "dirs")?)))
        },
    ),
    Case::new(
        955,
        Profile::D,
        "envi",
        "Environment:, zookeeper.version, host.name, java.version, java.vendor, java.home, java.class.path, \
         java.library.path, java.io.tmpdir, java.compiler, os.name, os.arch, os.version, user.name, user.home, user.dir, \
         os.memory.free, os.memory.max, os.memory.total",
        |t| Ok(keys(&four_letter_word(t.addr(), "envi")?)),
    ),
    Case::new(
        956,
        Profile::D,
        "dump beside one client with an ephemeral",
        "SessionTracker dump: Session Sets (N)/(1): 1 told yes: 0xN; ephemeral nodes dump: Sessions with Ephemerals (1): \
         0xN: p; Connections dump: Connections Sets (N)/(2): 2 told yes: ip: /IP:N sessionId: 0xN, ip: /IP:N sessionId: \
         0xN; its own session yes",
        |t| {
            let mut c = t.client()?;
            c.create_flags(t.base(), b"", 1)?.ok()?;
            let text = four_letter_word(t.addr(), "dump")?;
            let lines: Vec<&str> = text.lines().collect();
            let at = |head: &str| lines.iter().position(|l| *l == head).with_context(|| format!("no {head}"));
            let (nodes, connections) = (at("ephemeral nodes dump:")?, at("Connections dump:")?);
            let head = |line: &str| match line.split_once("Sets (") {
                Some((what, rest)) => {
                    let all = rest.split_once(")/(").map_or("", |(_, all)| all);
                    format!("{what}Sets (N)/({all}")
                }
                None => line.to_owned(),
            };
            let owned: Vec<String> =
                lines[nodes + 1..connections].iter().map(|l| shape_of_id(l.trim_start_matches('\t'))).collect();
            let own = text.contains(&format!("\t{}\n", id(&c))) && text.contains(&format!("sessionId: {}\n", id(&c)));
            Ok(format!(
                "{} {} {}; {} {}; {} {} {}; its own session {}",
                lines[0],
                head(lines[1]),
                sets(&lines[2..nodes])?,
                lines[nodes],
                t.short(&owned.join(" ")),
                lines[connections],
                head(lines[connections + 1]),
                sets(&lines[connections + 2..])?,
                yes(own)
            ))
        },
    )
    .lane(Lane::Own),
    Case::new(
        957,
        Profile::D,
        "wchs, wchc, wchp: getData p, exists p/n, persistent p/q, recursive p/r; getChildren p and p/c are not shown",
        "1 connections watching 4 paths|Total watches:4|; SID first: p p/n p/q p/r; p/n: SID p/q: SID p/r: SID p: SID; \
         an empty line behind both yes",
        |t| {
            let mut c = t.client()?;
            let p = t.p(&mut c)?;
            c.create(format!("{p}/c"), b"")?.ok()?;
            c.get(&p, true)?.ok()?;
            c.exists(format!("{p}/n"), true)?;
            c.add_watch(format!("{p}/q"), 0)?.ok()?;
            c.add_watch(format!("{p}/r"), 1)?.ok()?;
            c.children(&p, true)?.ok()?;
            c.children(format!("{p}/c"), true)?.ok()?;
            let count = four_letter_word(t.addr(), "wchs")?.replace('\n', "|");
            let by_session = t.short(&four_letter_word(t.addr(), "wchc")?).replace(&id(&c), "SID");
            let by_path = t.short(&four_letter_word(t.addr(), "wchp")?).replace(&id(&c), "SID");
            let empty = by_session.ends_with("\n\n") && by_path.ends_with("\n\n");
            let first = if by_session.starts_with("SID\n\t") { "SID first" } else { "something else first" };
            let paths = by_session.trim_end().lines().skip(1).map(|l| l.trim_start_matches('\t'));
            let pairs = by_path.trim_end().replace("\n\t", ": ");
            Ok(format!(
                "{count}; {first}: {}; {}; an empty line behind both {}",
                sorted(paths),
                sorted(pairs.lines()),
                yes(empty)
            ))
        },
    )
    .lane(Lane::Own),
    Case::new(
        958,
        Profile::D,
        "crst and srst",
        "\"Connection stats reset.\\n\", lop=NA and no lcxid; \"Server stats reset.\\n\", Received: 1",
        |t| {
            let mut c = t.client()?;
            c.get("/", false)?.ok()?;
            let crst = four_letter_word(t.addr(), "crst")?;
            let cons = four_letter_word(t.addr(), "cons")?;
            let reset = if cons.contains(",lop=NA,") { "lop=NA" } else { "another lop" };
            let cxid = if cons.contains("lcxid") { "an lcxid" } else { "no lcxid" };
            let srst = four_letter_word(t.addr(), "srst")?;
            let srvr = four_letter_word(t.addr(), "srvr")?;
            let count = srvr.lines().find(|l| l.starts_with("Received")).unwrap_or_default();
            Ok(format!("{crst:?}, {reset} and {cxid}; {srst:?}, {count}"))
        },
    )
    .lane(Lane::Own),
    Case::new(
        959,
        Profile::D,
        "mntr: the classic keys",
        "version and state first yes; missing: none; values as yes; in one order: no",
        |t| {
            t.client()?.z()?;
            let text = four_letter_word(t.addr(), "mntr")?;
            let rows: Vec<(&str, &str)> = text.lines().filter_map(|l| l.split_once('\t')).collect();
            let first = rows.first().is_some_and(|(key, value)| *key == "zk_version" && value.contains(", built on "))
                && rows.get(1) == Some(&("zk_server_state", "standalone"));
            let value = |key: &str| rows.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
            let missing: Vec<&str> = CLASSIC.into_iter().filter(|key| value(key).is_none()).collect();
            let missing = if missing.is_empty() { "none".to_owned() } else { list(missing) };
            // Integers but for the average, which has a point.
            let well_typed = CLASSIC[2..].iter().all(|key| match value(key) {
                Some(v) if *key == "zk_avg_latency" => v.contains('.') && v.parse::<f64>().is_ok(),
                Some(v) => v.parse::<i64>().is_ok(),
                None => false,
            });
            let order: Vec<&str> = rows.iter().map(|(key, _)| *key).filter(|key| CLASSIC.contains(key)).collect();
            Ok(format!(
                "version and state first {}; missing: {missing}; values as {}; in one order: {}",
                yes(first),
                yes(well_typed),
                yes(order == CLASSIC)
            ))
        },
    )
    .farrier(
        "version and state first yes; missing: none; values as yes; in one order: yes",
        "Apache's order is that of a hash table; scripts that read the first bytes only want the classic keys there",
    ),
    Case::new(
        960,
        Profile::D,
        "gtmk, stmk with 8 bytes, a word with a line end, telnet's hang-up",
        "306; 302; 302; \"imok\"; \"\"",
        |t| {
            let before = four_letter_word(t.addr(), "gtmk")?;
            let set = bytes(t, b"stmk\0\0\0\0\0\0\x01\x2e")?;
            let after = four_letter_word(t.addr(), "gtmk")?;
            bytes(t, b"stmk\0\0\0\0\0\0\x01\x32")?;
            Ok(format!(
                "{before}; {set}; {after}; {:?}; {:?}",
                bytes(t, b"ruok\r\n")?,
                bytes(t, TELNET)?
            ))
        },
    ),
    Case::new(
        961,
        Profile::M,
        "the default whitelist: every word but srvr, telnet's hang-up too",
        "only srvr is answered",
        |t| {
            let words = [
                "ruok", "stat", "mntr", "isro", "conf", "cons", "dump", "dirs", "envi", "wchs", "wchc", "wchp", "crst",
                "srst", "hash", "gtmk",
            ];
            let mut answered = Vec::new();
            for word in words {
                if four_letter_word(t.addr(), word)? != format!("{word} is not executed because it is not in the whitelist.\n") {
                    answered.push(word);
                }
            }
            if bytes(t, TELNET)? != "telnet close is not executed because it is not in the whitelist.\n" {
                answered.push("telnet");
            }
            if four_letter_word(t.addr(), "srvr")?.contains("Mode: standalone\n") {
                answered.push("srvr");
            }
            Ok(format!("only {} is answered", answered.join(" and ")))
        },
    ),
];

/// A line of ephemerals: a session as `0xN:`, or a path.
fn shape_of_id(line: &str) -> String {
    if line.starts_with("0x") { shape(line) } else { line.to_owned() }
}
