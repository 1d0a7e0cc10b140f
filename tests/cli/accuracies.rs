//! Accuracies agree: with a table measured by the once-for-all package on PyTorch, and a table that is shown
//! with what the commands shown below it give.
#![cfg(unix)]

use natv2::data::Split;
use natv2::device::Cpu;
use natv2::evaluator::{Evaluator, Options};
use natv2::space::{Arch, Family};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

#[test]
fn digits_accuracies_are_within_one_image_of_the_table() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/checkpoints/ofa_mbv3_w025_digits.accuracies.json");
    let table: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let rows = table["rows"].as_array().unwrap();
    let archs: Vec<Arch> =
        rows.iter().map(|row| Arch::from_json(Family::SE_B, &row["arch"]).unwrap()).collect();
    let evaluator = Evaluator::open(&Options::default(), Arc::new(Cpu)).unwrap();
    assert_eq!(evaluator.calibration_images() as u64, table["calibration_images"].as_u64().unwrap());

    let results = evaluator.evaluate(&archs, Split::Test, None, &|| false, &|_, _| ()).unwrap().unwrap();
    assert_eq!(results.len(), rows.len());
    let image = 100.0 / results[0].images as f64;
    for (row, result) in rows.iter().zip(&results) {
        let (top1, loss) = (row["top1"].as_f64().unwrap(), row["loss"].as_f64().unwrap());
        // The table rounds to two decimals.
        assert!((result.top1() - top1).abs() <= image + 0.01, "{} against {top1}: {row}", result.top1());
        assert!((result.loss - loss).abs() <= 1e-3, "{} against {loss}: {row}", result.loss);
    }
}

/// Runs a line of shell in a folder, with `natv2` being the program under test.
fn shell(folder: &Path, line: &str) -> Output {
    let script = format!("natv2() {{ '{}' \"$@\"; }}\n{line}", env!("CARGO_BIN_EXE_natv2"));
    Command::new("sh").args(["-c", &script]).current_dir(folder).output().unwrap()
}

