//! `natv2 data`: downloading data sets, what they hold, and whether they are whole.

use super::{Error, output, threads};
use crate::data::facts::{listed, shares_help};
#[cfg(feature = "fetch")]
use crate::data::fetch;
use crate::data::{Dataset, Facts, Info, NAMES, Spec, Split, Validation, open};
use crate::exit::Exit;
#[cfg(feature = "fetch")]
use crate::run::{Output, StopFlag};
use crate::space::show::grouped;
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use std::path::PathBuf;

const INFO_HELP: &str = "\
Examples:
  natv2 data info digits
  natv2 data info cifar10 --data-dir DATA_FOLDER --json";

const CHECK_HELP: &str = "\
Examples:
  natv2 data check cifar10 --data-dir DATA_FOLDER

Reads every file to its end and decodes every image. A damaged file is an error (exit code 1) that
names it; what is merely absent, such as the test images or a class without training images, is a
warning (exit code 0).";

#[cfg(feature = "fetch")]
fn fetch_help() -> String {
    let folders = listed(fetch::archives().map(|archive| archive.folder));
    let files = fetch::archives().map(|archive| archive.file).collect::<Vec<_>>().join(", ");
    format!(
        "\
Examples:
  natv2 data fetch cifar10 --data-dir DATA_FOLDER
  natv2 data fetch tiny-imagenet --data-dir DATA_FOLDER --url https://mirror.example.org/files

Makes DATA_FOLDER/{folders}, whole or not at all,
after checking the published MD5; a server that sends more than the published archive is cut off, and
nothing of it is kept. A download that was cut off goes on where it stopped when the same command is
given again; a data set that is there and whole is left alone. Tiny ImageNet is published over plain
http: https is tried first, and where its host does not answer that, or with --url http://.., the MD5
alone guards it, which a note says. Where there is no network,
put the archive ({files}) into the
folder by other means: it is then checked and unpacked from there. Proxies are taken from
HTTPS_PROXY, HTTP_PROXY and NO_PROXY. Ctrl-C stops with exit code 75 and keeps what has come."
    )
}

/// `natv2 data`.
#[derive(Debug, Subcommand)]
pub enum Data {
    /// Download a published data set.
    #[cfg(feature = "fetch")]
    #[command(
        about = format!("Download {}, check and unpack it", listed(fetch::archives().map(|archive| archive.title))),
        after_help = fetch_help()
    )]
    Fetch(FetchArgs),
    /// Count images by split and class.
    #[command(after_help = INFO_HELP)]
    Info(DataArgs),
    /// Read everything and report what is damaged or absent.
    #[command(after_help = CHECK_HELP)]
    Check(DataArgs),
}

/// A data set to download.
#[cfg(feature = "fetch")]
#[derive(Debug, Args)]
pub struct FetchArgs {
    #[arg(help = format!("Data set: {}", listed(fetch::archives().map(|archive| archive.name))))]
    name: String,
    /// The folder that its folder is to be in; made if it is missing.
    #[arg(long, value_name = "FOLDER")]
    data_dir: PathBuf,
    /// Take the archive from this address instead of the official one; its file name is appended.
    #[arg(long, value_name = "ADDRESS")]
    url: Option<String>,
    /// No progress and no notes on standard error; errors are still printed.
    #[arg(long, short)]
    quiet: bool,
    /// The result as one line of JSON.
    #[arg(long)]
    json: bool,
}

/// A data set to open.
#[derive(Debug, Args)]
pub struct DataArgs {
    #[arg(
        help = format!("Data set: {}", listed(NAMES)),
        value_name = "NAME",
        required_unless_present = "data",
        conflicts_with = "data"
    )]
    name: Option<String>,
    /// The same, as other subcommands have it.
    #[arg(long, value_name = "NAME")]
    data: Option<String>,
    /// Its folder, or the parent of that; digits needs none.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// CIFAR: images of the validation split, the last of the training images [default: a tenth].
    #[arg(long, value_name = "N")]
    validation_images: Option<u32>,
    #[arg(long, value_name = "SHARE", help = shares_help())]
    validation_fraction: Option<f64>,
    /// image-folder: side in pixels to which every image is brought.
    #[arg(long, value_name = "PIXELS")]
    side: Option<u32>,
    /// As one line of JSON.
    #[arg(long)]
    json: bool,
}

