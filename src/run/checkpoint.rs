//! Checkpoints: the files of one step, visible together or not at all.
//!
//! A checkpoint is written in full into the hidden folder `.new-STEP`, its manifest (names, sizes,
//! SHA-256) last, and then renamed to `STEP`: one rename makes all of it visible. The newest
//! [`KEPT`] of a stage are kept, and the newest that is *proven*: one that a run which went wrong can
//! go back to (see [`Transaction::proven`]). Folders are moved aside to a hidden name before they are deleted,
//! so that a crash halfway never leaves a visible, half-deleted one. [`recover`] clears the hidden
//! ones when the run is next opened.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::{Error, Failed, Result};
use super::storage::Storage;
use super::{VERSION, check_name, list, read_if_there};

/// How many checkpoints of a stage are kept: the newest, and one to fall back on.
const KEPT: usize = 2;

const MANIFEST: &str = "manifest.json";
/// Hidden folders: being written, replaced by one of the same step, being deleted.
const NEW: &str = ".new-";
const OLD: &str = ".old-";
const DROP: &str = ".drop-";

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Manifest {
    version: u32,
    stage: String,
    step: u64,
    files: Vec<Entry>,
    /// See [`Transaction::proven`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    proven: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    name: String,
    size: u64,
    sha256: String,
}

/// A checkpoint that is being written. Dropped without [`commit`](Self::commit), it leaves nothing.
#[derive(Debug)]
pub struct Transaction {
    storage: Arc<dyn Storage>,
    /// The stage's folder, and in it the hidden one.
    folder: PathBuf,
    hidden: PathBuf,
    manifest: Manifest,
    done: bool,
}

impl Transaction {
    pub(super) fn begin(
        storage: Arc<dyn Storage>,
        checkpoints: &Path,
        stage: &str,
        step: u64,
    ) -> Result<Self> {
        let folder = checkpoints.join(stage);
        let hidden = folder.join(format!("{NEW}{step}"));
        remove_dir_if_there(&*storage, &hidden)?;
        storage.create_dir_all(&hidden).failed("create", &hidden)?;
        // The names of the folders themselves must last, too.
        for parent in [checkpoints.parent().unwrap_or(checkpoints), checkpoints] {
            storage.sync_dir(parent).failed("sync", parent)?;
        }
        // Of one step there is one state: what was proven of it stays so.
        let proven = is_proven(&folder.join(folder_name(step)));
        let manifest = Manifest { version: VERSION, stage: stage.into(), step, files: Vec::new(), proven };
        Ok(Self { storage, folder, hidden, manifest, done: false })
    }

    /// Marks the checkpoint as one to go back to when later steps turn out to be bad: its state is known
    /// to be good. Which ones are marked must not depend on interruptions, so that a run that was
    /// interrupted goes back to where one that was not does.
    #[must_use]
    pub fn proven(mut self) -> Self {
        self.manifest.proven = true;
        self
    }

