//! The operator's files follow a reconfiguration, as Apache's servers let them.
//!
//! `<file>.dynamic.<version>` gets the members; then the main file loses what it said of them and names that file
//! instead. Each is written under a temporary name, synced, renamed, and the directory synced, so that a crash leaves
//! the old file or the new one. Unlike Apache, everything else in the main file stays as the operator wrote it, and what
//! it was before the first change stays as `<file>.bak`.
//!
//! A thread of its own does it: the directory may be anywhere, and nobody waits for it. If it fails, or comes too late
//! for a crash, the next start finds the reconfiguration in the log.

use crate::config::properties;
use crate::core::Core;
use farrier_proto::ServerId;
use farrier_proto::membership::MemberList;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// How often the thread looks whether the server closes.
const LOOK: Duration = Duration::from_millis(500);

/// The newest configuration that is in force and not in the files yet.
#[derive(Debug, Default)]
pub(crate) struct Activations {
    newest: Mutex<Option<Box<MemberList>>>,
    filled: Condvar,
}

impl Activations {
    /// A newer one takes the place of one that is not written yet.
    pub(crate) fn put(&self, list: Box<MemberList>) {
        *self.newest.lock().expect("nothing panics while it holds this lock") = Some(list);
        self.filled.notify_one();
    }

    fn take(&self) -> Option<Box<MemberList>> {
        let newest = self.newest.lock().expect("nothing panics while it holds this lock");
        let (mut newest, _) = self
            .filled
            .wait_timeout_while(newest, LOOK, |list| list.is_none())
            .expect("nothing panics while it holds this lock");
        newest.take()
    }
}

/// Lets the files follow until the server closes.
pub(crate) fn run(core: &Core, activations: &Activations, files: &ConfigFiles) {
    loop {
        if let Some(list) = activations.take() {
            files.follow(&list);
        } else if core.is_closing() {
            return;
        }
    }
}

/// The files of one server.
#[derive(Debug)]
pub(crate) struct ConfigFiles {
    /// As it was named at the start, made absolute.
    main: PathBuf,
    me: ServerId,
}

/// What could not be done.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}: {why}", path.display())]
pub(crate) struct FileError {
    what: &'static str,
    path: PathBuf,
    why: String,
}

impl ConfigFiles {
    pub(crate) fn new(main: &Path, me: ServerId) -> Self {
        // Without a current directory the name has to do as it is.
        Self { main: std::path::absolute(main).unwrap_or_else(|_| main.to_owned()), me }
    }

    fn follow(&self, list: &MemberList) {
        let version = list.version;
        match self.write(list) {
            Ok(dynamic) => tracing::info!(
                "configuration {version:x} stands in {}, and {} names it",
                dynamic.display(),
                self.main.display()
            ),
            Err(error) => tracing::error!(
                "configuration {version:x} is in force, and the files do not say so: {error}. Let {} name a file {} with these lines:\n{}",
                self.main.display(),
                self.dynamic(version).display(),
                list.file_text()
            ),
        }
    }

    fn dynamic(&self, version: u64) -> PathBuf {
        with_suffix(&self.main, &format!("dynamic.{version:x}"))
    }

    /// The members first, then the file that names them.
    fn write(&self, list: &MemberList) -> Result<PathBuf, FileError> {
        let dynamic = self.dynamic(list.version);
        replace(&dynamic, list.file_text().as_bytes(), None)?;
        // A link stays one; what it names is changed.
        let main = fs::canonicalize(&self.main).map_err(failed("find", &self.main))?;
        let before = fs::read(&main).map_err(failed("read", &main))?;
        let own = list.get(self.me);
        let own_ports = OwnPorts {
            client: own.is_some_and(|m| m.client.is_some()),
            secure: own.is_some_and(|m| m.secure_client.is_some()),
        };
        let after = rewritten(&before, &dynamic, own_ports).map_err(|why| FileError {
            what: "change",
            path: main.clone(),
            why,
        })?;
        if after != before {
            let permissions = fs::metadata(&main).map_err(failed("read", &main))?.permissions();
            let backup = with_suffix(&main, "bak");
            if !backup.exists() {
                replace(&backup, &before, Some(&permissions))?;
            }
            replace(&main, &after, Some(&permissions))?;
        }
        self.forget_next(list.version)?;
        Ok(dynamic)
    }

    /// Apache keeps what was proposed last in a file, until it is in force.
    pub(crate) fn next(&self) -> Result<Option<Vec<u8>>, FileError> {
        let next = self.next_path();
        match fs::read(&next) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &next)(error)),
        }
    }

    fn next_path(&self) -> PathBuf {
        with_suffix(&self.main, "dynamic.next")
    }

    fn forget_next(&self, version: u64) -> Result<(), FileError> {
        let old = self.next()?.is_some_and(|text| MemberList::version_of(&text) <= version);
        let next = self.next_path();
        if old {
            fs::remove_file(&next).and_then(|()| sync_directory(&next)).map_err(failed("remove", &next))?;
        }
        Ok(())
    }
}

