//! Tests of the page as a whole.

use super::*;

fn quantity(name: &str, unit: &str) -> Quantity {
    Quantity { name: name.into(), unit: unit.into() }
}

/// A small report with every part filled; `text` is put wherever text goes.
fn filled(text: &str) -> Report {
    let layer = |kernel, skips: &[usize]| Layer {
        block: Some(Block { kernel, expansion: 4.0, squeeze_excite: kernel == 5, shortcut: kernel == 7 }),
        branches: vec![text.into()],
        channels: 24,
        resolution: 16,
        skips: skips.to_vec(),
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
            identity: text.into(),
            values: vec![70.0, 0.2, 3.0],
            extra: vec![None],
            diagram: Diagram { stem: text.into(), stages: vec![stage], head: text.into() },
        }],
        iterations: (1..4)
            .map(|number| Iteration {
                number,
                hypervolume: Some(0.5),
                best_top1: Some(71.0),
                rmse: Some(1.0),
                spearman: Some(0.8),
                kendall: None,
                loss: Some(2.0),
                top1_before: Some(68.0),
                top1_after: Some(69.0),
            })
            .collect(),
        earlier: [65.0, 70.0]
            .map(|top1| Group { name: text.into(), points: vec![point(top1, 0.3, 4.0)], ..Group::default() })
            .into(),
        tuned: vec![Tuned {
            label: text.into(),
            note: text.into(),
            before: Measured { top1: Some(70.0), params: 5e5, macs: 3e6 },
            after: Measured { top1: Some(74.5), params: 4e5, macs: 2e6 },
        }],
        commands: vec![
            Command { purpose: text.into(), line: text.into(), folded: false },
            Command { purpose: text.into(), line: text.into(), folded: true },
        ],
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
    // Three pairs of objectives now and over time, six charts over iterations, two of fine-tuning, one
    // diagram.
    assert_eq!(count("svg"), 15);
    assert_eq!(count("section"), 8);
    // Five points in each of three charts, two earlier ones, three iterations with seven values each, both
    // ends of two arrows, and a squeeze-excite mark.
    assert_eq!(count("circle"), 3 * 5 + 3 * 2 + 3 * 7 + 2 * 2 + 1);
    assert!(html.contains("prefers-color-scheme: dark") && html.contains("name=\"viewport\""));
    assert_eq!(html, render(&filled("plain")));
}

#[test]
fn charts_stand_alone() {
    let charts = charts(&render(&filled("a b")));
    assert_eq!(charts.len(), 14);
    let names: std::collections::BTreeSet<&String> = charts.iter().map(|(name, _)| name).collect();
    assert_eq!((names.len(), charts[0].0.as_str()), (14, "01-a-b-over-a-b"));
    for (name, svg) in &charts {
        assert!(!name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '-'), "{name}");
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
        let tags = tags(&format!("<!DOCTYPE html>{svg}"));
        assert!(tags.iter().filter(|tag| *tag == "svg").count() == 1 && tags.contains(&"style".into()));
    }
    // An SVG file is XML, whose style is text.
    assert!(!page::STYLE.contains(['<', '&']));
}

/// A comparison of two groups; `text` is put wherever text goes.
fn compared(text: &str) -> Comparison {
    let Report { title, summary, facts, objectives, archive, front, columns, commands, .. } = filled(text);
    let group = |points: &[Point], shift: f64| Group {
        name: text.into(),
        note: text.into(),
        points: points.to_vec(),
        values: vec![Some(Estimate { mean: 70.0 + shift, deviation: Some(0.25) })],
        curve: (0..3)
            .map(|at| {
                let mean = 0.1 * f64::from(at) + shift;
                Band { at: f64::from(at), mean, least: mean - 0.05, most: mean + 0.05 }
            })
            .collect(),
    };
    Comparison {
        title,
        summary,
        facts,
        objectives,
        groups: vec![group(&archive, 0.0), group(&front, 0.5)],
        columns,
        coverage: vec![vec![None, Some(0.25)], vec![Some(1.0), None]],
        commands,
        configuration: text.into(),
    }
}

#[test]
fn a_comparison_has_all_its_parts() {
    let html = render_comparison(&compared("plain"));
    let names = tags(&html);
    let count = |name: &str| names.iter().filter(|n| *n == name).count();
    // Three pairs of objectives and the hypervolume.
    assert_eq!(count("svg"), 4);
    assert_eq!(count("section"), 6);
    assert_eq!(count("circle"), 3 * 5 + 2 * 3);
    assert_eq!(html.matches("class=\"band v").count(), 2);
    for text in
        [">70.00 <span class=\"spread\">± 0.25</span></td>", ">25 %</td>", ">100 %</td>", "1 more command<"]
    {
        assert!(html.contains(text), "{text}");
    }
    assert_eq!(html, render_comparison(&compared("plain")));
}