    /// Adds a file.
    ///
    /// # Errors
    /// [`Error::BadName`] for a name that is no plain file name or was added before, or what the
    /// file system says.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        check_name(name)?;
        if name == MANIFEST || self.manifest.files.iter().any(|file| file.name == name) {
            return Err(Error::BadName { name: name.into() });
        }
        let path = self.hidden.join(name);
        self.storage.write_synced(&path, bytes).failed("write", &path)?;
        let sha256 = hex(&Sha256::digest(bytes));
        self.manifest.files.push(Entry { name: name.into(), size: bytes.len() as u64, sha256 });
        Ok(())
    }

    /// Makes the checkpoint visible, for good, in place of one of the same step; then deletes the
    /// stage's oldest.
    ///
    /// # Errors
    /// What the file system says; the earlier checkpoints are intact then.
    pub fn commit(mut self) -> Result<()> {
        let path = self.hidden.join(MANIFEST);
        let text = serde_json::to_string_pretty(&self.manifest)
            .map_err(|source| Error::Json { path: path.clone(), source })?;
        self.storage.write_synced(&path, text.as_bytes()).failed("write", &path)?;
        self.storage.sync_dir(&self.hidden).failed("sync", &self.hidden)?;

        let step = self.manifest.step;
        let target = self.folder.join(folder_name(step));
        let old = self.folder.join(format!("{OLD}{step}"));
        if target.exists() {
            self.storage.rename(&target, &old).failed("replace", &target)?;
        }
        if let Err(source) = self.storage.rename(&self.hidden, &target) {
            if old.exists() {
                let _ = self.storage.rename(&old, &target);
            }
            return Err(Error::io("replace", &target, source));
        }
        self.done = true;
        self.storage.sync_dir(&self.folder).failed("sync", &self.folder)?;
        // The step is safe. What cannot be cleared now is cleared at the next commit or opening.
        let _ = remove_dir_if_there(&*self.storage, &old);
        let _ = self.prune(step);
        Ok(())
    }

    /// Deletes all but the newest checkpoints up to `step` and the newest proven one of them, and any of
    /// later steps: they are of a history that this commit has replaced.
    fn prune(&self, step: u64) -> Result<()> {
        let steps = steps(&self.folder)?;
        let later = steps.iter().filter(|&&other| other > step);
        let up_to = || steps.iter().filter(|&&other| other <= step);
        let proven = up_to().find(|&&other| is_proven(&self.folder.join(folder_name(other))));
        let earlier = up_to().skip(KEPT).filter(|&other| Some(other) != proven);
        for other in later.chain(earlier) {
            let aside = self.folder.join(format!("{DROP}{other}"));
            let path = self.folder.join(folder_name(*other));
            remove_dir_if_there(&*self.storage, &aside)?;
            self.storage.rename(&path, &aside).failed("remove", &path)?;
            remove_dir_if_there(&*self.storage, &aside)?;
        }
        Ok(())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.done {
            let _ = self.storage.remove_dir_all(&self.hidden);
        }
    }
}

/// A checkpoint whose files have been verified.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    path: PathBuf,
    manifest: Manifest,
}

impl Checkpoint {
    /// The step it was taken after.
    pub fn step(&self) -> u64 {
        self.manifest.step
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of its files, in the order they were added.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.manifest.files.iter().map(|file| file.name.as_str())
    }

    /// The bytes of a file, verified.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the checkpoint has no such file or other bytes than were written.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path.join(name);
        let Some(entry) = self.manifest.files.iter().find(|file| file.name == name) else {
            return Err(damaged(path, "the checkpoint has no such file"));
        };
        let bytes = read_if_there(&path)?.ok_or_else(|| damaged(path.clone(), "it is missing"))?;
        if bytes.len() as u64 != entry.size || hex(&Sha256::digest(&bytes)) != entry.sha256 {
            return Err(damaged(path, "it has changed since it was written"));
        }
        Ok(bytes)
    }

    fn open(path: &Path, stage: &str, step: u64) -> Result<Self> {
        let manifest_path = path.join(MANIFEST);
        let bytes =
            read_if_there(&manifest_path)?.ok_or_else(|| damaged(manifest_path.clone(), "it is missing"))?;
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|error| damaged(manifest_path.clone(), format!("not a manifest: {error}")))?;
        if manifest.version != VERSION {
            return Err(Error::OtherVersion { path: manifest_path, found: manifest.version, known: VERSION });
        }
        if manifest.step != step || manifest.stage != stage {
            return Err(damaged(manifest_path, format!("it is of {} {}", manifest.stage, manifest.step)));
        }
        for entry in &manifest.files {
            if check_name(&entry.name).is_err() {
                return Err(damaged(manifest_path, format!("it names {:?}", entry.name)));
            }
            verify(&path.join(&entry.name), entry)?;
        }
        Ok(Self { path: path.into(), manifest })
    }
}

/// What was found of a stage's checkpoints.
#[derive(Debug)]
pub struct Restored {
    /// The newest whole one; none where the stage has not got to its first.
    pub checkpoint: Option<Checkpoint>,
    /// Newer ones that are damaged and were passed over, for the log.
    pub warnings: Vec<String>,
}

