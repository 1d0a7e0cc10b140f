//! Escaping, and numbers as text.

use super::Quantity;
use std::fmt;

/// Text made safe for HTML and SVG, in content and in double-quoted attributes alike.
pub(super) struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => f.write_char(character)?,
                '\r' => {}
                // Control characters are no legal HTML, and embedding, override and isolate marks could
                // make text read as another text.
                c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                    f.write_char('\u{fffd}')?;
                }
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Largest size of a number that charts and tables take; beyond it ranges overflow.
const LARGEST: f64 = 1e300;

/// The number, if it can be shown.
pub(super) fn shown(value: f64) -> Option<f64> {
    (value.abs() <= LARGEST).then_some(value)
}

/// A coordinate: a tenth of a pixel is enough.
pub(super) fn at(coordinate: f64) -> String {
    let text = format!("{coordinate:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" { "0".into() } else { text.into() }
}

/// Divisor and letter that bring a number of this size below a thousand.
pub(super) fn prefix(size: f64) -> (f64, &'static str) {
    match size {
        s if !(1e4..1e15).contains(&s) => (1.0, ""),
        s if s >= 1e12 => (1e12, "T"),
        s if s >= 1e9 => (1e9, "G"),
        s if s >= 1e6 => (1e6, "M"),
        _ => (1e3, "k"),
    }
}

/// A value with four digits that count; a dash where there is none.
pub(super) fn figure(value: f64) -> String {
    let Some(value) = shown(value) else { return "–".into() };
    let (divisor, letter) = prefix(value.abs());
    let scaled = value / divisor;
    let size = scaled.abs();
    let text = match size {
        0.0 => "0".into(),
        s if !(1e-3..1e15).contains(&s) => format!("{scaled:.3e}"),
        s => {
            let decimals = (3 - s.log10().floor() as i32).clamp(0, 6) as usize;
            format!("{scaled:.decimals$}")
        }
    };
    format!("{text}{letter}").replace('-', "\u{2212}")
}

/// A whole number, without decimals as far as [`figure`] shows all its digits.
pub(super) fn count(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e4 {
        format!("{value:.0}").replace('-', "\u{2212}")
    } else {
        figure(value)
    }
}

/// The unit of accuracies, which have two decimals wherever they are printed.
const PER_CENT: &str = "%";

/// A share in per cent, without the sign.
pub(super) fn per_cent(value: f64) -> String {
    shown(value).map_or_else(|| "–".into(), |value| format!("{value:.2}").replace('-', "\u{2212}"))
}

/// A value of a quantity, without its unit; `whole` where all of its values are whole numbers.
pub(super) fn amount(value: f64, quantity: &Quantity, whole: bool) -> String {
    if quantity.unit == PER_CENT {
        per_cent(value)
    } else if whole {
        count(value)
    } else {
        figure(value)
    }
}

/// A value with its unit.
pub(super) fn measured(value: f64, quantity: &Quantity) -> String {
    let text = amount(value, quantity, false);
    if quantity.unit.is_empty() {
        text
    } else {
        // A no-break thin space, so that the unit stays with its number.
        format!("{text}\u{202f}{}", quantity.unit)
    }
}

/// How the values of a column are written: all with one power of ten and as many decimals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Digits {
    divisor: f64,
    letter: &'static str,
    decimals: usize,
}

impl Digits {
    /// Those with which the largest of `values` has the four digits of [`figure`]; none where they are all whole
    /// and small, and two for shares in per cent.
    pub(super) fn of(values: impl Iterator<Item = f64> + Clone, quantity: &Quantity) -> Digits {
        let values = values.filter_map(shown);
        let size = values.clone().map(f64::abs).fold(0.0, f64::max);
        let (divisor, letter) = prefix(size);
        let decimals = match size / divisor {
            _ if quantity.unit == PER_CENT => 2,
            _ if divisor == 1.0 && values.clone().all(|value| value.fract() == 0.0) => 0,
            scaled if scaled > 0.0 => (3 - scaled.log10().floor() as i32).clamp(0, 6) as usize,
            _ => 0,
        };
        Digits { divisor, letter, decimals }
    }

    /// A value as all of its column are; a dash where there is none.
    pub(super) fn write(self, value: f64) -> String {
        let Digits { divisor, letter, decimals } = self;
        let Some(value) = shown(value) else { return "–".into() };
        format!("{:.decimals$}{letter}", value / divisor).replace('-', "\u{2212}")
    }
}

/// Name and unit.
pub(super) fn titled(quantity: &Quantity) -> String {
    if quantity.unit.is_empty() {
        quantity.name.clone()
    } else {
        format!("{} ({})", quantity.name, quantity.unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_markup_survives_escaping() {
        let text = "<a href=\"x\" id='y'>&\u{0}\u{202e}\r\n</a>";
        let want = "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;\u{fffd}\u{fffd}\n&lt;/a&gt;";
        assert_eq!(Escaped(text).to_string(), want);
    }

    #[test]
    fn figures_keep_four_digits() {
        for (value, text) in [
            (0.0, "0"),
            (75.85, "75.85"),
            (0.583_530, "0.5835"),
            (583_530.0, "583.5k"),
            (5_196_896.0, "5.197M"),
            (-3.0, "\u{2212}3.000"),
            (1e-5, "1.000e\u{2212}5"),
            (9_999.4, "9999"),
            (1e20, "1.000e20"),
            (f64::NAN, "–"),
            (f64::INFINITY, "–"),
        ] {
            assert_eq!(figure(value), text);
        }
    }

    #[test]
    fn counts_have_no_decimals() {
        for (value, text) in
            [(20.0, "20"), (0.0, "0"), (-7.0, "\u{2212}7"), (48_000.0, "48.00k"), (0.5, "0.5000")]
        {
            assert_eq!(count(value), text);
        }
        assert_eq!((count(f64::NAN), count(f64::INFINITY)), ("–".into(), "–".into()));
    }

    #[test]
    fn the_values_of_a_column_have_the_same_digits() {
        let per_cent = Quantity { name: "top-1".into(), unit: "%".into() };
        let plain = Quantity { name: "MACs".into(), unit: String::new() };
        let write = |values: &[f64], quantity: &Quantity| -> Vec<String> {
            let digits = Digits::of(values.iter().copied(), quantity);
            values.iter().map(|&value| digits.write(value)).collect()
        };
        assert_eq!(write(&[96.666, 1.1547, 9.0], &per_cent), ["96.67", "1.15", "9.00"]);
        assert_eq!(write(&[335_698.0, 12_345.6, 999.0], &plain), ["335.7k", "12.3k", "1.0k"]);
        assert_eq!(write(&[30.0, 0.0, 54.0], &plain), ["30", "0", "54"]);
        assert_eq!(write(&[0.5134, -0.02, f64::NAN], &plain), ["0.5134", "\u{2212}0.0200", "–"]);
        assert_eq!(write(&[f64::INFINITY], &plain), ["–"]);
        assert_eq!((amount(8.0, &per_cent, true), amount(8.0, &plain, true)), ("8.00".into(), "8".into()));
    }

    #[test]
    fn coordinates_are_short() {
        assert_eq!((at(12.0), at(12.34), at(-0.01)), ("12".into(), "12.3".into(), "0".into()));
    }
}
