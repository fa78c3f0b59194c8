//! Apache ZooKeeper's servers, by default the newest 3.9, fetched from their Maven artifacts by Maven itself.
//!
//! Everything goes into a directory of tools that git ignores (`FARRIER_TOOLS`, by default
//! `.farrier-tools` in the workspace), Maven's own repository included, and is fetched once.

use anyhow::{Context as _, Result, bail, ensure};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Releases tried, newest first, before giving up: a release may be listed before it is complete.
const TRIES_MAX: usize = 3;
/// The series that is used where none is named.
const SERIES: Series = Series { major: 3, minor: 9 };
/// The first series whose server needs libraries that its artifact doesn't bring along.
const NEEDS_MORE: Series = Series { major: 3, minor: 6 };
/// The log binding and its interface; Apache's own choice would want a configuration file. An interface of this
/// line ignores the bindings that older releases bring along.
const SLF4J: &str = "2.0.13";

/// Releases that differ only in their last number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Series {
    major: u32,
    minor: u32,
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A fetched release.
#[derive(Clone, Debug)]
pub struct Apache {
    /// `3.9.x`.
    pub version: String,
    /// Directory of its jars.
    pub lib: PathBuf,
}

impl Apache {
    /// The newest 3.9.
    pub fn newest() -> Result<Self> {
        Self::newest_of(SERIES)
    }

    /// A release by its version, as in `3.8.4`, or the newest of a series, as in `3.8`; fetched unless it is here.
    pub fn named(name: &str) -> Result<Self> {
        match read_version(name)? {
            (series, None) => Self::newest_of(series),
            (series, Some(patch)) => {
                let tools = made_tools_dir()?;
                let found = Self::at(&tools, series, patch);
                if !found.lib.is_dir() {
                    found.fetch(&tools, series)?;
                }
                Ok(found)
            }
        }
    }

    /// The newest release that is here already, or else the newest that Maven can fetch.
    fn newest_of(series: Series) -> Result<Self> {
        let tools = made_tools_dir()?;
        let prefix = format!("apache-zookeeper-{series}.");
        let mut here: Vec<u32> = Vec::new();
        for entry in fs::read_dir(&tools)? {
            let name = entry?.file_name();
            if let Some(patch) = name.to_str().and_then(|n| n.strip_prefix(&prefix)) {
                here.extend(patch.parse::<u32>());
            }
        }
        if let Some(patch) = here.into_iter().max() {
            return Ok(Self::at(&tools, series, patch));
        }
        let mut failures = String::new();
        for patch in listed(&tools, series)?.into_iter().take(TRIES_MAX) {
            let found = Self::at(&tools, series, patch);
            match found.fetch(&tools, series) {
                Ok(()) => return Ok(found),
                Err(e) => failures.push_str(&format!("\n{}: {e:#}", found.version)),
            }
        }
        bail!("Maven has no complete {series} release of ZooKeeper:{failures}")
    }

    fn at(tools: &Path, series: Series, patch: u32) -> Self {
        let version = format!("{series}.{patch}");
        let lib = tools.join(format!("apache-zookeeper-{version}"));
        Self { version, lib }
    }

    fn fetch(&self, tools: &Path, series: Series) -> Result<()> {
        let partial = tools.join(format!("partial-{}", std::process::id()));
        let copy = ["dependency:copy-dependencies", &format!("-DoutputDirectory={}", partial.display())];
        maven(tools, &server_pom(series, &self.version), &copy)?;
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

fn made_tools_dir() -> Result<PathBuf> {
    let tools = tools_dir();
    fs::create_dir_all(&tools).with_context(|| format!("creating {}", tools.display()))?;
    Ok(tools)
}

/// Reads `3.8` or `3.8.4`.
fn read_version(name: &str) -> Result<(Series, Option<u32>)> {
    let numbers: Result<Vec<u32>, _> = name.split('.').map(str::parse).collect();
    match numbers.as_deref() {
        Ok(&[major, minor]) => Ok((Series { major, minor }, None)),
        Ok(&[major, minor, patch]) => Ok((Series { major, minor }, Some(patch))),
        _ => bail!("{name:?} is no release of ZooKeeper: write one like 3.8.4, or 3.8 for the newest of those"),
    }
}

/// The last numbers of a series in Maven's list of versions, newest first. Resolving a range makes Maven
/// fetch that list, whether or not what it then picks is complete.
fn listed(tools: &Path, series: Series) -> Result<Vec<u32>> {
    let after = Series { minor: series.minor + 1, ..series };
    let asked = maven(tools, &range_pom(series, after), &["dependency:resolve"]);
    let dir = tools.join("m2/org/apache/zookeeper/zookeeper");
    let mut patches = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("Maven fetched no list of versions: {asked:?}"))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if name.starts_with("maven-metadata-") && name.ends_with(".xml") {
            let text = fs::read_to_string(&path)?;
            for part in text.split(&format!("<version>{series}.")).skip(1) {
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

/// Any release from one series up to another.
fn range_pom(from: Series, to: Series) -> String {
    pom("", &dependency("org.apache.zookeeper", "zookeeper", &version(&format!("[{from}.0,{to}.0-alpha)"))))
}

/// The server of one release and what it needs at run time. The release's own list of versions covers what
/// it doesn't declare as its dependencies.
fn server_pom(series: Series, release: &str) -> String {
    let import = format!("{}<type>pom</type><scope>import</scope>", version(release));
    let managed = format!(
        "<dependencyManagement><dependencies>{}</dependencies></dependencyManagement>",
        dependency("org.apache.zookeeper", "parent", &import)
    );
    let mut dependencies = dependency("org.apache.zookeeper", "zookeeper", &version(release))
        + &dependency("org.slf4j", "slf4j-api", &version(SLF4J))
        + &dependency("org.slf4j", "slf4j-simple", &version(SLF4J));
    if series >= NEEDS_MORE {
        dependencies += &dependency("io.dropwizard.metrics", "metrics-core", "<scope>compile</scope>");
        dependencies += &dependency("org.xerial.snappy", "snappy-java", "<scope>compile</scope>");
    }
    pom(&managed, &dependencies)
}

fn version(version: &str) -> String {
    format!("<version>{version}</version>")
}

fn dependency(group: &str, artifact: &str, rest: &str) -> String {
    format!("<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>{rest}</dependency>")
}

fn pom(managed: &str, dependencies: &str) -> String {
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>farrier</groupId><artifactId>apache</artifactId><version>1</version><packaging>pom</packaging>\
         {managed}<dependencies>{dependencies}</dependencies></project>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_and_a_release_are_told_apart() {
        let series = Series { major: 3, minor: 8 };
        assert_eq!(read_version("3.8").expect("a series"), (series, None));
        assert_eq!(read_version("3.8.4").expect("a release"), (series, Some(4)));
        for wrong in ["", "3", "3.8.x", "3.8.4.1", "newest"] {
            read_version(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn older_series_sort_before_newer_ones() {
        assert!(Series { major: 3, minor: 5 } < NEEDS_MORE && SERIES > NEEDS_MORE);
    }
}
