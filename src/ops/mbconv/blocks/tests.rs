//! What fits, and that nothing of a block lies on anything else.

use super::*;
use crate::launch::{Arguments, Geometry, Launcher};
use crate::ops::cases;
use crate::ops::halves::Format;
use crate::ops::operator::Cost;
use crate::space::backbone::{
    Channels, EXPANSIONS, ExitScaling, KERNELS, LAYERS, MAX_DEPTH, STAGE_TABLE, expanded, squeezed, strided,
};
use std::cell::{Cell, RefCell};

/// An H100, an A100, and what every card gives without being asked for more.
const H100: u32 = 227 << 10;
const A100: u32 = 163 << 10;
const PLAIN: u32 = 48 << 10;

/// Their multiprocessors.
const HOPPER: Multiprocessors = Multiprocessors { count: 132, multiply_adds: 128 };
const AMPERE: Multiprocessors = Multiprocessors { count: 108, multiply_adds: 64 };
const ALONE: Multiprocessors = Multiprocessors { count: 1, multiply_adds: 128 };

const CARDS: [(u32, Multiprocessors); 3] = [(H100, HOPPER), (A100, AMPERE), (PLAIN, ALONE)];

thread_local! {
    /// Configurations that this thread has picked.
    pub(super) static PICKS: Cell<usize> = const { Cell::new(0) };
}

/// Layer `index` of a network; the first layers of a stage have its stride.
fn layer(images: u32, width: f64, r: usize, index: usize, kernel: u8, expansion: u8) -> Params {
    let channels = Channels::new(width, ExitScaling::Once);
    let stage = index / MAX_DEPTH;
    let first = index.is_multiple_of(MAX_DEPTH);
    let stride = |stage: usize| STAGE_TABLE[stage].stride;
    let side_of = |stages: usize| (0..stages).fold(strided(r, 2), |side, s| strided(side, stride(s)));
    let (side_in, stride) = if first { (side_of(stage), stride(stage)) } else { (side_of(stage + 1), 1) };
    let cin = channels.layer_input(index);
    let mid = expanded(cin, expansion) as u32;
    let hidden = if STAGE_TABLE[stage].squeeze_excite { squeezed(mid as usize) as u32 } else { 0 };
    Params {
        images,
        side_in: side_in as u32,
        side_out: strided(side_in, stride) as u32,
        cin: cin as u32,
        mid,
        cout: channels.stages[stage] as u32,
        kernel: u32::from(kernel),
        stride: stride as u32,
        activation: STAGE_TABLE[stage].activation as u32,
        hidden,
        weight_cin: cin as u32,
        weight_channels: mid,
        weight_mid: mid,
        se_channels: mid,
        se_hidden: hidden,
        image_side: 0,
        stem_activation: 0,
        shortcut: 0,
        format: Format::F16 as u32,
    }
}

/// The stem and the fixed block behind it.
fn first(images: u32, width: f64, r: usize) -> Params {
    let channels = Channels::new(width, ExitScaling::Once);
    let (side, mid, cout) = (strided(r, 2) as u32, channels.stem as u32, channels.first as u32);
    Params {
        images,
        side_in: side,
        side_out: side,
        cin: 3,
        mid,
        cout,
        kernel: 3,
        stride: 1,
        activation: 1,
        hidden: 0,
        weight_cin: 0,
        weight_channels: mid,
        weight_mid: mid,
        se_channels: 0,
        se_hidden: 0,
        image_side: r as u32,
        stem_activation: 2,
        shortcut: u32::from(mid == cout),
        format: Format::F16 as u32,
    }
}

fn layers(images: u32, width: f64, r: usize) -> impl Iterator<Item = (usize, u8, u8, Params)> {
    let choices = KERNELS.iter().flat_map(|&k| EXPANSIONS.map(|e| (k, e)));
    choices.flat_map(move |(k, e)| (0..LAYERS).map(move |i| (i, k, e, layer(images, width, r, i, k, e))))
}

/// Kilobytes of the smallest configuration of a shape.
fn least(p: &Params) -> u32 {
    Job::whole(p).smallest().unwrap().shared_bytes.div_ceil(1024)
}

