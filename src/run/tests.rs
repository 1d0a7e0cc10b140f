//! Tests of the run directory: what is left after a crash or a full disk at every single
//! operation, after a tear at every byte, and what is said about damage.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Mutex;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// A storage that fails at one operation, and what happens then.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// The process dies: what was being written is there in part, nothing happens afterwards.
    Crash,
    /// The disk is full from there on: writing fails, the rest works.
    Full,
}

#[derive(Debug)]
struct Faulty {
    at: usize,
    fault: Fault,
    /// Share of the bytes of the failing write that still get through, in quarters.
    quarters: usize,
    log: Mutex<Vec<String>>,
}

impl Faulty {
    fn new(at: usize, fault: Fault, quarters: usize) -> Arc<Self> {
        Arc::new(Self { at, fault, quarters, log: Mutex::default() })
    }

    fn recorder() -> Arc<Self> {
        Self::new(usize::MAX, Fault::Crash, 0)
    }

    fn count(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    /// Counts an operation; whether it goes through, or how many of `bytes` do.
    fn step(&self, name: &str, path: &Path, bytes: Option<&[u8]>) -> Result<(), (usize, io::Error)> {
        let mut log = self.log.lock().unwrap();
        let now = log.len();
        let short = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        log.push(format!("{name} {short}"));
        let part = bytes.map_or(0, |bytes| bytes.len() * self.quarters / 4);
        match self.fault {
            Fault::Crash if now == self.at => Err((part, ErrorKind::Other.into())),
            Fault::Crash if now > self.at => Err((0, ErrorKind::Other.into())),
            Fault::Full if now == self.at && bytes.is_some() => Err((part, ErrorKind::StorageFull.into())),
            Fault::Full if now > self.at && bytes.is_some() => Err((0, ErrorKind::StorageFull.into())),
            _ => Ok(()),
        }
    }

    fn plain(&self, name: &str, path: &Path, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.step(name, path, None).map_err(|(_, error)| error)?;
        act()
    }
}

impl Storage for Faulty {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.plain("mkdir", path, || Disk.create_dir_all(path))
    }
    fn write_synced(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        match self.step("write", path, Some(bytes)) {
            Ok(()) => Disk.write_synced(path, bytes),
            Err((0, error)) => Err(error),
            Err((part, error)) => Disk.write_synced(path, &bytes[..part]).and(Err(error)),
        }
    }
    fn append(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        match self.step("append", Path::new("file"), Some(bytes)) {
            Ok(()) => Disk.append(file, bytes),
            Err((part, error)) => Disk.append(file, &bytes[..part]).and(Err(error)),
        }
    }
    fn sync(&self, file: &File) -> io::Result<()> {
        self.plain("sync", Path::new("file"), || Disk.sync(file))
    }
    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        self.plain("truncate", Path::new("file"), || Disk.truncate(file, length))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.plain("rename", to, || Disk.rename(from, to))
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.plain("syncdir", path, || Disk.sync_dir(path))
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.plain("remove", path, || Disk.remove_file(path))
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        // A crash in the middle of this leaves some of the files.
        if self.step("rmdir", path, None).is_err() {
            if self.fault == Fault::Crash
                && self.count() == self.at + 1
                && let Some(name) = list(path).unwrap_or_default().first()
            {
                fs::remove_file(path.join(name))?;
            }
            return Err(ErrorKind::Other.into());
        }
        Disk.remove_dir_all(path)
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A step of work: events, cached results, a checkpoint of two files, a result.
fn work(run: &RunDirectory, journal: &mut Journal, cache: &mut Cache, step: u64) -> Result<()> {
    journal.append("search", step, "candidates", &vec![step; 3])?;
    cache.insert(&format!("key {step}"), &(step as f64 / 3.0))?;
    cache.sync()?;
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
    for step in done.map_or(0, |done| done + 1)..STEPS {
        work(&run, &mut journal, &mut cache, step)?;
    }
    Ok(())
}

/// What a finished run holds, but for its time stamps.
fn outcome(path: &Path) -> (Vec<String>, Vec<(u64, String)>, String) {
    let run = RunDirectory::open(path).unwrap();
    let mut names = list(path).unwrap();
    // A crash between the last commit and its tidying leaves one more, older.
    let checkpoints = list(&path.join("checkpoints/search")).unwrap();
    assert!(checkpoints.len() <= 3, "{checkpoints:?}");
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
    let expected = outcome(undisturbed.path());
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
            drive(disturbed.path(), Arc::new(Disk))
                .unwrap_or_else(|error| panic!("{fault:?} {quarters}/4 at {at}: {error}"));
            assert_eq!(outcome(disturbed.path()), expected, "{fault:?} {quarters}/4 at {at}");
        }
    }
}

