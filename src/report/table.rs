//! Tables of all pages. On a narrow screen, where the columns of a table do not fit, each row becomes a card with
//! the name of its column before each value. Nothing is cut off, and nobody has to scroll sideways.

use super::markup::Escaped;
use std::fmt::Write;

/// From so many columns on a table needs a broad screen.
const WIDE: usize = 9;

/// A row; its cells are markup.
#[derive(Default)]
pub(super) struct Row<'a> {
    /// What lights up with it in charts; may be empty.
    pub key: &'a str,
    /// Its first cell.
    pub head: String,
    /// What is said of it below that; may be empty.
    pub note: &'a str,
    /// The other cells.
    pub cells: Vec<String>,
}

/// Writes a table. `columns` are the names of all columns, the first being that of the rows' heads.
pub(super) fn table(html: &mut String, columns: &[String], rows: &[Row<'_>]) {
    let wide = if columns.len() >= WIDE { " class=\"wide\"" } else { "" };
    let _ = write!(html, "<div class=\"scroll\"><table{wide}>\n<thead><tr>");
    for name in columns {
        let _ = write!(html, "<th scope=\"col\">{}</th>", Escaped(name));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for Row { key, head, note, cells } in rows {
        if key.is_empty() {
            html.push_str("<tr>")
        } else {
            let _ = write!(html, "<tr class=\"p\" data-k=\"{}\">", Escaped(key));
        }
        let _ = write!(html, "<th scope=\"row\">{head}");
        if !note.is_empty() {
            let _ = write!(html, " <span class=\"note\">{}</span>", Escaped(note));
        }
        html.push_str("</th>");
        for (name, cell) in columns.iter().skip(1).zip(cells) {
            let _ = write!(html, "<td data-column=\"{}\">{cell}</td>", Escaped(name));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
}
