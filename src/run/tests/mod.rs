//! Tests of the run directory: what is left after a crash or a full disk at every single
//! operation, after a tear at every byte, and what is said about damage.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Mutex;

use tempfile::TempDir;

mod checkpoints;
mod curves;
mod faults;
mod lines;

use super::*;
use crate::exit::Exit;
use faults::{Fault, Faulty};

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A step of work: events, curves, cached results, a checkpoint of two files, a result.
fn work(
    run: &RunDirectory,
    journal: &mut Journal,
    curves: &mut Curves,
    cache: &mut Cache,
    step: u64,
) -> Result<()> {
    journal.append("search", step, "candidates", &vec![step; 3])?;
    cache.insert(&format!("key {step}"), &(step as f64 / 3.0))?;
    cache.sync()?;
    curves.add(step, &[("loss", 1.0 / (1.0 + step as f64))])?;
    curves.sync()?;
    let mut checkpoint = run.checkpoint("search", step)?;
    checkpoint.add("state.json", format!("state {step}").as_bytes())?;
    checkpoint.add("weights.safetensors", &vec![step as u8; 1000])?;
    checkpoint.commit()?;
    run.write_atomic("front.json", format!("front {step}").as_bytes())
}

const STEPS: u64 = 4;

/// The whole of a small run from wherever it stands, as a search drives it.
fn drive(path: &Path, storage: Arc<dyn Storage>) -> Result<()> {
    let run = RunDirectory::open_on(path, storage)?;
    let mut journal = run.journal()?;
    let mut curves = run.curves("search")?;
    let mut cache = run.cache("cache.jsonl")?;
    assert!(cache.warning().is_none());
    let restored = run.latest_checkpoint("search")?;
    assert!(restored.warnings.is_empty(), "{:?}", restored.warnings);
    let done = restored.checkpoint.as_ref().map(Checkpoint::step);
    if let Some(checkpoint) = &restored.checkpoint {
        let step = checkpoint.step();
        assert_eq!(checkpoint.read("state.json")?, format!("state {step}").as_bytes());
        assert_eq!(checkpoint.read("weights.safetensors")?, vec![step as u8; 1000]);
        run.write_atomic("front.json", format!("front {step}").as_bytes())?;
    }
    journal.rewind("search", done)?;
    curves.rewind(done)?;
    for step in done.map_or(0, |done| done + 1)..STEPS {
        work(&run, &mut journal, &mut curves, &mut cache, step)?;
    }
    Ok(())
}

/// What a finished run holds that crashed so many times, but for its time stamps.
fn outcome(path: &Path, crashes: usize) -> (Vec<String>, Vec<(u64, String)>, String) {
    let file = fs::read(path.join("tensorboard/search/events.out.tfevents.1.natv2")).unwrap();
    let curves: Vec<(u64, f32)> =
        curves::scalars(&file).iter().map(|(step, values)| (*step, values[0].1)).collect();
    assert_eq!(curves, (0..STEPS).map(|step| (step, (1.0 / (1.0 + step as f64)) as f32)).collect::<Vec<_>>());
    let run = RunDirectory::open_on(path, Faulty::recorder()).unwrap();
    let mut names = list(path).unwrap();
    // A crash between a commit and its tidying leaves one more, older.
    let checkpoints = list(&path.join("checkpoints/search")).unwrap();
    assert!(checkpoints.len() <= 2 + crashes, "{checkpoints:?}");
    names.extend_from_slice(&checkpoints[checkpoints.len() - 2..]);
    let events = run.journal().unwrap().events().iter().map(|e| (e.step, e.data.to_string())).collect();
    assert_eq!(run.cache("cache.jsonl").unwrap().len() as u64, STEPS);
    let newest = run.latest_checkpoint("search").unwrap().checkpoint.unwrap();
    assert_eq!(newest.read("weights.safetensors").unwrap(), [STEPS as u8 - 1; 1000]);
    (names, events, String::from_utf8(run.read("front.json").unwrap().unwrap()).unwrap())
}

