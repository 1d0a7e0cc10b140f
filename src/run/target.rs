//! Files that a command writes where its user says: an export, logits, a report.
//!
//! One rule for all of them: a file that is there is replaced, whole; a symbolic link is written through; a
//! device, a pipe or a folder is refused, since replacing one by a file would take it away.
//!
//! The new bytes come under a hidden name beside the file first. That name holds the host, the process and a
//! random part; whatever a process of this host that is dead has left is removed by the next one that writes
//! in the folder.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::{Error, Failed, Result};
use super::lock::host;
use super::storage::{Disk, Storage, folder_of, rename_into};

/// As many links as Linux follows.
const MOST_LINKS: usize = 40;
/// Stands between a file's name and who writes it.
const MARK: &str = ".natv2-";
const ENDING: &str = ".tmp";
/// Bytes of a file's name that its temporary name repeats: names end at 255, and a host's may have 64.
const NAME_BYTES: usize = 100;

/// Replaces a file: readers, and whoever is left after a crash, see the old bytes or the new.
///
/// Needs no lock: concurrent calls use different temporary files, and the last one wins.
///
/// # Errors
/// As [`check_target`]; what the file system says, and an existing file is intact then.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let (path, before) = resolve(path)?;
    let folder = folder_of(&path);
    clear_dead(folder);
    let temporary = folder.join(temporary_name(&path));
    let written = Disk.write_synced(&temporary, bytes).failed("write", &path).and_then(|()| match before {
        // Who may read a file does not change because it is written again.
        Some(before) => fs::set_permissions(&temporary, before.permissions()).failed("write", &path),
        None => Ok(()),
    });
    rename_into(&Disk, &temporary, &path, written)
}

/// Whether [`write_atomic`] can write there, to be asked before long work.
///
/// # Errors
/// [`Error::NoFile`] where a device, a pipe or a folder is there, or a link that leads back to itself;
/// [`Error::Io`] where its folder is not there.
pub fn check_target(path: &Path) -> Result<()> {
    let (path, _) = resolve(path)?;
    let folder = folder_of(&path);
    fs::metadata(folder).failed("write", &path).map(drop)
}

/// The file behind a path's links, and what is there now.
fn resolve(path: &Path) -> Result<(PathBuf, Option<Metadata>)> {
    let mut file = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        let found = match fs::symlink_metadata(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok((file, None)),
            found => found.failed("write", path)?,
        };
        let kind = found.file_type();
        if kind.is_symlink() {
            let next = fs::read_link(&file).failed("read", &file)?;
            // A link is read from where it lies. The path is not tidied up: `..` behind a link means its folder.
            file = folder_of(&file).join(next);
            continue;
        }
        let refused = |what| Err(Error::NoFile { path: path.into(), what });
        return match () {
            () if kind.is_dir() => refused("a folder"),
            () if kind.is_fifo() => refused("a pipe"),
            () if kind.is_socket() => refused("a socket"),
            () if !kind.is_file() => refused("a device"),
            () => Ok((file, Some(found))),
        };
    }
    Err(Error::NoFile { path: path.into(), what: "a link that leads back to itself" })
}

