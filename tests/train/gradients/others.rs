//! Batch norm, squeeze-and-excitation, pools, activations, the kernel transform, losses, updates.

use super::{assert_close, dot, numbers, slopes};
use natv2::launch::panels::panelled_len;
use natv2::ops::grad::{activation, batch_norm as bn_grad, kernel_transform as transform_grad};
use natv2::ops::grad::{pool as pool_grad, squeeze_excite as se_grad};
use natv2::ops::{Activation, batch_norm, kernel_transform, loss, pool, squeeze_excite, update};

const ACTIVATIONS: [Activation; 4] =
    [Activation::None, Activation::Relu, Activation::HSwish, Activation::HSigmoid];

/// Numbers in -size..size; other numbers for every `index`.
fn random(len: usize, size: f64, index: u64) -> Vec<f64> {
    numbers(len, index).iter().map(|value| size * value).collect()
}

/// Central differences of `f` by each element of `x`.
fn differences(x: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    slopes(x, 1e-5, f)
}

/// What a gradient adds to what was there before.
fn added(after: &[f64], before: &[f64]) -> Vec<f64> {
    after.iter().zip(before).map(|(after, before)| after - before).collect()
}

/// Statistics, folding and application of a batch norm.
struct BatchNorm {
    rows: usize,
    channels: usize,
    activation: Activation,
}

impl BatchNorm {
    /// Mean and variance, scale, shift, and the output.
    fn forward(&self, z: &[f64], gamma: &[f64], beta: &[f64]) -> [Vec<f64>; 4] {
        let (rows, channels) = (self.rows as u32, self.channels as u32);
        let (mut batch, mut scale, mut shift) =
            (vec![0.0; 2 * self.channels], vec![0.0; self.channels], vec![0.0; self.channels]);
        batch_norm::reference::statistics(
            &batch_norm::StatisticsParams { rows, channels, batches: 1, epsilon: 1e-5, format: 0 },
            batch_norm::StatisticsArgs {
                x: z,
                partials: &mut vec![0.0; batch_norm::BnStatistics::partials_len(1, self.rows, self.channels)],
                batch: &mut batch,
                fold: Some(batch_norm::BatchFoldArgs { gamma, beta, scale: &mut scale, shift: &mut shift }),
            },
        );
        let mut y = vec![0.0; z.len()];
        batch_norm::reference::apply(
            &batch_norm::ApplyParams {
                rows,
                batch_rows: rows,
                channels,
                activation: self.activation as u32,
                format: 0,
            },
            batch_norm::ApplyArgs { x: Some(z), scale: &scale, shift: &shift, residual: None, y: &mut y },
        );
        [batch, scale, shift, y]
    }
}

#[test]
fn batch_norm_by_its_input_and_its_affine_parameters() {
    let (rows, channels) = (13, 8);
    for activation in ACTIVATIONS {
        let bn = BatchNorm { rows, channels, activation };
        let (z, dy) = (random(rows * channels, 2.0, 1), random(rows * channels, 1.0, 2));
        let (gamma, beta) = (random(channels, 3.0, 3), random(channels, 1.0, 4));
        let (residual, before) = (random(z.len(), 1.0, 5), random(channels, 1.0, 6));
        let [batch, scale, shift, _] = bn.forward(&z, &gamma, &beta);
        let params = bn_grad::Params {
            rows: rows as u32,
            channels: channels as u32,
            activation: activation as u32,
            epsilon: 1e-5,
            format: 0,
        };
        let mut sums = vec![0.0; 2 * channels];
        let (mut dgamma, mut dbeta, mut dz) = (before.clone(), before.clone(), vec![0.0; z.len()]);
        bn_grad::reference::sums(
            &params,
            bn_grad::SumsArgs {
                z: &z,
                dy: &dy,
                batch: &batch,
                scale: &scale,
                shift: &shift,
                partials: &mut vec![0.0; bn_grad::BnGradSums::partials_len(rows, channels)],
                sums: &mut sums,
                dgamma: &mut dgamma,
                dbeta: &mut dbeta,
            },
        );
        bn_grad::reference::input(
            &params,
            bn_grad::InputArgs {
                z: &z,
                dy: &dy,
                batch: &batch,
                scale: &scale,
                shift: &shift,
                sums: &sums,
                residual: Some(&residual),
                dz: &mut dz,
            },
        );
        let output = |z: &[f64], gamma: &[f64], beta: &[f64]| {
            let [_, _, _, y] = bn.forward(z, gamma, beta);
            dot(&dy, &y)
        };
        let name = |of: &str| format!("{activation:?}: {of}");
        let by_z = differences(&z, |z| output(z, &gamma, &beta));
        assert_close(&name("dz"), &added(&dz, &residual), &by_z, 1e-7);
        let by_gamma = differences(&gamma, |gamma| output(&z, gamma, &beta));
        assert_close(&name("dgamma"), &added(&dgamma, &before), &by_gamma, 1e-7);
        let by_beta = differences(&beta, |beta| output(&z, &gamma, beta));
        assert_close(&name("dbeta"), &added(&dbeta, &before), &by_beta, 1e-7);
    }
}

