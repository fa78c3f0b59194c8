//! A session with an ensemble for the run of one command: where, as whom, for how long.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::builder::TypedValueParser;
use clap::{Arg, Args, Command};
use farrier_client::{Acl, Client, ClientTls, Error};
use farrier_recipes::Error as RecipeError;

use crate::command::{LOST, NOT_STARTED};
use crate::hints;
use crate::output::{FAILED, Failure, NO_SERVER, Out, USAGE, complain, conclude, conclude_as};
use crate::span::{self, HOUR, MS};
use crate::values::{AclList, guarded};

/// Most bytes of a file with credentials.
const AUTH_FILE_MAX: u64 = 64 << 10;

/// Who waits longer than this for a session is told why.
const PATIENCE: Duration = Duration::from_secs(1);

/// Options of every command that speaks to a server.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct SessionOptions {
    /// Servers to connect to; behind a slash, the path below which all others are looked for
    #[arg(long, env = "FARRIER_SERVER", value_name = "HOST:PORT,…[/PATH]", default_value = "127.0.0.1:2181")]
    server: String,

    /// Time for the connection, and again for every request: seconds, or with a unit as in `500ms`, `5m`
    #[arg(long, value_name = "TIME", default_value = "10", allow_hyphen_values = true, value_parser = span::seconds(MS, HOUR))]
    timeout: Duration,

    /// Time after which the servers give up on this client if they don't hear of it: seconds, or with a unit as in
    /// `500ms`, `5m`; the servers keep it within their limits
    #[arg(long, value_name = "TIME", default_value = "15", allow_hyphen_values = true, value_parser = span::seconds(MS, HOUR * 24))]
    session_timeout: Duration,

    /// Longest request that is sent; the servers' jute.maxbuffer has to allow it as well [default: 1048575]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1024..=67_108_864))]
    request_max: Option<u32>,

    #[command(flatten)]
    identities: IdentityOptions,

    /// Speak TLS, and trust servers whose certificate one of the CAs in this PEM file signed
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// Certificate chain to show to the servers, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key", requires = "tls_ca")]
    tls_cert: Option<PathBuf>,

    /// Private key of that certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

/// Options of every command that may have to say who it is.
#[derive(Clone, Debug, Args)]
pub(crate) struct IdentityOptions {
    /// File with identities, one `SCHEME:CREDENTIALS` a line, as in `digest:user:password`
    #[arg(long, env = "FARRIER_AUTH", value_name = "FILE")]
    auth_file: Option<PathBuf>,

    /// An identity (repeatable). Everybody on this machine can read it with `ps`: better use --auth-file
    #[arg(long, value_name = "SCHEME:CREDENTIALS", value_parser = IdentityParser)]
    auth: Vec<(String, String)>,
}

/// Who may do what with new znodes.
#[derive(Clone, Debug, Args)]
pub(crate) struct AclOption {
    /// Who may do what: `SCHEME:ID:PERMISSIONS`, separated by commas, with the letters of create, delete, read,
    /// write, admin [default: world:anyone:cdrwa]
    #[arg(long, value_name = "ACL")]
    acl: Option<AclList>,
}

impl AclOption {
    pub(crate) fn or_open(&self) -> Vec<Acl<'static>> {
        let given = self.given().map(<[_]>::to_vec);
        given.unwrap_or_else(|| vec![Acl::world(farrier_client::perms::ALL)])
    }

    pub(crate) fn given(&self) -> Option<&[Acl<'static>]> {
        self.acl.as_ref().map(|list| list.0.as_slice())
    }
}

/// Reads an identity of the command line.
#[derive(Clone, Debug)]
struct IdentityParser;

impl TypedValueParser for IdentityParser {
    type Value = (String, String);

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<Self::Value, clap::Error> {
        guarded(command, arg, value, parse_identity)
    }
}

fn parse_identity(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((scheme, credentials)) if !scheme.is_empty() => Ok((scheme.to_owned(), credentials.to_owned())),
        // The text may be a secret, so it isn't repeated.
        _ => Err("expected SCHEME:CREDENTIALS, as in digest:user:password".to_owned()),
    }
}

impl SessionOptions {
    /// The servers, as messages name them.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Whether connections are to be encrypted.
    pub(crate) const fn is_tls(&self) -> bool {
        self.tls_ca.is_some()
    }

    /// The path under which the servers know `path`.
    pub(crate) fn full_path(&self, path: &str) -> String {
        let chroot = self.server.find('/').map_or("", |at| &self.server[at..]).trim_end_matches('/');
        match path {
            "/" if !chroot.is_empty() => chroot.to_owned(),
            path => format!("{chroot}{path}"),
        }
    }

    /// The same with other servers.
    pub(crate) fn at(&self, server: &str) -> Self {
        Self { server: server.to_owned(), ..self.clone() }
    }

