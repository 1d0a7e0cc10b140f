//! `natv2 logits`: outputs of a sub-network for images given as a tensor.

use super::{Error, Globals, Weights, input, output};
use crate::engine::ensemble::{self, Strategy};
use crate::engine::{Calibration, Cropped, Engine, Images};
use crate::exit::Exit;
use crate::export::Ensemble;
use crate::space::Arch;
use crate::supernet::Tensor;
use crate::supernet::numbers::{READ, Unread, floats};
use clap::Args;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Images of a recalibration batch.
const BATCH: usize = 16;

const AFTER_HELP: &str = "\
Examples:
  natv2 logits --arch @network.json --inputs x.safetensors --out y.safetensors --calibrate
  natv2 logits --weights net.safetensors --family EE_D --arch @network.json --all-exits \\
      --inputs x.safetensors --out y.safetensors

Reads tensor `images` (F32, F16, BF16 or F64, N x 3 x H x W, already normalised), crops the top-left
r x r of each and writes tensor `logits` (F32). With --calibrate the statistics of the batch norms are
recomputed from tensor `calibration` of the same file, in batches of 16 that count equally; else they
are those that the weights hold. The exits of a stand-alone network that is an ensemble make one output,
as its card says, unless --exits, --all-exits or --ensemble asks for something else.

JSON: {\"version\":1,\"out\",\"shape\",\"calibrated\",\"calibration_images\",\"device\"}, calibration_images being 0
without --calibrate.";

/// Arguments of `natv2 logits`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Logits {
    #[command(flatten)]
    weights: Weights,
    /// The architecture: JSON text, or @FILE. Any resolution from 32 to 1024 that the images have
    /// [default: that of the weights, if they are those of one network].
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
    /// Safetensors file with tensor `images`, and `calibration` for --calibrate.
    #[arg(long, value_name = "FILE")]
    inputs: PathBuf,
    /// Recompute the batch norms' statistics instead of using the stored ones.
    #[arg(long, visible_alias = "recalibrate")]
    calibrate: bool,
    /// EE families: the logits of every exit up to the architecture's, exits x N x classes instead
    /// of N x classes.
    #[arg(long, conflicts_with = "exits")]
    all_exits: bool,
    /// EE families: the logits of these exits, as in 1,3,5 or all.
    #[arg(long, value_name = "LIST")]
    exits: Option<String>,
    /// EE families: one output, the exits weighted: desc, asc, unif or mix (AEP's strategies), over
    /// --exits, or all.
    #[arg(long, value_name = "STRATEGY")]
    ensemble: Option<Strategy>,
    /// Safetensors file to write; it appears whole or not at all, and replaces one that is there.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    globals: Globals,
}

impl Logits {
    pub(super) fn run(self) -> Result<Exit, Error> {
        output::check_file(&self.out)?;
        let supernet = self.weights.load()?;
        self.globals.talk.notes_of([&supernet]);
        let arch = input::arch_or_own(self.arch.as_deref(), &supernet)?;
        let list = self.exits.as_deref().or(self.all_exits.then_some("all"));
        let flag = if self.all_exits { "--all-exits" } else { "--exits" };
        let own = supernet.network().filter(|_| list.is_none() && self.ensemble.is_none());
        let own = own.filter(|(own, _)| Arch { r: own.r, w: own.w, ..arch.canonical() } == own.canonical());
        let said = own.and_then(|(_, exits)| {
            Some((exits, Ensemble::said_by(supernet.card.network.as_ref()?)?.weights))
        });
        let (exits, weights) = match said {
            Some((exits, weights)) => (exits, Some(weights)),
            None => {
                let exits = input::exits(list, self.ensemble, flag, &arch, &supernet)?;
                (exits, self.ensemble.map(|strategy| strategy.weights(exits.len()).beta))
            }
        };

        let file = Inputs::read(&self.inputs)?;
        let images = file.images("images")?;
        let calibration = if self.calibrate { Some(file.images("calibration")?) } else { None };
        let images = crop(&images, "images", arch.r, &self.inputs)?;
        let calibration = match &calibration {
            Some(tensor) => Some(crop(tensor, "calibration", arch.r, &self.inputs)?),
            None => None,
        };
        let statistics = match &calibration {
            Some(images) => Calibration::Batches { images, count: images.len(), batch: BATCH },
            None => Calibration::Stored,
        };
        if let Some(note) = statistics.values([(&arch, exits)]).and_then(|values| values.note()) {
            self.globals.talk.note(&format!("note: {note}"));
        }

        let classes = supernet.classes();
        let engine = Engine::new(self.globals.open()?, Arc::new(supernet))?;
        let logits = engine.logits(&arch, exits, &images, statistics)?;
        let logits = match weights {
            Some(weights) => ensemble::combine(&logits, &weights),
            None => logits.concat(),
        };
        if let Some(value) = logits.iter().find(|value| !value.is_finite()) {
            return Err(Error::Inputs {
                file: self.inputs,
                reason: format!(
                    "a logit is {value}: the stored batch-norm statistics may not belong to this network (try --calibrate), or the inputs are far too large"
                ),
            });
        }
        let mut shape = vec![images.len(), classes];
        if list.is_some() && self.ensemble.is_none() {
            shape.insert(0, exits.len());
        }
        write(&self.out, &shape, &logits)?;
        if self.globals.talk.json {
            output::json(&json!({
                "version": 1,
                "out": self.out.display().to_string(),
                "shape": shape,
                "calibrated": self.calibrate,
                "calibration_images": calibration.as_ref().map_or(0, |images| images.len()),
                "device": engine.device().describe(),
            }))?
        } else {
            self.globals.talk.note(&format!("{}: logits {shape:?}", self.out.display()))
        }
        Ok(Exit::Done)
    }
}

