//! An archive to a folder that is there whole or not at all.
//!
//! Members go to a hidden folder beside the target; when all are out and counted, the data set's
//! folder is renamed to its place. A hidden folder left by a call that was cut off is removed
//! first. Only plain files and folders are taken, and none whose path leads out of the archive. What comes
//! out is bounded by the published size, whatever an archive says of itself.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};

use flate2::bufread::GzDecoder;

use super::{Archive, Error, Result, failed, missing};
use crate::run::{Output, Progress, StopFlag};

/// An archive unpacks to at most so many times its size: the published ones to less than twice theirs.
const TIMES: u64 = 4;
/// Files and folders of an archive, at most: Tiny ImageNet has some 121,000.
const MEMBERS: usize = 1 << 20;

/// Unpack `file` so that its folder becomes `target`.
pub(super) fn unpack(
    archive: &Archive,
    file: &Path,
    target: &Path,
    output: Output,
    stop: &StopFlag,
) -> Result<()> {
    let root = target.with_file_name(format!(".{}.unpacking", archive.folder));
    clear(&root)?;
    let left = Cell::new(archive.bytes.saturating_mul(TIMES));
    let unpacker = Unpacker { file, root: &root, stop, left, members: Cell::new(MEMBERS) };
    let done = unpacker.all(archive, output).and_then(|()| {
        let folder = root.join(archive.folder);
        match missing(archive, &folder) {
            Some(reason) => Err(unpacker.damaged(format!("in the archive, {reason}"))),
            None => fs::rename(&folder, target).map_err(failed("write", target)),
        }
    });
    // Frees the space after a failure; after success there is at most an empty folder.
    let cleared = clear(&root);
    done.and(cleared)
}

fn clear(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", folder)(error)),
        _ => Ok(()),
    }
}

struct Unpacker<'a> {
    file: &'a Path,
    root: &'a Path,
    stop: &'a StopFlag,
    /// Bytes that may still come out.
    left: Cell<u64>,
    /// Files and folders that may.
    members: Cell<usize>,
}

impl Unpacker<'_> {
    fn all(&self, archive: &Archive, output: Output) -> Result<()> {
        let reader =
            BufReader::with_capacity(1 << 18, File::open(self.file).map_err(failed("read", self.file))?);
        if archive.file.ends_with(".zip") {
            self.zip(reader, archive, output)
        } else {
            self.tar(reader, output)
        }
    }

    fn tar(&self, reader: BufReader<File>, output: Output) -> Result<()> {
        output.note(&format!("{}: unpacking", self.file.display()));
        // Names may be as long as members: the stream has a bound too, with room for headers.
        let stream = GzDecoder::new(reader).take(self.left.get().saturating_mul(2));
        let mut members = tar::Archive::new(stream);
        for member in members.entries().map_err(|e| self.damaged(e))? {
            let mut member = member.map_err(|e| self.damaged(e))?;
            let path = member.path().map_err(|e| self.damaged(e))?.into_owned();
            let kind = member.header().entry_type();
            if kind.is_dir() {
                self.folder(&path)?;
            } else if kind.is_file() {
                self.member(&path, &mut member)?;
            } else {
                return Err(self.damaged(format!("{} is neither file nor folder", path.display())));
            }
        }
        Ok(())
    }

    fn zip(&self, reader: BufReader<File>, archive: &Archive, output: Output) -> Result<()> {
        let mut members = zip::ZipArchive::new(reader).map_err(|e| self.damaged(e))?;
        let total = members.len() as u64;
        let progress = Progress::start(output, format!("{} (files)", archive.name), 0, total);
        for index in 0..members.len() {
            let mut member = members.by_index(index).map_err(|e| self.damaged(e))?;
            let name = member.name().map_err(|e| self.damaged(e))?.into_owned();
            let path = Path::new(&name);
            if member.is_dir() {
                self.folder(path)?;
            } else if member.is_file() {
                self.member(path, &mut member)?;
            } else {
                return Err(self.damaged(format!("{name} is neither file nor folder")));
            }
            progress.advance(1);
        }
        progress.finish();
        Ok(())
    }

    fn damaged(&self, reason: impl ToString) -> Error {
        Error::Damaged { file: self.file.to_owned(), reason: reason.to_string() }
    }

    /// Where a member goes; each is asked for once.
    fn place(&self, path: &Path) -> Result<PathBuf> {
        match self.members.get().checked_sub(1) {
            Some(left) => self.members.set(left),
            None => return Err(self.damaged(format!("it has more than {MEMBERS} files and folders"))),
        }
        let inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if inside {
            Ok(self.root.join(path))
        } else {
            Err(self.damaged(format!("the path {} leads out of it", path.display())))
        }
    }

    fn folder(&self, path: &Path) -> Result<()> {
        let place = self.place(path)?;
        fs::create_dir_all(&place).map_err(failed("make", &place))
    }

    fn member(&self, path: &Path, content: &mut impl Read) -> Result<()> {
        let place = self.place(path)?;
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder).map_err(failed("make", folder))?;
        }
        let mut out = BufWriter::new(File::create(&place).map_err(failed("write", &place))?);
        let mut buffer = [0; 1 << 14];
        loop {
            if self.stop.requested() {
                return Err(Error::Stopped { file: self.file.to_owned() });
            }
            match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    match self.left.get().checked_sub(count as u64) {
                        Some(left) => self.left.set(left),
                        None => return Err(self.damaged("it unpacks to far more than the published archive")),
                    }
                    out.write_all(&buffer[..count]).map_err(failed("write", &place))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.damaged(format!("{}: {error}", path.display()))),
            }
        }
        out.flush().map_err(failed("write", &place))
    }
}