impl DataArgs {
    fn open(&self) -> Result<Dataset, Error> {
        threads::start(None)?;
        let spec = Spec {
            name: self.name.clone().or_else(|| self.data.clone()).unwrap_or_default(),
            dir: self.data_dir.clone(),
            validation: Validation {
                images: self.validation_images.map(|n| n as usize),
                fraction: self.validation_fraction,
            },
            side: self.side.map(|n| n as usize),
        };
        Ok(open(&spec)?)
    }
}

impl Data {
    pub(super) fn run(self) -> Result<Exit, Error> {
        match self {
            #[cfg(feature = "fetch")]
            Data::Fetch(arguments) => return fetch(&arguments),
            Data::Info(arguments) => info(&arguments)?,
            Data::Check(arguments) => check(&arguments)?,
        }
        Ok(Exit::Done)
    }
}

#[cfg(feature = "fetch")]
fn fetch(arguments: &FetchArgs) -> Result<Exit, Error> {
    let archive = fetch::archive(&arguments.name)?;
    let output = Output::for_stderr(arguments.quiet);
    let stop = StopFlag::install()?;
    let url = arguments.url.as_deref();
    let patience = fetch::Patience::default();
    let fetched = match fetch::fetch(archive, &arguments.data_dir, url, patience, output, &stop) {
        Err(stopped @ fetch::Error::Stopped { .. }) => {
            output.note(&stopped.to_string());
            return Ok(Exit::Stopped);
        }
        outcome => outcome?,
    };
    if arguments.json {
        output::json(&json!({
            "version": 1,
            "name": archive.name,
            "folder": fetched.folder.display().to_string(),
            "downloaded": fetched.downloaded,
            "already": fetched.already,
        }))?;
        return Ok(Exit::Done);
    }
    let how = match (fetched.already, fetched.downloaded) {
        (true, _) => "was there and is whole".to_owned(),
        (false, 0) => "unpacked from the archive that was there".to_owned(),
        (false, bytes) => format!("{:.1} MB downloaded, MD5 as published", bytes as f64 / 1e6),
    };
    output::print(&format!("{}: {} ({how})", archive.name, fetched.folder.display()))?;
    Ok(Exit::Done)
}

fn info(arguments: &DataArgs) -> Result<(), Error> {
    #[derive(Serialize)]
    struct Versioned {
        version: u32,
        #[serde(flatten)]
        info: Info,
    }
    let info = arguments.open()?.info();
    if arguments.json {
        output::json(&Versioned { version: 1, info })
    } else {
        output::print(&info.to_string())
    }
}

fn check(arguments: &DataArgs) -> Result<(), Error> {
    let info = arguments.open()?.info();
    let warnings = warnings(&info);
    let images: usize = info.splits.iter().map(|split| split.images).sum();
    if arguments.json {
        return output::json(&json!({
            "version": 1,
            "name": info.name,
            "images": images,
            "classes": info.classes.len(),
            "warnings": warnings,
        }));
    }
    let mut text =
        format!("{}: {images} images in {} classes read, none damaged\n", info.name, info.classes.len());
    warnings.iter().for_each(|warning| text += &format!("warning: {warning}\n"));
    output::print(&text)
}

/// What is absent, and what that means.
fn warnings(info: &Info) -> Vec<String> {
    let mut warnings = Vec::new();
    for (split, part) in Split::ALL.into_iter().zip(&info.splits) {
        if part.images == 0 {
            let consequence = match split {
                Split::Train => "batch norms cannot be recalibrated and nothing can be trained",
                Split::Val => "a search has nothing to measure on",
                Split::Test => "the last measurement has nothing to measure on; use --split val",
            };
            warnings.push(format!("the {split} split has no images: {consequence}"));
            continue;
        }
        let absent: Vec<&str> = info
            .classes
            .iter()
            .zip(&part.per_class)
            .filter(|(_, n)| **n == 0)
            .map(|(c, _)| c.as_str())
            .collect();
        if let Some(first) = absent.first() {
            warnings.push(format!(
                "{} classes have no images in the {split} split, `{first}` first",
                absent.len()
            ));
        }
    }
    if let Some(records) = Facts::of(&info.name).ok().and_then(Facts::records) {
        let [train, val, test] = [0, 1, 2].map(|split| info.splits[split].images);
        let parts = [(train + val, records.published[0], "training"), (test, records.published[1], "test")];
        for (found, published, what) in parts {
            if found > published {
                warnings.push(format!(
                    "{found} {what} images are here, and {published} were published: a batch may be there twice"
                ));
            } else if 0 < found && found < published {
                warnings.push(format!("{found} of {} {what} images are here", grouped(published as u64)));
            }
        }
    }
    warnings
}
