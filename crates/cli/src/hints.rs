//! What to do about a failure, in the words of the command line: libraries speak of their own methods.

use farrier_client::{Error, ErrorCode};

/// The libraries' names of what is an option here, and that option.
const FLAGS: [(&str, &str); 2] = [
    ("ClientBuilder::request_max here", "--request-max here"),
    ("ClientBuilder::allow_read_only was not given", "this command wants one that takes writes"),
];

/// An error as a message: with options where a library named methods, and with each address once.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let text = in_flags(&format!("{error:#}"));
    match client_error(error) {
        Some(Error::NoServer { servers, reason }) => text.replace(&**reason, &once(reason, servers)),
        _ => text,
    }
}

fn in_flags(message: &str) -> String {
    FLAGS.iter().fold(message.to_owned(), |message, (method, flag)| message.replace(method, flag))
}

/// Why there is no session, without what was said a moment before: every layer names the server.
pub(crate) fn once(reason: &str, servers: &str) -> String {
    let part = |part: &str| {
        let mut words: Vec<&str> = part.split(": ").collect();
        words.dedup();
        if words.first() == Some(&servers) {
            words.remove(0);
        }
        words.join(": ")
    };
    reason.split("; ").map(part).collect::<Vec<_>>().join("; ")
}

/// What to do next.
pub(crate) fn next_step(error: &anyhow::Error) -> Option<String> {
    match client_error(error)? {
        silent @ Error::NoServer { servers, .. } if silent.is_turned_away() => {
            let servers = servers.split('/').next().unwrap_or_default();
            Some(format!(
                "A server is there and gives no session, perhaps since it has no quorum, or too many connections from here. At \
                 ports without TLS, `farrier status --server {servers}` tells whether it has a quorum"
            ))
        }
        Error::NoServer { .. } => Some("Is a server running there? --server or FARRIER_SERVER names others".to_owned()),
        Error::NotDone { .. } => Some(
            "Is a server running there, and has it a quorum? At ports without TLS, `farrier status` with the same --server \
             shows that"
                .to_owned(),
        ),
        Error::ConnectString(error) => bracketed(&error.to_string()),
        Error::Invalid { path, .. } if !path.starts_with('/') && !path.is_empty() => {
            Some(format!("Paths begin with a slash: /{path}"))
        }
        refused @ Error::Refused { path, .. } if refused.is_no_node() && path == "/" => Some(
            "/ is what stands behind the slash in --server, and that is not there: `farrier create -p /` makes it".to_owned(),
        ),
        refused @ Error::Refused { op, path, .. } if refused.is_no_node() => {
            let parent = match path.rsplit_once('/') {
                Some(("", _)) | None => "/",
                Some((parent, _)) => parent,
            };
            Some(match *op {
                "set" => {
                    format!("`farrier create {path}` makes it; `farrier ls {parent}` shows whether it has another name")
                }
                "create" => format!("`farrier create -p {parent}` makes what is missing above {path}"),
                _ => format!("`farrier ls {parent}` shows whether {path} has another name"),
            })
        }
        Error::Refused { op: "delete", path, code: ErrorCode::BadArguments, .. } => reserved(path),
        Error::Refused { code: ErrorCode::InvalidAcl, .. } => Some(
            "If the list has an entry auth::, that stands for the identities of this session, which --auth-file or --auth give; \
             without one it stands for nobody"
                .to_owned(),
        ),
        _ => None,
    }
}

/// Why a server never deletes that.
fn reserved(path: &str) -> Option<String> {
    match path {
        "/" => Some("/ is the root of all, and always there".to_owned()),
        "/zookeeper" | "/zookeeper/config" | "/zookeeper/quota" => {
            Some(format!("{path} is reserved for what the servers keep themselves, and is never deleted"))
        }
        _ => None,
    }
}

/// What to write instead, if the connect string of which `message` complains has an IPv6 address without brackets.
pub(crate) fn bracketed(message: &str) -> Option<String> {
    // What was given stands in quotes before what was expected.
    let given = message.split('`').nth(1).unwrap_or_default();
    let bare = given.split([',', '/']).any(|server| !server.starts_with('[') && server.matches(':').count() > 1);
    bare.then(|| "An IPv6 address stands in brackets: [::1]:2181".to_owned())
}

fn client_error(error: &anyhow::Error) -> Option<&Error> {
    match error.downcast_ref::<farrier_recipes::Error>() {
        Some(farrier_recipes::Error::Client(error)) => Some(error),
        Some(_) => None,
        None => error.downcast_ref(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_become_options() {
        let said = in_flags("too long; raise jute.maxbuffer on the servers and ClientBuilder::request_max here");
        assert!(said.ends_with("--request-max here"), "{said}");
    }

    #[test]
    fn an_address_is_named_once() {
        assert_eq!(once("h:1: h:1: Connection refused (after 1s)", "h:1"), "Connection refused (after 1s)");
        assert_eq!(once("h:1: h:1: refused; h:2: refused", "h:1,h:2"), "h:1: refused; h:2: refused");
    }

    #[test]
    fn the_next_step_fits_the_failure() {
        let next = |error: Error| next_step(&anyhow::Error::new(error).context("somewhere"));
        let bare = "::1".parse::<farrier_client::ConnectString>().expect_err("no brackets");
        assert!(next(bare.into()).is_some_and(|hint| hint.contains("[::1]")));
        let other = "a:b".parse::<farrier_client::ConnectString>().expect_err("no port");
        assert_eq!(next(other.into()), None);
        let reason: std::sync::Arc<str> = "the path does not start with /".into();
        let path = Error::Invalid { op: "get", path: "a/b".to_owned(), reason };
        assert!(next(path).is_some_and(|hint| hint.ends_with(": /a/b")));
        assert_eq!(next(Error::Closed), None);
        let silent = |reason: &str| Error::NoServer { servers: "a:1,b:2/app".to_owned(), reason: reason.into() };
        assert!(
            next(silent("a:1: Connection refused")).is_some_and(|hint| hint.starts_with("Is a server running there?"))
        );
        let hint = next(silent("a:1: Connection refused; b:2: it took the connection and gave no session in time"));
        assert!(hint.is_some_and(|hint| hint.contains("`farrier status --server a:1,b:2`")));
        // A session that is lost was given before.
        let reason = "the connection to a:1 was lost: the server closed it".into();
        let lost = next(Error::NotDone { op: "get", path: "/".to_owned(), reason }).expect("a hint");
        assert!(lost.contains("has it a quorum?") && lost.contains("same --server") && !lost.contains("no session"));
    }
}