#[test]
fn a_run_survives_crash_upon_crash() {
    let undisturbed = folder();
    drive(undisturbed.path(), Arc::new(Disk)).unwrap();
    let expected = outcome(undisturbed.path());
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
        drive(disturbed.path(), Arc::new(Disk)).unwrap();
        assert_eq!(outcome(disturbed.path()), expected, "stride {stride}");
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
fn a_checkpoint_is_renamed_only_after_its_manifest_and_pruned_only_after_its_rename() {
    let dir = folder();
    let recorder = Faulty::recorder();
    let run = RunDirectory::open_on(dir.path(), recorder.clone()).unwrap();
    for step in 0..3 {
        let mut checkpoint = run.checkpoint("train", step).unwrap();
        checkpoint.add("a", b"1").unwrap();
        checkpoint.commit().unwrap();
    }
    let log = recorder.log.lock().unwrap();
    let tail = &log[log.len() - 7..];
    assert_eq!(
        tail,
        [
            "write a",
            "write manifest.json",
            "syncdir .new-2",
            "rename 00000002",
            "syncdir train",
            "rename .drop-0",
            "rmdir .drop-0"
        ]
    );
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
fn write_atomic_replaces_any_file_and_leaves_it_alone_when_it_cannot() {
    let dir = folder();
    let file = dir.path().join("report.html");
    write_atomic(&file, b"one").unwrap();
    write_atomic(&file, b"two").unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"two");
    assert_eq!(list(dir.path()).unwrap(), ["report.html"]);
    let error = write_atomic(&dir.path().join("missing/report.html"), b"x").unwrap_err();
    assert!(error.to_string().contains("missing/report.html"), "{error}");
    fs::create_dir(dir.path().join("folder")).unwrap();
    assert!(write_atomic(&dir.path().join("folder"), b"x").is_err());
    assert_eq!(list(dir.path()).unwrap(), ["folder", "report.html"]);
}

// Journal.

fn journal_of(path: &Path) -> Result<Journal> {
    Journal::open(path, Arc::new(Disk))
}

#[test]
fn events_come_back_in_order_and_rewinding_voids_later_steps_of_one_stage() {
    let dir = folder();
    let path = dir.path().join("journal.jsonl");
    let mut journal = journal_of(&path).unwrap();
    journal.append("train", 9, "epoch", &0.1).unwrap();
    for step in 0..4 {
        journal.append("search", step, "iteration", &step).unwrap();
    }
    assert_eq!(journal.rewind("search", Some(1)).unwrap(), 2);
    assert_eq!(journal.rewind("search", Some(1)).unwrap(), 0);
    journal.append("search", 2, "again", &"line\nbreak").unwrap();
    let expected = journal.events().to_vec();
    let steps: Vec<_> = expected.iter().map(|e| (e.stage.as_str(), e.step, e.kind.as_str())).collect();
    assert_eq!(
        steps,
        [
            ("train", 9, "epoch"),
            ("search", 0, "iteration"),
            ("search", 1, "iteration"),
            ("search", 2, "again")
        ]
    );
    drop(journal);
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 7);
    let mut journal = journal_of(&path).unwrap();
    assert_eq!(journal.events(), expected);
    assert_eq!(journal.warning(), None);
    assert_eq!(journal.rewind("search", None).unwrap(), 3);
    assert_eq!(journal_of(&path).unwrap().events(), &expected[..1]);
    assert!(matches!(journal.append("search", 0, "rewind", &0).unwrap_err(), Error::BadName { .. }));
}