pub(super) fn latest(folder: &Path) -> Result<Restored> {
    newest_of(folder, steps(folder)?)
}

/// The newest whole one of the proven; of all, where none of these is there or whole.
pub(super) fn latest_proven(folder: &Path) -> Result<Restored> {
    let all = steps(folder)?;
    let (proven, others): (Vec<u64>, Vec<u64>) =
        all.into_iter().partition(|&step| is_proven(&folder.join(folder_name(step))));
    newest_of(folder, proven.into_iter().chain(others).collect())
}

/// The first whole one.
fn newest_of(folder: &Path, steps: Vec<u64>) -> Result<Restored> {
    let stage = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut warnings = Vec::new();
    let mut first = None;
    for step in steps {
        match Checkpoint::open(&folder.join(folder_name(step)), &stage, step) {
            Ok(checkpoint) => return Ok(Restored { checkpoint: Some(checkpoint), warnings }),
            Err(error @ Error::Damaged { .. }) => {
                warnings.push(format!("checkpoint {step} is passed over: {error}"));
                first.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    match first {
        Some(error) => Err(error),
        None => Ok(Restored { checkpoint: None, warnings }),
    }
}

/// Clears what a crash has left in a stage's folder, and undoes a replacement that was cut short.
pub(super) fn recover(storage: &dyn Storage, folder: &Path) -> Result<()> {
    for name in list(folder)? {
        let path = folder.join(&name);
        if let Some(step) = name.strip_prefix(OLD).and_then(|step| step.parse::<u64>().ok()) {
            let target = folder.join(folder_name(step));
            if !target.exists() {
                storage.rename(&path, &target).failed("restore", &target)?;
                continue;
            }
        }
        if [NEW, OLD, DROP].iter().any(|prefix| name.starts_with(prefix)) {
            remove_dir_if_there(storage, &path)?;
        }
    }
    Ok(())
}

/// Zero-padded, so that a listing is in order.
fn folder_name(step: u64) -> String {
    format!("{step:08}")
}

/// The steps with a visible checkpoint, the newest first.
fn steps(folder: &Path) -> Result<Vec<u64>> {
    let parse = |name: String| name.parse::<u64>().ok().filter(|&step| folder_name(step) == name);
    let mut steps: Vec<u64> = list(folder)?.into_iter().filter_map(parse).collect();
    steps.sort_unstable_by(|a, b| b.cmp(a));
    Ok(steps)
}

/// Whether the checkpoint in a folder says that it is proven. One that cannot be read does not.
fn is_proven(path: &Path) -> bool {
    let bytes = read_if_there(&path.join(MANIFEST)).ok().flatten().unwrap_or_default();
    serde_json::from_slice::<Manifest>(&bytes).is_ok_and(|manifest| manifest.proven)
}

fn verify(path: &Path, entry: &Entry) -> Result<()> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(damaged(path.into(), "it is missing"));
        }
        file => file.failed("read", path)?,
    };
    let size = file.metadata().failed("read", path)?.len();
    if size != entry.size {
        return Err(damaged(path.into(), format!("{size} bytes where {} were written", entry.size)));
    }
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).failed("read", path)? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    if hex(&hash.finalize()) != entry.sha256 {
        return Err(damaged(path.into(), "its bytes are not those that were written (SHA-256 differs)"));
    }
    Ok(())
}

fn damaged(path: PathBuf, reason: impl Into<String>) -> Error {
    const REMEDY: &str = "Restore it from a copy, or delete this checkpoint's folder: the run goes on from the \
                          one before it, or from the start";
    Error::Damaged { path, line: None, reason: reason.into(), remedy: REMEDY }
}

fn remove_dir_if_there(storage: &dyn Storage, path: &Path) -> Result<()> {
    if path.exists() {
        storage.remove_dir_all(path).failed("remove", path)?;
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
