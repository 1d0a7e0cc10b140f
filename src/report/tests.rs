//! Tests of the page as a whole.

use super::*;

fn quantity(name: &str, unit: &str) -> Quantity {
    Quantity { name: name.into(), unit: unit.into() }
}

/// A small report with every part filled; `text` is put wherever text goes.
fn filled(text: &str) -> Report {
    let layer = |kernel, skips: &[usize]| Layer {
        kernel,
        expansion: 4.0,
        channels: 24,
        resolution: 16,
        branches: vec![text.into(), "t".into()],
        skips: skips.to_vec(),
        marks: vec![text.into()],
    };
    let point =
        |a: f64, b: f64, c: f64| Point { label: text.into(), hover: text.into(), values: vec![a, b, c] };
    let stage = Stage {
        name: text.into(),
        layers: vec![layer(3, &[]), layer(5, &[]), layer(7, &[0, 9])],
        skipped: 1,
        exit: Some(text.into()),
    };
    Report {
        title: text.into(),
        summary: text.into(),
        facts: vec![(text.into(), text.into())],
        objectives: vec![
            Objective { quantity: quantity(text, text), goal: Goal::Maximise },
            Objective { quantity: quantity(text, text), goal: Goal::Minimise },
            Objective { quantity: quantity(text, ""), goal: Goal::Minimise },
        ],
        archive: vec![point(70.0, 0.2, 3.0), point(75.0, 0.5, 5.0), point(60.0, 0.4, 4.0)],
        front: vec![point(70.0, 0.2, 3.0), point(75.0, 0.5, 5.0)],
        columns: vec![quantity(text, text)],
        networks: vec![Network {
            label: text.into(),
            note: text.into(),
            values: vec![70.0, 0.2, 3.0],
            extra: vec![None],
            diagram: Diagram { stem: text.into(), stages: vec![stage], head: text.into() },
        }],
        iterations: (1..4)
            .map(|number| Iteration {
                number,
                hypervolume: Some(0.5),
                rmse: Some(1.0),
                spearman: Some(0.8),
                kendall: None,
            })
            .collect(),
        commands: vec![Command { purpose: text.into(), line: text.into() }],
        configuration: text.into(),
    }
}

/// Checks that tags nest, that attributes are quoted and that no `&` is bare; returns the tags' names.
/// Stricter than HTML, which is the point.
fn tags(html: &str) -> Vec<String> {
    let mut open: Vec<String> = Vec::new();
    let mut names = Vec::new();
    let mut rest = html.strip_prefix("<!DOCTYPE html>").expect("a doctype");
    while let Some(start) = rest.find('<') {
        let text = &rest[..start];
        for entity in text.split('&').skip(1) {
            assert!(entity.find(';').is_some_and(|end| end < 6), "bare & in {text:?}");
        }
        let mut quoted = false;
        let end = rest[start..]
            .find(|c| {
                quoted ^= c == '"';
                c == '>' && !quoted
            })
            .expect("a closed tag");
        let tag = &rest[start + 1..start + end];
        rest = &rest[start + end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
            continue;
        }
        let name: String = tag.chars().take_while(char::is_ascii_alphanumeric).collect();
        assert!(!tag.contains('<'), "{tag}");
        names.push(name.clone());
        if name == "style" || name == "script" {
            let end = rest.find(&format!("</{name}>")).expect("an end");
            rest = &rest[end..];
        }
        if name != "meta" && name != "wbr" && !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
    names
}

#[test]
fn a_full_report_has_all_its_parts() {
    let html = render(&filled("plain"));
    let names = tags(&html);
    let count = |name: &str| names.iter().filter(|n| *n == name).count();
    // Three pairs of objectives, three charts over iterations, one diagram.
    assert_eq!(count("svg"), 7);
    assert_eq!(count("section"), 6);
    // Five points in each of three charts, and three iterations with three values each.
    assert_eq!(count("circle"), 3 * 5 + 3 * 3);
    assert!(html.contains("prefers-color-scheme: dark") && html.contains("name=\"viewport\""));
    assert_eq!(html, render(&filled("plain")));
}

#[test]
fn hostile_text_stays_text() {
    let hostile =
        "</title></style></script><script>alert(1)</script><img src=x onerror=alert(1)> \" ' & \u{0} ]]> -->";
    let html = render(&filled(hostile));
    let names = tags(&html);
    let plain = tags(&render(&filled("plain")));
    // Long text leaves names (`text`) out of charts, and slashes may break (`wbr`); all else is the same.
    let structure =
        |names: &[String]| names.iter().filter(|n| *n != "text" && *n != "wbr").cloned().collect::<Vec<_>>();
    assert_eq!(structure(&names), structure(&plain));
    assert!(!html.contains("<img") && !html.contains("alert(1)<") && !html.contains('\u{0}'));
    assert_eq!(html.matches("<script>").count(), 1);
}

#[test]
fn nothing_is_loaded_from_elsewhere() {
    let html = render(&filled("plain"));
    for loaded in ["http:", "https:", "//", "url(", "@import", "src=", "<link"] {
        let found: Vec<&str> =
            html.lines().filter(|l| l.contains(loaded) && !l.trim_start().starts_with("//")).collect();
        assert!(found.is_empty(), "{loaded}: {found:?}");
    }
}

#[test]
fn an_empty_report_says_what_is_missing() {
    let html = render(&Report::default());
    tags(&html);
    for text in ["takes two objectives", "No network has been picked", "No iteration has been logged"] {
        assert!(html.contains(text), "{text}");
    }
    let objectives = filled("plain").objectives;
    let html = render(&Report { objectives, ..Report::default() });
    assert!(html.contains("No network has been measured"));
}

#[test]
fn single_points_and_missing_values_are_drawn_or_left_out() {
    let mut report = filled("plain");
    report.archive.truncate(1);
    report.front.clear();
    report.iterations.truncate(1);
    report.networks[0].values = vec![f64::NAN];
    report.networks[0].extra.clear();
    report.networks[0].diagram.stages.clear();
    let html = render(&report);
    tags(&html);
    assert!(!html.contains("NaN") && !html.contains("inf"));
    assert_eq!(html.matches("<td>–</td>").count(), 4);
    assert!(html.contains("the network has no stages"));

    report.archive[0].values = vec![f64::NAN, f64::INFINITY];
    let html = render(&report);
    tags(&html);
    assert!(html.contains("No network has been measured"));
    assert!(!html.contains("NaN"));
}

#[test]
fn odd_diagrams_are_drawn() {
    let mut report = filled("plain");
    let stage = &mut report.networks[0].diagram.stages[0];
    stage.skipped = usize::MAX;
    stage.layers[0].expansion = f64::NAN;
    stage.layers[1].expansion = -1.0;
    stage.layers = stage.layers.iter().cloned().cycle().take(100).collect();
    let html = render(&report);
    tags(&html);
    assert_eq!(html.matches("class=\"p k").count(), 64);
}
