//! A network drawn as text that a person can read.

use super::backbone::Channels;
use super::cost::cost;
use super::walk::{Branches, Exits, Layer, Part, parts};
use super::{Activation, Arch};
use std::fmt::Write;

/// The drawing: a line a layer, with kernels, expansions, channels and map sides.
pub fn show(channels: &Channels, arch: &Arch, exits: Exits, classes: usize) -> String {
    let total = cost(channels, arch, exits, classes);
    let mut out = format!(
        "{} at width {}, {} x {} px, {classes} classes: {} parameters, {} MACs\n\n",
        arch.family,
        channels.width,
        arch.r,
        arch.r,
        grouped(total.params),
        grouped(total.macs)
    );
    let mut row = |name: &str, what: &str, cout: usize, side: usize| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  {name:<10} {what:<58} {cout:>5} ch  {side:>3} x {side}");
    };
    for part in parts(channels, arch, exits) {
        match part {
            Part::First(first) => {
                let shortcut = if first.shortcut() { ", +x" } else { "" };
                row("stem", "conv 3x3 /2, h-swish", first.stem, first.side);
                row("first", &format!("MBConv k3 e1, ReLU{shortcut}"), first.cout, first.side);
            }
            Part::Layer(layer) => {
                let k = layer.position + 1;
                row(&format!("{}.{k}", layer.stage + 1), &describe(&layer), layer.cout, layer.side_out);
                let terms: Vec<String> =
                    layer.skips(arch.family.dense).map(|term| format!("y{term}")).collect();
                if !terms.is_empty() {
                    let what = format!("  + {} (dense skip)", terms.join(" + "));
                    row("", &what, layer.cout, layer.side_out);
                }
            }
            Part::Exit(exit) => {
                let name = exit.number().map_or("head".into(), |number| format!("exit {}", number + 1));
                let (expand, mix) = (exit.head.expand, exit.head.mix);
                let what = format!("1x1 {expand} h-swish, pool, 1x1 {mix} h-swish, linear");
                row(&name, &what, classes, 1);
            }
        }
    }
    out
}

fn describe(layer: &Layer) -> String {
    let stride = if layer.stride > 1 { format!(" /{}", layer.stride) } else { String::new() };
    let activation = match layer.activation {
        Activation::Relu => "ReLU",
        Activation::HSwish => "h-swish",
        Activation::HSigmoid => "h-sigmoid",
        Activation::None => "linear",
    };
    let Branches { mbconv, pointwise, transform } = layer.branches;
    let mut parts = Vec::new();
    if mbconv {
        let mut text =
            format!("MBConv k{} e{} ({}){stride}, {activation}", layer.kernel, layer.expansion, layer.mid);
        if let Some(hidden) = layer.squeeze {
            text += &format!(", SE {hidden}");
        }
        if layer.shortcut {
            text += ", +x";
        }
        parts.push(text);
    }
    if pointwise {
        parts.push(format!("1x1{stride}"));
    }
    if transform {
        parts.push(format!("transform{stride}"));
    }
    parts.join(" | ")
}

/// A count with its digits in groups of three.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::{ExitScaling, Family};
    use super::*;

    #[test]
    fn drawing_shows_every_layer_and_the_counts() {
        let arch = Arch::largest(Family::SE_B, 64, Some(1.0));
        let text = show(&Channels::new(1.0, ExitScaling::Once), &arch, Exits::single(&arch), 200);
        assert!(text.contains("6,639,960 parameters, 49,798,016 MACs"));
        assert_eq!(text.matches("MBConv k7 e6").count(), 20);
        assert!(text.contains("MBConv k3 e1, ReLU, +x "));
        assert_eq!((grouped(0), grouped(1000)), ("0".to_string(), "1,000".to_string()));
    }
}
