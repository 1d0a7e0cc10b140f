//! The page of a whole small search.

use natv2::config::{self, Config};
use natv2::device::Cpu;
use natv2::evaluator::{Evaluator, Options};
use natv2::finetune::results::Summary;
use natv2::report::render;
use natv2::run::{Output, RunDirectory, StopFlag, latest_checkpoint};
use natv2::search::results::FrontPoints;
use natv2::search::{
    Outcome, State,
    page::{page, tuned},
    search,
};
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
    let classes = evaluator.engine().supernet().classes();
    let report = page(evaluator.space(), classes, &config, &state, "runs/x", &tuned(&summary), &[]).unwrap();
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
    let classes = evaluator.engine().supernet().classes();
    let run = "runs/<A & 'B'>";
    let fronts: Vec<FrontPoints> = (0..5)
        .map(|iteration| FrontPoints::of(&state.archive, &config.search.objectives, iteration))
        .collect();
    let report = page(evaluator.space(), classes, &config, &state, run, &[], &fronts).unwrap();
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
    assert!(html.contains("natv2 report runs/&lt;A &amp; &#39;B&#39;&gt;"));
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
        assert!(html.contains(&format!("--network {number} --format onnx")));
    }
    assert_eq!(html, render(&page(evaluator.space(), classes, &config, &state, run, &[], &fronts).unwrap()));
}