/// Jobs of all kinds: layers, their first halves, their passes, and stems, some of which fit no block.
fn jobs(images: u32, r: usize) -> impl Iterator<Item = Job> {
    let whole = layers(images, 1.0, r).map(|layer| layer.3);
    let pass = move |p: Params| Pass::ALL.map(|pass| Job::of_pass(&mbconv_pass::Params::of(p, pass, images)));
    let half = |p: Params| Job::of_pair(&expand_depthwise::Params { shape: p.front(), batch_images: None });
    whole
        .flat_map(move |p| pass(p).into_iter().chain([Job::whole(&p), half(p)]))
        .chain([Job::whole(&first(images, 1.0, r))])
}

#[test]
fn what_is_kept_is_what_is_worked_out_anew() {
    let mut none = 0;
    for (images, r) in [(1, 64), (100, 64), (7, 160), (1000, 224)] {
        // Every third, which are of all kinds.
        for job in jobs(images, r).step_by(3) {
            for (shared_bytes, multiprocessors) in CARDS {
                let anew = Job::pick(&(job, shared_bytes, multiprocessors));
                // Whether it was asked before or not.
                for _ in 0..2 {
                    assert_eq!(job.plan(shared_bytes, multiprocessors), anew, "{job:?}");
                }
                let fits = job.candidates().any(|plan| plan.shared_bytes <= shared_bytes);
                assert!(job.fits(shared_bytes) == fits && anew.is_some() == fits, "{job:?}");
                none += usize::from(!fits);
            }
            let smallest = job.candidates().min_by_key(|plan| plan.shared_bytes);
            assert_eq!(job.smallest(), smallest, "{job:?}");
        }
    }
    assert!(none > 100, "{none}");
}

#[test]
fn what_a_job_leaves_out_changes_no_block() {
    for (_, _, _, p) in layers(100, 1.0, 64).chain([(0, 3, 1, first(100, 1.0, 64))]) {
        let job = Job::whole(&p);
        let others = [
            Params { activation: 0, stem_activation: 0, shortcut: 0, format: Format::Bf16 as u32, ..p },
            Params { weight_channels: p.mid + 8, weight_mid: p.mid + 16, ..p },
            Params { weight_cin: p.weight_cin * 2, se_channels: p.mid + 8, se_hidden: p.hidden + 8, ..p },
        ];
        for shape in others.into_iter().chain([p]) {
            assert_eq!(Job::whole(&shape), job);
            let all = Job { shape, ..job };
            assert!(all.candidates().eq(job.candidates()), "{shape:?}");
            for (shared_bytes, multiprocessors) in CARDS {
                let pick = |job| Job::pick(&(job, shared_bytes, multiprocessors));
                assert_eq!(pick(all), pick(job), "{shape:?}");
            }
        }
    }
}

#[test]
fn a_second_launch_picks_nothing() {
    let calls =
        [cases::network_in(Format::Bf16, 3, 64), cases::mbconv_passes(), cases::edges_in(Format::F16)];
    let launches = || {
        let found = RefCell::new(Vec::new());
        let launch = |kernel: &'static str, geometry: Geometry, _: &Arguments<'_>| {
            found.borrow_mut().push((kernel, geometry));
            Ok(())
        };
        // A card that no other test has.
        let to =
            Launcher::new([(256, usize::MAX); 3], Multiprocessors { count: 17, ..HOPPER }, H100, &launch);
        let before = PICKS.get();
        calls.iter().flatten().for_each(|case| case.call.launch(&to).unwrap());
        (found.into_inner(), PICKS.get() - before)
    };
    let ((first, picked), (second, again)) = (launches(), launches());
    assert!(picked > 10 && first.len() > picked, "{picked} for {}", first.len());
    assert_eq!((second, again), (first, 0));
}

#[test]
fn every_layer_up_to_64_pixels_fits_an_h100() {
    for width in [0.25, 1.0, 1.2] {
        for r in (32..=64).step_by(4) {
            for (index, k, e, p) in layers(100, width, r) {
                assert!(fits(&p, H100), "width {width}, {r} pixels, layer {index}, k{k}, e{e}");
            }
            assert!(fits(&first(100, width, r), H100), "width {width}, {r} pixels, stem");
        }
    }
}