#[test]
fn running_statistics_take_the_unbiased_variance() {
    // Columns 1, 3, 4 and 2, 5, -1.
    let batch = [8.0 / 3.0, 2.0, 14.0 / 9.0, 6.0];
    let (mut mean, mut variance) = ([0.0, 1.0], [1.0, 1.0]);
    bn_grad::reference::running(
        &bn_grad::RunningParams { channels: 2, momentum: 0.1, unbias: 1.5 },
        bn_grad::RunningArgs { batch: &batch, mean: &mut mean, variance: &mut variance },
    );
    assert_close("mean", &mean, &[0.8 / 3.0, 1.1], 1e-7);
    assert_close("variance", &variance, &[0.9 + 0.7 / 3.0, 1.8], 1e-7);
}

#[test]
fn squeeze_and_excitation_by_its_map_and_its_weights() {
    let (images, pixels, channels, hidden) = (3usize, 6usize, 24usize, 8usize);
    let params = squeeze_excite::Params {
        images: images as u32,
        pixels: pixels as u32,
        channels: channels as u32,
        hidden: hidden as u32,
        weight_channels: channels as u32 + 8,
        weight_hidden: hidden as u32 + 16,
        format: 0,
    };
    let x = random(images * pixels * channels, 2.0, 10);
    let dxg = random(x.len(), 1.0, 11);
    let weights = [
        random(panelled_len(hidden, channels + 8), 1.0, 12),
        random(hidden, 0.5, 13),
        random(panelled_len(channels, hidden + 16), 1.0, 14),
        random(channels, 2.0, 15),
    ];
    let gates = |x: &[f64], [reduce, reduce_bias, expand, expand_bias]: &[Vec<f64>; 4]| {
        let mut gate = vec![0.0; images * channels];
        let args = squeeze_excite::Args { x, reduce, reduce_bias, expand, expand_bias, gate: &mut gate };
        squeeze_excite::reference::run(&params, args);
        gate
    };
    let output = |x: &[f64], weights: &[Vec<f64>; 4]| -> f64 {
        let gate = gates(x, weights);
        let gated =
            x.iter().enumerate().map(|(i, x)| x * gate[i / (pixels * channels) * channels + i % channels]);
        gated.zip(&dxg).map(|(xg, dxg)| xg * dxg).sum()
    };

    let gate = gates(&x, &weights);
    let before = weights.each_ref().map(|w| random(w.len(), 1.0, 16));
    let mut after = before.clone();
    let mut dx = vec![0.0; x.len()];
    let [dreduce, dreduce_bias, dexpand, dexpand_bias] = after.each_mut().map(|w| w.as_mut_slice());
    se_grad::reference::run(
        &params,
        se_grad::GradArgs {
            x: &x,
            gate: &gate,
            dxg: &dxg,
            reduce: &weights[0],
            reduce_bias: &weights[1],
            expand: &weights[2],
            expand_bias: &weights[3],
            scratch: &mut vec![0.0; se_grad::SqueezeExciteGrad::scratch_len(&params)],
            dx: &mut dx,
            dreduce,
            dreduce_bias,
            dexpand,
            dexpand_bias,
        },
    );
    assert_close("dx", &dx, &differences(&x, |x| output(x, &weights)), 1e-7);
    for (i, name) in ["dreduce", "dreduce_bias", "dexpand", "dexpand_bias"].iter().enumerate() {
        let slopes = differences(&weights[i], |w| {
            let mut changed = weights.clone();
            changed[i] = w.to_vec();
            output(&x, &changed)
        });
        assert_close(name, &added(&after[i], &before[i]), &slopes, 1e-7);
    }
}

