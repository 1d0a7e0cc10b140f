//! Channel sorting: before expansion ratios become elastic, the channels of every MBConv are put in
//! order of importance, so that a smaller ratio keeps the best of them (OFA, arXiv 1908.09791,
//! section 3.4; `re_organize_middle_weights` of the once-for-all package).
//!
//! The importance of an expanded channel is the L1 norm of its column of the projection; that of a
//! hidden unit of squeeze-and-excitation, the L1 norm of its column of the second layer. Sorting is a
//! permutation of the channels between two layers, so the largest network computes the same as
//! before. From the second expansion phase on, the channels that smaller ratios already use stay in
//! front: each range between two trained ratios is sorted on its own.
//!
//! Hidden units are sorted over all of them whatever the stage, as the package does it.

use super::{Layout, NORM, Names, Supernet, Tensor, Unit};
use crate::space::backbone::{EXPANSIONS, LAYERS, expanded};
use crate::space::visit::Place;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// A permutation of the channels of a super-network, for its weights and for everything that goes
/// with them element by element (momentum buffers, moment estimates).
#[derive(Debug, Clone, PartialEq)]
pub struct Sorting {
    moves: Vec<Move>,
}

/// Tensor `tensor` of the layout, of which entry `i` along `axis` comes from entry `order[i]`.
#[derive(Debug, Clone, PartialEq)]
struct Move {
    tensor: usize,
    axis: usize,
    order: Arc<[usize]>,
}

impl Supernet {
    /// How the channels have to move on entering expansion phase `stage` (0: from the largest ratio
    /// alone to the two largest; 1: to the three largest), by the importance that they have now.
    ///
    /// The tensors of a stand-alone network have no channels to spare, and none of them moves.
    pub fn sorting(&self, stage: usize) -> Sorting {
        let mut moves = Vec::new();
        if self.layout.is_network() {
            return Sorting { moves };
        }
        let tensors = self.layout.tensors();
        let places: BTreeMap<&str, usize> =
            tensors.iter().enumerate().map(|(place, tensor)| (tensor.name.as_str(), place)).collect();
        let mut add = |unit: Unit, part: &str, axis: usize, order: &Arc<[usize]>| {
            // Every super-network has these tensors; stages without squeeze-and-excitation do not.
            if let Some(&tensor) = places.get(Names::Shared.tensor(unit, part).as_str()) {
                moves.push(Move { tensor, axis, order: order.clone() });
            }
        };
        let plain = |unit: Unit| {
            let place = places.get(Names::Shared.tensor(unit, "weight").as_str());
            place.map(|&place| self.layout.plain(&tensors[place], &self.packed))
        };
        for index in 0..LAYERS {
            let [project, filter, expand] =
                [Place::Project(index), Place::Filter(index), Place::Expand(index)];
            let Some(norms) = plain(Unit::Convolution(project)).map(|of| column_norms(&of)) else { continue };
            let ranges = ranges(self.channels().layer_input(index), stage);
            let order: Arc<[usize]> = sorted(&norms, &ranges).into();
            for (place, axis) in [(project, 1), (filter, 0), (expand, 0)] {
                add(Unit::Convolution(place), "weight", axis, &order);
            }
            for place in [filter, expand] {
                for part in NORM {
                    add(Unit::Norm(place), part, 0, &order);
                }
            }
            let (reduce, expand) = (Unit::Reduce(index), Unit::Expand(index));
            let Some(norms) = plain(expand).map(|of| column_norms(&of)) else { continue };
            add(expand, "weight", 0, &order);
            add(expand, "bias", 0, &order);
            add(reduce, "weight", 1, &order);
            let hidden: Arc<[usize]> = sorted(&norms, std::slice::from_ref(&(0..norms.len()))).into();
            add(expand, "weight", 1, &hidden);
            add(reduce, "weight", 0, &hidden);
            add(reduce, "bias", 0, &hidden);
        }
        Sorting { moves }
    }

    /// Sorts the channels on entering expansion phase `stage`, and says how they moved.
    pub fn sort_channels(&mut self, stage: usize) -> Sorting {
        let sorting = self.sorting(stage);
        sorting.apply(&self.layout, &mut self.packed);
        sorting
    }
}

impl Sorting {
    /// Moves the channels of `buffer`: numbers in the packed order of `layout`, that of the
    /// super-network that was sorted, with or without the derived part, which is left alone.
    pub fn apply(&self, layout: &Layout, buffer: &mut [f32]) {
        for Move { tensor, axis, order } in &self.moves {
            let tensor = &layout.tensors()[*tensor];
            let mut plain = layout.plain(tensor, buffer);
            plain.data = permuted(&plain, *axis, order);
            layout.set_plain(tensor, &plain, buffer);
        }
    }

    /// Whether nothing moves.
    pub fn is_identity(&self) -> bool {
        self.moves.iter().all(|m| m.order.iter().enumerate().all(|(to, &from)| to == from))
    }
}

/// The ranges of channels that are sorted each on its own.
fn ranges(cin: usize, stage: usize) -> Vec<Range<usize>> {
    let stage = stage.min(EXPANSIONS.len() - 1);
    // Ascending: the smallest of the ratios in training first, the largest last.
    let trained = &EXPANSIONS[EXPANSIONS.len() - 1 - stage..];
    let mut start = 0;
    let range = |&ratio: &u8| {
        let end = expanded(cin, ratio);
        let range = start..end;
        start = end;
        range
    };
    trained.iter().map(range).collect()
}

