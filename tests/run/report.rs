//! The page of a whole small search, and what is said of run directories of every kind, wherever they are.

use natv2::config::{self, Config};
use natv2::device::Cpu;
use natv2::evaluator::{Evaluator, Options};
use natv2::finetune::results::Summary;
use natv2::report::render;
use natv2::run::{Output, RunDirectory, StopFlag, latest_checkpoint};
use natv2::search::results::FrontPoints;
use natv2::search::{
    Outcome, State,
    page::{Context, page, tuned},
    search,
};
use natv2::shown::OfRun;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// Elements that HTML closes by itself.
const VOID: [&str; 3] = ["meta", "br", "wbr"];

/// Checks that tags nest; gives every tag with its attributes.
fn tags(html: &str) -> Vec<String> {
    let (mut open, mut tags) = (Vec::new(), Vec::new());
    let mut rest = html.strip_prefix("<!DOCTYPE html>").unwrap();
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>').unwrap();
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap().to_string();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name));
            continue;
        }
        if name == "style" || name == "script" {
            rest = &rest[rest.find(&format!("</{name}>")).unwrap()..];
        }
        if !VOID.contains(&name.as_str()) && !tag.ends_with('/') {
            open.push(name);
        }
        tags.push(tag.to_string());
    }
    assert_eq!(open, Vec::<String>::new());
    tags
}

/// The commands of a search of the built-in super-network.
fn commands<'a>(config: &'a Config, run: &'a str) -> OfRun<'a> {
    OfRun { run: Path::new(run), config, weights: None, wide_weights: None, tested: true }
}

fn context<'a>(evaluator: &'a Evaluator, config: &'a Config, next: &'a OfRun<'a>) -> Context<'a> {
    let (space, classes) = (evaluator.space(), evaluator.engine().supernet().classes());
    Context { command: "search", space, classes, config, data: None, trained: false, next }
}

fn finished(config: &Config) -> (Evaluator, State) {
    let options = Options { calibration_images: Some(50), ..Options::default() };
    let evaluator = Evaluator::open(&options, Arc::new(Cpu)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let run = RunDirectory::open(folder.path()).unwrap();
    let outcome = search(config, &evaluator, &run, &StopFlag::new(), Output::Silent).unwrap();
    assert!(matches!(outcome, Outcome::Finished(..)));
    let checkpoint = latest_checkpoint(folder.path(), "search").unwrap().checkpoint.unwrap();
    let state = State::parse(&checkpoint.read("state.json").unwrap(), "state.json").unwrap();
    (evaluator, state)
}

#[test]
fn fine_tuned_networks_stand_on_the_page_with_what_they_were() {
    let config = config::load("search", None, &[], Some(config::Profile::Tiny)).unwrap();
    let (evaluator, state) = finished(&config);
    let text = r#"{"version":1,"family":"EE_B","data":"digits","networks":[
        {"number":2,"genotype":[1],"picked":{},"arch":{},"strategy":"unif","exits":[1,3],"beta":[0.5,0.5],
         "epochs":4,"best_epoch":3,"search_top1":90.0,"validation_top1":91.0,
         "before":{"top1":88.5,"loss":0.5,"params":200000,"macs":1000000},
         "after":{"top1":93.25,"loss":0.25,"params":150000,"macs":1100000},
         "weights":"network-2.safetensors","history":[]}]}"#;
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Summary::read(folder.path()).unwrap(), None);
    std::fs::write(folder.path().join("finetuned.json"), text).unwrap();
    let summary = Summary::read(folder.path()).unwrap().unwrap();
    let next = commands(&config, "runs/x");
    let report = page(&context(&evaluator, &config, &next), &state, &tuned(&summary), &[]).unwrap();
    let html = render(&report);
    tags(&html);
    let section = html.split("<section id=\"tuned\">").nth(1).unwrap().split("</section>").next().unwrap();
    assert_eq!(section.matches("<svg").count(), 2);
    for text in ["3 epochs, exits 1+3 (unif)", "+4.75", "\u{2212}25.00", "+10.00", "data-k=\"2\""] {
        assert!(section.contains(text), "{text}: {section}");
    }
    std::fs::write(folder.path().join("finetuned.json"), "{").unwrap();
    assert!(Summary::read(folder.path()).unwrap_err().to_string().contains("finetuned.json"));
}