#[test]
fn a_run_is_the_same_after_a_crash_or_a_full_disk_at_any_operation() {
    let undisturbed = folder();
    let recorder = Faulty::recorder();
    drive(undisturbed.path(), recorder.clone()).unwrap();
    let expected = outcome(undisturbed.path(), 0);
    assert_eq!(expected.1.len() as u64, STEPS);
    let operations = recorder.count();
    assert!(operations > 60, "{operations}");

    for (fault, quarters) in [(Fault::Crash, 0), (Fault::Crash, 3), (Fault::Crash, 4), (Fault::Full, 2)] {
        for at in 0..operations {
            let disturbed = folder();
            let faulty = Faulty::new(at, fault, quarters);
            let failed = drive(disturbed.path(), faulty.clone());
            match &failed {
                Err(Error::NoSpace { path, .. }) => {
                    assert_eq!(fault, Fault::Full);
                    assert!(path.starts_with(disturbed.path()), "{path:?}");
                }
                Err(_) => assert_eq!(fault, Fault::Crash, "{:?}", faulty.log.lock().unwrap()[at]),
                // Tidying up may fail without harm; and a full disk is not met by the last removals.
                Ok(()) => {}
            }
            drive(disturbed.path(), Faulty::recorder())
                .unwrap_or_else(|error| panic!("{fault:?} {quarters}/4 at {at}: {error}"));
            assert_eq!(outcome(disturbed.path(), 1), expected, "{fault:?} {quarters}/4 at {at}");
        }
    }
}

#[test]
fn a_run_survives_crash_upon_crash() {
    let undisturbed = folder();
    drive(undisturbed.path(), Faulty::recorder()).unwrap();
    let expected = outcome(undisturbed.path(), 0);
    for stride in [13, 22, 31] {
        let disturbed = folder();
        let mut crashes = 0;
        while drive(disturbed.path(), Faulty::new(stride, Fault::Crash, 1 + crashes % 3)).is_err() {
            crashes += 1;
            if crashes == 40 {
                break;
            }
        }
        assert!(crashes > 1, "stride {stride}");
        drive(disturbed.path(), Faulty::recorder()).unwrap();
        assert_eq!(outcome(disturbed.path(), crashes), expected, "stride {stride}");
    }
}

#[test]
fn replacing_a_file_forces_it_to_disk_before_and_its_name_after_the_rename() {
    let dir = folder();
    let recorder = Faulty::recorder();
    let run = RunDirectory::open_on(dir.path(), recorder.clone()).unwrap();
    let start = recorder.count();
    run.write_atomic("front.json", b"{}").unwrap();
    let name = dir.path().file_name().unwrap().to_string_lossy().into_owned();
    let log = recorder.log.lock().unwrap()[start..].to_vec();
    assert_eq!(log, ["write .front.json.new", "rename front.json", &format!("syncdir {name}")]);
}

#[test]
fn a_new_directory_says_its_version_and_is_reopened() {
    let dir = folder();
    let path = dir.path().join("runs/search-1");
    let run = RunDirectory::open(&path).unwrap();
    assert!(run.is_new());
    assert_eq!(fs::read_to_string(path.join("version")).unwrap(), "natv2 run 1\n");
    assert_eq!(run.read("front.json").unwrap(), None);
    run.write_atomic("front.json", b"one").unwrap();
    run.write_atomic("front.json", b"two").unwrap();
    drop(run);
    let run = RunDirectory::open(&path).unwrap();
    assert!(!run.is_new());
    assert_eq!(run.read("front.json").unwrap().unwrap(), b"two");
    assert_eq!(list(&path).unwrap(), ["front.json", "lock", "version"]);
    check(&path).unwrap();
}

