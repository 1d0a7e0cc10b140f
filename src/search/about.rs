//! What a search began with: `search.json`, written with its first archive.
//!
//! The page of a run needs it besides the search's state. So `natv2 report` works without the weights and the
//! data, for instance on a copy of the run directory.

use super::Error;
use crate::data::{Dataset, Split};
use crate::evaluator::Evaluator;
use crate::run::{self, RunDirectory};
use crate::space::{ExitScaling, Space};
use crate::train::record::parse_state;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file in a run directory.
pub const FILE: &str = "search.json";
const VERSION: u32 = 1;

/// A search's space and data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Version of this form.
    pub version: u32,
    /// The family of the super-networks.
    pub family: String,
    /// Sides of the search space, in pixels, ascending.
    pub resolutions: Vec<u32>,
    /// Width multipliers of the super-networks, ascending.
    pub widths: Vec<f64>,
    /// How the exits' heads follow the width.
    pub exit_scaling: ExitScaling,
    /// Classes of the super-networks.
    pub classes: usize,
    /// The data set.
    pub data: Data,
}

/// A data set as a search uses it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Data {
    /// Its name.
    pub name: String,
    /// Its folder, from the root; none where it is built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Height and width of every stored image, in pixels.
    pub side: usize,
    /// Training images.
    pub train: usize,
    /// Validation images.
    pub val: usize,
    /// Test images.
    pub test: usize,
}

impl Data {
    /// The facts of a data set.
    pub fn of(dataset: &Dataset) -> Data {
        let images = |split| dataset.split(split).len();
        Data {
            name: dataset.name().into(),
            folder: dataset.folder().map(|folder| folder.display().to_string()),
            side: dataset.side(),
            train: images(Split::Train),
            val: images(Split::Val),
            test: images(Split::Test),
        }
    }
}

impl About {
    /// What a search on `evaluator` begins with.
    pub fn of(evaluator: &Evaluator) -> About {
        let (space, supernet) = (evaluator.space(), evaluator.engine().supernet());
        About {
            version: VERSION,
            family: space.family().to_string(),
            resolutions: space.resolutions().to_vec(),
            widths: space.widths().to_vec(),
            exit_scaling: supernet.scaling(),
            classes: supernet.classes(),
            data: Data::of(evaluator.dataset()),
        }
    }

    /// That of the run in `run`; `None` for one of an earlier version of this program.
    ///
    /// # Errors
    /// A file that cannot be read, or holds something else.
    pub fn read(run: &Path) -> Result<Option<About>, Error> {
        let path = run.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(run::Error::State { path, reason: error.to_string() }.into()),
        };
        Ok(Some(parse_state(&bytes, &path, VERSION)?))
    }

    /// Writes it, unless the directory says so already or cannot be written.
    ///
    /// # Errors
    /// Writing fails.
    pub fn publish(&self, run: &RunDirectory) -> Result<(), run::Error> {
        let mut text = serde_json::to_string_pretty(self).expect("names and numbers are JSON");
        text.push('\n');
        match run.read(FILE)? {
            Some(bytes) if bytes == text.as_bytes() => Ok(()),
            _ => match run.write_atomic(FILE, text.as_bytes()) {
                // A run that is over can be looked at where nothing can be written.
                Err(run::Error::ReadOnly { .. }) => Ok(()),
                written => written,
            },
        }
    }

    /// The search space.
    ///
    /// # Errors
    /// A family that does not exist, or numbers that are none of a space.
    pub fn space(&self) -> Result<Space, Error> {
        Ok(Space::new(self.family.parse()?, &self.resolutions, &self.widths, self.exit_scaling)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Cpu;
    use crate::evaluator::Options;
    use std::sync::Arc;

    #[test]
    fn a_run_directory_says_what_its_search_began_with() {
        let evaluator = Evaluator::open(&Options::default(), Arc::new(Cpu)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(About::read(folder.path()).unwrap(), None);
        let run = RunDirectory::open(folder.path()).unwrap();
        let about = About::of(&evaluator);
        about.publish(&run).unwrap();
        assert_eq!(About::read(folder.path()).unwrap().as_ref(), Some(&about));
        assert_eq!((about.data.name.as_str(), about.data.test, about.data.folder), ("digits", 359, None));
        let space = About::read(folder.path()).unwrap().unwrap().space().unwrap();
        let own = evaluator.space();
        assert_eq!((space.lower(), space.upper()), (own.lower(), own.upper()));
        assert_eq!(space.resolutions(), own.resolutions());
        for text in ["{", "{}", r#"{"version":2}"#] {
            run.write_atomic(FILE, text.as_bytes()).unwrap();
            assert!(About::read(folder.path()).unwrap_err().to_string().contains(FILE));
        }
    }
}