fn crop<'a>(tensor: &'a Tensor, name: &'static str, r: u32, file: &Path) -> Result<Cropped<'a>, Error> {
    let images = Cropped::new(tensor, &[]).ok_or_else(|| Error::Inputs {
        file: file.into(),
        reason: format!("tensor `{name}` has shape {:?}, and N x 3 x H x W is needed", tensor.shape),
    })?;
    match images.max_side() {
        side if side < r as usize => Err(Error::TooLarge { r, side, tensor: name, file: file.into() }),
        _ if images.is_empty() => Err(Error::Inputs {
            file: file.into(),
            reason: format!("tensor `{name}` holds no image: give at least one"),
        }),
        _ => Ok(images),
    }
}

/// A file of input tensors, of which only those asked for are looked at.
struct Inputs<'a> {
    file: &'a Path,
    bytes: Vec<u8>,
}

impl<'a> Inputs<'a> {
    fn read(file: &'a Path) -> Result<Inputs<'a>, Error> {
        let bytes = std::fs::read(file).map_err(|e| Error::Inputs {
            file: file.into(),
            reason: format!("cannot be read: {e}: check the path given with --inputs"),
        })?;
        Ok(Inputs { file, bytes })
    }

    fn images(&self, name: &str) -> Result<Tensor, Error> {
        let fail = |reason: String| Error::Inputs { file: self.file.into(), reason };
        let parsed = SafeTensors::deserialize(&self.bytes)
            .map_err(|e| fail(format!("is not a whole safetensors file ({e}): write it again")))?;
        let view = parsed.tensor(name).map_err(|_| {
            fail(format!("has no tensor `{name}`: add it, F32 of shape N x 3 x H x W, already normalised"))
        })?;
        let data = floats(&view).map_err(|unread| match unread {
            Unread::Type(found) => fail(format!("tensor `{name}` holds {found:?}, and {READ} is needed")),
            Unread::TooLarge { index, value } => {
                fail(format!("tensor `{name}` holds {value:e} at element {index}, more than F32 can"))
            }
        })?;
        if let Some(index) = data.iter().position(|value| !value.is_finite()) {
            return Err(fail(format!("tensor `{name}` holds {} at element {index}", data[index])));
        }
        Ok(Tensor { shape: view.shape().to_vec(), data })
    }
}

fn write(file: &Path, shape: &[usize], logits: &[f32]) -> Result<(), Error> {
    let fail = |reason: String| Error::Output { file: file.into(), reason };
    let bytes = TensorView::new(Dtype::F32, shape.to_vec(), bytemuck::cast_slice(logits))
        .and_then(|view| safetensors::serialize([("logits", view)], None))
        .map_err(|e| fail(e.to_string()))?;
    output::file(file, &bytes)
}
