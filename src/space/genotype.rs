//! The genotype: a network as a short vector of small integers (NAT, arXiv 2005.05859; NATv2).
//!
//! ```text
//! [resolution, width, (exit,) L1 .. L20]
//! ```
//!
//! A stage owns four layer genes. The first two are 1..=G, the last two 0..=G with 0 for a layer
//! that is not there, so the depth is the number of non-zero genes. G is 9, or 63 with parallel
//! blocks: `1 + 9 * mask position + 3 * expansion index + kernel index`.
//!
//! The *canonical* genotype has zeros for every layer that is not part of the network, those behind
//! the exit included. Two genotypes decode to the same network exactly if their canonical forms are
//! equal, so archives, duplicate tests and predictors use that form alone.

use super::backbone::{
    BRANCH_MASKS, DEPTHS, EXPANSIONS, KERNELS, LAYERS, MAX_DEPTH, PAPER_RESOLUTIONS, PAPER_WIDTHS, STAGES,
};
use super::{Arch, Channels, Error, ExitScaling, Family, MAX_RESOLUTION, MIN_RESOLUTION};

/// Genes of a network.
pub type Genotype = Vec<u8>;

/// The bit of a branch mask that stands for the MBConv.
const MBCONV: u8 = 4;

/// How the zeros of a stage are put in order after variation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// NATv2: everything after the first zero becomes zero.
    Fill,
    /// NAT: zeros move to the end of the stage.
    Push,
}

/// The genotypes of a family over lists of resolutions and widths.
#[derive(Debug, Clone, PartialEq)]
pub struct Space {
    family: Family,
    resolutions: Vec<u32>,
    widths: Vec<f64>,
    channels: Vec<Channels>,
    lower: Genotype,
    upper: Genotype,
}

impl Space {
    /// The space of `family` over these resolutions (in pixels) and width multipliers.
    ///
    /// # Errors
    /// An empty or unsorted list, a resolution outside 32..=1024, a width that is not positive.
    pub fn new(
        family: Family,
        resolutions: &[u32],
        widths: &[f64],
        scaling: ExitScaling,
    ) -> Result<Space, Error> {
        let refuse = |what: String| Err(Error::Space { what });
        if resolutions.is_empty() || resolutions.len() > 255 || !resolutions.is_sorted_by(|a, b| a < b) {
            return refuse(format!("resolutions {resolutions:?}: give 1 to 255 of them, ascending"));
        }
        if let Some(r) = resolutions.iter().find(|r| !(MIN_RESOLUTION..=MAX_RESOLUTION).contains(*r)) {
            return refuse(format!("resolution {r}: choose from {MIN_RESOLUTION} to {MAX_RESOLUTION}"));
        }
        if widths.is_empty() || widths.len() > 255 || !widths.is_sorted_by(|a, b| a < b) {
            return refuse(format!("widths {widths:?}: give 1 to 255 of them, ascending"));
        }
        if let Some(w) = widths.iter().find(|w| !(0.05..=8.0).contains(*w)) {
            return refuse(format!("width {w}: choose from 0.05 to 8"));
        }
        let mut lower = vec![0, 0];
        let mut upper = vec![(resolutions.len() - 1) as u8, (widths.len() - 1) as u8];
        if family.early_exits {
            lower.push(0);
            upper.push(STAGES as u8 - 1);
        }
        for layer in 0..LAYERS {
            lower.push(u8::from(layer % MAX_DEPTH < usize::from(DEPTHS[0])));
            upper.push(layer_values(family));
        }
        Ok(Space {
            family,
            resolutions: resolutions.to_vec(),
            widths: widths.to_vec(),
            channels: widths.iter().map(|&w| Channels::new(w, scaling)).collect(),
            lower,
            upper,
        })
    }

    /// The space of the paper: 48, 56 and 64 pixels, widths 1.0 and 1.2.
    pub fn paper(family: Family) -> Space {
        Space::new(family, &PAPER_RESOLUTIONS, &PAPER_WIDTHS, ExitScaling::Once)
            .expect("the paper's lists are in order")
    }

    /// The family.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The resolutions, ascending.
    pub fn resolutions(&self) -> &[u32] {
        &self.resolutions
    }

    /// The width multipliers, ascending.
    pub fn widths(&self) -> &[f64] {
        &self.widths
    }

    /// Smallest value of every gene; as a genotype, the smallest network.
    pub fn lower(&self) -> &[u8] {
        &self.lower
    }

    /// Largest value of every gene; as a genotype, the largest network.
    pub fn upper(&self) -> &[u8] {
        &self.upper
    }

