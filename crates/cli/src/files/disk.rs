//! One directory's files as storage's disk, for reading alone.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use farrier_storage::{Dir, DirEntry, Disk, DiskError, DiskErrorKind, DiskFile, DiskPath, DiskResult, OpenMode};

/// A directory with logs or snapshots. What lies beside a `version-2` counts as dataDir and dataLogDir, and
/// so does the directory itself if it has another name.
#[derive(Debug)]
pub(crate) struct ReadOnly {
    files: PathBuf,
    beside: PathBuf,
}

impl ReadOnly {
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        let real = dir.canonicalize().with_context(|| dir.display().to_string())?;
        let beside = match real.parent() {
            Some(parent) if real.ends_with("version-2") => parent.to_owned(),
            Some(_) | None => dir.to_owned(),
        };
        Ok(Self { files: dir.to_owned(), beside })
    }

    fn dir(&self, dir: Dir) -> &Path {
        match dir {
            Dir::DataVersion | Dir::LogVersion => &self.files,
            Dir::Data | Dir::Log => &self.beside,
        }
    }

    fn path(&self, path: &DiskPath) -> PathBuf {
        self.dir(path.dir).join(&path.name)
    }

    fn refuse<T>(&self, operation: &'static str, path: &Path) -> DiskResult<T> {
        let error = io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "it was opened for reading alone");
        Err(failed(operation, path)(error))
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    move |error| DiskError {
        operation,
        path: path.display().to_string(),
        kind: match error.kind() {
            io::ErrorKind::NotFound => DiskErrorKind::NotFound,
            io::ErrorKind::PermissionDenied => DiskErrorKind::Denied,
            io::ErrorKind::ReadOnlyFilesystem => DiskErrorKind::ReadOnly,
            // io::ErrorKind can grow; nobody who only reads treats the rest differently.
            _ => DiskErrorKind::Other,
        },
        message: error.to_string(),
    }
}

impl Disk for ReadOnly {
    type File = ReadOnlyFile;

    fn list(&self, dir: Dir) -> DiskResult<Vec<DirEntry>> {
        let path = self.dir(dir);
        let mut files = Vec::new();
        for entry in path.read_dir().map_err(failed("list", path))? {
            let entry = entry.map_err(failed("list", path))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // A server that runs may remove files meanwhile.
            let Ok(metadata) = entry.path().metadata() else { continue };
            if metadata.is_file() {
                files.push(DirEntry { name, len: metadata.len() });
            }
        }
        Ok(files)
    }

    fn open(&self, path: &DiskPath, mode: OpenMode) -> DiskResult<ReadOnlyFile> {
        let path = self.path(path);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write | OpenMode::CreateNew | OpenMode::CreateTruncate => return self.refuse("write to", &path),
        }
        let file = File::open(&path).map_err(failed("open", &path))?;
        Ok(ReadOnlyFile { file, path })
    }

    fn rename(&self, from: &DiskPath, _: &DiskPath) -> DiskResult<()> {
        self.refuse("rename", &self.path(from))
    }

    fn remove(&self, path: &DiskPath) -> DiskResult<()> {
        self.refuse("remove", &self.path(path))
    }

    fn sync_dir(&self, dir: Dir) -> DiskResult<()> {
        self.refuse("sync", self.dir(dir))
    }

    fn free_bytes(&self, _: Dir) -> DiskResult<Option<u64>> {
        Ok(None)
    }

    fn describe(&self, path: &DiskPath) -> String {
        self.path(path).display().to_string()
    }
}

#[derive(Debug)]
pub(crate) struct ReadOnlyFile {
    file: File,
    path: PathBuf,
}

impl ReadOnlyFile {
    fn refuse(&self, operation: &'static str) -> DiskResult<()> {
        let error = io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "it was opened for reading alone");
        Err(failed(operation, &self.path)(error))
    }
}

impl DiskFile for ReadOnlyFile {
    fn len(&self) -> DiskResult<u64> {
        Ok(self.file.metadata().map_err(failed("examine", &self.path))?.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> DiskResult<usize> {
        let mut have = 0;
        while have < buf.len() {
            match self.file.read_at(&mut buf[have..], offset + have as u64) {
                Ok(0) => break,
                Ok(n) => have += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed("read", &self.path)(error)),
            }
        }
        Ok(have)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> DiskResult<()> {
        self.refuse("write to")
    }

    fn set_len(&self, _: u64) -> DiskResult<()> {
        self.refuse("set the length of")
    }

    fn sync(&self) -> DiskResult<()> {
        self.refuse("sync")
    }
}
