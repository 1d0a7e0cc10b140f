//! Networks in bf16 lowered for a card's blocks, and their launches: the host's work before a card can begin.

use super::paper::{BLOCK_BYTES, Paper, card};
use natv2::device::{Buffer, Device, Gpu, Memory};
use natv2::engine::Precision;
use natv2::engine::plan::{Mode, Program, Reads, Target, lower_tree};
use natv2::engine::tree::Tree;
use natv2::ops::Threads;
use natv2::random::stream;
use natv2::space::sample::{Policy, sample};
use natv2::space::walk::Exits;
use natv2::space::{Arch, Channels, ExitScaling, Family, Space};
use natv2::supernet::{Layout, init::parts_of};
use std::hint::black_box;

/// Images of a pass.
const IMAGES: usize = 100;

/// Networks of a search, drawn at random.
pub fn population(count: usize) -> Vec<(Arch, Exits)> {
    let space = Space::new(Family::SE_B, &[64], &[1.0], ExitScaling::Once).expect("a space");
    let mut rng = stream(1, "bench/plan", 0, 0);
    let archs = (0..count).map(|_| space.decode(&sample(&space, Policy::NatV2, &mut rng)).expect("decodes"));
    archs.map(|arch| (arch.clone(), Exits::single(&arch))).collect()
}

/// Networks that run as one tree, and what they are lowered for.
pub struct Lowered {
    layout: Layout,
    networks: Vec<(Arch, Exits)>,
    mode: Mode,
}

/// The cases: a name, how many networks, and whether their statistics are recomputed.
pub const CASES: [(&str, usize, bool); 4] = [
    ("one network, inference", 1, false),
    ("one network, recalibration", 1, true),
    ("a tree of 32, inference", 32, false),
    ("a tree of 32, recalibration", 32, true),
];

impl Lowered {
    /// Those of a case: a middle network where there is one.
    pub fn new(count: usize, recalibrated: bool) -> Lowered {
        let middle = Arch::middle(Family::SE_B, 64, None);
        let networks = match count {
            1 => vec![(middle.clone(), Exits::single(&middle))],
            _ => population(count),
        };
        let layout = Layout::new(Channels::new(1.0, ExitScaling::Once), 200, parts_of(Family::SE_B));
        let recalibration = Mode::Recalibration { batches: 5, at_once: 1 };
        Lowered { layout, networks, mode: if recalibrated { recalibration } else { Mode::Inference } }
    }

    /// How many networks there are.
    pub fn count(&self) -> usize {
        self.networks.len()
    }

    /// Lowers them.
    pub fn lower(&self) -> Program {
        let members: Vec<(&Arch, Exits)> = self.networks.iter().map(|(arch, exits)| (arch, *exits)).collect();
        let tree = Tree::new(self.layout.channels(), black_box(&members));
        let target = Target { precision: Precision::Bf16, block_bytes: BLOCK_BYTES };
        lower_tree(&self.layout, &tree, IMAGES, self.mode, Reads::Scores, target).0
    }
}

/// A program on a card of paper, with buffers of its own.
pub struct OnPaper {
    card: Gpu<Paper>,
    program: Program,
    weights: Buffer,
    arena: Buffer,
}

impl OnPaper {
    /// Takes buffers for a program.
    pub fn new(program: Program) -> OnPaper {
        let card = card();
        let [weights, arena] = [(); 2].map(|()| card.allocate(1 << 40).expect("paper is endless"));
        OnPaper { card, program, weights, arena }
    }

    /// Launches every call of it.
    pub fn launch(&mut self) {
        let memory = Memory { weights: &self.weights, network: &self.weights, arena: &mut self.arena };
        self.card.run(black_box(&self.program.calls), memory, Threads::All).expect("launches");
    }

    /// Records every call of it.
    pub fn record(&mut self) {
        let memory = Memory { weights: &self.weights, network: &self.weights, arena: &mut self.arena };
        black_box(self.card.record(black_box(&self.program.calls), memory).expect("launches"));
    }
}
