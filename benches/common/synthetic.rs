//! A multi-objective problem whose objectives cost next to nothing.

use natv2::moo::{Points, evolve};

/// A search space like NAT's (22 genes: resolution, width, five stages of four layers of which the
/// last two may be skipped) with three cheap objectives of the kind of error, parameters and MACs.
pub struct Synthetic {
    lower: Vec<u8>,
    upper: Vec<u8>,
}

impl Synthetic {
    /// The space.
    pub fn new() -> Self {
        let (mut lower, mut upper) = (vec![0, 0], vec![2, 1]);
        for _ in 0..5 {
            lower.extend([1, 1, 0, 0]);
            upper.extend([9; 4]);
        }
        Self { lower, upper }
    }
}

impl evolve::Problem for Synthetic {
    fn upper(&self) -> &[u8] {
        &self.upper
    }
    fn lower(&self) -> &[u8] {
        &self.lower
    }
    fn repair(&self, genome: &mut [u8]) {
        for stage in genome[2..].chunks_exact_mut(4) {
            if stage[2] == 0 {
                stage[3] = 0;
            }
        }
    }
    fn evaluate(&self, genomes: &[Vec<u8>]) -> Points {
        let mut points = Points::with_capacity(3, genomes.len());
        for genome in genomes {
            let (scale, width) = (1.0 + 0.25 * f64::from(genome[0]), 1.0 + 0.2 * f64::from(genome[1]));
            let (mut gain, mut parameters, mut macs) = (0.0, 0.0, 0.0);
            for (layer, &gene) in genome[2..].iter().enumerate() {
                if gene > 0 {
                    let (kernel, expansion) = (f64::from((gene - 1) % 3), f64::from((gene - 1) / 3));
                    let stage = (layer / 4) as f64;
                    gain += (1.0 + 0.3 * kernel + 0.4 * expansion) / (1.0 + 0.1 * (stage - 2.0).abs());
                    let size = (1.0 + 0.1 * kernel) * (3.0 + 1.5 * expansion) * (1.0 + stage) * (1.0 + stage);
                    parameters += size;
                    macs += size / (1.0 + stage);
                }
            }
            points.push(&[
                100.0 / (1.0 + 0.1 * gain * scale.sqrt() * width.sqrt()),
                parameters * width * width,
                macs * width * width * scale * scale,
            ]);
        }
        points
    }
}