#[test]
fn pools_by_their_maps() {
    let (images, side, channels) = (2usize, 5usize, 8usize);
    let params = |side_out: usize| pool::Params {
        images: images as u32,
        side_in: side as u32,
        side_out: side_out as u32,
        channels: channels as u32,
        format: 0,
    };
    let x = random(images * side * side * channels, 2.0, 20);
    let residual = random(x.len(), 1.0, 21);

    let dy = random(images * channels, 1.0, 22);
    let mut dx = vec![0.0; x.len()];
    pool_grad::reference::global(&params(1), pool_grad::GlobalArgs { dy: &dy, dx: &mut dx });
    let slopes = differences(&x, |x| {
        let mut y = vec![0.0; dy.len()];
        pool::reference::global(&params(1), pool::GlobalArgs { x, y: &mut y });
        dot(&dy, &y)
    });
    assert_close("mean", &dx, &slopes, 1e-7);

    let dy = random(images * 9 * channels, 1.0, 23);
    let args = pool_grad::MaxArgs { x: &x, dy: &dy, residual: Some(&residual), dx: &mut dx };
    pool_grad::reference::max(&params(3), args);
    let slopes = differences(&x, |x| {
        let mut y = vec![0.0; dy.len()];
        pool::reference::max(&params(3), pool::MaxArgs { x, y: &mut y });
        dot(&dy, &y)
    });
    assert_close("maximum", &added(&dx, &residual), &slopes, 1e-7);
}

#[test]
fn of_equal_pixels_the_first_of_a_window_has_the_gradient() {
    let params = pool::Params { images: 1, side_in: 3, side_out: 2, channels: 1, format: 0 };
    #[rustfmt::skip]
    let x = [
        1.0, 2.0, 5.0,
        2.0, 2.0, 5.0,
        0.0, 0.0, -1.0,
    ];
    let mut dx = [0.0; 9];
    let args = pool_grad::MaxArgs { x: &x, dy: &[1.0, 2.0, 3.0, 4.0], residual: None, dx: &mut dx };
    pool_grad::reference::max(&params, args);
    assert_eq!(dx, [0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 3.0, 0.0, 4.0]);
}

#[test]
fn activations_with_dropout_and_biases() {
    let len = 48;
    let (x, dy) = (random(len, 5.0, 30), random(len, 1.0, 31));
    let mask: Vec<f64> = random(len, 1.0, 32).iter().map(|&v| if v > -0.5 { 1.25 } else { 0.0 }).collect();
    for activation in ACTIVATIONS {
        let params = activation::Params { len: len as u32, activation: activation as u32, format: 0 };
        for mask in [None, Some(mask.as_slice())] {
            let mut dx = vec![0.0; len];
            activation::reference::backward(
                &params,
                activation::GradArgs { x: &x, dy: &dy, mask, dx: &mut dx },
            );
            let slopes = differences(&x, |x| {
                let mut y = vec![0.0; len];
                activation::reference::forward(&params, activation::ActivateArgs { x, mask, y: &mut y });
                dot(&dy, &y)
            });
            assert_close(&format!("{activation:?}"), &dx, &slopes, 1e-7);
        }
    }
    let before = random(8, 1.0, 33);
    let mut dbias = before.clone();
    let args = activation::ColumnsArgs { x: &dy, partials: &mut [0.0; 8], y: &mut dbias };
    activation::reference::columns(&activation::ColumnsParams { rows: 6, columns: 8, format: 0 }, args);
    let slopes = differences(&[0.5; 8], |bias| (0..len).map(|i| dy[i] * (x[i] + bias[i % 8])).sum());
    assert_close("bias", &added(&dbias, &before), &slopes, 1e-7);
}

// x = torch.tensor([-4, -3, -1.5, 0, 1.5, 3, 4], dtype=torch.float64, requires_grad=True)
// for f in (F.relu, F.hardswish, F.hardsigmoid): x.grad = None; f(x).sum().backward(); print(x.grad)
#[test]
fn derivatives_at_corners_are_those_of_pytorch() {
    let x = [-4.0, -3.0, -1.5, 0.0, 1.5, 3.0, 4.0, 0.0];
    let sixth = 1.0 / 6.0;
    for (activation, wanted) in [
        (Activation::Relu, [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0]),
        (Activation::HSwish, [0.0, 0.0, 0.0, 0.5, 1.0, 1.0, 1.0, 0.5]),
        (Activation::HSigmoid, [0.0, 0.0, sixth, sixth, sixth, 0.0, 0.0, sixth]),
    ] {
        let params = activation::Params { len: 8, activation: activation as u32, format: 0 };
        let mut dx = [0.0; 8];
        let args = activation::GradArgs { x: &x, dy: &[1.0; 8], mask: None, dx: &mut dx };
        activation::reference::backward(&params, args);
        assert_close(&format!("{activation:?}"), &dx, &wanted, 1e-12);
    }
}