/// L1 norm of each column of `[rows, columns, 1, 1]`.
fn column_norms(tensor: &Tensor) -> Vec<f64> {
    let columns = tensor.shape[1];
    let mut norms = vec![0.0; columns];
    for row in tensor.data.chunks_exact(columns) {
        row.iter().zip(&mut norms).for_each(|(value, norm)| *norm += f64::from(value.abs()));
    }
    norms
}

/// Indices by descending importance, range by range; equals keep their order.
fn sorted(importance: &[f64], ranges: &[Range<usize>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..importance.len()).collect();
    for range in ranges {
        order[range.clone()].sort_by(|&a, &b| importance[b].total_cmp(&importance[a]));
    }
    order
}

fn permuted(tensor: &Tensor, axis: usize, order: &[usize]) -> Vec<f32> {
    let outer: usize = tensor.shape[..axis].iter().product();
    let inner: usize = tensor.shape[axis + 1..].iter().product();
    let mut out = Vec::with_capacity(tensor.data.len());
    for block in 0..outer {
        for &from in order {
            out.extend_from_slice(&tensor.data[(block * order.len() + from) * inner..][..inner]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device;
    use crate::engine::{Calibration, Cropped, Engine};
    use crate::random::stream;
    use crate::space::walk::Exits;
    use crate::space::{Arch, Family};
    use crate::supernet::Blank;
    use rand::RngExt;

    /// A super-network in which no channel is like another.
    fn supernet(family: Family) -> Supernet {
        let blank = Blank::new(family, 0.25, 10);
        let mut net = Supernet::random(&blank, 1).unwrap();
        let mut rng = stream(2, "perturb", 0, 0);
        for tensor in net.layout.tensors() {
            for value in &mut net.packed[tensor.offset..][..tensor.len] {
                let padding = *value == 0.0 && tensor.shape.len() > 1;
                *value += if padding { 0.0 } else { 0.1 * rng.random::<f32>() };
            }
        }
        net
    }

    fn logits(net: &Supernet, arch: &Arch) -> Vec<f32> {
        let mut rng = stream(3, "images", 0, 0);
        let data = (0..4 * 3 * 32 * 32).map(|_| rng.random::<f32>() * 3.0 - 1.5).collect();
        let images = Tensor { shape: vec![4, 3, 32, 32], data };
        let engine = Engine::new(device::open("cpu").unwrap(), Arc::new(net.clone())).unwrap();
        let images = Cropped::new(&images, &[]).unwrap();
        engine.logits(arch, Exits::up_to(arch), &images, Calibration::Stored).unwrap().concat()
    }

    /// The largest difference, relative to the largest logit.
    fn distance(a: &[f32], b: &[f32]) -> f32 {
        let scale = a.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        a.iter().zip(b).fold(0.0f32, |most, (a, b)| most.max((a - b).abs())) / scale
    }

    #[test]
    fn the_largest_network_stays_the_same_and_smaller_ones_do_not() {
        for family in Family::all() {
            let before = supernet(family);
            let largest = Arch::largest(family, 32, None);
            let smaller = Arch { e: [3; LAYERS], ..largest.clone() };
            for stage in [0, 1] {
                let mut after = before.clone();
                assert!(!after.sort_channels(stage).is_identity());
                let same = distance(&logits(&before, &largest), &logits(&after, &largest));
                assert!(same < 1e-5, "{family}, stage {stage}: {same}");
                let other = distance(&logits(&before, &smaller), &logits(&after, &smaller));
                assert!(other > 1e-3, "{family}, stage {stage}: {other}");
                // Sorted already, it has nothing to do.
                assert!(after.sorting(stage).is_identity());
            }
        }
    }

    #[test]
    fn importance_falls_and_trained_prefixes_stay_prefixes() {
        let before = supernet(Family::SE_B);
        let norms = |net: &Supernet, index: usize| {
            let name = Names::Shared.tensor(Unit::Convolution(Place::Project(index)), "weight");
            column_norms(&net.layout.unpack(&net.packed)[&name])
        };
        for stage in 0..3 {
            let mut after = before.clone();
            after.sort_channels(stage);
            for index in 0..LAYERS {
                let cin = before.channels().layer_input(index);
                let bounds: Vec<usize> = match stage {
                    0 => vec![0, expanded(cin, 6)],
                    1 => vec![0, expanded(cin, 4), expanded(cin, 6)],
                    _ => vec![0, expanded(cin, 3), expanded(cin, 4), expanded(cin, 6)],
                };
                let (old, new) = (norms(&before, index), norms(&after, index));
                for bounds in bounds.windows(2) {
                    let range = bounds[0]..bounds[1];
                    assert!(new[range.clone()].is_sorted_by(|a, b| a >= b), "layer {index}, stage {stage}");
                    let mut sorted = old[range.clone()].to_vec();
                    sorted.sort_by(|a, b| b.total_cmp(a));
                    assert_eq!(new[range], sorted);
                }
            }
        }
    }

    #[test]
    fn other_buffers_move_as_the_weights_do() {
        let mut net = supernet(Family::SE_B);
        // A buffer that says where each number is.
        let mut places: Vec<f32> = (0..net.layout.derived()).map(|i| i as f32).collect();
        let before = net.packed.clone();
        let sorting = net.sort_channels(0);
        sorting.apply(&net.layout, &mut places);
        for (after, place) in net.packed[..places.len()].iter().zip(&places) {
            assert_eq!(after.to_bits(), before[*place as usize].to_bits());
        }
        let mut all: Vec<usize> = places.iter().map(|&p| p as usize).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..places.len()));
    }
}
