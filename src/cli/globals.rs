//! Flags that many subcommands share.

use super::{Error, output, threads};
use crate::data::facts::listed;
use crate::data::{NAMES, Split};
use crate::device::{self, Device};
use crate::ops::simd::Isa;
use crate::run::Output;
use crate::space::Family;
use crate::supernet::{self, Supernet};
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;

/// Flags of every subcommand that runs networks.
#[derive(Debug, Clone, Args)]
pub struct Globals {
    /// Where networks run.
    #[command(flatten)]
    pub machine: Machine,
    /// What is printed.
    #[command(flatten)]
    pub talk: Talk,
}

impl Globals {
    /// Sets threads and instruction set, opens the device, and says which one `auto` took.
    ///
    /// # Errors
    /// As [`Machine::open`].
    pub fn open(&self) -> Result<Arc<dyn Device>, Error> {
        let device = self.machine.open()?;
        if self.machine.device == "auto" && !self.talk.quiet {
            output::say(&format!("device: {}", device.describe()));
        }
        if let Some(residents) = device.residents() {
            let output = self.talk.progress();
            residents.on_note(move |text| output.note(text));
        }
        Ok(device)
    }
}

/// The machine.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Machine")]
pub struct Machine {
    /// Where networks run: auto (a GPU that works, else the CPU), cpu, cuda, cuda:N (the N-th GPU,
    /// from 0) or emulated (the GPU's kernels on the CPU, slow).
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = device_name)]
    pub device: String,
    /// Threads of the CPU [default: RAYON_NUM_THREADS, else SLURM_CPUS_PER_TASK, else one a core].
    ///
    /// Results do not depend on their number.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Instruction set of the CPU: portable, avx2 or avx512 [default: the best that is there].
    #[arg(long, value_name = "SET")]
    pub isa: Option<Isa>,
}

impl Machine {
    /// Sets the number of threads and the instruction set of this process.
    ///
    /// # Errors
    /// The system does not give the threads; the processor does not have the instruction set.
    pub fn prepare(&self) -> Result<(), Error> {
        if let Some(isa) = self.isa {
            isa.pin().map_err(|best| Error::Isa { asked: isa, best })?;
        }
        threads::start(self.threads.map(usize::from))
    }

    /// Prepares the process and opens the device.
    ///
    /// # Errors
    /// As [`Machine::prepare`]; the device is not there.
    pub fn open(&self) -> Result<Arc<dyn Device>, Error> {
        self.prepare()?;
        Ok(device::open(&self.device)?)
    }
}

/// A device's name, checked for its form only; the two references are for tests.
fn device_name(text: &str) -> Result<String, String> {
    let names = ["auto", "cpu", "cuda", "emulated", "reference-f32", "reference-f64"];
    let numbered = text.strip_prefix("cuda:").is_some_and(|n| n.parse::<u16>().is_ok());
    if numbered || names.contains(&text) {
        return Ok(text.into());
    }
    let nearest = names.iter().find(|name| strsim::damerau_levenshtein(name, text) <= 2);
    let hint = nearest.map_or_else(String::new, |name| format!("did you mean {name}? "));
    Err(format!("{hint}devices are auto, cpu, cuda, cuda:N and emulated"))
}

/// What is printed.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Output")]
pub struct Talk {
    /// No progress and no notes on standard error; errors are still printed.
    #[arg(long, short)]
    pub quiet: bool,
    /// The result as one line of JSON on standard output.
    #[arg(long)]
    pub json: bool,
}

impl Talk {
    /// How progress is shown.
    pub fn progress(&self) -> Output {
        Output::for_stderr(self.quiet)
    }

    /// Prints a note on standard error, unless quiet.
    pub fn note(&self, line: &str) {
        if !self.quiet {
            output::say(line);
        }
    }

    /// Prints what people should know of how weights were read, unless quiet.
    pub fn notes_of<'a>(&self, supernets: impl IntoIterator<Item = &'a Supernet>) {
        supernets.into_iter().flat_map(|supernet| &supernet.notes).for_each(|note| self.note(note));
    }
}

/// The seed of a subcommand that draws random numbers.
#[derive(Debug, Clone, Copy, Args)]
pub struct Seed {
    /// Seed of all random numbers: the same seed gives the same result.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// The images that networks are measured and recalibrated on.
#[derive(Debug, Clone, Args)]
pub struct Images {
    /// Name of the data set.
    #[arg(long, value_name = "NAME", help = format!("Data set: {} [default: the card's]", listed(NAMES)))]
    pub data: Option<String>,
    /// Its folder, or the parent of that; digits needs none.
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Split to measure on: test, val or train.
    #[arg(long, value_name = "SPLIT", default_value = "test")]
    pub split: Split,
    /// Measure on the first N images of the split [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub images: Option<u32>,
    /// Recalibrate on the first N training images [default: the card's, else the data set's usual number].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub calibration_images: Option<u32>,
}

/// A super-network to run.
#[derive(Debug, Clone, Args)]
pub struct Weights {
    /// Super-network or stand-alone network, a .safetensors file; a card NAME.card.json beside it gives the defaults
    /// [default: the built-in one, trained on the digits].
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// Family of the networks, such as SE_B or EE_D [default: the card's, else what the tensors serve].
    #[arg(long, value_name = "FAMILY")]
    pub family: Option<Family>,
}

impl Weights {
    /// Loads the super-network.
    ///
    /// # Errors
    /// A checkpoint or card that cannot be read or does not fit.
    pub fn load(&self) -> Result<Supernet, supernet::Error> {
        Supernet::open(self.weights.as_deref(), self.family)
    }
}