#[test]
fn a_comparison_without_numbers_says_so() {
    let html = render_comparison(&Comparison::default());
    tags(&html);
    for text in ["Nothing has been compared", "No two objectives", "No hypervolume"] {
        assert!(html.contains(text), "{text}");
    }
    let mut odd = compared("plain");
    odd.coverage.clear();
    odd.groups[0].values.clear();
    odd.groups[0].curve[1].mean = f64::NAN;
    odd.groups[0].points[0].values = vec![f64::NAN];
    odd.groups[1].curve.truncate(1);
    // More groups than colours.
    odd.groups = odd.groups.iter().cloned().cycle().take(20).collect();
    let html = render_comparison(&odd);
    tags(&html);
    assert!(!html.contains("NaN") && !html.contains("inf"));
}

#[test]
fn arrows_lead_from_before_to_after() {
    let mut report = filled("plain");
    let [first, still] = [&report.tuned[0], &report.tuned[0]].map(Clone::clone);
    let still = Tuned { after: still.before, ..still };
    let unknown = Tuned { before: Measured { top1: None, ..first.before }, ..first.clone() };
    report.tuned = vec![first, still, unknown];
    let html = render(&report);
    tags(&html);
    // The head of an arrow is two lines back to its tip; a network that stays where it was has none.
    let heads: Vec<usize> = html
        .split("class=\"arrow\" d=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().matches('M').count())
        .collect();
    assert_eq!(heads, [2, 1, 2, 1]);
    let section = html.split("<section id=\"tuned\">").nth(1).unwrap();
    for text in [">+4.50</td>", ">\u{2212}20.00\u{202f}%</td>", ">+0.00</td>"] {
        assert!(section.contains(text), "{text}");
    }
    assert!(!html.contains("NaN"));
    report.tuned.clear();
    assert!(!render(&report).contains("id=\"tuned\""));
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
    assert_eq!(
        structure(&tags(&render_comparison(&compared(hostile)))),
        structure(&tags(&render_comparison(&compared("plain"))))
    );
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
    assert_eq!(html.matches(">–</td>").count(), 4);
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
    let odd = |expansion| Some(Block { kernel: 3, expansion, ..Block::default() });
    stage.layers[0].block = odd(f64::NAN);
    stage.layers[1].block = odd(-1.0);
    stage.layers = stage.layers.iter().cloned().cycle().take(100).collect();
    let html = render(&report);
    tags(&html);
    assert_eq!(html.matches("class=\"p k").count(), 64);
}

#[test]
fn every_kind_of_layer_has_its_marks() {
    let mut report = filled("plain");
    let stage = &mut report.networks[0].diagram.stages[0];
    stage.layers = vec![
        Layer { branches: vec!["1x1".into(), "T".into()], ..Layer::default() },
        Layer { block: Some(Block { kernel: 5, expansion: 6.0, ..Block::default() }), ..Layer::default() },
        Layer {
            block: Some(Block { kernel: 7, expansion: 3.0, squeeze_excite: true, shortcut: true }),
            branches: vec!["1x1".into()],
            skips: vec![0],
            ..Layer::default()
        },
    ];
    let html = render(&report);
    let picture = html.split("<svg class=\"net\"").nth(1).unwrap().split("</svg>").next().unwrap();
    for (mark, count) in [
        (">1x1 + T</text>", 1),
        (">k5 e6</text>", 1),
        (">k7 e3</text>", 1),
        (">+ 1x1</text>", 1),
        ("class=\"squeeze\"", 1),
        ("class=\"shortcut\"", 1),
        ("class=\"arc\"", 1),
        ("class=\"skipped\"", 1),
        ("rect class=\"exit\"", 1),
    ] {
        assert_eq!(picture.matches(mark).count(), count, "{mark}");
    }
}

#[test]
fn networks_without_a_note_are_folded_where_others_have_one() {
    let mut report = filled("plain");
    let plain = Network { note: String::new(), ..report.networks[0].clone() };
    report.networks.extend([plain.clone(), plain.clone()]);
    let html = render(&report);
    tags(&html);
    assert!(html.contains("<summary>2 more networks</summary>"));
    report.networks.remove(0);
    assert!(!render(&report).contains("more network"));
}