/// Which of this server's own addresses for clients its line among the members has. What the line lacks, only the main
/// file says.
#[derive(Clone, Copy)]
struct OwnPorts {
    client: bool,
    secure: bool,
}

/// The main file without what it says of the members, and with the name of the file that says it now.
fn rewritten(text: &[u8], dynamic: &Path, own: OwnPorts) -> Result<Vec<u8>, String> {
    let name = dynamic.to_str().ok_or("its name is no UTF-8 text")?;
    let goes = |key: &str| {
        key.starts_with("server.")
            || key.starts_with("group")
            || key.starts_with("weight")
            || key.starts_with("dynamicConfigFile")
            || key.starts_with("peerType")
            // No prefix, unlike Apache: `clientPortListenBacklog` stands in no line.
            || (own.client && matches!(key, "clientPort" | "clientPortAddress"))
            || (own.secure && matches!(key, "secureClientPort" | "secureClientPortAddress"))
    };
    let mut out = properties::without(text, goes).map_err(|e| format!("line {}: {}", e.line, e.message))?;
    if !out.is_empty() && !out.ends_with(b"\n") {
        out.push(b'\n');
    }
    out.extend_from_slice(format!("dynamicConfigFile={}\n", properties::escaped(name)).as_bytes());
    Ok(out)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

fn failed<'a>(what: &'static str, path: &'a Path) -> impl Fn(io::Error) -> FileError + 'a {
    move |error| FileError { what, path: path.to_owned(), why: error.to_string() }
}

/// Temporary name, sync, rename, sync of the directory.
fn replace(path: &Path, bytes: &[u8], permissions: Option<&fs::Permissions>) -> Result<(), FileError> {
    let fresh = with_suffix(path, "tmp");
    let written = OpenOptions::new().write(true).create(true).truncate(true).open(&fresh).and_then(|mut file| {
        if let Some(permissions) = permissions {
            file.set_permissions(permissions.clone())?;
        }
        file.write_all(bytes)?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| fs::rename(&fresh, path)).and_then(|()| sync_directory(path));
    renamed.map_err(failed("write", path))
}

fn sync_directory(of: &Path) -> io::Result<()> {
    of.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, load};

    const LINES: &str = "server.1=127.0.0.1:2888:3888:participant;127.0.0.1:2181\n\
                         server.2=127.0.0.1:2889:3889:participant;127.0.0.1:2182\n\
                         server.3=127.0.0.1:2890:3890:participant\n";

    fn list(version: u64, lines: &str) -> MemberList {
        MemberList::parse(format!("{lines}version={version:x}").as_bytes()).expect("a list")
    }

    struct Place {
        dir: tempfile::TempDir,
        main: PathBuf,
    }

    impl Place {
        fn new(text: &str) -> Self {
            let dir = tempfile::tempdir().expect("a temporary directory");
            fs::write(dir.path().join("myid"), "1\n").expect("written");
            let main = dir.path().join("zoo.cfg");
            fs::write(&main, text.replace("DIR", &dir.path().display().to_string())).expect("written");
            Self { dir, main }
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.dir.path().join(name)).expect("a file")
        }

        fn write(&self, list: &MemberList) {
            ConfigFiles::new(&self.main, ServerId(1)).write(list).expect("written");
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.dir.path()).expect("a directory");
            let mut names: Vec<_> =
                entries.map(|e| e.expect("an entry").file_name().into_string().expect("text")).collect();
            names.sort();
            names
        }
    }

    const MAIN: &str = "# The ensemble of the shop.\ntickTime=2000\ndataDir=DIR\nclientPort=2181\r\ninitLimit = 10\n\
                        syncLimit=5\nserver.1=127.0.0.1:2888:3888\nserver.2=127.0.0.1:2889:\\\n  3889\n\
                        \nserver.3=127.0.0.1:2890:3890\nreconfigEnabled=true\npeerType=participant";

    #[test]
    fn the_members_get_a_file_and_the_main_file_names_it() {
        let place = Place::new(MAIN);
        let before = place.read("zoo.cfg");
        let first = list(0x1_0000_0000, LINES);
        place.write(&first);
        let dynamic = place.main.with_file_name("zoo.cfg.dynamic.100000000");
        assert_eq!(
            place.read("zoo.cfg"),
            format!(
                "# The ensemble of the shop.\ntickTime=2000\ndataDir={}\ninitLimit = 10\nsyncLimit=5\n\nreconfigEnabled=true\ndynamicConfigFile={}\n",
                place.dir.path().display(),
                dynamic.display()
            )
        );
        assert_eq!(place.read("zoo.cfg.dynamic.100000000"), LINES.trim_end());
        assert_eq!(place.read("zoo.cfg.bak"), before);

        let loaded = load(&place.main, &Overrides::default()).expect("the next start reads it");
        let ensemble = loaded.config.ensemble.expect("members");
        assert_eq!(ensemble.list(), first);
        assert_eq!(loaded.config.client.port, 2181, "from this server's own line");

        // The next one: the older file stays, as in Apache.
        let two = LINES.lines().take(2).map(|l| format!("{l}\n")).collect::<String>();
        place.write(&list(0x2_0000_0005, &two));
        place.write(&list(0x2_0000_0005, &two));
        assert_eq!(
            place.names(),
            ["myid", "zoo.cfg", "zoo.cfg.bak", "zoo.cfg.dynamic.100000000", "zoo.cfg.dynamic.200000005"]
        );
        assert_eq!(place.read("zoo.cfg.bak"), before, "what the operator wrote");
        let loaded = load(&place.main, &Overrides::default()).expect("the next start reads it");
        assert_eq!(loaded.config.ensemble.expect("members").version, 0x2_0000_0005);
    }

    #[test]
    fn the_client_port_stays_where_no_line_has_one() {
        let place = Place::new(MAIN);
        place.write(&list(7, &LINES.replace(";127.0.0.1:2181", "")));
        assert!(place.read("zoo.cfg").contains("\nclientPort=2181\r\n"), "{}", place.read("zoo.cfg"));
        let loaded = load(&place.main, &Overrides::default()).expect("the next start reads it");
        assert_eq!(loaded.config.client.port, 2181);
    }

    #[test]
    fn the_secure_port_and_the_backlog_stay_where_no_line_has_them() {
        let others = "\nsecureClientPort=2281\nsecureClientPortAddress=10.0.0.1\nclientPortListenBacklog=200\n";
        let main = MAIN.replace("\ninitLimit", &format!("\nclientPortAddress=127.0.0.1{others}initLimit"));
        let place = Place::new(&main);
        place.write(&list(7, LINES));
        let text = place.read("zoo.cfg");
        assert!(
            text.contains(others) && !text.contains("\nclientPort=") && !text.contains("\nclientPortAddress="),
            "{text}"
        );

        let place = Place::new(&main);
        place.write(&list(7, &LINES.replace(";127.0.0.1:2181", ";;127.0.0.1:2281")));
        let text = place.read("zoo.cfg");
        assert!(text.contains("\nclientPort=2181") && text.contains("\nclientPortAddress=127.0.0.1\n"), "{text}");
        assert!(!text.contains("secureClientPort") && text.contains("\nclientPortListenBacklog=200\n"), "{text}");
    }

    #[test]
    fn what_was_proposed_is_forgotten_once_it_is_in_force() {
        let place = Place::new(MAIN);
        let next = place.main.with_file_name("zoo.cfg.dynamic.next");
        fs::write(&next, list(8, LINES).text()).expect("written");
        place.write(&list(7, LINES));
        assert!(next.exists());
        place.write(&list(8, LINES));
        assert!(!next.exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link_and_nobody_else_may_read_what_nobody_could() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = Place::new(MAIN);
        let real = place.dir.path().join("real.cfg");
        fs::rename(&place.main, &real).expect("renamed");
        fs::set_permissions(&real, fs::Permissions::from_mode(0o600)).expect("set");
        std::os::unix::fs::symlink(&real, &place.main).expect("linked");
        place.write(&list(7, LINES));
        assert!(fs::symlink_metadata(&place.main).expect("there").is_symlink());
        assert!(place.read("real.cfg").contains("zoo.cfg.dynamic.7\n"));
        for name in ["real.cfg", "real.cfg.bak"] {
            let mode = fs::metadata(place.dir.path().join(name)).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_main_file_that_cannot_be_changed_stays_as_it_is() {
        let place = Place::new(MAIN);
        fs::write(&place.main, "dataDir=\\u12\n").expect("written");
        let error = ConfigFiles::new(&place.main, ServerId(1)).write(&list(7, LINES)).expect_err("no text of Java's");
        assert!(error.to_string().contains("line 1"), "{error}");
        assert_eq!(place.read("zoo.cfg"), "dataDir=\\u12\n");
        assert!(!place.names().iter().any(|n| n.ends_with(".tmp") || n.ends_with(".bak")), "{:?}", place.names());
    }

    #[test]
    fn the_newest_configuration_takes_the_place_of_an_older_one() {
        let activations = Activations::default();
        activations.put(Box::new(list(7, LINES)));
        activations.put(Box::new(list(8, LINES)));
        assert_eq!(activations.take().expect("one").version, 8);
    }
}