#[test]
fn kernel_transform_by_its_filter_and_its_matrix() {
    let channels = 8usize;
    for (from, to) in [(5usize, 3usize), (7, 5)] {
        let params = kernel_transform::Params { channels: channels as u32, from: from as u32, to: to as u32 };
        let x = random(from * from * channels, 1.0, 40);
        let (matrix, dy) = (random(to.pow(4), 1.0, 41), random(to * to * channels, 1.0, 42));
        let (dx_before, dmatrix_before) = (random(x.len(), 1.0, 43), random(matrix.len(), 1.0, 44));
        let (mut dx, mut dmatrix) = (dx_before.clone(), dmatrix_before.clone());
        transform_grad::reference::run(
            &params,
            transform_grad::GradArgs { x: &x, matrix: &matrix, dy: &dy, dx: &mut dx, dmatrix: &mut dmatrix },
        );
        let output = |x: &[f64], matrix: &[f64]| {
            let mut y = vec![0.0; dy.len()];
            kernel_transform::reference::run(&params, kernel_transform::Args { x, matrix, y: &mut y });
            dot(&dy, &y)
        };
        assert_close("dx", &added(&dx, &dx_before), &differences(&x, |x| output(x, &matrix)), 1e-7);
        let slopes = differences(&matrix, |matrix| output(&x, matrix));
        assert_close("dmatrix", &added(&dmatrix, &dmatrix_before), &slopes, 1e-7);
    }
}

fn losses(p: &loss::Params, logits: &[f64], labels: &[f64], teacher: Option<&[f64]>) -> [Vec<f64>; 2] {
    let mut scores = vec![f64::NAN; 2 * p.images as usize];
    let mut dlogits = vec![f64::NAN; logits.len()];
    let args = loss::LossArgs { logits, labels, teacher, scores: &mut scores, dlogits: &mut dlogits };
    loss::reference::loss(p, args);
    [scores, dlogits]
}

#[test]
fn losses_by_their_logits() {
    let (images, classes, stride) = (4usize, 11usize, 16usize);
    let mut logits = random(images * stride, 2.0, 50);
    let mut teacher = random(images * stride, 1.0, 51);
    teacher.iter_mut().for_each(|v| *v = v.abs());
    logits.iter_mut().enumerate().filter(|(i, _)| i % stride >= classes).for_each(|(_, v)| *v = 0.0);
    let labels = [3.0, 0.0, 10.0, 3.0];
    for (smoothing, label_ratio, kd_ratio) in
        [(0.0, 1.0, 0.0), (0.1, 1.0, 0.0), (0.1, 1.0, 0.7), (0.1, 0.5, 0.7), (0.0, 0.0, 1.0)]
    {
        let p = loss::Params {
            images: images as u32,
            classes: classes as u32,
            stride: stride as u32,
            smoothing,
            label_ratio,
            kd_ratio,
            weight: 0.8,
        };
        let teacher = (kd_ratio > 0.0).then_some(teacher.as_slice());
        let [_, dlogits] = losses(&p, &logits, &labels, teacher);
        let slopes = differences(&logits, |logits| {
            let [scores, _] = losses(&p, logits, &labels, teacher);
            scores.iter().step_by(2).sum::<f64>() / images as f64
        });
        assert_close("dlogits", &dlogits, &slopes, 1e-7);
    }
}

