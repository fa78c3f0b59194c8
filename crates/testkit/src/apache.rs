//! Apache ZooKeeper's newest 3.9 server, fetched from its Maven artifacts by Maven itself.
//!
//! Everything goes into a directory of tools that git ignores (`FARRIER_TOOLS`, by default
//! `.farrier-tools` in the workspace), Maven's own repository included, and is fetched once.

use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Releases tried, newest first, before giving up: a release may be listed before it is complete.
const TRIES_MAX: usize = 3;
/// The log binding; Apache's own choice would want a configuration file.
const SLF4J: &str = "2.0.13";

/// A fetched release.
#[derive(Clone, Debug)]
pub struct Apache {
    /// `3.9.x`.
    pub version: String,
    /// Directory of its jars.
    pub lib: PathBuf,
}

impl Apache {
    /// The newest release that is here already, or else the newest that Maven can fetch.
    pub fn newest() -> Result<Self> {
        let tools = tools_dir();
        let mut here: Vec<u32> = Vec::new();
        if let Ok(entries) = fs::read_dir(&tools) {
            for entry in entries {
                let name = entry?.file_name();
                if let Some(patch) = name.to_str().and_then(|n| n.strip_prefix("apache-zookeeper-3.9.")) {
                    here.extend(patch.parse::<u32>());
                }
            }
        }
        match here.into_iter().max() {
            Some(patch) => Ok(Self::at(&tools, &format!("3.9.{patch}"))),
            None => Self::fetch_newest(&tools),
        }
    }

    /// One release by its version, fetched unless it is here.
    pub fn release(version: &str) -> Result<Self> {
        let tools = tools_dir();
        fs::create_dir_all(&tools).with_context(|| format!("creating {}", tools.display()))?;
        let found = Self::at(&tools, version);
        if !found.lib.is_dir() {
            found.fetch(&tools)?;
        }
        Ok(found)
    }

    fn at(tools: &Path, version: &str) -> Self {
        Self { version: version.to_owned(), lib: tools.join(format!("apache-zookeeper-{version}")) }
    }

    fn fetch_newest(tools: &Path) -> Result<Self> {
        fs::create_dir_all(tools).with_context(|| format!("creating {}", tools.display()))?;
        let mut failures = String::new();
        for patch in listed(tools)?.into_iter().take(TRIES_MAX) {
            let found = Self::at(tools, &format!("3.9.{patch}"));
            match found.fetch(tools) {
                Ok(()) => return Ok(found),
                Err(e) => failures.push_str(&format!("\n{}: {e:#}", found.version)),
            }
        }
        bail!("Maven has no complete 3.9 release of ZooKeeper:{failures}")
    }

    fn fetch(&self, tools: &Path) -> Result<()> {
        let partial = tools.join(format!("partial-{}", std::process::id()));
        let copy = ["dependency:copy-dependencies", &format!("-DoutputDirectory={}", partial.display())];
        maven(tools, &pom(&self.version), &copy)?;
        if let Err(e) = fs::rename(&partial, &self.lib) {
            // Another process may have been faster; then its copy serves.
            ensure!(self.lib.is_dir(), "moving the jars into place: {e}");
            fs::remove_dir_all(&partial)?;
        }
        Ok(())
    }

    /// The class path, for `java -cp`.
    #[must_use]
    pub fn class_path(&self) -> String {
        self.lib.join("*").display().to_string()
    }
}

/// Where tools are kept.
#[must_use]
pub fn tools_dir() -> PathBuf {
    match std::env::var_os("FARRIER_TOOLS") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.farrier-tools"),
    }
}

/// The patch numbers of 3.9 in Maven's list of versions, newest first. Resolving a range makes Maven
/// fetch that list, whether or not what it then picks is complete.
fn listed(tools: &Path) -> Result<Vec<u32>> {
    let asked = maven(tools, &pom("[3.9.0,3.10.0-alpha)"), &["dependency:resolve"]);
    let dir = tools.join("m2/org/apache/zookeeper/zookeeper");
    let mut patches = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("Maven fetched no list of versions: {asked:?}"))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if name.starts_with("maven-metadata-") && name.ends_with(".xml") {
            let text = fs::read_to_string(&path)?;
            for part in text.split("<version>3.9.").skip(1) {
                patches.extend(part.split('<').next().unwrap_or_default().parse::<u32>());
            }
        }
    }
    patches.sort_unstable_by(|a, b| b.cmp(a));
    patches.dedup();
    Ok(patches)
}

fn maven(tools: &Path, pom: &str, args: &[&str]) -> Result<()> {
    let dir = tempfile::tempdir().context("a directory for the pom")?;
    let file = dir.path().join("pom.xml");
    fs::write(&file, pom)?;
    let out = Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(&file)
        .arg(format!("-Dmaven.repo.local={}", absolute(tools)?.join("m2").display()))
        .arg("-DincludeScope=runtime")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .context("running mvn")?;
    if out.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&out.stdout);
    bail!("mvn: {}", text.lines().find(|l| l.contains("ERROR")).unwrap_or("failed without a message"))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).with_context(|| path.display().to_string())
}

/// The release's own list of versions covers what the server needs at run time besides its declared
/// dependencies.
fn pom(version: &str) -> String {
    let managed = if version.starts_with('[') {
        String::new()
    } else {
        format!(
            "<dependencyManagement><dependencies><dependency><groupId>org.apache.zookeeper</groupId>\
             <artifactId>parent</artifactId><version>{version}</version><type>pom</type><scope>import</scope>\
             </dependency></dependencies></dependencyManagement>"
        )
    };
    let extra = if managed.is_empty() {
        String::new()
    } else {
        let dependency = |group: &str, artifact: &str, rest: &str| {
            format!("<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>{rest}</dependency>")
        };
        dependency("io.dropwizard.metrics", "metrics-core", "<scope>compile</scope>")
            + &dependency("org.xerial.snappy", "snappy-java", "<scope>compile</scope>")
            + &dependency("org.slf4j", "slf4j-simple", &format!("<version>{SLF4J}</version>"))
    };
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>farrier</groupId><artifactId>apache</artifactId><version>1</version><packaging>pom</packaging>\
         {managed}<dependencies><dependency><groupId>org.apache.zookeeper</groupId><artifactId>zookeeper</artifactId>\
         <version>{version}</version></dependency>{extra}</dependencies></project>"
    )
}