    /// A session. Whether another one follows it when it has expired is for those to say who live on.
    /// What is to be told meanwhile is told as of `command`.
    pub(crate) async fn connect(&self, command: &str, renew: bool) -> anyhow::Result<Client> {
        let mut builder = Client::builder(&self.server)
            .connect_timeout(self.timeout)
            .request_timeout(self.timeout)
            .session_timeout(self.session_timeout)
            .renew_session(renew);
        if let Some(max) = self.request_max.and_then(|max| usize::try_from(max).ok()) {
            builder = builder.request_max(max);
        }
        for (scheme, credentials) in self.identities.read(command)? {
            builder = builder.auth(&scheme, credentials);
        }
        if let Some(ca) = &self.tls_ca {
            let mut tls = ClientTls::new(ca.clone());
            if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
                tls = tls.identity(certificate.clone(), key.clone());
            }
            builder = builder.tls(tls);
        }
        let note = |reason: &str, left: Duration| {
            let (server, reason) = (&self.server, hints::once(reason, &self.server));
            let left = left.as_secs_f64().ceil();
            complain(
                &format!("farrier {command}"),
                format_args!("connecting to {server}: {reason}; trying for {left} s more"),
            );
        };
        Ok(builder.connect_noting(PATIENCE, note).await?)
    }
}

impl IdentityOptions {
    /// All of them, as scheme and credentials. What is to be told of the file is told as of `command`.
    pub(crate) fn read(&self, command: &str) -> anyhow::Result<Vec<(String, String)>> {
        let mut all = self.auth.clone();
        if let Some(file) = &self.auth_file {
            all.extend(read_identities(command, file)?);
        }
        Ok(all)
    }
}

/// The identities in a file: one a line; empty lines and those that begin with `#` count for nothing.
fn read_identities(command: &str, file: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let shown = file.display();
    let metadata = file.metadata().map_err(|error| Failure::usage(format!("--auth-file {shown}: {error}")))?;
    if metadata.len() > AUTH_FILE_MAX {
        return Err(Failure::usage(format!("--auth-file {shown}: longer than {AUTH_FILE_MAX} bytes")));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        complain(
            &format!("farrier {command}: warning"),
            format_args!("others may read {shown}, which has credentials: chmod 600 {shown}"),
        );
    }
    let text = fs::read_to_string(file).map_err(|error| Failure::usage(format!("--auth-file {shown}: {error}")))?;
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|(line, number)| {
            parse_identity(line).map_err(|why| Failure::usage(format!("--auth-file {shown}, line {number}: {why}")))
        })
        .collect()
}

/// Runs a command in a session of its own, which is closed behind it.
pub(crate) fn run(
    command: &str,
    options: &SessionOptions,
    work: impl AsyncFnOnce(&Client, &mut Out) -> anyhow::Result<u8>,
) -> ExitCode {
    conclude(command, within(command, options, false, work))
}

/// The same for a command that has something to read first: what is wrong with it is told whether or not a server is there.
pub(crate) fn run_with<T>(
    command: &str,
    options: &SessionOptions,
    ready: impl FnOnce() -> anyhow::Result<T>,
    work: impl AsyncFnOnce(&Client, &mut Out, T) -> anyhow::Result<u8>,
) -> ExitCode {
    let work = |ready| within(command, options, false, async |client, out| work(client, out, ready).await);
    conclude(command, ready().and_then(work))
}

/// The same as [`run`] for a command that goes on in a new session when one is lost.
pub(crate) fn run_renewing(
    command: &str,
    options: &SessionOptions,
    work: impl AsyncFnOnce(&Client, &mut Out) -> anyhow::Result<u8>,
) -> ExitCode {
    conclude(command, within(command, options, true, work))
}

/// Runs a command that runs another one. A new session follows one that has expired, and what fails by itself ends with
/// [`NOT_STARTED`].
pub(crate) fn run_command(
    command: &str,
    options: &SessionOptions,
    work: impl AsyncFnOnce(&Client) -> anyhow::Result<u8>,
) -> ExitCode {
    conclude_as(command, within(command, options, true, async |client, _| work(client).await), NOT_STARTED)
}

fn within(
    command: &str,
    options: &SessionOptions,
    renew: bool,
    work: impl AsyncFnOnce(&Client, &mut Out) -> anyhow::Result<u8>,
) -> anyhow::Result<u8> {
    runtime()?.block_on(async {
        let client = options.connect(command, renew).await?;
        let mut out = Out::open();
        let result = work(&client, &mut out).await;
        // What was printed before a failure is true.
        let flushed = out.flush();
        // If this is lost, the session ends by its timeout.
        let _ = client.close().await;
        result.and_then(|code| flushed.map(|()| code))
    })
}

/// What everything of one command runs on. The command itself runs on the thread that waits for it, and may be kept there
/// by whoever reads its output, or does not; what keeps its session alive has another thread.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.context("the event loop can't be made")
}

/// The exit code that an error of a client ends with.
pub(crate) const fn exit_code(error: &Error) -> u8 {
    match error {
        Error::Invalid { .. } | Error::ConnectString(_) | Error::Tls(_) => USAGE,
        Error::NoServer { .. } | Error::NotDone { .. } => NO_SERVER,
        _ => FAILED,
    }
}

/// The exit code that an error of a recipe ends with. A lock that is lost is a refusal: only whoever runs a command under
/// it has a code of its own for that.
pub(crate) const fn recipe_exit_code(error: &RecipeError) -> u8 {
    match error {
        RecipeError::Client(error) => exit_code(error),
        RecipeError::ClaimLost { .. } => LOST,
        RecipeError::Invalid { .. } => USAGE,
        _ => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_split_at_the_first_colon() {
        assert_eq!(parse_identity("digest:u:p:q"), Ok(("digest".into(), "u:p:q".into())));
        let secret = parse_identity("password").expect_err("no scheme");
        assert!(!secret.contains("`password`"), "{secret}");
    }
}
