//! `--minutes`: a training that is as long as it may be on this machine, and from then on the same anywhere; and
//! what `natv2 bench train --schedule` says that it takes.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs natv2 on a small training: its exit code, what it printed, and what it said.
fn natv2(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_natv2"));
    command.args(arguments).args(["--profile", "tiny", "--device", "cpu", "--set", "supernet.width=0.1"]);
    let output = command.args(["--set", "train.resolutions=[32]"]).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// Fails for what was asked, in one line with these parts.
fn refused(arguments: &[&str], parts: &[&str]) {
    let (code, _, said) = natv2(arguments);
    let line = said.lines().last().unwrap_or_default();
    assert!(code == 2 && parts.iter().all(|part| line.contains(part)), "{code}: {said}");
}

/// `train.epochs` of a run.
fn epochs(run: &Path) -> usize {
    let text = std::fs::read_to_string(run.join("config.toml")).unwrap();
    let config: toml::Table = text.parse().unwrap();
    config["train"]["epochs"].as_integer().unwrap() as usize
}

#[test]
fn minutes_become_epochs_and_only_those_count_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let [run, again] = ["run", "again"].map(|name| folder.path().join(name));
    let [at, twice] = [&run, &again].map(|path| path.to_str().unwrap());
    // What fits depends on the machine and on what else it does: the first of these that is not too short.
    let begun = ["0.05", "0.5", "5"].into_iter().find_map(|minutes| {
        let (code, printed, said) = natv2(&["train", "--minutes", minutes, "--run", at, "--json"]);
        assert!(code == 0 || said.contains("minutes are too few"), "{code}: {said}");
        (code == 0).then_some((minutes, printed, said))
    });
    let (minutes, printed, said) = begun.expect("an epoch in five minutes");
    let fit = epochs(&run);
    let line = format!("train.epochs = {fit}: ");
    assert!(said.contains(&line) && said.contains(&format!("of {minutes} minutes")), "{said}");
    let ran: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(ran["epochs"].as_array().unwrap().len(), fit);

    // The run has begun: minutes say nothing any more, and the epochs go on with it.
    let goes_on = format!("--set train.epochs={fit} in their place to go on");
    refused(&["train", "--minutes", minutes, "--run", at], &["--minutes", "has begun with", &goes_on]);
    let set = format!("train.epochs={fit}");
    let (code, same, said) = natv2(&["train", "--set", &set, "--run", at, "--json"]);
    assert_eq!((code, same), (0, printed), "{said}");
    // And repeat it elsewhere.
    assert_eq!(natv2(&["train", "--set", &set, "--run", twice, "-q"]).0, 0);
    for file in ["supernet.safetensors", "supernet.card.json", "training.json", "config.toml"] {
        let [a, b] = [&run, &again].map(|run| std::fs::read(run.join(file)).unwrap());
        assert!(a == b, "{file}");
    }
}

#[test]
fn what_cannot_be_is_said_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let at = run.to_str().unwrap();
    let train = |further: &[&'static str]| [&["train", "--run", at, "--minutes"][..], further].concat();
    refused(&train(&["0.00001"]), &["minutes are too few", "train.epoch_images", "train.schedule"]);
    refused(
        &train(&["1", "--set", "train.epochs=4"]),
        &["train.epochs = 4 says already", "leave one of them out"],
    );
    let own = folder.path().join("own.toml");
    std::fs::write(&own, "[[train.phases]]\nname = 'a'\nepochs = 1\nrate = 0.1\n").unwrap();
    let file = own.to_str().unwrap();
    refused(&["train", file, "--run", at, "--minutes", "1"], &["train.phases", "leave one of them out"]);
    std::fs::write(&own, "[run]\nwarmup = 'always'\n[[warmup.phases]]\nname = 'a'\nepochs = 1\nrate = 0.1\n")
        .unwrap();
    let weights = folder.path().join("net.safetensors");
    let weights = weights.to_str().unwrap();
    let init =
        ["supernet", "init", "--family", "SE_B", "--width", "0.1", "--classes", "10", "--out", weights];
    assert!(Command::new(env!("CARGO_BIN_EXE_natv2")).args(init).status().unwrap().success());
    let set = format!("supernet.weights={weights}");
    refused(
        &["run", file, "--run", at, "--minutes", "1", "--set", &set],
        &["warmup.phases", "leave one of them out"],
    );
    refused(&["run", "--run", at, "--minutes", "1", "--set", &set], &["this run has none", "run.warmup"]);
    for wrong in ["0", "-3", "soon"] {
        let (code, _, said) = natv2(&["train", &format!("--minutes={wrong}")]);
        assert!(code == 2 && said.contains("minutes are a number above 0"), "{said}");
    }
    // Nothing of all that has made a run.
    assert!(!run.exists());
    // A run that has begun without minutes has none to give.
    assert_eq!(natv2(&["train", "--run", at, "-q"]).0, 0);
    refused(&train(&["1"]), &["has begun without them", "leave them out to go on"]);
}

#[test]
fn a_schedule_says_what_it_will_take() {
    let forecast = |arguments: &[&str]| -> Value {
        let all = [&["bench", "train", "--schedule", "--json"][..], arguments].concat();
        let (code, printed, said) = natv2(&all);
        assert_eq!(code, 0, "{said}");
        serde_json::from_str(&printed).unwrap()
    };
    let eps = ["--set", "train.schedule=eps", "--set", "supernet.family=EE_D"];
    for (sets, phases, networks) in
        [(&eps[..], 10, vec![1, 1, 2, 2, 2, 2, 2, 2, 4, 4]), (&[][..], 1, vec![3])]
    {
        let report = forecast(sets);
        let training = &report["trainings"][0];
        let all = training["phases"].as_array().unwrap();
        assert_eq!((all.len(), &training["stage"]), (phases, &"train".into()));
        let of = |key: &str| all.iter().map(|phase| phase[key].as_f64().unwrap()).collect::<Vec<f64>>();
        assert_eq!(of("networks"), networks.iter().map(|&count| f64::from(count)).collect::<Vec<f64>>());
        for phase in all {
            let of = |key: &str| phase[key].as_f64().unwrap();
            assert_eq!(of("steps"), 3.0 * of("epochs"));
            let seconds = of("steps") * of("step_seconds") + of("validation_seconds");
            assert!(seconds > 0.0 && (of("seconds") / seconds - 1.0).abs() < 1e-9, "{phase}");
        }
        let total = of("seconds").iter().sum::<f64>() + training["summary_seconds"].as_f64().unwrap();
        assert!((training["seconds"].as_f64().unwrap() / total - 1.0).abs() < 1e-9, "{training}");
    }
    // Two super-networks that train one after the other, and two that train together.
    let wide = ["--set", "supernet.wide_width=0.15"];
    let stages = |sets: &[&str]| forecast(sets)["trainings"].as_array().unwrap().len();
    assert_eq!((stages(&[&wide[..], &eps].concat()), stages(&wide)), (2, 1));
    let (code, printed, _) = natv2(&["bench", "train", "--schedule"]);
    assert!(code == 0 && printed.contains("minutes") && printed.contains("sandwich"), "{printed}");
    refused(&["bench", "train"], &["give that too"]);
    let (code, _, said) = natv2(&["bench", "train", "--schedule", "--batch", "8"]);
    assert!(code == 2 && said.contains("cannot be used with"), "{said}");
}
