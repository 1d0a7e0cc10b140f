//! The charts of a page, each as a file of its own, for a README or a paper.

use super::page::STYLE;

/// What the page's style lacks where a chart stands alone.
const OWN: &str = "svg { width: auto; background: var(--card); \
    font-family: system-ui, -apple-system, \"Segoe UI\", Roboto, \"DejaVu Sans\", sans-serif; }";

/// Every chart of a page, in order: a name for a file, without an ending, and an SVG document.
pub fn charts(page: &str) -> Vec<(String, String)> {
    // Charts are the page's own, so their text is known: nothing in them but the end closes an svg.
    let pieces = page.split("<svg class=\"chart\"").skip(1);
    let charts = pieces.filter_map(|piece| piece.split_once("</svg>").map(|(chart, _)| chart));
    charts.enumerate().map(|(index, chart)| (name(index, chart), document(chart))).collect()
}

/// `01-top-1-over-parameters` of what describes a chart.
fn name(index: usize, chart: &str) -> String {
    let label =
        chart.split("aria-label=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("chart");
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { ' ' };
    let words: String = label.chars().map(plain).collect();
    let words: Vec<&str> = words.split_whitespace().take(8).collect();
    format!("{:02}-{}", index + 1, words.join("-"))
}

fn document(chart: &str) -> String {
    let size = chart.split("viewBox=\"0 0 ").nth(1).and_then(|rest| rest.split('"').next());
    let (width, height) = size.and_then(|size| size.split_once(' ')).unwrap_or(("460", "300"));
    let (attributes, rest) = chart.split_once('>').unwrap_or((chart, ""));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" width=\"{width}\" height=\"{height}\"{attributes}>\n\
         <style>\n{STYLE}{OWN}\n</style>{rest}</svg>\n"
    )
}