#[test]
fn plans_fit_and_their_parts_are_apart() {
    for (limit, multiprocessors) in CARDS {
        for images in [1, 7, 1000] {
            for (_, _, _, p) in layers(images, 1.0, 56) {
                let Some(Plan { config: c, shared_bytes }) = Job::whole(&p).plan(limit, multiprocessors)
                else {
                    assert!(!fits(&p, limit));
                    continue;
                };
                assert!(shared_bytes <= limit);
                let (lines_in, lines_out) = lines(&p, c.images, c.band_rows);
                let pixels = lines_in * p.side_in;
                let ends = [
                    (FRONT + lines_in * c.expanded_row + margin(&p) * c.expanded_pixel, c.x_at),
                    (c.x_at + pixels * p.cin / CHUNK, c.weights_at),
                    (c.weights_at + c.slice * p.cin / CHUNK + c.slice / 2, c.filter_at),
                    (c.filter_at + (p.kernel * p.kernel + 2) * c.slice / 4, c.kept_at),
                    (FRONT + 2 * 8 * c.groups * c.tiles * PROJECT_ROW, c.kept_at),
                    (c.kept_at + lines_out * p.side_out * p.mid / CHUNK, shared_bytes / CHUNK_BYTES),
                ];
                assert!(ends.iter().all(|(end, next)| end <= next), "{p:?} {c:?}");
                assert!(8 * c.groups * c.tiles >= p.cout && c.tiles.is_multiple_of(2));
                assert!((1..=PROJECT_TILES).contains(&c.tiles) && c.images < 2 * p.images);
            }
        }
    }
}

/// Blocks that are alone on their multiprocessors do not wait for each other, and more images do not take less time.
#[test]
fn few_blocks_have_their_multiprocessors_to_themselves() {
    let cycles = |images: u32, index: usize| {
        let p = layer(images, 1.0, 64, index, 5, 4);
        Job::whole(&p).estimate(H100, HOPPER).unwrap().cycles(132)
    };
    for index in 0..LAYERS {
        let times: Vec<u64> = [1, 2, 10, 50, 132, 500, 1000].map(|images| cycles(images, index)).to_vec();
        assert!(times.is_sorted(), "layer {index}: {times:?}");
    }
    let one = Job::whole(&layer(1, 1.0, 64, LAYERS - 1, 5, 4)).estimate(H100, HOPPER).unwrap();
    assert!(one.resident > 1 && one.cycles(132) == one.block.wave(1), "{one:?}");
}

#[test]
fn bands_cover_an_image_and_every_layer_without_squeeze_excite_fits_in_some() {
    for r in [96, 128, 224] {
        let stem = (0, 3, 1, first(100, 1.0, r));
        let layers = layers(100, 1.0, r).filter(|layer| layer.3.hidden == 0);
        for (index, k, e, p) in layers.chain([stem]) {
            let job = Job::whole(&p);
            assert!(job.fits(A100), "{r} pixels, layer {index}, k{k}, e{e}");
            for Plan { config: c, .. } in job.candidates() {
                assert!(c.bands * c.band_rows >= p.side_out && (c.bands - 1) * c.band_rows < p.side_out);
                assert!(c.bands == 1 || (c.images == 1 && job.blocks(&c) == p.images * c.bands));
            }
        }
    }
}