#[test]
fn a_second_user_of_a_run_is_refused_and_told_who_has_it() {
    let dir = folder();
    let run = RunDirectory::open(dir.path()).unwrap();
    let error = RunDirectory::open(dir.path()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::InUse { .. }));
    assert_eq!(error.exit(), Exit::Failure);
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    assert!(text.contains("--run") && text.contains(&dir.path().display().to_string()), "{text}");
    assert_eq!(holder(dir.path()).unwrap().unwrap().process, Some(std::process::id()));
    drop(run);
    assert_eq!(holder(dir.path()).unwrap(), None);
    RunDirectory::open(dir.path()).unwrap();
}

#[test]
fn an_unreadable_lock_file_still_locks() {
    let dir = folder();
    let _run = RunDirectory::open(dir.path()).unwrap();
    fs::write(dir.path().join("lock"), [0xff, 0xfe, 0x00]).unwrap();
    let text = RunDirectory::open(dir.path()).unwrap_err().to_string();
    assert!(text.contains("in use by another process"), "{text}");
}

#[test]
fn foreign_folders_files_and_versions_are_refused_untouched() {
    let dir = folder();
    fs::write(dir.path().join("thesis.tex"), "x").unwrap();
    let error = RunDirectory::open(dir.path()).unwrap_err();
    assert!(matches!(error, Error::NotARun { .. }), "{error}");
    assert_eq!(error.exit(), Exit::Usage);
    assert_eq!(list(dir.path()).unwrap(), ["thesis.tex"]);

    let error = RunDirectory::open(&dir.path().join("thesis.tex")).unwrap_err();
    assert!(error.to_string().contains("it is a file"), "{error}");
    let error = RunDirectory::open(&dir.path().join("thesis.tex/run")).unwrap_err();
    assert!(error.to_string().contains("thesis.tex/run"), "{error}");

    for (text, said) in [("natv2 run 2\n", "version 2"), ("something", "not a run's"), ("", "not a run's")] {
        let other = folder();
        fs::write(other.path().join("version"), text).unwrap();
        let error = RunDirectory::open(other.path()).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("version"), "{error}");
        assert_eq!(list(other.path()).unwrap(), ["version"]);
        assert!(check(other.path()).is_err());
    }
    let missing = check(&dir.path().join("nowhere")).unwrap_err().to_string();
    assert!(missing.contains("there is no such folder"), "{missing}");
    assert!(check(dir.path()).unwrap_err().to_string().contains("no file `version`"));
}

#[test]
fn names_are_plain_file_names() {
    let dir = folder();
    let run = RunDirectory::open(dir.path()).unwrap();
    for name in ["", ".", "..", "../x", "a/b", "/etc/x", ".hidden", "-x", "a b", "a\0", "é", &"x".repeat(101)]
    {
        assert!(matches!(run.write_atomic(name, b"").unwrap_err(), Error::BadName { .. }), "{name:?}");
        assert!(matches!(run.read(name).unwrap_err(), Error::BadName { .. }), "{name:?}");
        assert!(matches!(run.checkpoint(name, 0).unwrap_err(), Error::BadName { .. }), "{name:?}");
    }
    let mut checkpoint = run.checkpoint("search", 1).unwrap();
    checkpoint.add("a", b"").unwrap();
    for name in ["a", "manifest.json", "../a"] {
        assert!(matches!(checkpoint.add(name, b"").unwrap_err(), Error::BadName { .. }), "{name:?}");
    }
}

