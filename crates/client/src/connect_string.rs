//! Connect strings: `host1:2181,host2:2181/chroot`.

use crate::limits::SERVERS_MAX;
use farrier_proto::path;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

/// Port of servers that are named without one.
const PORT: u16 = 2181;

/// A server as the connect string names it. The name is resolved anew for every connection.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Host {
    /// Name or address literal, without brackets.
    pub name: Arc<str>,
    /// Port.
    pub port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

impl From<SocketAddr> for Host {
    fn from(address: SocketAddr) -> Self {
        Self { name: address.ip().to_string().into(), port: address.port() }
    }
}

impl FromStr for Host {
    type Err = ConnectStringError;

    /// `HOST[:PORT]`; 2181 without a port.
    fn from_str(text: &str) -> Result<Self, ConnectStringError> {
        let wrong = |reason: &str| ConnectStringError { text: text.to_owned(), reason: reason.to_owned() };
        if text.contains(['/', ',']) {
            return Err(wrong("one server is expected, without a path"));
        }
        host(text).map_err(|reason| wrong(&reason))
    }
}

/// A parsed connect string: at least one server, and the path under which the client lives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectString {
    /// In the order of the string; the client tries them in a random one.
    pub hosts: Vec<Host>,
    /// Empty, or an absolute path without a slash at its end.
    pub chroot: String,
}

/// A connect string that is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("connect string `{text}`: {reason}; expected HOST[:PORT][,HOST[:PORT]…][/CHROOT]")]
pub struct ConnectStringError {
    text: String,
    reason: String,
}

impl FromStr for ConnectString {
    type Err = ConnectStringError;

    fn from_str(text: &str) -> Result<Self, ConnectStringError> {
        let wrong = |reason: String| ConnectStringError { text: text.to_owned(), reason };
        let (servers, chroot) = text.split_at(text.find('/').unwrap_or(text.len()));
        if !chroot.is_empty() {
            path::validate(chroot).map_err(|rule| wrong(format!("the chroot {chroot} is no path: {rule}")))?;
        }
        let mut hosts = Vec::new();
        for part in servers.split(',').map(str::trim) {
            hosts.push(host(part).map_err(&wrong)?);
            if hosts.len() > SERVERS_MAX {
                return Err(wrong(format!("more than {SERVERS_MAX} servers")));
            }
        }
        Ok(Self { hosts, chroot: if chroot == "/" { String::new() } else { chroot.to_owned() } })
    }
}

fn host(text: &str) -> Result<Host, String> {
    let (name, rest) = match text.strip_prefix('[') {
        Some(text) => text.split_once(']').ok_or_else(|| format!("`[{text}` lacks a `]`"))?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(format!("`{text}` names no server"));
    }
    let port = match rest.strip_prefix(':') {
        Some(port) => port
            .parse()
            .ok()
            .filter(|&port| port > 0)
            .ok_or_else(|| format!("`{text}`: {port} is no port; an IPv6 address stands in brackets"))?,
        None if rest.is_empty() => PORT,
        None => return Err(format!("`{text}`: {rest} behind the address")),
    };
    Ok(Host { name: name.into(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> (Vec<String>, String) {
        let parsed: ConnectString = text.parse().unwrap_or_else(|e| panic!("{e}"));
        (parsed.hosts.iter().map(Host::to_string).collect(), parsed.chroot)
    }

    #[test]
    fn servers_and_chroot() {
        assert_eq!(shown("a"), (vec!["a:2181".into()], String::new()));
        assert_eq!(shown("a:1, b:2/x/y"), (vec!["a:1".into(), "b:2".into()], "/x/y".into()));
        assert_eq!(shown("a/"), (vec!["a:2181".into()], String::new()));
        assert_eq!(shown("[::1]:7,[fe80::1]"), (vec!["[::1]:7".into(), "[fe80::1]:2181".into()], String::new()));
    }

    #[test]
    fn one_server() {
        let one = |text: &str| text.parse::<Host>();
        assert_eq!(one("[::1]").map(|h| h.to_string()), Ok("[::1]:2181".to_owned()));
        for text in ["", "a,b", "a/b", "a:0", "::1"] {
            one(text).expect_err(text);
        }
    }

    #[test]
    fn what_is_refused_and_why() {
        for (text, why) in [
            ("", "names no server"),
            ("/a", "names no server"),
            ("a,", "names no server"),
            ("a:0", "0 is no port"),
            ("a:x", "x is no port"),
            ("::1", "names no server"),
            ("fe80::1", "in brackets"),
            ("[::1", "lacks a `]`"),
            ("[::1]1", "behind the address"),
            ("a/b/", "ends with /"),
            ("a//b", "empty component"),
        ] {
            let error = text.parse::<ConnectString>().expect_err(text).to_string();
            assert!(error.contains(why) && error.contains("expected HOST"), "{text}: {error}");
        }
    }
}