    /// Index of the first layer gene.
    pub fn first_layer_gene(&self) -> usize {
        2 + usize::from(self.family.early_exits)
    }

    /// The channel counts that `arch` has in this space.
    pub fn channels(&self, arch: &Arch) -> Result<&Channels, Error> {
        self.width_index(arch.w).map(|index| &self.channels[index])
    }

    fn width_index(&self, width: Option<f64>) -> Result<usize, Error> {
        let found = match width {
            None if self.widths.len() == 1 => Some(0),
            None => None,
            Some(width) => self.widths.iter().position(|w| (w - width).abs() < 1e-9),
        };
        found.ok_or_else(|| Error::Choice {
            place: "field `w` of the architecture".into(),
            value: width.map_or("missing".into(), |w| w.to_string()),
            choices: format!("{:?}", self.widths),
        })
    }

    /// The canonical genotype of `arch`.
    ///
    /// # Errors
    /// A resolution or width that this space does not list.
    pub fn encode(&self, arch: &Arch) -> Result<Genotype, Error> {
        let r = self.resolutions.iter().position(|&r| r == arch.r).ok_or_else(|| Error::Choice {
            place: "field `r` of the architecture".into(),
            value: arch.r.to_string(),
            choices: format!("{:?}", self.resolutions),
        })?;
        let mut genotype = vec![r as u8, self.width_index(arch.w)? as u8];
        if self.family.early_exits {
            genotype.push(arch.nd - 1);
        }
        genotype.extend((0..LAYERS).map(|index| {
            if arch.is_active(index) {
                let at = |list: &[u8], value: u8| list.iter().position(|&v| v == value).unwrap_or(0) as u8;
                let mask = if self.family.parallel { at(&BRANCH_MASKS, arch.nw[index]) } else { 0 };
                1 + 9 * mask + 3 * at(&EXPANSIONS, arch.e[index]) + at(&KERNELS, arch.ks[index])
            } else {
                0
            }
        }));
        Ok(genotype)
    }

    /// The architecture of a genotype, canonical or not.
    ///
    /// # Errors
    /// A wrong number of genes, a value outside its bounds, a layer behind a skipped one.
    pub fn decode(&self, genotype: &[u8]) -> Result<Arch, Error> {
        self.decode_genes(&genotype.iter().map(|&g| i64::from(g)).collect::<Vec<_>>())
    }

    /// [`Space::decode`] on numbers that may not even fit a gene.
    ///
    /// # Errors
    /// As [`Space::decode`].
    pub fn decode_genes(&self, genotype: &[i64]) -> Result<Arch, Error> {
        if genotype.len() != self.upper.len() {
            return Err(Error::GenotypeLength {
                found: genotype.len(),
                expected: self.upper.len(),
                family: self.family,
            });
        }
        let gene = |index: usize, least: u8| -> Result<u8, Error> {
            let value = genotype[index];
            if (i64::from(least)..=i64::from(self.upper[index])).contains(&value) {
                Ok(value as u8)
            } else {
                Err(Error::Choice {
                    place: format!("gene {index} of the genotype"),
                    value: value.to_string(),
                    choices: format!("{least} to {}", self.upper[index]),
                })
            }
        };
        let r = self.resolutions[usize::from(gene(0, 0)?)];
        let w = self.widths[usize::from(gene(1, 0)?)];
        let mut arch = Arch::largest(self.family, r, Some(w));
        if self.family.early_exits {
            arch.nd = gene(2, 0)? + 1;
        }
        for stage in 0..STAGES {
            let first = self.first_layer_gene() + stage * MAX_DEPTH;
            let active = stage < arch.stages();
            let mut depth = 0;
            for position in 0..MAX_DEPTH {
                let least = if active { self.lower[first + position] } else { 0 };
                let value = gene(first + position, least)?;
                if value == 0 || !active {
                    continue;
                }
                if depth < position {
                    return Err(Error::Hole { gene: first + position, stage: stage + 1 });
                }
                depth += 1;
                let (index, code) = (stage * MAX_DEPTH + position, value - 1);
                arch.ks[index] = KERNELS[usize::from(code % 3)];
                arch.e[index] = EXPANSIONS[usize::from(code / 3 % 3)];
                if self.family.parallel {
                    arch.nw[index] = BRANCH_MASKS[usize::from(code / 9)];
                }
            }
            if active {
                arch.d[stage] = depth as u8;
            }
        }
        Ok(arch.canonical())
    }