// z = torch.tensor([[1, -0.5, 2], [0.3, 0.1, -1.2]], dtype=torch.float64, requires_grad=True)
// y = torch.tensor([2, 1])
// hard = F.cross_entropy(z, y, label_smoothing=0.1, reduction='none'); hard.mean().backward()
// print(hard, z.grad)
// exits = torch.tensor([[[0.5, 1, -1], [2, 0, 0.5]], [[-0.25, 0.75, 1.5], [1, 1, -2]]], dtype=torch.float64)
// t = torch.softmax(0.4 * exits[0] + 1.2 * exits[1], 1); print(t)
// z.grad = None; both = 0.5 * (hard + 0.75 * F.cross_entropy(z, t, reduction='none'))
// both.mean().backward(); print(both, z.grad)      # hard made again from z
#[test]
fn losses_are_those_of_pytorch() {
    let logits = [1.0, -0.5, 2.0, 0.3, 0.1, -1.2];
    let labels = [2.0, 1.0];
    let shape = (2, 3, 3);
    let hard = loss::Params {
        images: shape.0,
        classes: shape.1,
        stride: shape.2,
        smoothing: 0.1,
        label_ratio: 1.0,
        kd_ratio: 0.0,
        weight: 1.0,
    };
    let [scores, dlogits] = losses(&hard, &logits, &labels, None);
    assert_close("hard loss", &scores, &[0.4882056985193495, 1.0, 0.9505282710758334, 0.0], 1e-7);
    let wanted = [
        0.11019142415084596,
        0.011639199453568973,
        -0.12183062360441488,
        0.22820799485468718,
        -0.26618025062957273,
        0.037972255774885555,
    ];
    assert_close("hard gradient", &dlogits, &wanted, 1e-7);

    let mut teacher = [0.0; 6];
    loss::reference::targets(
        &loss::TargetsParams { images: 2, classes: 3, stride: 3, weights: [0.4, 1.2, 9.0, 9.0, 9.0] },
        loss::TargetsArgs {
            a: &[0.5, 1.0, -1.0, 2.0, 0.0, 0.5],
            b: Some(&[-0.25, 0.75, 1.5, 1.0, 1.0, -2.0]),
            c: None,
            d: None,
            e: None,
            probabilities: &mut teacher,
        },
    );
    let wanted = [
        0.10485599613261377,
        0.4252120320404407,
        0.46993197182694557,
        0.6829087214229416,
        0.30685066838358654,
        0.010240610193471937,
    ];
    assert_close("probabilities", &teacher, &wanted, 1e-7);

    let both = loss::Params { kd_ratio: 0.75, weight: 0.5, ..hard };
    let [scores, dlogits] = losses(&both, &logits, &labels, Some(&teacher));
    assert_close("loss", &scores, &[0.8213872647920742, 1.0, 0.7717363805539511, 0.0], 1e-7);
    let wanted = [
        0.08300699685712513,
        -0.06329295648570979,
        -0.019714040371415296,
        0.07788661023104974,
        -0.1154422196227986,
        0.03755560939174887,
    ];
    assert_close("gradient", &dlogits, &wanted, 1e-7);
}

/// All four elements of these.
const ALL: update::Segment = update::Segment { offset: 0, len: 4 };
const START: [f64; 4] = [0.5, -1.0, 2.0, 0.25];
const STEPS: [[f64; 4]; 3] = [[0.1, -0.2, 0.3, 0.0], [-0.4, 0.05, 1.5, 0.7], [0.2, 0.2, -0.6, -0.1]];

// p = torch.nn.Parameter(torch.tensor([0.5, -1, 2, 0.25], dtype=torch.float64))
// o = torch.optim.SGD([p], lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=False)   # and True
// for g in ([0.1, -0.2, 0.3, 0], [-0.4, 0.05, 1.5, 0.7], [0.2, 0.2, -0.6, -0.1]):
//     p.grad = torch.tensor(g, dtype=torch.float64); o.step()
// print(p, o.state[p])
#[test]
fn sgd_is_that_of_pytorch() {
    for (nesterov, weights, momentum) in [
        (
            false,
            [0.5260953895, -0.969765779, 1.6827535679999999, 0.12566869975],
            [-0.065348895, 0.05644779, 1.04478432, 0.5360655025],
        ),
        (
            true,
            [0.5319509619805, -0.974922673961, 1.589110036512, 0.07754392528525],
            [-0.06516322095, 0.0567514419, 1.0428987552, 0.535429209025],
        ),
    ] {
        let params = update::SgdParams {
            rate: 0.1,
            momentum: 0.9,
            nesterov,
            segments: vec![update::SgdSegment { at: ALL, decay: 0.01 }],
        };
        let (mut w, mut velocity) = (START, [0.0; 4]);
        for g in &STEPS {
            // A factor of a half undoes that the gradient is twice as large.
            let twice = g.map(|g| 2.0 * g);
            let args = update::SgdArgs {
                g: &twice,
                clip: Some(&[7.0, 0.5, 0.0]),
                velocity: &mut velocity,
                w: &mut w,
            };
            update::reference::sgd(&params, args);
        }
        assert_close("weights", &w, &weights, 1e-6);
        assert_close("momentum", &velocity, &momentum, 1e-6);
    }
}