#[test]
fn errors_of_the_system_say_what_to_do() {
    let path = Path::new("/data/run/journal.jsonl");
    // ENOSPC, EDQUOT; EACCES, EPERM, EROFS; EIO, as Linux numbers them.
    for (number, words) in [
        (28, "free some space"),
        (122, "free some space"),
        (13, "writable"),
        (1, "writable"),
        (30, "writable"),
        (5, "cannot write"),
    ] {
        let text = Error::io("write", path, io::Error::from_raw_os_error(number)).to_string();
        assert!(text.contains(words) && text.contains("/data/run/journal.jsonl"), "{number}: {text}");
    }
    let text = Error::io("read", path, io::Error::from_raw_os_error(13)).to_string();
    assert!(text.starts_with("cannot read /data/run/journal.jsonl"), "{text}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_device_is_no_space() {
    let mut appender = appender::Appender::open(Path::new("/dev/full"), 0, Arc::new(Disk)).unwrap();
    for _ in 0..2 {
        let error = appender.append("a line\n").unwrap_err();
        // The second finds a file that cannot be cut, and says so.
        assert!(error.to_string().contains("/dev/full"), "{error}");
    }
    let file = File::options().append(true).open("/dev/full").unwrap();
    let error = Error::io("write", Path::new("x"), Disk.append(&file, b"x").unwrap_err());
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
}

#[test]
fn a_stop_is_shared_by_clones_and_the_first_asker_is_kept() {
    let stop = StopFlag::new();
    let clone = stop.clone();
    assert!(!clone.requested());
    stop.request();
    assert!(clone.requested());
    assert_eq!(clone.signal(), None);
}

#[test]
fn a_file_that_holds_the_bytes_already_is_not_written_again() {
    let dir = folder();
    let recorder = Faulty::recorder();
    let run = RunDirectory::open_on(dir.path(), recorder.clone()).unwrap();
    let name = dir.path().file_name().unwrap().to_str().unwrap();
    run.write_atomic("front.json", b"one").unwrap();
    let before = recorder.count();
    run.write_atomic("front.json", b"one").unwrap();
    assert_eq!(recorder.log.lock().unwrap()[before..], [format!("syncdir {name}")]);
    for bytes in [&b"two"[..], b"longer", b""] {
        run.write_atomic("front.json", bytes).unwrap();
        assert_eq!(fs::read(dir.path().join("front.json")).unwrap(), bytes);
    }
}

#[test]
fn a_run_that_cannot_be_written_is_read_and_refuses_every_change() {
    let dir = folder();
    drive(dir.path(), Arc::new(Disk)).unwrap();
    fs::write(dir.path().join(".half.new"), "left over").unwrap();
    let everything = || -> Vec<(String, Vec<u8>)> {
        let names = list(dir.path()).unwrap().into_iter();
        names.filter_map(|name| fs::read(dir.path().join(&name)).ok().map(|bytes| (name, bytes))).collect()
    };
    let before = everything();
    let open = || {
        RunDirectory::open_read_only(dir.path(), ReadOnlyStorage::new(&ErrorKind::ReadOnlyFilesystem.into()))
    };
    let run = open().unwrap();
    let mut journal = run.journal().unwrap();
    assert_eq!(journal.events().len() as u64, STEPS);
    assert_eq!(journal.rewind("search", Some(STEPS - 1)).unwrap(), 0);
    let mut curves = run.curves("search").unwrap();
    assert_eq!(curves.rewind(Some(STEPS - 1)).unwrap(), 0);
    let mut cache = run.cache("cache.jsonl").unwrap();
    assert_eq!((cache.len() as u64, cache.sync().is_ok()), (STEPS, true));
    assert_eq!(run.latest_checkpoint("search").unwrap().checkpoint.unwrap().step(), STEPS - 1);
    let front = run.read("front.json").unwrap().unwrap();
    run.write_atomic("front.json", &front).unwrap();
    run.write_where_possible("front.json", b"another page").unwrap();
    let refused: [Result<()>; 8] = [
        run.check_writable(),
        run.write_atomic("front.json", b"other"),
        run.write_atomic("new.json", b""),
        journal.append("search", STEPS, "candidates", &0),
        journal.rewind("search", Some(0)).map(drop),
        curves.add(STEPS, &[("loss", 1.0)]),
        cache.insert("key", &1),
        run.checkpoint("search", STEPS).map(drop),
    ];
    for result in refused {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::ReadOnly { .. }) && error.to_string().contains("--run"), "{error}");
    }
    assert!(matches!(run.curves("other").unwrap_err(), Error::ReadOnly { .. }));
    assert_eq!(everything(), before);
    // Someone else may be at work on it.
    let other = RunDirectory::open(dir.path()).unwrap();
    assert!(matches!(open().unwrap_err(), Error::InUse { .. }));
    drop(other);
    open().unwrap();
}