#[track_caller]
fn succeeds(folder: &Path, line: &str) -> String {
    let output = shell(folder, line);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn json_of(folder: &Path, line: &str) -> Value {
    serde_json::from_str(&succeeds(folder, line)).unwrap()
}

/// The message of a line that must fail with this code.
#[track_caller]
fn fails(folder: &Path, code: i32, line: &str) -> String {
    let output = shell(folder, line);
    assert_eq!(output.status.code(), Some(code), "{line}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// The commands behind `next:` and below.
fn shown(printed: &str) -> Vec<String> {
    let lines = printed.lines().skip_while(|line| !line.starts_with("next: "));
    let lines = lines.map(|line| line.trim_start_matches("next: ").trim());
    lines.flat_map(|line| line.split("    ")).map(str::to_string).collect()
}

/// The numbers of a column of a table, whose rows begin with a number; `name` is the column's head.
fn column(printed: &str, head: &str, at: usize) -> Vec<String> {
    let rows = printed.lines().skip_while(|line| !line.contains(head)).skip(1);
    let rows = rows.take_while(|line| !line.trim().is_empty());
    rows.map(|row| row.split_whitespace().nth(at).unwrap().to_string()).collect()
}

/// Top-1 accuracies that `natv2 evaluate` prints: the column before the last.
fn measured(printed: &str) -> Vec<String> {
    let rows = printed.lines().skip_while(|line| !line.contains("top-1 %")).skip(1);
    let rows = rows.filter(|row| row.split_whitespace().count() > 4);
    rows.map(|row| row.split_whitespace().rev().nth(1).unwrap().to_string()).collect()
}

/// The commands of a page.
fn commands_of(page: &Path) -> Vec<String> {
    let html = std::fs::read_to_string(page).unwrap();
    let codes = html.split("<pre><code>").skip(1).map(|rest| rest.split("</code></pre>").next().unwrap());
    let text = |code: &str| {
        let marks = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
        marks.iter().fold(code.to_string(), |text, (mark, character)| text.replace(mark, character))
    };
    codes.map(text).filter(|line| line.starts_with("natv2 ")).collect()
}

/// Runs every command as it stands; `wanted` are the accuracies of the table that they are shown below.
#[track_caller]
fn all_run(folder: &Path, commands: &[String], wanted: &[String]) {
    assert!(commands.iter().any(|line| line.starts_with("natv2 evaluate ")), "{commands:?}");
    for line in commands {
        let printed = succeeds(folder, line);
        if line.starts_with("natv2 evaluate ") {
            assert_eq!(measured(&printed), wanted, "{line}: {printed}");
        }
        let _ = std::fs::remove_file(folder.join("net.onnx"));
    }
}

#[test]
fn every_shown_command_runs_as_it_stands_and_gives_the_accuracies_beside_it() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    std::fs::create_dir(folder.join("a folder")).unwrap();
    let odd = r#"'a folder/it'\''s $(touch pwned)'"#;
    let sub = |name: &str| format!("'a folder/it'\\''s $(touch pwned)-{name}'");
    let path = |name: &str| folder.join(format!("a folder/it's $(touch pwned){name}"));

    // A training names its weights, and the search of these what it searched with.
    let printed =
        succeeds(folder, &format!("natv2 train --profile tiny --set supernet.width=0.15 --run {odd} -q"));
    let next = shown(&printed);
    assert_eq!(next.len(), 1);
    assert!(next[0].starts_with("natv2 search --profile tiny --set "), "{next:?}");
    let printed = succeeds(folder, &format!("{} --run {} -q", next[0], sub("search")));
    let accuracies = column(&printed, "test %", 2);
    assert!(!accuracies.is_empty() && accuracies.iter().all(|top1| top1.contains('.')), "{printed}");
    // The files list networks by genotype, the table by multiply-accumulates.
    let front: Value =
        serde_json::from_slice(&std::fs::read(path("-search").join("front.json")).unwrap()).unwrap();
    let tested = |network: &Value| format!("{:.2}", network["test_top1"].as_f64().unwrap());
    let wanted: Vec<String> = front["networks"].as_array().unwrap().iter().map(tested).collect();
    let sorted = |mut list: Vec<String>| {
        list.sort();
        list
    };
    assert_eq!(sorted(wanted.clone()), sorted(accuracies));
    all_run(folder, &shown(&printed), &wanted);
    assert!(!shown(&printed)[0].contains("adapted"));
    let page = path("-search").join("report.html");
    let commands = commands_of(&page);
    assert!(commands.len() > 3, "{commands:?}");
    all_run(folder, &commands, &wanted);

    // Fine-tuned networks are what the table says.
    let printed = succeeds(
        folder,
        &format!(
            "natv2 finetune --profile tiny --set finetune.count=1 --set finetune.search={} --run {} -q",
            sub("search"),
            sub("tuned")
        ),
    );
    let after = column(&printed, "after %", 2);
    assert_eq!(after.len(), 1);
    all_run(folder, &shown(&printed), &after);

    // A search that adapts its weights shows them; with other data settings and precision it shows these.
    let settings = "--set adaptation.epochs=1 --set adaptation.epoch_images=128 --set data.name=digits";
    let printed =
        succeeds(folder, &format!("natv2 search --profile tiny {settings} --run {} -q", sub("adapted")));
    let front: Value =
        serde_json::from_slice(&std::fs::read(path("-adapted").join("front.json")).unwrap()).unwrap();
    let wanted: Vec<String> = front["networks"].as_array().unwrap().iter().map(tested).collect();
    let next = shown(&printed);
    assert!(next[0].contains("adapted.safetensors") && next[0].contains("--data digits"), "{next:?}");
    all_run(folder, &next, &wanted);

    // The best network of each search, and the first search, of a comparison.
    let printed = succeeds(
        folder,
        &format!("natv2 compare --profile tiny --methods random --seeds 3 --run {} -q", sub("compare")),
    );
    let front: Value =
        serde_json::from_slice(&std::fs::read(path("-compare").join("random-3/front.json")).unwrap())
            .unwrap();
    let wanted: Vec<String> = front["networks"].as_array().unwrap().iter().map(tested).collect();
    all_run(folder, &shown(&printed), &wanted);
    for line in commands_of(&path("-compare").join("report.html")) {
        succeeds(folder, &line);
    }
    assert!(!folder.join("pwned").exists(), "the name of a folder ran as a command");
}

#[test]
fn networks_of_a_whole_run_are_found_by_their_files_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    // Photographs of two shades, from which a network may learn something or not.
    for (split, images) in [("train", 24), ("test", 10)] {
        for (class, shade) in [("dark", 40), ("light", 140)] {
            let class = folder.join("photos here").join(split).join(class);
            std::fs::create_dir_all(&class).unwrap();
            for number in 0..images {
                let file = std::fs::File::create(class.join(format!("{number:02}.png"))).unwrap();
                let mut encoder = png::Encoder::new(file, 32, 32);
                encoder.set_color(png::ColorType::Rgb);
                let pixels: Vec<u8> =
                    (0..32 * 32 * 3).map(|i| shade + ((i * (number + 7)) % 90) as u8).collect();
                encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
            }
        }
    }
    let settings = [
        "data.name=image-folder",
        "data.dir='photos here'",
        "data.validation_fraction=0.25",
        "supernet.family=EE_D",
        "supernet.width=0.1",
        "finetune.exits=asc",
        "finetune.prune=false",
        "finetune.arch=arch.json",
    ];
    let arch = json!({"r": 32, "w": 0.1, "ks": vec![3; 20], "e": vec![3; 20], "d": [2, 2, 2, 2, 2], "nd": 3});
    std::fs::write(folder.join("arch.json"), arch.to_string()).unwrap();
    let settings: String = settings.iter().map(|set| format!(" --set {set}")).collect();
    let printed = succeeds(folder, &format!("natv2 run --profile tiny --run 'run 1' -q{settings}"));
    let after = column(&printed, "after %", 2);
    assert!(!after.is_empty(), "{printed}");
    all_run(folder, &shown(&printed), &after[..1]);
    // A stage by itself decodes the images before it computes anything.
    let short = "--set train.schedule=full --set train.epoch_images=16 --set train.batch=8";
    succeeds(folder, &format!("natv2 train --profile tiny --run 'run 2' -q{settings} {short}"));

    let tuned: Value =
        serde_json::from_slice(&std::fs::read(folder.join("run 1/finetuned.json")).unwrap()).unwrap();
    let elsewhere = folder.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    for network in tuned["networks"].as_array().unwrap() {
        let weights = format!("'../run 1/{}'", network["weights"].as_str().unwrap());
        let found = json_of(&elsewhere, &format!("natv2 evaluate --json --weights {weights}"));
        assert_eq!(found["calibration_images"], 0);
        assert_eq!(found["ensemble"]["weights"], network["beta"]);
        assert_eq!(found["results"][0]["top1"], network["after"]["top1"], "{found}");
        let (loss, wanted) = (&found["results"][0]["loss"], &network["after"]["loss"]);
        assert!((loss.as_f64().unwrap() - wanted.as_f64().unwrap()).abs() < 1e-6, "{loss} {wanted}");
        for key in ["params", "macs"] {
            assert_eq!(found["results"][0][key], network["after"][key]);
        }
        assert_eq!(found["images"], 20);
        // The validation split is the run's, too: a quarter of each class.
        let found = json_of(&elsewhere, &format!("natv2 evaluate --json --split val --weights {weights}"));
        assert_eq!(found["images"], 12);
    }
    // Where the data have gone, the error says who named their folder.
    std::fs::rename(folder.join("photos here"), folder.join("photos gone")).unwrap();
    let line = "natv2 evaluate --weights '../run 1/network-1.safetensors'";
    let first = tuned["networks"][0]["weights"].as_str().unwrap();
    let line = line.replace("network-1.safetensors", first);
    let message = fails(&elsewhere, 1, &line);
    for part in ["photos here", "card.json names that folder", "--data-dir"] {
        assert!(message.contains(part), "{message}");
    }
    let message = fails(
        &elsewhere,
        2,
        "natv2 export --run '../run 1' --network 1 --out n.onnx --calibration-images 20",
    );
    assert!(message.contains("config.toml: data.dir = \"photos here\""), "{message}");
    let printed = succeeds(&elsewhere, &format!("{line} --data-dir '../photos gone' -q"));
    assert_eq!(measured(&printed)[0], after[0]);
}

#[test]
fn a_stand_alone_network_runs_as_its_file_and_card_say() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    succeeds(
        folder,
        "natv2 supernet init --family EE_D --width 0.1 --classes 10 --seed 1 --out ee.safetensors",
    );
    let arch = json!({"r": 40, "w": 0.1, "ks": vec![3; 20], "e": vec![3; 20], "d": [2, 2, 2, 2, 2], "nd": 3});
    std::fs::write(folder.join("arch.json"), arch.to_string()).unwrap();
    let inside = "natv2 evaluate --json --weights ee.safetensors --arch @arch.json";
    let ensemble = json_of(folder, &format!("{inside} --exits 1,3 --ensemble asc"));
    let last = json_of(folder, inside);

    succeeds(
        folder,
        "natv2 export --weights ee.safetensors --arch @arch.json --exits 1,3 --aep asc --out both.safetensors -q",
    );
    succeeds(folder, "natv2 export --weights ee.safetensors --arch @arch.json --out one.safetensors -q");
    for (file, wanted) in [("both", &ensemble), ("one", &last)] {
        let line = format!("natv2 evaluate --json --weights {file}.safetensors");
        let found = json_of(folder, &line);
        assert_eq!((&found["calibration_images"], &wanted["calibration_images"]), (&json!(0), &json!(500)));
        assert!(found["statistics"].as_str().unwrap().contains("500 training images"), "{found}");
        // The statistics that it holds are those of recalibration, so this too gives the same.
        for further in ["", " --recalibrate", " --calibration-images 500"] {
            let found = json_of(folder, &format!("{line}{further}"));
            for key in ["top1", "loss", "params", "macs"] {
                assert_eq!(found["results"][0][key], wanted["results"][0][key], "{file}{further}: {key}");
            }
            let images = if further.is_empty() { 0 } else { 500 };
            assert_eq!(found["calibration_images"], images);
        }
        assert_eq!(json_of(folder, &format!("{line} --calibration-images 100"))["calibration_images"], 100);
    }
    let both = json_of(folder, "natv2 evaluate --json --weights both.safetensors");
    assert_eq!(both["ensemble"]["strategy"], "asc");
    assert_eq!(both["results"][0]["exits"], ensemble["results"][0]["exits"]);
    // Each exit by itself, and another weighting, are there for the asking.
    let single = json_of(folder, "natv2 evaluate --json --weights both.safetensors --exits 3");
    assert_eq!(single["results"][0]["loss"], last["results"][0]["loss"]);
    let text = succeeds(folder, "natv2 evaluate --weights both.safetensors -q");
    assert!(text.contains("own statistics") && text.contains("exits as an ensemble (asc: "), "{text}");
    // Statistics are those of one resolution.
    let other = arch.to_string().replace("40", "48");
    let found =
        json_of(folder, &format!("natv2 evaluate --json --weights both.safetensors --arch '{other}'"));
    assert_eq!((&found["calibration_images"], &found["ensemble"]["strategy"]), (&json!(500), &json!("asc")));

    // Logits are those of the ensemble.
    let pixels: Vec<u8> =
        (0..2 * 3 * 40 * 40).flat_map(|i: i32| ((i % 17) as f32 / 17.0).to_le_bytes()).collect();
    let view =
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2, 3, 40, 40], &pixels).unwrap();
    let bytes = safetensors::serialize([("images", view)], None).unwrap();
    std::fs::write(folder.join("x.safetensors"), bytes).unwrap();
    let logits = |further: &str| {
        let line =
            "natv2 logits --weights both.safetensors --inputs x.safetensors --out y.safetensors --json";
        let said = json_of(folder, &format!("{line} {further}"));
        assert_eq!(said["calibration_images"], 0);
        let bytes = std::fs::read(folder.join("y.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let data = file.tensor("logits").unwrap().data().to_vec();
        let values: Vec<f32> =
            data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        (said["shape"].clone(), values)
    };
    let (shape, own) = logits("");
    assert_eq!(shape, json!([2, 10]));
    let (_, asked) = logits("--exits 1,3 --ensemble asc");
    assert_eq!(own, asked);
    let (shape, each) = logits("--all-exits");
    assert_eq!(shape, json!([2, 2, 10]));
    let beta: Vec<f64> =
        both["ensemble"]["weights"].as_array().unwrap().iter().map(|b| b.as_f64().unwrap()).collect();
    for (index, &sum) in own.iter().enumerate() {
        let wanted = beta[0] * f64::from(each[index]) + beta[1] * f64::from(each[20 + index]);
        assert!((f64::from(sum) - wanted).abs() < 1e-5, "{sum} {wanted}");
    }
}

#[test]
fn statistics_of_one_value_are_refused_and_those_of_few_are_noted() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    let arch =
        |r: u32| json!({"r": r, "ks": vec![3; 20], "e": vec![3; 20], "d": [2, 2, 2, 2, 2]}).to_string();
    let evaluate = |r, images| {
        format!("natv2 evaluate --json --images 20 --arch '{}' --calibration-images {images}", arch(r))
    };
    let export = format!("natv2 export --arch '{}' --out n.safetensors --calibration-images 1", arch(32));
    let tensor = |images: usize| {
        let pixels: Vec<u8> =
            (0..images * 3 * 32 * 32).flat_map(|i| ((i % 17) as f32 / 17.0).to_le_bytes()).collect();
        let view = |data| {
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![images, 3, 32, 32], data)
                .unwrap()
        };
        let views = [("images", view(&pixels)), ("calibration", view(&pixels))];
        std::fs::write(folder.join("x.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    };
    tensor(1);
    let logits =
        format!("natv2 logits --calibrate --inputs x.safetensors --out y.safetensors --arch '{}'", arch(32));
    let search = "natv2 search --profile tiny --run s --set search.calibration_images=1";
    let run = "natv2 run --profile tiny --run s --set supernet.weights=built.safetensors \
               --set run.warmup=never --set search.calibration_images=1";
    let trained =
        "natv2 run --profile tiny --run s --set supernet.width=0.1 --set search.calibration_images=1";
    let train =
        "natv2 train --profile tiny --run s --set train.calibration_images=1 --set train.resolutions=32";
    let compare = "natv2 compare --profile tiny --methods random --run s --set search.calibration_images=1";
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/checkpoints/ofa_mbv3_w025_digits");
    for ending in ["safetensors", "card.json"] {
        std::fs::copy(format!("{built}.{ending}"), folder.join(format!("built.{ending}"))).unwrap();
    }
    for line in [&evaluate(32, 1), &export, &logits, search, run, trained, train, compare] {
        let message = fails(folder, 2, line);
        assert!(
            message.contains("one value has no variance") && message.contains("32 px"),
            "{line}: {message}"
        );
    }
    // Nothing was made for them.
    assert!(!folder.join("s").exists() && !folder.join("n.safetensors").exists());
    assert!(!folder.join("y.safetensors").exists());

    let note = "of so few values variances are far off";
    let said = |line: &str| String::from_utf8(shell(folder, line).stderr).unwrap();
    for (r, images, noted) in [(32, 2, true), (32, 31, true), (32, 32, false), (64, 1, true), (64, 8, false)]
    {
        let line = evaluate(r, images);
        succeeds(folder, &line);
        assert_eq!(said(&line).contains(note), noted, "{r} px, {images} images: {}", said(&line));
    }
    tensor(2);
    assert!(said(&logits).contains(note));
    let few = search.replace("images=1", "images=8");
    assert!(said(&few).contains(note), "{}", said(&few));
    assert!(said(&export.replace("images 1", "images 8")).contains(note));
}
