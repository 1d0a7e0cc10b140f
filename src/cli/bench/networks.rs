//! The networks that `natv2 bench plan` and `profile` look at, and the super-network they are of.

use super::Error;
use crate::cli::{Weights, input};
use crate::space::walk::Exits;
use crate::space::{Arch, ExitScaling, Family};
use crate::supernet::{Blank, Layout, Supernet, init::parts_of};
use clap::{ArgGroup, Args};

/// A super-network that is there or is not, and networks of it.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("networks").args(["arch", "archs"]))]
#[command(group = ArgGroup::new("layout").args(["weights", "width"]))]
pub struct Networks {
    #[command(flatten)]
    weights: Weights,
    /// Take a super-network of this width that needs not exist; --family is SE_B by default.
    #[arg(long, value_name = "W", value_parser = width)]
    width: Option<f64>,
    /// Its classes.
    #[arg(long, value_name = "N", default_value_t = 10, requires = "width", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    classes: u32,
    /// One architecture: JSON text, or @FILE [default: kernels of 5, expansions of 4, depths of 3].
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
    /// A population, or the students of a training step: as for `natv2 evaluate`.
    #[arg(long, value_name = "FILE")]
    archs: Option<String>,
    /// EE families: read these exits of each network, as in 1,3,5 or all.
    #[arg(long, value_name = "LIST")]
    exits: Option<String>,
    /// Resolution, in pixels, in place of the architectures' own.
    #[arg(long, value_name = "PX", value_parser = clap::value_parser!(u32).range(32..=1024))]
    resolution: Option<u32>,
}

pub(super) fn width(text: &str) -> Result<f64, String> {
    match input::widths(text)?[..] {
        [width] => Ok(width),
        _ => Err("give one width multiplier".into()),
    }
}

/// The layout of a super-network, its family, the weights where there are any, and the networks.
pub(super) struct LoadedNetworks {
    pub(super) layout: Layout,
    pub(super) family: Family,
    pub(super) supernet: Option<Supernet>,
    pub(super) networks: Vec<(Arch, Exits)>,
}

impl LoadedNetworks {
    /// The super-network's weights; random ones where it does not exist.
    pub(super) fn weights(self) -> Result<Supernet, Error> {
        if let Some(supernet) = self.supernet {
            return Ok(supernet);
        }
        let width = self.layout.channels().width;
        let blank = Blank::new(self.family, width, self.layout.classes());
        Ok(Supernet::random(&blank, 0)?)
    }
}

impl Networks {
    /// Reads them.
    pub(super) fn ground(&self) -> Result<LoadedNetworks, Error> {
        let (layout, family, supernet) = self.layout()?;
        let network = |arch: Arch| {
            let exits = self.exits_of(&arch)?;
            check(&layout, &arch, exits)?;
            Ok((arch, exits))
        };
        let networks = self.architectures(family, supernet.as_ref())?;
        let networks = networks.into_iter().map(network).collect::<Result<_, Error>>()?;
        Ok(LoadedNetworks { layout, family, supernet, networks })
    }

    fn layout(&self) -> Result<(Layout, Family, Option<Supernet>), Error> {
        let Some(width) = self.width else {
            let supernet = self.weights.load()?;
            return Ok((supernet.layout.clone(), supernet.family, Some(supernet)));
        };
        let family = self.weights.family.unwrap_or(Family::SE_B);
        let channels = crate::space::Channels::new(width, ExitScaling::Once);
        Ok((Layout::new(channels, self.classes as usize, parts_of(family)), family, None))
    }

    fn architectures(&self, family: Family, supernet: Option<&Supernet>) -> Result<Vec<Arch>, Error> {
        let own = supernet.and_then(Supernet::network).map(|(own, _)| own.clone());
        let archs = match (&self.arch, &self.archs) {
            (Some(text), _) => vec![input::arch(text, family)?],
            (None, Some(text)) => input::archs(text, family)?.archs,
            (None, None) => {
                let sides = supernet.map_or(&[64][..], |supernet| supernet.card.search_resolutions());
                let largest = sides.iter().copied().max().unwrap_or(64);
                vec![own.unwrap_or(Arch::middle(family, largest, None))]
            }
        };
        let sized = |arch: Arch| Arch { r: self.resolution.unwrap_or(arch.r), ..arch };
        Ok(archs.into_iter().map(sized).collect())
    }

    fn exits_of(&self, arch: &Arch) -> Result<Exits, Error> {
        match &self.exits {
            Some(_) if !arch.family.early_exits => Err(Error::Usage(format!(
                "--exits: family {} has one plain head: leave the flag out, or name an EE family",
                arch.family
            ))),
            Some(list) => Exits::parse(list, arch).map_err(Error::given("--exits")),
            None => Ok(Exits::single(arch)),
        }
    }
}

fn check(layout: &Layout, arch: &Arch, exits: Exits) -> Result<(), Error> {
    let width = layout.channels().width;
    if let Some(found) = arch.w.filter(|w| (w - width).abs() > 1e-9) {
        return Err(Error::Usage(format!(
            "the architecture has width {found}, and the super-network width {width}: give --width {found}"
        )));
    }
    if layout.holds(arch, exits) {
        Ok(())
    } else {
        Err(Error::Usage(
            "the weights are those of one network, and this is another: give those of the super-network, or --width"
                .into(),
        ))
    }
}