    /// Puts the zeros of every stage in order and brings the genotype to its canonical form.
    ///
    /// Parallel layers without their MBConv also get the smallest kernel and expansion, which they do
    /// not use, so that repaired genotypes are equal exactly if their networks compute the same. (An
    /// architecture that somebody wrote is encoded with the kernel and expansion it names.)
    pub fn repair(&self, genotype: &mut [u8], how: Repair) {
        let stages = if self.family.early_exits { usize::from(genotype[2]) + 1 } else { STAGES };
        let first = self.first_layer_gene();
        for (stage, genes) in genotype[first..].chunks_exact_mut(MAX_DEPTH).enumerate() {
            if stage >= stages {
                genes.fill(0);
                continue;
            }
            match how {
                Repair::Fill => {
                    let depth = genes.iter().position(|&g| g == 0).unwrap_or(MAX_DEPTH);
                    genes[depth..].fill(0);
                }
                // A stable sort by "is zero" keeps the order of the layers.
                Repair::Push => genes.sort_by_key(|&g| g == 0),
            }
            // Genes of a stage that variation has just brought back may still be canonical zeros.
            for (gene, &least) in genes.iter_mut().zip(&self.lower[first..]) {
                *gene = (*gene).max(least);
                // Without its MBConv a parallel layer has no kernel and no expansion.
                if let Some(code) = gene.checked_sub(1)
                    && self.family.parallel
                    && BRANCH_MASKS[usize::from(code / 9)] & MBCONV == 0
                {
                    *gene = 1 + code / 9 * 9;
                }
            }
        }
    }
}

/// Number of different layers, G.
fn layer_values(family: Family) -> u8 {
    let masks = if family.parallel { BRANCH_MASKS.len() } else { 1 };
    (masks * EXPANSIONS.len() * KERNELS.len()) as u8
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Policy, sample};
    use super::*;
    use crate::random::stream;

    #[test]
    fn encode_and_decode_are_inverse_on_ten_thousand_networks_of_every_family() {
        for family in Family::all() {
            let space = Space::paper(family);
            let mut rng = stream(7, "test", 0, 0);
            for index in 0..10_000 {
                let policy = if index % 2 == 0 { Policy::Nat } else { Policy::NatV2 };
                let genotype = sample(&space, policy, &mut rng);
                let arch = space.decode(&genotype).unwrap();
                assert_eq!(space.encode(&arch).unwrap(), genotype, "{family}");
                let json = serde_json::to_string(&arch).unwrap();
                assert_eq!(Arch::parse(family, &json).unwrap(), arch);
            }
        }
    }

    #[test]
    fn networks_are_equal_exactly_if_canonical_genotypes_are() {
        let space = Space::paper("EE_B".parse().unwrap());
        let mut one = space.upper().to_vec();
        one[2] = 1;
        let mut other = one.clone();
        other[11] = 3;
        other[20] = 0;
        assert_eq!(space.decode(&one).unwrap(), space.decode(&other).unwrap());
        space.repair(&mut one, Repair::Fill);
        space.repair(&mut other, Repair::Fill);
        assert_eq!(one, other);
        other[3] = 1;
        assert_ne!(space.decode(&one).unwrap(), space.decode(&other).unwrap());
    }

    #[test]
    fn repair_fills_or_pushes_and_restores_layers_that_must_be_there() {
        let space = Space::paper(Family::SE_B);
        let genotype: Genotype = [&[0, 0][..], &[1, 2, 0, 3].repeat(5)].concat();
        let mut filled = genotype.clone();
        space.repair(&mut filled, Repair::Fill);
        assert_eq!(filled[2..6], [1, 2, 0, 0]);
        let mut pushed = genotype.clone();
        space.repair(&mut pushed, Repair::Push);
        assert_eq!(pushed[2..6], [1, 2, 3, 0]);
        let mut empty = vec![0; 22];
        space.repair(&mut empty, Repair::Fill);
        assert!(space.decode(&empty).is_ok());
    }

    #[test]
    fn bad_genotypes_name_the_gene() {
        let space = Space::paper(Family::SE_B);
        let with = |gene: usize, value: i64| {
            let mut genes: Vec<i64> = space.upper().iter().map(|&g| i64::from(g)).collect();
            genes[gene] = value;
            space.decode_genes(&genes).unwrap_err().to_string()
        };
        assert!(with(2, 0).contains("gene 2 of the genotype is 0"));
        assert!(with(21, 10).contains("0 to 9"));
        assert!(with(0, -1).contains("gene 0"));
        assert!(with(4, 0).contains("gene 5 of the genotype follows a skipped layer of stage 1"));
        assert!(space.decode(&[0; 3]).unwrap_err().to_string().contains("22"));
    }
}