#[test]
fn blocks_of_passes_have_whole_units_and_their_parts_are_apart() {
    for (batches, batch_images) in [(1, 1), (3, 7), (2, 100)] {
        for (_, _, _, whole) in layers(batches * batch_images, 1.0, 64) {
            for pass in Pass::ALL {
                let params = mbconv_pass::Params::of(whole, pass, batch_images);
                let (job, p, units) = (Job::of_pass(&params), params.shape, params.units());
                assert!(job.plan(H100, HOPPER).is_some_and(|plan| plan.shared_bytes <= H100), "{params:?}");
                for Plan { config: c, shared_bytes } in job.candidates() {
                    assert!(c.images == batch_images || c.images.is_multiple_of(units.images));
                    assert!(c.images <= batch_images && job.blocks(&c) * c.images >= p.images);
                    assert!(c.bands == 1 || (c.images == 1 && c.band_rows.is_multiple_of(units.lines)));
                    assert!(c.bands == 1 || p.hidden == 0);
                    let (lines_in, lines_out) = lines(&p, c.images, c.band_rows);
                    let (rows_in, rows_out) = (lines_in * p.side_in, lines_out * p.side_out);
                    let vectors = |there: bool| if there { c.slice / 2 } else { 0 };
                    let input = c.x_at + rows_in * p.cin / CHUNK;
                    let slice = FRONT + rows_in * c.slice / CHUNK;
                    let zeros = margin(&p) * c.expanded_pixel;
                    let weights = c.weights_at + c.slice * p.cin / CHUNK + vectors(job.filters());
                    let filter = p.kernel * p.kernel * c.slice / 4 + vectors(job.projects());
                    let end = shared_bytes / CHUNK_BYTES;
                    let mut ends = vec![(slice + zeros, c.x_at), (input, c.weights_at)];
                    match pass {
                        Pass::Expanded => ends.push((weights, end)),
                        Pass::Filtered => ends.extend([
                            (weights, c.filter_at),
                            (c.filter_at + filter, c.kept_at),
                            (c.kept_at + rows_out * c.slice / CHUNK, end),
                        ]),
                        Pass::Projected => ends.extend([
                            (weights, c.filter_at),
                            (c.filter_at + filter, c.kept_at),
                            (FRONT + 2 * 8 * c.groups * c.tiles * PROJECT_ROW, c.kept_at),
                            (c.kept_at + rows_out * p.mid / CHUNK, end),
                        ]),
                    }
                    assert!(ends.iter().all(|(end, next)| end <= next), "{params:?} {c:?}");
                }
            }
        }
    }
}

#[test]
fn first_halves_of_every_layer_fit_and_their_parts_are_apart() {
    for (r, batch_images) in [(64, None), (64, Some(5)), (224, None)] {
        for (index, k, e, whole) in layers(10, 1.0, r) {
            let p = whole.front();
            let job = Job::of_pair(&expand_depthwise::Params { shape: p, batch_images });
            assert!(job.fits(A100), "{r} pixels, layer {index}, k{k}, e{e}");
            for Plan { config: c, shared_bytes } in job.candidates() {
                assert!(c.bands == 1 || c.images == 1);
                assert!(
                    c.images <= batch_images.unwrap_or(p.images) && job.blocks(&c) * c.images >= p.images
                );
                let (lines_in, lines_out) = lines(&p, c.images, c.band_rows);
                let ends = [
                    (FRONT + lines_in * c.expanded_row + margin(&p) * c.expanded_pixel, c.x_at),
                    (c.x_at + lines_in * p.side_in * p.cin / CHUNK, c.weights_at),
                    (c.weights_at + c.slice * p.cin / CHUNK + c.slice / 2, c.filter_at),
                    (c.filter_at + (p.kernel * p.kernel + 2) * c.slice / 4, c.kept_at),
                    (c.kept_at + lines_out * p.side_out * c.slice / CHUNK, shared_bytes / CHUNK_BYTES),
                ];
                assert!(ends.iter().all(|(end, next)| end <= next), "{p:?} {c:?}");
            }
        }
    }
}

#[test]
fn the_first_passes_of_large_maps_take_less_memory_than_the_whole() {
    for (index, k, e, p) in layers(100, 1.0, 64).filter(|layer| layer.3.pixels_out() >= 64) {
        let taken = |pass: Pass| {
            let params = mbconv_pass::Params::of(p, pass, 100);
            Job::of_pass(&params).smallest().unwrap().shared_bytes
        };
        let images = Job::whole(&p).candidates().filter(|plan| plan.config.bands == 1);
        let whole = images.map(|plan| plan.shared_bytes).min().unwrap();
        let [expanded, filtered, projected] = Pass::ALL.map(taken);
        assert!(expanded < filtered && filtered < projected, "layer {index}, k{k}, e{e}");
        assert_eq!(projected, whole, "layer {index}, k{k}, e{e}");
    }
}

