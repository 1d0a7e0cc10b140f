//! Tests of the files of sealed lines: the journal and the caches.

use proptest::prelude::*;

use super::*;

fn journal_of(path: &Path) -> Result<Journal> {
    Journal::open(path, Faulty::recorder())
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

fn cache_of(path: &Path) -> Cache {
    Cache::open(path, Faulty::recorder()).unwrap()
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
