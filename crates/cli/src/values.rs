//! How values look: in lines for people, in JSON, and on the command line.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::builder::{TypedValueParser, ValueParserFactory};
use clap::error::ErrorKind;
use clap::{Arg, Command};
use farrier_proto::{Acl, Owner, Stat, Zxid, perms};
use serde_json::{Value, json};

/// Years beyond 9999 have no form that everybody reads.
const TIME_MAX_MS: u64 = 253_402_300_799_999;

/// Letters of permissions, in the order in which zkCli shows them.
const LETTERS: [(i32, char); 5] =
    [(perms::CREATE, 'c'), (perms::DELETE, 'd'), (perms::READ, 'r'), (perms::WRITE, 'w'), (perms::ADMIN, 'a')];

/// A zxid as `0x100000002`, or as epoch and counter, `1:2`. Bare digits could be meant either way.
pub(crate) fn parse_zxid(text: &str) -> Result<Zxid, String> {
    let wrong = || format!("`{text}`: expected a zxid as 0x100000002, or EPOCH:COUNTER as 1:2");
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return i64::from_str_radix(hex, 16).ok().filter(|z| *z >= 0).map(Zxid::from_wire).ok_or_else(wrong);
    }
    let (epoch, counter) = text.split_once(':').ok_or_else(wrong)?;
    match (epoch.parse(), counter.parse()) {
        (Ok(epoch), Ok(counter)) => Ok(Zxid::new(epoch, counter)),
        _ => Err(wrong()),
    }
}

/// Milliseconds since 1970 as a date and time of UTC; as they are where that has no date.
pub(crate) fn time(ms: i64) -> String {
    match u64::try_from(ms) {
        Ok(ms) if ms <= TIME_MAX_MS => {
            humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
        }
        Ok(_) | Err(_) => format!("{ms} ms"),
    }
}

/// 64 bits in hexadecimal, as sessions, owners and digests are shown.
pub(crate) fn hex(bits: i64) -> String {
    format!("{bits:#x}")
}

/// Text that shows what it is: characters that move the cursor, end the line or turn the direction of writing are
/// escaped, on terminals and in pipes.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// Whether a terminal does something else with it than to show it: control characters, separators of lines and
/// paragraphs, marks of direction, and what has no width.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Bytes in quotes: as the text that they are, the rest escaped.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => out.extend(['\\', c]),
                c if is_hidden(c) => out.extend(c.escape_default()),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

/// Bytes in JSON; null stays null.
pub(crate) fn base64(bytes: Option<&[u8]>) -> Value {
    bytes.map_or(Value::Null, |bytes| Value::from(STANDARD.encode(bytes)))
}

/// What is wrong with a line of JSON. Which line it is of its file, only whoever read it knows.
pub(crate) fn json_problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line 1 column ") {
        Some((what, column)) => format!("{what} (column {column})"),
        None => text,
    }
}

/// How many of something there are: `1 znode`, `2 znodes`.
pub(crate) fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// The length of data: null and empty are distinct.
pub(crate) fn length(data: Option<&[u8]>) -> String {
    match data.map(<[u8]>::len) {
        None => "no data".to_owned(),
        Some(n) => count(n as u64, "byte"),
    }
}

/// Permissions as letters; bits without meaning as a number.
pub(crate) fn permissions(bits: i32) -> String {
    let mut text: String = LETTERS.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, letter)| *letter).collect();
    let rest = bits & !perms::ALL;
    if rest != 0 {
        let _ = write!(text, "+{rest:#x}");
    }
    text
}