#[test]
fn a_journal_cut_at_any_byte_keeps_its_whole_lines_and_goes_on() {
    let dir = folder();
    let path = dir.path().join("journal.jsonl");
    let mut journal = journal_of(&path).unwrap();
    for step in 0..3 {
        journal.append("search", step, "iteration", &serde_json::json!({"hv": 0.1 + step as f64})).unwrap();
    }
    let events = journal.events().to_vec();
    drop(journal);
    let bytes = fs::read(&path).unwrap();
    for cut in 0..=bytes.len() {
        fs::write(&path, &bytes[..cut]).unwrap();
        let whole = bytes[..cut].iter().filter(|&&b| b == b'\n').count();
        assert_eq!(read(&path), events[..whole], "cut at {cut}");
        let mut journal = journal_of(&path).unwrap();
        let torn = cut > 0 && bytes[cut - 1] != b'\n';
        assert_eq!(journal.warning().is_some(), torn, "cut at {cut}");
        journal.append("search", 7, "more", &cut).unwrap();
        assert_eq!(journal_of(&path).unwrap().events().len(), whole + 1, "cut at {cut}");
    }
    fn read(path: &Path) -> Vec<Event> {
        super::journal::read(path).unwrap()
    }
}

#[test]
fn every_changed_byte_of_a_journal_is_noticed_and_its_line_named() {
    let dir = folder();
    let path = dir.path().join("journal.jsonl");
    let mut journal = journal_of(&path).unwrap();
    for step in 0..3 {
        journal.append("search", step, "iteration", &step).unwrap();
    }
    drop(journal);
    let bytes = fs::read(&path).unwrap();
    for at in 0..bytes.len() - 1 {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        fs::write(&path, &changed).unwrap();
        let error = journal_of(&path).unwrap_err();
        let line = bytes[..at].iter().filter(|&&b| b == b'\n').count() + 1;
        let Error::Damaged { line: Some(found), .. } = &error else { panic!("byte {at}: {error}") };
        assert_eq!(*found, line, "byte {at}: {error}");
        assert_eq!(fs::read(&path).unwrap(), changed, "a damaged journal is left as it is");
    }
    let text = journal_of(&path).unwrap_err().to_string();
    assert!(text.contains("journal.jsonl, line 3: damaged"), "{text}");
}

#[test]
fn missing_repeated_and_foreign_lines_of_a_journal_are_errors() {
    let dir = folder();
    let path = dir.path().join("journal.jsonl");
    let mut journal = journal_of(&path).unwrap();
    for step in 0..3 {
        journal.append("search", step, "iteration", &step).unwrap();
    }
    drop(journal);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let foreign = line::seal(&serde_json::json!({"version": 2, "what": 1})).unwrap();
    let partial = line::seal(&serde_json::json!({"version": 1, "sequence": 0})).unwrap();
    let cases = [
        (format!("{}{}", lines[0], lines[2]), "line 2: damaged: event 2 where 1 belongs"),
        (format!("{}{}", lines[0], lines[0]), "line 2: damaged: event 0 where 1 belongs"),
        (format!("{}\n{}", lines[0], lines[1]), "line 2: damaged: too short"),
        (format!("{}garbage\n", lines[0]), "line 2: damaged: too short"),
        (partial, "line 1: damaged: missing field"),
        (foreign, "version 2 of the run directory's format"),
    ];
    for (text, said) in cases {
        fs::write(&path, &text).unwrap();
        let error = journal_of(&path).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("journal.jsonl"), "{error}");
    }
}

#[test]
fn a_journal_goes_on_after_a_failed_write() {
    let dir = folder();
    let path = dir.path().join("journal.jsonl");
    let once = Once(Mutex::new(1));
    let mut journal = Journal::open(&path, Arc::new(once)).unwrap();
    journal.append("search", 0, "kept", &0).unwrap_err();
    journal.append("search", 0, "kept", &1).unwrap();
    let again = journal_of(&path).unwrap();
    assert_eq!(again.events(), journal.events());
    assert_eq!(again.events()[0].data, 1);

    /// Fails the first append after half of it, and the first truncation.
    #[derive(Debug)]
    struct Once(Mutex<u32>);
    impl Storage for Once {
        fn create_dir_all(&self, path: &Path) -> io::Result<()> {
            Disk.create_dir_all(path)
        }
        fn write_synced(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
            Disk.write_synced(path, bytes)
        }
        fn append(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
            if *self.0.lock().unwrap() == 1 {
                *self.0.lock().unwrap() = 2;
                Disk.append(file, &bytes[..bytes.len() / 2])?;
                return Err(ErrorKind::StorageFull.into());
            }
            Disk.append(file, bytes)
        }
        fn sync(&self, file: &File) -> io::Result<()> {
            Disk.sync(file)
        }
        fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
            let mut state = self.0.lock().unwrap();
            if *state == 2 {
                *state = 3;
                return Err(ErrorKind::Other.into());
            }
            Disk.truncate(file, length)
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            Disk.rename(from, to)
        }
        fn sync_dir(&self, path: &Path) -> io::Result<()> {
            Disk.sync_dir(path)
        }
        fn remove_file(&self, path: &Path) -> io::Result<()> {
            Disk.remove_file(path)
        }
        fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
            Disk.remove_dir_all(path)
        }
    }
}

