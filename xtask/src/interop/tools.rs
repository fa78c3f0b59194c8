//! Installs what the programs of `interop` need, once, into the tools directory that git ignores.
//!
//! An installation is good as long as the files that it was made from are unchanged; their text is kept
//! beside it as a stamp.

use anyhow::{Context as _, Result, bail, ensure};
use farrier_testkit::apache::tools_dir;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the programs are installed and where they come from.
pub(super) struct Tools {
    dir: PathBuf,
    source: PathBuf,
}

impl Tools {
    pub(super) fn open() -> Result<Self> {
        let dir = tools_dir();
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        Ok(Self {
            dir: fs::canonicalize(&dir)?,
            source: fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../interop"))?,
        })
    }

    /// The Java programs, as a command that lacks the main class.
    pub(super) fn java(&self) -> Result<Command> {
        let mut java = Command::new("java");
        let class_path = self.class_path("java", &[])?;
        java.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", &class_path]);
        Ok(java)
    }

    /// The class path of a project of Maven's below `interop`: its own classes and what it needs. `with` names
    /// other directories there of which it is built.
    pub(super) fn class_path(&self, project: &str, with: &[&str]) -> Result<String> {
        let source = self.source.join(project);
        let mut sources = files_below(&source)?;
        for other in with {
            sources.extend(files_below(&self.source.join(other))?);
        }
        let dir = self.dir.join(format!("interop-{project}"));
        let list = dir.join("classpath");
        self.install(&dir, &sources, |dir| {
            let mut mvn = Command::new("mvn");
            mvn.args(["-q", "-B", "-f"])
                .arg(source.join("pom.xml"))
                .arg(format!("-Dmaven.repo.local={}", self.dir.join("m2").display()))
                .arg(format!("-Dfarrier.build={}", dir.display()))
                .args(["compile", "dependency:build-classpath", "-Dmdep.includeScope=runtime"])
                .arg(format!("-Dmdep.outputFile={}", list.display()));
            done(&mut mvn)
        })?;
        let jars = fs::read_to_string(&list).with_context(|| list.display().to_string())?;
        Ok(format!("{}:{}", dir.join("classes").display(), jars.trim()))
    }

    /// kazoo's scenario in a virtual environment.
    pub(super) fn kazoo(&self) -> Result<Command> {
        let requirements = self.source.join("kazoo/requirements.txt");
        let dir = self.dir.join("interop-kazoo");
        self.install(&dir, std::slice::from_ref(&requirements), |dir| {
            done(Command::new("python3").args(["-m", "venv"]).arg(dir))?;
            let pip = ["-m", "pip", "--quiet", "--disable-pip-version-check", "install", "-r"];
            done(Command::new(dir.join("bin/python")).args(pip).arg(&requirements))
        })?;
        let mut python = Command::new(dir.join("bin/python"));
        python.arg(self.source.join("kazoo/scenario.py")).env("PYTHONDONTWRITEBYTECODE", "1");
        Ok(python)
    }

    /// go-zookeeper's scenario as a binary.
    pub(super) fn go(&self) -> Result<Command> {
        let source = self.source.join("go");
        let dir = self.dir.join("interop-go");
        let binary = dir.join("scenario");
        self.install(&dir, &files_below(&source)?, |_| {
            let mut go = Command::new("go");
            go.args(["build", "-modcacherw", "-o"])
                .arg(&binary)
                .arg(".")
                .current_dir(&source)
                .env("GOMODCACHE", self.dir.join("go-mod"));
            done(&mut go)
        })?;
        Ok(Command::new(binary))
    }

    /// node-zookeeper-client's scenario beside its modules.
    pub(super) fn node(&self) -> Result<Command> {
        let source = self.source.join("node");
        let dir = self.dir.join("interop-node");
        self.install(&dir, &files_below(&source)?, |dir| {
            for name in ["package.json", "scenario.js"] {
                fs::copy(source.join(name), dir.join(name)).with_context(|| name.to_owned())?;
            }
            let npm = ["install", "--no-package-lock", "--no-audit", "--no-fund", "--silent"];
            done(Command::new("npm").args(npm).current_dir(dir))
        })?;
        let mut node = Command::new("node");
        node.arg(dir.join("scenario.js"));
        Ok(node)
    }

    /// Makes `dir` anew unless its stamp equals the sources.
    fn install(&self, dir: &Path, sources: &[PathBuf], make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let mut want = String::new();
        for path in sources {
            let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
            want.push_str(&format!("{}\n{text}", path.display()));
        }
        let stamp = dir.join("farrier-stamp");
        if fs::read_to_string(&stamp).is_ok_and(|have| have == want) {
            return Ok(());
        }
        if dir.exists() {
            fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))?;
        }
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        make(dir).with_context(|| format!("installing into {}", dir.display()))?;
        fs::write(&stamp, want).with_context(|| stamp.display().to_string())
    }
}

/// The binary that was named, or a fresh one from the workspace.
pub(crate) fn farrier(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = named {
        return fs::canonicalize(path).with_context(|| path.display().to_string());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).args(["build", "--package", "farrier-cli"]).status().context("running cargo")?;
    ensure!(status.success(), "farrier does not build");
    // Both binaries of a workspace land in one directory.
    let path = std::env::current_exe()?.with_file_name("farrier");
    ensure!(path.exists(), "{} is missing after the build", path.display());
    Ok(path)
}

/// Every file below a directory, in a stable order.
fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Runs a command that has to succeed; its output is shown only if it doesn't.
fn done(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("running {name}"))?;
    if out.status.success() {
        return Ok(());
    }
    bail!(
        "{name} ended with {}\n{}{}",
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
}