/// An ACL list as zkCli takes it: `scheme:id:permissions`, separated by commas.
pub(crate) fn acl(list: &[Acl<'_>]) -> String {
    let entry = |a: &Acl<'_>| format!("{}:{}:{}", plain(&a.scheme), plain(&a.id), permissions(a.perms));
    list.iter().map(entry).collect::<Vec<_>>().join(",")
}

/// An ACL list in JSON.
pub(crate) fn acl_json(list: &[Acl<'_>]) -> Value {
    list.iter().map(|a| json!({"scheme": a.scheme, "id": a.id, "perms": permissions(a.perms)})).collect()
}

/// An ACL list in JSON for whoever makes it again: nothing that the server told is left out or shown as something else,
/// whatever the identities and the bits are. What the server did not tell is for [`is_masked`].
pub(crate) fn acl_exact(list: &[Acl<'_>]) -> Value {
    list.iter().map(|a| json!({"scheme": a.scheme, "id": a.id, "perms": a.perms})).collect()
}

/// Whether a list has digests that the server kept to itself, since whoever asked may not administer the znode: all of them
/// are shown as an x then, and nobody has a password for that.
pub(crate) fn is_masked(list: &[Acl<'_>]) -> bool {
    let mut digests = list.iter().filter(|entry| entry.scheme == "digest").peekable();
    digests.peek().is_some() && digests.all(|entry| entry.id.ends_with(":x"))
}

/// An ACL list as [`acl`] shows it. An identity may hold colons: the scheme ends at the first one, the
/// permissions begin behind the last one. It can't hold a comma here. No message repeats what may be a password.
pub(crate) fn parse_acl(text: &str) -> Result<Vec<Acl<'static>>, String> {
    let entry = |(entry, number): (&str, usize)| {
        let scheme = entry.split(':').next().unwrap_or_default();
        let open = SCHEMES.contains(&scheme);
        let shown = if open { format!("entry {number}, {scheme}:…") } else { format!("entry {number}") };
        let form = || format!("{shown}: expected SCHEME:ID:PERMISSIONS, as in world:anyone:cdrwa");
        let (rest, letters) = entry.rsplit_once(':').ok_or_else(form)?;
        let (scheme, id) = rest.split_once(':').ok_or_else(form)?;
        let mut bits = 0;
        for letter in letters.chars() {
            let known = LETTERS.iter().find(|(_, known)| *known == letter).map(|(bit, _)| *bit);
            bits |= known.ok_or_else(|| {
                format!("{shown}: what stands behind the last colon are no permissions; there are c, d, r, w, a: cdrwa")
            })?;
        }
        if scheme.is_empty() || bits == 0 {
            return Err(form());
        }
        Ok(Acl { perms: bits, scheme: scheme.to_owned().into(), id: id.to_owned().into() })
    };
    text.split(',').zip(1..).map(entry).collect()
}

/// [`parse_acl`] for what somebody writes: refuses entries that nobody can match.
pub(crate) fn checked_acl(text: &str) -> Result<Vec<Acl<'static>>, String> {
    let list = parse_acl(text)?;
    match list.iter().find(|acl| acl.scheme == "digest" && !is_digest(&acl.id)) {
        Some(acl) => Err(no_digest(acl)),
        None => Ok(list),
    }
}

/// Schemes that servers know: none of them is somebody's password.
const SCHEMES: [&str; 7] = ["world", "auth", "digest", "ip", "x509", "sasl", "super"];

/// An ACL list as one value of the command line.
#[derive(Clone, Debug)]
pub(crate) struct AclList(pub(crate) Vec<Acl<'static>>);

impl ValueParserFactory for AclList {
    type Parser = AclParser;

    fn value_parser() -> AclParser {
        AclParser
    }
}

/// Reads an [`AclList`] as [`checked_acl`] does.
#[derive(Clone, Debug)]
pub(crate) struct AclParser;

impl TypedValueParser for AclParser {
    type Value = AclList;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<AclList, clap::Error> {
        guarded(command, arg, value, |text| checked_acl(text).map(AclList))
    }
}

/// Parses a value that no message may repeat as it is, since it may hold a password, or what a terminal would not show: the
/// parser of arguments would repeat one that is wrong.
pub(crate) fn guarded<T>(
    command: &Command,
    arg: Option<&Arg>,
    value: &OsStr,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, clap::Error> {
    let parsed = value.to_str().ok_or_else(|| "the value is no text".to_owned()).and_then(parse);
    parsed.map_err(|why| {
        let of = arg.map(|arg| format!("'{arg}': ")).unwrap_or_default();
        command.clone().error(ErrorKind::ValueValidation, format!("invalid value for {of}{why}"))
    })
}

/// Why nobody is let in by an entry with a password, and what to write instead.
fn no_digest(acl: &Acl<'_>) -> String {
    // Without a second colon it may be the password alone.
    let user = acl.id.split_once(':').map_or_else(|| "USER".to_owned(), |(user, _)| plain(user));
    let letters = permissions(acl.perms);
    format!(
        "nobody can be this digest: an ACL holds no password, but the hash of USER:PASSWORD. Write auth::{letters} and show \
         who you are: --auth-file FILE, with a line digest:USER:PASSWORD in FILE. Or write digest:{user}:HASH:{letters}, with \
         the HASH that `printf %s USER:PASSWORD | openssl dgst -sha1 -binary | base64` prints"
    )
}

/// Whether a client can show that it is this: a user and, in base64, a hash that some server makes.
fn is_digest(id: &str) -> bool {
    let hash = id.split_once(':').and_then(|(_, hash)| STANDARD.decode(hash).ok());
    hash.is_some_and(|hash| matches!(hash.len(), 16 | 20 | 28 | 32 | 48 | 64))
}

/// A stat in JSON, under the names of ZooKeeper's record.
pub(crate) fn stat_json(stat: &Stat) -> Value {
    json!({
        "czxid": stat.czxid.to_string(),
        "mzxid": stat.mzxid.to_string(),
        "pzxid": stat.pzxid.to_string(),
        "ctime": stat.ctime,
        "mtime": stat.mtime,
        "version": stat.version,
        "cversion": stat.cversion,
        "aversion": stat.aversion,
        "ephemeralOwner": hex(stat.ephemeral_owner),
        "dataLength": stat.data_length,
        "numChildren": stat.num_children,
    })
}

/// A stat, one field a line.
pub(crate) fn stat_lines(stat: &Stat) -> String {
    let owner = if stat.ephemeral_owner == 0 { "-".to_owned() } else { hex(stat.ephemeral_owner) };
    let fields = [
        ("czxid", stat.czxid.to_string()),
        ("mzxid", stat.mzxid.to_string()),
        ("pzxid", stat.pzxid.to_string()),
        ("ctime", time(stat.ctime)),
        ("mtime", time(stat.mtime)),
        ("version", stat.version.to_string()),
        ("cversion", stat.cversion.to_string()),
        ("aversion", stat.aversion.to_string()),
        ("ephemeralOwner", owner),
        ("dataLength", stat.data_length.to_string()),
        ("numChildren", stat.num_children.to_string()),
    ];
    fields.map(|(name, value)| format!("{name:<15} {value}")).join("\n")
}

/// What matters of a stat, on one line.
pub(crate) fn stat_line(stat: &Stat) -> String {
    let owner = match stat.ephemeral_owner {
        0 => String::new(),
        owner => format!(", ephemeral of {owner:#x}"),
    };
    let Stat { data_length, num_children, version, .. } = stat;
    format!("{data_length} bytes, version {version}, children {num_children}, {}{owner}", time(stat.mtime))
}

/// The kind of a stored znode, as its owner field tells.
pub(crate) fn owner(raw: i64) -> String {
    match Owner::decode(raw, true, false) {
        Some(Owner::Persistent) => "persistent".to_owned(),
        Some(Owner::Ephemeral(session)) => format!("ephemeral of {session}"),
        Some(Owner::Container) => "container".to_owned(),
        Some(Owner::Ttl(ms)) => format!("ttl {ms} ms"),
        None => format!("owner {raw:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zxids_are_read() {
        assert_eq!(parse_zxid("0x100000002"), Ok(Zxid::new(1, 2)));
        assert_eq!(parse_zxid("1:2"), Ok(Zxid::new(1, 2)));
        for wrong in ["", "12", "0x", "0xg", "1:", "1:x", "0xffffffffffffffff", "4294967296:1"] {
            parse_zxid(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn times_have_a_date_where_there_is_one() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(1_764_313_358_123), "2025-11-28T07:02:38.123Z");
        assert_eq!(time(-1), "-1 ms");
        assert!(time(i64::MAX).ends_with(" ms"));
        assert!(time(253_402_300_799_999).starts_with("9999"));
    }

    #[test]
    fn nothing_reaches_the_terminal_unescaped() {
        assert_eq!(plain("/a\u{1b}[2J\n"), "/a\\u{1b}[2J\\n");
        assert_eq!(plain("/\u{202e}cod.exe\u{2066}\u{200b}"), "/\\u{202e}cod.exe\\u{2066}\\u{200b}");
        assert_eq!(quoted("\u{202e}".as_bytes()), "\"\\u{202e}\"");
        assert_eq!(plain("/\u{e4}/\u{5d0}/\u{65e5}"), "/\u{e4}/\u{5d0}/\u{65e5}");
        assert_eq!(quoted(b"a\"\\\x00\xff\xc3\xa4\x1b"), "\"a\\\"\\\\\\u{0}\\xff\u{e4}\\u{1b}\"");
    }

    #[test]
    fn json_is_blamed_by_its_column_only() {
        let error = serde_json::from_str::<Value>("{\"a\": x}").expect_err("no JSON");
        assert_eq!(json_problem(&error), "expected value (column 7)");
    }

    #[test]
    fn acls_are_those_of_zkcli() {
        let list = [Acl::world(31), Acl { perms: 1, scheme: "ip".into(), id: "::1".into() }];
        assert_eq!(acl(&list), "world:anyone:cdrwa,ip:::1:r");
        assert_eq!(permissions(0x41), "r+0x40");
        assert_eq!(parse_acl("world:anyone:adcrw,ip:::1:r").as_deref(), Ok(&list[..]));
        assert_eq!(parse_acl("digest:u:h=:r").map(|a| a[0].id.to_string()), Ok("u:h=".to_owned()));
        for wrong in ["", "world:anyone", "world:anyone:", "world:anyone:x", ":a:r", "world:anyone:r,"] {
            parse_acl(wrong).expect_err(wrong);
        }
        assert_eq!(acl_json(&list[..1]), json!([{"scheme": "world", "id": "anyone", "perms": "cdrwa"}]));
    }

    #[test]
    fn no_message_repeats_a_password() {
        for text in
            ["digest:me:secret", "digest:secret:cdrwa", "digest:me:secret:cdrwa", "secret", "secret:me:x", "secret:r"]
        {
            let said = checked_acl(text).expect_err(text);
            assert!(!said.contains("secret"), "{text}: {said}");
        }
        assert!(checked_acl("digest:me:x:r").expect_err("no hash").contains("Or write digest:me:HASH:r"));
        assert!(
            checked_acl("world:anyone:r,ip:::1:z").expect_err("z").starts_with("entry 2, ip:…: what stands behind")
        );
    }

    #[test]
    fn an_acl_has_hashes_and_no_passwords() {
        assert!(is_digest("me:0DPiKuNIrrVmD8IUCuw1hQxNqZc="));
        assert!(!is_digest("me:password") && !is_digest("me") && !is_digest("me:cGFzc3dvcmQ="));
    }

    #[test]
    fn owners_tell_the_kind() {
        for (raw, text) in [
            (0, "persistent"),
            (7, "ephemeral of 0x7"),
            (i64::MIN, "container"),
            (Owner::Ttl(5).encode(), "ttl 5 ms"),
            (-7, "owner 0xfffffffffffffff9"),
        ] {
            assert_eq!(owner(raw), text);
        }
    }
}