// Cache.

fn cache_of(path: &Path) -> Cache {
    Cache::open(path, Arc::new(Disk)).unwrap()
}

#[test]
fn a_cache_keeps_values_to_the_bit_and_the_last_of_a_key() {
    let dir = folder();
    let path = dir.path().join("cache.jsonl");
    let mut cache = cache_of(&path);
    assert!(cache.is_empty());
    let values = [0.1, 1.0 / 3.0, f64::MIN_POSITIVE, 5e-324, f64::MAX, -0.0];
    for (at, value) in values.iter().enumerate() {
        cache.insert(&format!("k{at}"), value).unwrap();
    }
    cache.insert("k0", &0.2).unwrap();
    cache.insert("odd \"key\"\n", &vec![1, 2]).unwrap();
    cache.sync().unwrap();
    let cache = cache_of(&path);
    assert_eq!(cache.len(), values.len() + 1);
    assert_eq!(cache.get::<f64>("k0"), Some(0.2));
    for (at, value) in values.iter().enumerate().skip(1) {
        assert_eq!(cache.get::<f64>(&format!("k{at}")).unwrap().to_bits(), value.to_bits());
    }
    assert_eq!(cache.get::<Vec<u8>>("odd \"key\"\n"), Some(vec![1, 2]));
    assert_eq!(cache.get::<f64>("odd \"key\"\n"), None);
    assert_eq!(cache.get::<f64>("none"), None);
}

#[test]
fn a_cache_skips_damaged_lines_and_keeps_the_others_at_every_byte() {
    let dir = folder();
    let path = dir.path().join("cache.jsonl");
    let mut cache = cache_of(&path);
    for key in ["a", "b", "c"] {
        cache.insert(key, &key).unwrap();
    }
    drop(cache);
    let bytes = fs::read(&path).unwrap();
    let length = bytes.len() / 3;
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x40;
        fs::write(&path, &changed).unwrap();
        let mut cache = cache_of(&path);
        let torn = at == bytes.len() - 1;
        assert_eq!(cache.warning().is_none(), torn, "byte {at}");
        // A changed line end joins two lines and loses both.
        assert!(cache.len() == 2 || (at % length == length - 1 && cache.len() == 1), "byte {at}");
        for key in ["a", "b", "c"] {
            assert!(cache.get::<String>(key).is_none_or(|value| value == key));
        }
        cache.insert("d", &"d").unwrap();
        assert_eq!(cache_of(&path).get::<String>("d").unwrap(), "d", "byte {at}");
    }
    fs::write(&path, [b"x\n".as_slice(), &bytes[..2 * length], b"\xff\xff\n"].concat()).unwrap();
    let cache = cache_of(&path);
    assert_eq!(cache.len(), 2);
    let warning = cache.warning().unwrap();
    assert!(warning.contains("2 of 4 lines") && warning.contains("line 1"), "{warning}");
}

// Checkpoints.

fn commit(run: &RunDirectory, stage: &str, step: u64, text: &str) {
    let mut checkpoint = run.checkpoint(stage, step).unwrap();
    checkpoint.add("state.json", text.as_bytes()).unwrap();
    checkpoint.add("random.json", b"[1,2,3]").unwrap();
    checkpoint.commit().unwrap();
}