#[test]
fn the_page_of_a_search_shows_its_front_and_needs_nothing_else() {
    let config = config::load("search", None, &[], Some(config::Profile::Tiny)).unwrap();
    let (evaluator, state) = finished(&config);
    let run = "runs/<A & 'B'>";
    let fronts: Vec<FrontPoints> = (0..5)
        .map(|iteration| FrontPoints::of(&state.archive, &config.search.objectives, iteration))
        .collect();
    let next = commands(&config, run);
    let report = page(&context(&evaluator, &config, &next), &state, &[], &fronts).unwrap();
    let html = render(&report);
    let tags = tags(&html);
    // The first front, the middle one and the last, accuracies as people read them.
    let names: Vec<&str> = report.earlier.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["iteration 0", "iteration 2", "iteration 4"]);
    let best = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
    let accuracies = &mut report.earlier[2].points.iter().map(|point| point.values[0]);
    assert_eq!(best(accuracies), best(&mut state.archive.entries.iter().map(|entry| entry.top1())));

    let front = state.archive.front(&config.search.objectives);
    assert_eq!(report.networks.len(), front.len());
    for (entry, test) in front.iter().zip(state.test_top1.as_ref().unwrap()) {
        let genotype = entry.genotype.iter().map(u8::to_string).collect::<Vec<_>>().join("-");
        assert_eq!(html.matches(&format!(">{genotype}<")).count(), 1);
        let network = report.networks.iter().find(|network| network.identity == genotype).unwrap();
        assert_eq!(network.values, [entry.top1(), entry.cost.params as f64, entry.cost.macs as f64]);
        assert_eq!(network.extra[0], Some(*test));
        assert_eq!(tags.iter().filter(|tag| tag.starts_with("figure id")).count(), front.len());
    }
    // Every network of the archive is a point of each of the three pairs of objectives.
    let points = tags.iter().filter(|tag| tag.starts_with("circle") && tag.contains("data-k=")).count();
    assert_eq!(points, 3 * state.archive.entries.len());
    // Two iterations after the initial archive, which has no predictor to judge.
    assert_eq!(report.iterations.len(), 3);
    assert!(report.iterations[0].kendall.is_none() && report.iterations[2].best_top1.is_some());
    let quoted = "natv2 report &#39;runs/&lt;A &amp; &#39;\\&#39;&#39;B&#39;\\&#39;&#39;&gt;&#39;";
    assert!(html.contains(quoted));
    assert!(html.contains("calibration_images = 50"));

    for tag in &tags {
        for attribute in ["src=", "srcset=", "href=\"h", "href=\"/", "xlink", "data=", "action="] {
            assert!(!tag.contains(attribute), "{tag}");
        }
        assert!(
            !tag.starts_with("link") && !tag.starts_with("iframe") && !tag.starts_with("object"),
            "{tag}"
        );
    }
    for loaded in ["http:", "https:", "@import", "url(", "fetch(", "import("] {
        assert!(!html.contains(loaded), "{loaded}");
    }
    // Numbers are those of the search's table: by MACs.
    assert!(report.networks.iter().map(|network| network.values[2]).is_sorted());
    for number in 1..=front.len() {
        assert!(html.contains(&format!("--network {number} --out network-{number}.onnx")));
    }
    assert_eq!(html, render(&page(&context(&evaluator, &config, &next), &state, &[], &fronts).unwrap()));
}

/// Runs the program in a folder; its exit code, standard output and standard error.
fn natv2(folder: &Path, arguments: &str) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_natv2"));
    let output = command.args(arguments.split_whitespace()).current_dir(folder).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[track_caller]