/// A hidden name beside `path` that no other call uses, on this host or another.
fn temporary_name(path: &Path) -> String {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut end = name.len().min(NAME_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let (process, call) = (std::process::id(), CALLS.fetch_add(1, Ordering::Relaxed));
    // Two processes with one number, in containers of one name, still differ.
    let random = rand::random::<u32>();
    format!(".{}{MARK}{}-{process}-{random:08x}{call:x}{ENDING}", &name[..end], host())
}

/// The process of this host that a temporary name says.
fn process_of(name: &str) -> Option<u32> {
    let who = name.strip_prefix('.')?.strip_suffix(ENDING)?.rsplit_once(MARK)?.1;
    let (who, _) = who.rsplit_once('-')?;
    let (machine, process) = who.rsplit_once('-')?;
    (machine == host()).then(|| process.parse().ok()).flatten()
}

/// Removes what dead processes of this host have left in a folder. That it fails is no reason not to write.
fn clear_dead(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let Some(process) = name.to_str().and_then(process_of) else { continue };
        if is_dead(process) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether a process is surely not there: without a process table nothing is known.
fn is_dead(process: u32) -> bool {
    let there = |of: String| match fs::metadata(Path::new("/proc").join(of)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Some(false),
        Err(_) => None,
        Ok(_) => Some(true),
    };
    there("self".into()) == Some(true) && there(process.to_string()) == Some(false)
}

/// What the system said, without the path, which messages of commands name themselves.
pub fn reason_of(error: &Error) -> String {
    match error {
        Error::NoSpace { source, .. } | Error::ReadOnly { source, .. } | Error::Io { source, .. } => {
            io::Error::to_string(source)
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn names(folder: &Path) -> Vec<String> {
        let names =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_and_left_alone_where_it_cannot_be() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("report.html");
        write_atomic(&file, b"one").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        write_atomic(&file, b"two").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(names(dir.path()), ["report.html"]);
        let missing = dir.path().join("missing/report.html");
        for error in [write_atomic(&missing, b"x").unwrap_err(), check_target(&missing).unwrap_err()] {
            assert!(error.to_string().contains("missing/report.html"), "{error}");
        }
        // The longest name that a file may have.
        let long = dir.path().join("é".repeat(127));
        write_atomic(&long, b"x").unwrap();
        assert_eq!(fs::read(&long).unwrap(), b"x");
    }

    #[test]
    fn links_are_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("elsewhere")).unwrap();
        fs::write(at("elsewhere/real"), "old").unwrap();
        symlink("elsewhere/real", at("link")).unwrap();
        symlink("link", at("link-to-link")).unwrap();
        write_atomic(&at("link-to-link"), b"new").unwrap();
        assert_eq!(fs::read(at("elsewhere/real")).unwrap(), b"new");
        assert!(at("link").is_symlink() && at("link-to-link").is_symlink());
        // One that leads to nothing yet.
        symlink("elsewhere/later", at("dangling")).unwrap();
        check_target(&at("dangling")).unwrap();
        write_atomic(&at("dangling"), b"made").unwrap();
        assert_eq!(fs::read(at("elsewhere/later")).unwrap(), b"made");
        assert_eq!(names(&at("elsewhere")), ["later", "real"]);
    }

    #[test]
    fn what_is_no_file_is_refused_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("folder")).unwrap();
        symlink("round", at("round")).unwrap();
        symlink("/dev/null", at("device")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for (name, what) in [
            ("folder", "a folder"),
            ("round", "a link that leads back"),
            ("device", "a device"),
            ("socket", "a socket"),
        ] {
            for error in [check_target(&at(name)).unwrap_err(), write_atomic(&at(name), b"x").unwrap_err()] {
                assert!(error.to_string().contains(what) && error.to_string().contains(name), "{error}");
            }
        }
        assert_eq!(names(dir.path()), ["device", "folder", "round", "socket"]);
    }

    #[test]
    fn what_dead_processes_of_this_host_have_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        // A process that has been waited for is not there any more.
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let (dead, alive, host) = (child.id(), std::process::id(), host());
        let left = [
            (format!(".net.safetensors.natv2-{host}-{dead}-00c0ffee0.tmp"), false),
            (format!(".net.safetensors.natv2-{host}-{alive}-00c0ffee0.tmp"), true),
            (format!(".net.safetensors.natv2-another{host}-{dead}-00c0ffee0.tmp"), true),
            (format!(".{dead}.tmp"), true),
            (format!("net.natv2-{host}-{dead}-00c0ffee0.tmp"), true),
        ];
        left.iter().for_each(|(name, _)| fs::write(dir.path().join(name), "half").unwrap());
        write_atomic(&dir.path().join("other.onnx"), b"whole").unwrap();
        let mut expected: Vec<&str> =
            left.iter().filter_map(|(name, stays)| stays.then_some(&name[..])).collect();
        expected.push("other.onnx");
        expected.sort_unstable();
        assert_eq!(names(dir.path()), expected);
    }

    #[test]
    fn a_temporary_name_tells_its_process() {
        let name = temporary_name(Path::new("folder/net-1.natv2-x.onnx"));
        assert_eq!(process_of(&name), Some(std::process::id()), "{name}");
        assert_ne!(name, temporary_name(Path::new("folder/net-1.natv2-x.onnx")));
    }
}