#[test]
fn the_newest_two_checkpoints_of_each_stage_are_kept() {
    let dir = folder();
    let run = RunDirectory::open(dir.path()).unwrap();
    assert!(run.latest_checkpoint("search").unwrap().checkpoint.is_none());
    for step in [0, 9, 10, 123_456_789, u64::MAX] {
        commit(&run, "search", step, &format!("{step}"));
    }
    commit(&run, "train", 3, "three");
    let names = list(&dir.path().join("checkpoints/search")).unwrap();
    assert_eq!(names, ["123456789", "18446744073709551615"]);
    let newest = run.latest_checkpoint("search").unwrap().checkpoint.unwrap();
    assert_eq!(newest.step(), u64::MAX);
    assert_eq!(newest.names().collect::<Vec<_>>(), ["state.json", "random.json"]);
    assert_eq!(newest.read("random.json").unwrap(), b"[1,2,3]");
    assert!(newest.read("none").unwrap_err().to_string().contains("no such file"));
    assert_eq!(run.latest_checkpoint("train").unwrap().checkpoint.unwrap().step(), 3);
}

#[test]
fn a_checkpoint_that_is_dropped_leaves_nothing_and_one_of_the_same_step_is_replaced() {
    let dir = folder();
    let run = RunDirectory::open(dir.path()).unwrap();
    commit(&run, "search", 1, "first");
    let mut dropped = run.checkpoint("search", 2).unwrap();
    dropped.add("state.json", b"x").unwrap();
    drop(dropped);
    assert_eq!(list(&dir.path().join("checkpoints/search")).unwrap(), ["00000001"]);
    commit(&run, "search", 1, "second");
    let newest = run.latest_checkpoint("search").unwrap().checkpoint.unwrap();
    assert_eq!(newest.read("state.json").unwrap(), b"second");
    assert_eq!(list(&dir.path().join("checkpoints/search")).unwrap(), ["00000001"]);
}

#[test]
fn checkpoints_of_a_later_step_go_when_an_earlier_one_is_committed() {
    let dir = folder();
    let run = RunDirectory::open(dir.path()).unwrap();
    commit(&run, "search", 4, "four");
    commit(&run, "search", 5, "five");
    // As after a damaged 5: the run went back to 4, and 5 must not win over what follows.
    commit(&run, "search", 4, "four again");
    let newest = run.latest_checkpoint("search").unwrap().checkpoint.unwrap();
    assert_eq!(newest.read("state.json").unwrap(), b"four again");
}

#[test]
fn replacing_a_checkpoint_survives_a_crash_at_any_operation() {
    for at in 0.. {
        let dir = folder();
        let run = RunDirectory::open(dir.path()).unwrap();
        commit(&run, "search", 1, "old");
        drop(run);
        let faulty = Faulty::new(at, Fault::Crash, 2);
        let replace = |storage| -> Result<()> {
            let run = RunDirectory::open_on(dir.path(), storage)?;
            let mut checkpoint = run.checkpoint("search", 1)?;
            checkpoint.add("state.json", b"new")?;
            checkpoint.commit()
        };
        let done = replace(faulty.clone()).is_ok();
        let run = RunDirectory::open(dir.path()).unwrap();
        let found = run.latest_checkpoint("search").unwrap();
        let text = found.checkpoint.unwrap().read("state.json").unwrap();
        assert!(text == b"new" || (!done && text == b"old"), "{at}");
        assert_eq!(list(&dir.path().join("checkpoints/search")).unwrap(), ["00000001"], "{at}");
        if faulty.count() <= at {
            assert!(at > 8);
            break;
        }
    }
}