fn succeeds(folder: &Path, arguments: &str) -> String {
    let (code, printed, said) = natv2(folder, arguments);
    assert_eq!(code, 0, "{arguments}: {said}");
    printed
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to)
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_run_that_was_copied_or_is_called_from_elsewhere_is_the_same_run() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    let (away, elsewhere) = (folder.join("away"), folder.join("elsewhere"));
    std::fs::create_dir(&elsewhere).unwrap();
    succeeds(folder, "train --profile tiny --set supernet.width=0.1 --run t -q");
    let search =
        "search --profile tiny --set supernet.weights=t/supernet.safetensors --set data.name=digits -q";
    succeeds(folder, &format!("{search} --run s"));
    let page = std::fs::read_to_string(folder.join("s/report.html")).unwrap();
    copy(&folder.join("s"), &away.join("s"));

    // Without weights: the page is the same, but for where the weights would be.
    std::fs::rename(folder.join("t"), folder.join("gone")).unwrap();
    std::fs::remove_file(away.join("s/report.html")).unwrap();
    succeeds(&away, "report s");
    assert!(succeeds(&away, "status s").starts_with("s: natv2 search, finished, nobody at work"));
    let weights = folder.join("t/supernet.safetensors").display().to_string();
    let again = std::fs::read_to_string(away.join("s/report.html")).unwrap();
    assert!(again.contains(&format!("natv2 evaluate --weights {weights} ")));
    assert_eq!(again.replacen(&weights, "t/supernet.safetensors", 1), page);
    // What needs them says which setting names them, and from where.
    for (arguments, code) in [
        ("export --run ../s --network 1 --out n.onnx", 2),
        ("finetune --profile tiny --set finetune.search=../s --run f", 2),
    ] {
        let (found, _, said) = natv2(&elsewhere, arguments);
        assert_eq!(found, code, "{arguments}: {said}");
        for part in
            ["../s/config.toml: supernet.weights = \"t/supernet.safetensors\"", "called from", &weights]
        {
            assert!(said.contains(part), "{arguments}: {said}");
        }
    }
    // Where they are back, it works from any folder, and for the copy.
    std::fs::rename(folder.join("gone"), folder.join("t")).unwrap();
    succeeds(&elsewhere, "export --run ../s --network 1 --out a.onnx -q");
    succeeds(&away, "export --run s --network 1 --out ../elsewhere/b.onnx -q");
    succeeds(folder, "export --run s --network 1 --out elsewhere/c.onnx -q");
    let bytes = |name: &str| std::fs::read(elsewhere.join(name)).unwrap();
    assert!(bytes("a.onnx") == bytes("b.onnx") && bytes("a.onnx") == bytes("c.onnx"));
    succeeds(
        &elsewhere,
        "finetune --profile tiny --set finetune.count=1 --set finetune.search=../s --run f -q",
    );

    // A run of an earlier version says neither where it was called from nor what its space is.
    for file in ["run.json", "search.json"] {
        std::fs::remove_file(folder.join("s").join(file)).unwrap();
    }
    succeeds(folder, "report s");
    // Its page differs in what is said of its data alone.
    let but_data = |page: &str| -> Vec<String> {
        let of_data =
            |line: &&str| !["<div><dt>data<", "<div><dt>images<"].iter().any(|s| line.starts_with(s));
        page.lines().filter(of_data).map(str::to_string).collect()
    };
    let older = std::fs::read_to_string(folder.join("s/report.html")).unwrap();
    assert!(page.contains("<dt>images</dt><dd>1,079 training") && !older.contains("1,079 training"));
    assert!(but_data(&older) == but_data(&page));
    let (code, _, said) = natv2(&elsewhere, "report ../s");
    assert!(code == 2 && said.contains("../s/config.toml: supernet.weights"), "{said}");
    // Going on with it, from wherever, makes it one of this version.
    succeeds(folder, &format!("{search} --run s"));
    succeeds(&elsewhere, "report ../s");
}

#[test]
fn the_status_of_every_kind_of_directory_says_what_it_is() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    succeeds(folder, "train --profile tiny --set supernet.width=0.1 --run train -q");
    succeeds(folder, "search --profile tiny --set search.method=random --run search -q");
    succeeds(
        folder,
        "finetune --profile tiny --set finetune.count=1 --set finetune.search=search --run finetune -q",
    );
    succeeds(folder, "run --profile tiny --set supernet.width=0.1 --set finetune.count=1 --run run -q");
    succeeds(folder, "compare --profile tiny --methods random --seeds 1,2 --run compare -q");
    let json = |name: &str| -> Value {
        serde_json::from_str(&succeeds(folder, &format!("status --json {name}"))).unwrap()
    };
    let first = |name: &str| {
        let printed = succeeds(folder, &format!("status {name}"));
        printed.lines().next().unwrap().to_string()
    };
    let check = |name: &str, what: &str| {
        assert_eq!(first(name), format!("{name}: {what}, nobody at work"));
        let status = json(name);
        assert_eq!((&status["finished"], &status["at_work"]), (&true.into(), &false.into()), "{name}");
        assert_eq!(status["command"], name);
        let stages = status["stages"].as_array().cloned().unwrap_or_default();
        assert!(stages.iter().all(|stage| stage["finished"] == true), "{status}");
    };
    let all = [
        ("train", "natv2 train, finished"),
        ("search", "random search, finished"),
        ("finetune", "natv2 finetune, finished"),
        ("run", "natv2 run, finished"),
        ("compare", "a comparison (natv2 compare), finished, 2 of 2 searches finished"),
    ];
    for (name, what) in all {
        check(name, what);
    }
    // Those of an earlier version do not say, and are known by what is in them.
    for (name, what) in all {
        std::fs::remove_file(folder.join(name).join("run.json")).unwrap();
        check(name, what);
    }
    // Only what is a search has a page; the others say what they are and what to do.
    for (name, part) in
        [("train", "natv2 train: it has a super-network"), ("finetune", "natv2 report search")]
    {
        let (code, _, said) = natv2(folder, &format!("report {name}"));
        assert!(code == 1 && said.contains(part), "{said}");
    }
    // A result that is missing is a stage that is not over.
    std::fs::remove_file(folder.join("run/finetuned.json")).unwrap();
    let status = json("run");
    assert_eq!(status["finished"], false);
    let finished: Vec<bool> =
        status["stages"].as_array().unwrap().iter().map(|s| s["finished"].as_bool().unwrap()).collect();
    assert_eq!(finished, [true, true, false]);
    assert!(first("run").contains("natv2 run, finetune: network "), "{}", first("run"));
    std::fs::remove_file(folder.join("train/training.json")).unwrap();
    assert!(first("train").contains("natv2 train, train: phase "), "{}", first("train"));
}
