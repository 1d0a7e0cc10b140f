//! Tests of checkpoints.

use super::*;

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

fn commit_proven(run: &RunDirectory, stage: &str, step: u64) {
    let mut checkpoint = run.checkpoint(stage, step).unwrap().proven();
    checkpoint.add("state.json", b"proven").unwrap();
    checkpoint.commit().unwrap();
}

#[test]
fn the_newest_proven_checkpoint_is_kept_beside_them_and_gone_back_to() {
    let dir = folder();
    let run = RunDirectory::open(dir.path()).unwrap();
    let names = || list(&dir.path().join("checkpoints/train")).unwrap();
    let back = || run.latest_proven("train").unwrap().checkpoint.map(|checkpoint| checkpoint.step());
    assert_eq!(back(), None);
    // Of a run that an earlier version wrote, none is marked.
    commit(&run, "train", 1, "one");
    assert_eq!(back(), Some(1));
    for step in [2, 4] {
        commit_proven(&run, "train", step);
    }
    for step in [5, 6, 7] {
        commit(&run, "train", step, "no more than this");
        assert_eq!(
            (back(), run.latest_checkpoint("train").unwrap().checkpoint.unwrap().step()),
            (Some(4), step)
        );
    }
    assert_eq!(names(), ["00000004", "00000006", "00000007"]);
    commit_proven(&run, "train", 7);
    assert_eq!((names().len(), back()), (2, Some(7)));
    // A stop at the same step says nothing against it.
    commit(&run, "train", 7, "again");
    assert_eq!(back(), Some(7));
    commit(&run, "train", 8, "eight");
    fs::write(dir.path().join("checkpoints/train/00000007/state.json"), "x").unwrap();
    assert_eq!(back(), Some(8));
    commit_proven(&run, "train", 3);
    assert_eq!((names(), back()), (vec!["00000003".to_string()], Some(3)));
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