#[test]
fn parts_of_a_block_with_a_stem_are_apart_and_two_fit_a_multiprocessor_of_an_h100() {
    for (width, r) in [(0.25, 33), (1.0, 64), (1.0, 47), (1.2, 32), (1.0, 160)] {
        let p = first(1000, width, r);
        let job = Job::whole(&p);
        let picked = job.plan(H100, HOPPER).unwrap();
        assert!(r != 64 || 2 * (picked.shared_bytes + 1024) <= 228 << 10, "{picked:?}");
        for Plan { config: c, shared_bytes } in job.candidates() {
            assert!(c.slice >= p.mid);
            let (lines_in, lines_out) = lines(&p, c.images, c.band_rows);
            let image_rows = match c.bands {
                1 => c.images * (p.image_side + 1) + 1,
                _ => 2 * lines_in + 1,
            };
            let slice = FRONT + lines_in * c.expanded_row + c.expanded_pixel;
            let end = shared_bytes / CHUNK_BYTES;
            let ends = [
                (slice, c.weights_at),
                (c.weights_at + (27 + 2) * c.slice / 4, c.filter_at),
                (c.filter_at + (9 + 2) * c.slice / 4, c.x_at),
                (c.x_at, c.kept_at),
                (c.x_at + image_rows * (3 * p.image_side).div_ceil(4), end),
                (slice, c.project_at),
                (c.project_at + 2 * 8 * c.groups * c.tiles * PROJECT_ROW, c.kept_at),
                (c.kept_at + lines_out * p.side_out * p.mid / CHUNK, end),
            ];
            assert!(ends.iter().all(|(end, next)| end <= next), "{p:?} {c:?}");
        }
    }
}

/// Which layers of larger images fit; printed as the table of the module's page.
#[test]
fn what_fits_is_as_the_module_says() {
    let mut table = String::new();
    for r in [64, 96, 128, 160, 192, 224] {
        let row = (0..LAYERS)
            .filter(|index| index % MAX_DEPTH < 2)
            .map(|index| layers(1, 1.0, r).filter(|l| l.0 == index).map(|l| least(&l.3)).max().unwrap());
        let row: Vec<u32> = std::iter::once(least(&first(1, 1.0, r))).chain(row).collect();
        let cells: Vec<String> = row.iter().map(|kb| format!(" {kb:>4} |")).collect();
        table += &format!("| {r:>3} |{}\n", cells.concat());
    }
    println!("{table}");
    let page = include_str!("../mod.rs").replace("//! ", "");
    assert!(page.contains(&table), "the table of mod.rs is out of date:\n{table}");
}

/// Bytes of the chain that a call replaces, its maps in 16 bits too.
fn chain_bytes(p: &Params, fused: u64) -> u64 {
    let [rows_in, rows_out, mid] =
        [p.images * p.pixels_in(), p.images * p.pixels_out(), p.mid].map(u64::from);
    let expanded = 2 * 2 * rows_in * mid;
    // Squeeze-excite reads the depthwise output once more; its gates are small.
    let filtered = 2 * (2 + u64::from(p.hidden > 0)) * rows_out * mid;
    fused + expanded + filtered
}

#[test]
fn the_layers_of_a_network_move_a_fraction_of_the_bytes_of_their_chains() {
    let images = 256;
    let slot = |len: u32| crate::ops::Slot::weights(0, len as usize);
    let (mut fused, mut chain) = (0, 0);
    for index in 0..LAYERS {
        let params = layer(images, 1.0, 64, index, 5, 4);
        let (first, se) = (index % MAX_DEPTH == 0, (params.hidden > 0).then(|| slot(0)));
        let call = super::super::Mbconv {
            params,
            x: slot(0),
            stem: None,
            expand: Some(slot(0)),
            expand_scale: Some(slot(0)),
            expand_shift: Some(slot(0)),
            filter: slot(0),
            filter_scale: slot(0),
            filter_shift: slot(0),
            reduce: se,
            reduce_bias: se,
            excite: se,
            excite_bias: se,
            project: slot(0),
            project_scale: slot(0),
            project_shift: slot(0),
            residual: (!first).then(|| slot(1)),
            y: slot(0),
        };
        let bytes = call.work().bytes;
        fused += bytes;
        chain += chain_bytes(&params, bytes);
    }
    println!("{} and {} bytes an image", fused / u64::from(images), chain / u64::from(images));
    assert!(5 * fused < chain, "{fused} {chain}");
}