#[test]
fn a_damaged_checkpoint_is_passed_over_and_the_last_one_is_an_error() {
    let dir = folder();
    let run = RunDirectory::open(dir.path()).unwrap();
    commit(&run, "search", 1, "one one one");
    commit(&run, "search", 2, "two two two");
    let folder_of = |step: u64| dir.path().join(format!("checkpoints/search/{step:08}"));
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 6] = [
        ("bytes where", |path| fs::write(path.join("state.json"), "two").unwrap()),
        ("SHA-256", |path| fs::write(path.join("state.json"), "two two twO").unwrap()),
        ("missing", |path| fs::remove_file(path.join("state.json")).unwrap()),
        ("missing", |path| fs::remove_file(path.join("manifest.json")).unwrap()),
        ("not a manifest", |path| fs::write(path.join("manifest.json"), "{").unwrap()),
        ("it is of search 7", |path| {
            let file = path.join("manifest.json");
            let text = fs::read_to_string(&file).unwrap().replace("\"step\": ", "\"step\": 7, \"was\": ");
            fs::write(file, text).unwrap();
        }),
    ];
    for (said, damage) in damages {
        commit(&run, "search", 2, "two two two");
        damage(&folder_of(2));
        let found = run.latest_checkpoint("search").unwrap();
        assert_eq!(found.checkpoint.unwrap().step(), 1, "{said}");
        assert_eq!(found.warnings.len(), 1);
        assert!(
            found.warnings[0].contains(said) && found.warnings[0].contains("00000002"),
            "{:?}",
            found.warnings
        );
    }
    fs::write(folder_of(1).join("random.json"), "").unwrap();
    let error = run.latest_checkpoint("search").unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }) && error.to_string().contains("00000002"), "{error}");

    // A path in a manifest must not lead out of the checkpoint.
    commit(&run, "search", 3, "three");
    let file = folder_of(3).join("manifest.json");
    let text = fs::read_to_string(&file).unwrap().replace("\"state.json\"", "\"../../../version\"");
    fs::write(&file, text).unwrap();
    assert!(run.latest_checkpoint("search").unwrap_err().to_string().contains("00000003"));
}

#[test]
fn a_checkpoint_that_changes_after_it_was_found_is_noticed() {
    let dir = folder();
    let run = RunDirectory::open(dir.path()).unwrap();
    commit(&run, "search", 1, "state");
    let checkpoint = run.latest_checkpoint("search").unwrap().checkpoint.unwrap();
    fs::write(checkpoint.path().join("state.json"), "STATE").unwrap();
    assert!(checkpoint.read("state.json").unwrap_err().to_string().contains("changed"));
}

// Sealed lines.

proptest! {
    #[test]
    fn any_value_comes_back_from_its_line(key in ".*", numbers in prop::collection::vec(any::<f64>(), 0..4)) {
        let numbers: Vec<f64> = numbers.into_iter().filter(|x| x.is_finite()).collect();
        let object = serde_json::json!({"key": key, "numbers": numbers});
        let sealed = line::seal(&object).unwrap();
        prop_assert_eq!(sealed.matches('\n').count(), 1);
        // The whole line is itself JSON, for other tools.
        serde_json::from_str::<serde_json::Value>(&sealed).unwrap();
        let text = line::unseal(sealed.trim_end_matches('\n').as_bytes()).unwrap();
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), object);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let dir = folder();
        let path = dir.path().join("file.jsonl");
        fs::write(&path, &bytes).unwrap();
        let lines = bytes.iter().filter(|&&b| b == b'\n').count();
        prop_assert_eq!(journal_of(&path).is_ok(), lines == 0);
        fs::write(&path, &bytes).unwrap();
        prop_assert_eq!(cache_of(&path).len(), 0);
    }

    #[test]
    fn a_journal_torn_anywhere_twice_is_a_prefix_of_what_was_written(
        kinds in prop::collection::vec("[a-z]{1,9}", 1..8), first in 0.0..1.0f64, second in 0.0..1.0f64,
    ) {
        let dir = folder();
        let path = dir.path().join("journal.jsonl");
        let mut written: Vec<String> = Vec::new();
        for cut in [first, second] {
            let mut journal = journal_of(&path).unwrap();
            written.truncate(journal.events().len());
            for kind in kinds.iter().filter(|kind| *kind != "rewind") {
                journal.append("search", 0, kind, kind).unwrap();
                written.push(kind.clone());
            }
            let length = fs::metadata(&path).unwrap().len();
            File::options().write(true).open(&path).unwrap().set_len((length as f64 * cut) as u64).unwrap();
            let found: Vec<String> = journal_of(&path).unwrap().events().iter().map(|e| e.kind.clone()).collect();
            prop_assert_eq!(&found[..], &written[..found.len()]);
        }
    }
}

// Signals and codes.

#[test]
fn exit_codes_are_those_of_the_contract() {
    let codes = [Exit::Done, Exit::Failure, Exit::Usage, Exit::Stopped, Exit::Aborted].map(|exit| exit as u8);
    assert_eq!(codes, [0, 1, 2, 75, 130]);
    assert_eq!(std::process::ExitCode::from(Exit::Stopped), std::process::ExitCode::from(75));
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
