//! Axes: from values to places, with ticks at round numbers.

use super::markup::prefix;

/// An axis from a range of values to a range of places.
#[derive(Debug, Clone)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
    from: f64,
    to: f64,
}

/// What an axis shows; its values decide the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AxisKind {
    /// Linear, or logarithmic where positive values span a factor of 40.
    Measured,
    /// Linear with ticks at whole numbers.
    Counted,
}

impl Scale {
    /// An axis that holds all values with a little room around them, places going `from` .. `to`.
    /// The values are finite, their differences too.
    pub(super) fn new(values: impl IntoIterator<Item = f64>, kind: AxisKind, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let logarithmic = kind == AxisKind::Measured && low > 0.0 && high / low > 40.0;
        if logarithmic {
            (low, high) = (low.log10(), high.log10());
        }
        // A range that is nothing but rounding, or a single value, gets a width of its own.
        let least = match kind {
            AxisKind::Counted => 1.0,
            AxisKind::Measured => (low.abs().max(high.abs()) * 1e-6).max(1e-300),
        };
        let room = if high - low >= least {
            (high - low) * 0.06
        } else if kind == AxisKind::Counted || (low == 0.0 && high == 0.0) {
            0.5
        } else {
            low.abs().max(high.abs()) * 0.05
        };
        Scale { low: low - room, high: high + room, logarithmic, from, to }
    }

    /// An axis whose ends are fixed.
    pub(super) fn fixed(low: f64, high: f64, from: f64, to: f64) -> Self {
        Scale { low, high, logarithmic: false, from, to }
    }

    pub(super) fn place(&self, value: f64) -> f64 {
        let value = if self.logarithmic { value.log10() } else { value };
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.from + share * (self.to - self.from)
    }

    /// Places and labels of the ticks, about `wanted` of them.
    pub(super) fn ticks(&self, kind: AxisKind, wanted: usize) -> Vec<(f64, String)> {
        let values = if self.logarithmic { self.decades(wanted) } else { self.steps(kind, wanted) };
        let largest = values.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        let spacing = values.windows(2).map(|w| (w[1] - w[0]).abs()).fold(f64::INFINITY, f64::min);
        let (divisor, letter) = prefix(largest);
        let label = |value: f64| {
            let spacing = if spacing.is_finite() { spacing } else { largest };
            let text = tick_text(value / divisor, if self.logarithmic { value } else { spacing } / divisor);
            if value == 0.0 { text } else { format!("{text}{letter}") }
        };
        values.iter().map(|&value| (self.place(value), label(value))).collect()
    }

    /// Multiples of 1, 2, 2.5 or 5 times a power of ten.
    fn steps(&self, kind: AxisKind, wanted: usize) -> Vec<f64> {
        let rough = (self.high - self.low) / wanted as f64;
        let power = 10f64.powi(rough.log10().floor() as i32);
        let choices: &[f64] =
            if kind == AxisKind::Counted { &[1.0, 2.0, 5.0] } else { &[1.0, 2.0, 2.5, 5.0] };
        let mut step =
            choices.iter().map(|c| c * power).find(|step| *step >= rough * 0.9999).unwrap_or(10.0 * power);
        if kind == AxisKind::Counted {
            step = step.max(1.0).round();
        }
        let first = (self.low / step).ceil();
        // The index is rounded away from where the number line is too coarse for it; stop there.
        (0..=2 * wanted)
            .map(|i| (first + i as f64) * step)
            .take_while(|value| *value <= self.high)
            .map(|value| if value == 0.0 { 0.0 } else { value })
            .collect()
    }

    /// 1, 2 and 5 times the powers of ten, or only some powers where the axis is long.
    fn decades(&self, wanted: usize) -> Vec<f64> {
        let (first, last) = (self.low.floor() as i32, self.high.ceil() as i32);
        let within = |value: &f64| (self.low..=self.high).contains(&value.log10());
        if self.high - self.low <= 2.5 {
            return (first..=last)
                .flat_map(|power| [1.0, 2.0, 5.0].map(|c| c * 10f64.powi(power)))
                .filter(within)
                .collect();
        }
        let every = ((self.high - self.low) / wanted as f64).ceil().max(1.0) as usize;
        (first..=last).step_by(every).map(|power| 10f64.powi(power)).filter(within).collect()
    }
}

/// A tick's number, as exact as the ticks' spacing asks for.
fn tick_text(value: f64, spacing: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    if value.abs() >= 1e6 || value.abs() < 1e-4 {
        return format!("{value:.0e}").replace('-', "\u{2212}");
    }
    // As many decimals as it takes to write the spacing.
    let decimals = (0..8).find(|&d| {
        let scaled = spacing * 10f64.powi(d);
        (scaled - scaled.round()).abs() < 1e-6 * scaled
    });
    let decimals = decimals.unwrap_or(8) as usize;
    format!("{value:.decimals$}").replace('-', "\u{2212}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(values: &[f64], kind: AxisKind) -> Vec<String> {
        let scale = Scale::new(values.iter().copied(), kind, 0.0, 100.0);
        scale.ticks(kind, 5).into_iter().map(|t| t.1).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(labels(&[67.2, 75.9], AxisKind::Measured), ["68", "70", "72", "74", "76"]);
        assert_eq!(labels(&[0.156, 0.583], AxisKind::Measured), ["0.2", "0.3", "0.4", "0.5", "0.6"]);
        assert_eq!(
            labels(&[156_882.0, 583_530.0], AxisKind::Measured),
            ["200k", "300k", "400k", "500k", "600k"]
        );
        assert_eq!(
            labels(&[-1.0, 1.0], AxisKind::Measured),
            ["\u{2212}1.0", "\u{2212}0.5", "0", "0.5", "1.0"]
        );
        assert_eq!(labels(&[1.0, 3.0], AxisKind::Counted), ["1", "2", "3"]);
        assert_eq!(labels(&[1.0, 30.0], AxisKind::Counted), ["0", "10", "20", "30"]);
        assert_eq!(labels(&[1.0, 100.0], AxisKind::Measured), ["1", "2", "5", "10", "20", "50", "100"]);
        assert_eq!(labels(&[1e-3, 1e9], AxisKind::Measured).len(), 4);
    }

    #[test]
    fn a_single_value_sits_in_the_middle() {
        for value in [0.0, 5.0, -3e-9, 1e18] {
            let scale = Scale::new([value], AxisKind::Measured, 0.0, 100.0);
            assert!((scale.place(value) - 50.0).abs() < 1e-6, "{value}");
            assert!(!scale.ticks(AxisKind::Measured, 5).is_empty(), "{value}");
        }
        assert_eq!(labels(&[4.0], AxisKind::Counted), ["4"]);
    }

    proptest! {
        #[test]
        fn every_axis_has_places_within_it_and_few_ticks(
            a in prop::num::f64::NORMAL, b in prop::num::f64::NORMAL, counted: bool,
        ) {
            prop_assume!(a.abs() < 1e300 && b.abs() < 1e300);
            let kind = if counted { AxisKind::Counted } else { AxisKind::Measured };
            let scale = Scale::new([a, b], kind, 40.0, 10.0);
            for value in [a, b] {
                prop_assert!((10.0..=40.0).contains(&scale.place(value)));
            }
            let ticks = scale.ticks(kind, 5);
            prop_assert!(ticks.len() <= 12);
            prop_assert!(ticks.iter().all(|t| (10.0..=40.0).contains(&t.0) && t.1.len() <= 16));
        }
    }
}