// The same with o = torch.optim.AdamW([p], lr=0.01, weight_decay=0.1)
#[test]
fn adamw_is_that_of_pytorch() {
    let (mut w, mut m, mut v) = (START, [0.0; 4], [0.0; 4]);
    for (t, g) in (1..).zip(&STEPS) {
        let params = update::AdamWParams {
            rate: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            segments: vec![update::AdamWSegment {
                at: ALL,
                decay: 0.1,
                correction1: (1.0 - 0.9f64.powi(t)) as f32,
                correction2: (1.0 - 0.999f64.powi(t)) as f32,
            }],
        };
        let args = update::AdamWArgs { g, clip: None, m: &mut m, v: &mut v, w: &mut w };
        update::reference::adamw(&params, args);
    }
    let wanted = [0.4952126668096792, -0.984179898598044, 1.9715619160788727, 0.23702635530811886];
    assert_close("weights", &w, &wanted, 1e-6);
    assert_close("first moment", &m, &[-0.0079, 0.0083, 0.0993, 0.053], 1e-6);
    // 1 - 0.999 is off by 1.3e-5 of it where 0.999 is an f32.
    assert_close("second moment", &v, &[0.00020982001, 8.241754e-5, 0.00269757009, 0.00049951], 2e-5);
}

// ps[0].grad, ps[1].grad = [0.1, -0.2, 0.3, 0], [-0.4, 0.05, 1.5, 0.7]
// print(torch.nn.utils.clip_grad_norm_(ps, 0.5), ps[0].grad)
#[test]
fn clipping_is_that_of_pytorch() {
    let mut squares = [0.0; 2];
    for (g, square) in STEPS.iter().zip(&mut squares) {
        let args = update::SquaresArgs { x: g, partials: &mut [0.0], y: std::slice::from_mut(square) };
        update::reference::squares(&update::SquaresParams { segments: vec![ALL] }, args);
    }
    let scaled = |squares: &[f64], limit: f32, unscale: f32| {
        let mut out = [0.0; 3];
        let args = update::ClipArgs { squares, out: &mut out };
        update::reference::clip(&update::ClipParams { count: 2, limit, unscale }, args);
        out
    };
    let clip = |limit: f32| scaled(&squares, limit, 1.0);
    let [norm, factor, skip] = clip(0.5);
    assert_eq!(skip, 0.0);
    assert_close("norm", &[norm], &[1.7442763542512407], 1e-7);
    let wanted = [0.028665166051796455, -0.05733033210359291, 0.08599549815538936, 0.0];
    assert_close("gradient", &STEPS[0].map(|g| factor * g), &wanted, 1e-7);
    assert_eq!(clip(2.0)[1], 1.0);
    assert_eq!(clip(f32::INFINITY)[1], 1.0);
    // A gradient that is four times as large, and says so.
    let [scaled_norm, scaled_factor, _] = scaled(&squares.map(|square| 16.0 * square), 0.5, 0.25);
    assert_close("norm", &[scaled_norm], &[norm], 1e-15);
    assert_close("factor", &[4.0 * scaled_factor], &[factor], 1e-15);
    for broken in [f64::INFINITY, f64::NAN] {
        assert_eq!(scaled(&[1.0, broken], 0.5, 1.0)[2], 1.0);
    }
}

#[test]
fn a_step_with_a_gradient_that_is_not_finite_changes_nothing() {
    let (mut w, mut velocity, mut v) = (START, [0.5; 4], [0.25; 4]);
    let clip: Option<&[f64]> = Some(&[f64::NAN, f64::NAN, 1.0]);
    let g = &[f64::NAN, 1.0, 2.0, 3.0];
    let segments = vec![update::SgdSegment { at: ALL, decay: 0.01 }];
    let params = update::SgdParams { rate: 0.1, momentum: 0.9, nesterov: true, segments };
    let args = update::SgdArgs { g, clip, velocity: &mut velocity, w: &mut w };
    update::reference::sgd(&params, args);
    let segment = update::AdamWSegment { at: ALL, decay: 0.1, correction1: 0.1, correction2: 0.1 };
    let params =
        update::AdamWParams { rate: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, segments: vec![segment] };
    let args = update::AdamWArgs { g, clip, m: &mut velocity, v: &mut v, w: &mut w };
    update::reference::adamw(&params, args);
    assert_eq!((w, velocity, v), (START, [0.5; 4], [0.25; 4]));
}
