//! Architectures, genotypes and lists as people write them on a command line or in a file.

use super::Error;
use crate::engine::ensemble::Strategy;
use crate::space::walk::Exits;
use crate::space::{Arch, Family, MAX_RESOLUTION, MIN_RESOLUTION};
use crate::supernet::Supernet;
use crate::words::Word;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::Value;
use std::io::Read;
use std::path::Path;

/// Reads one of the words of a list; help shows them all.
pub fn word<T: Word + Clone + Send + Sync>() -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(T::WORDS).try_map(|word| T::of_word(&word).ok_or(word))
}

/// No text file that a flag names is larger; more is another kind of file.
const LARGEST_FILE: u64 = 256 << 20;

/// Text of a flag, and where it came from.
struct Text {
    place: String,
    text: String,
}

/// The text that a flag was given, or the text of the file that `@FILE` names.
fn text(flag: &str, value: &str) -> Result<Text, Error> {
    match value.strip_prefix('@') {
        Some(file) => read(flag, file),
        None => Ok(Text { place: flag.into(), text: value.into() }),
    }
}

fn read(flag: &str, file: &str) -> Result<Text, Error> {
    let place = format!("{flag} {file}");
    let fail = |reason: String| Error::unusable(&place, reason);
    let open = std::fs::File::open(Path::new(file));
    let mut text = String::new();
    open.and_then(|file| file.take(LARGEST_FILE + 1).read_to_string(&mut text))
        .map_err(|e| fail(format!("{e}: check the path; it should be a text file")))?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(fail("the file is larger than 256 MiB: is it the right one?".into()));
    }
    Ok(Text { place: file.into(), text })
}

/// The architecture of `--arch`: JSON text or `@FILE`.
///
/// # Errors
/// A file that cannot be read, text that is no architecture of the family.
pub fn arch(value: &str, family: Family) -> Result<Arch, Error> {
    let Text { place, text } = text("--arch", value)?;
    Arch::parse(family, &text).map_err(Error::given(place))
}

/// The architecture of `--arch`, or that of weights that are those of one network.
///
/// # Errors
/// As [`arch`]; a super-network without an architecture.
pub fn arch_or_own(value: Option<&str>, supernet: &Supernet) -> Result<Arch, Error> {
    match (value, supernet.network()) {
        (Some(value), _) => arch(value, supernet.family),
        (None, Some((own, _))) => Ok(own.clone()),
        (None, None) => Err(Error::Usage(
            "--arch is missing (evaluate also takes --archs): only the weights of a stand-alone network say which network they are".into(),
        )),
    }
}

/// The exits of `--exits` and `--ensemble`: those listed, all for an ensemble, else the one that
/// the architecture names. All are those that `supernet` has, if it is one network. `flag` is what
/// the list was given with.
///
/// # Errors
/// A family with one plain head, a list with an exit that the architecture does not have.
pub fn exits(
    list: Option<&str>,
    ensemble: Option<Strategy>,
    flag: &str,
    arch: &Arch,
    supernet: &Supernet,
) -> Result<Exits, Error> {
    let flag = if list.is_some() { flag } else { "--ensemble" };
    if (list.is_some() || ensemble.is_some()) && !arch.family.early_exits {
        return Err(Error::Usage(format!(
            "{flag}: family {} has one plain head: leave the flag out, or name an EE family",
            arch.family
        )));
    }
    match (list.or(ensemble.map(|_| "all")), supernet.network()) {
        (Some("all"), Some((_, own))) => Ok(own),
        (Some(list), _) => Exits::parse(list, arch).map_err(Error::given(flag)),
        (None, _) => Ok(Exits::single(arch)),
    }
}

/// Architectures, and the numbers of those that are networks of a run's front.
#[derive(Debug)]
pub struct Archs {
    /// The architectures.
    pub archs: Vec<Arch>,
    /// As many.
    pub numbers: Vec<Option<usize>>,
}

impl Archs {
    /// Architectures that nobody has numbered.
    pub fn plain(archs: Vec<Arch>) -> Archs {
        Archs { numbers: vec![None; archs.len()], archs }
    }
}

/// The architectures of `--archs`: JSON text, or a file (`@FILE` or just its path) with a JSON list,
/// one architecture a line, or the `archive.json` or `front.json` of a run.
///
/// # Errors
/// As [`arch`]; the number of the architecture or the line is named. No architecture at all.
pub fn archs(value: &str, family: Family) -> Result<Archs, Error> {
    let Text { place, text } = if value.trim_start().starts_with(['[', '{']) {
        text("--archs", value)?
    } else {
        read("--archs", value.strip_prefix('@').unwrap_or(value))?
    };
    let numbered = |unit: &str, index: usize| format!("{place}, {unit} {}", index + 1);
    let list = |list: &[Value]| -> Result<Vec<Arch>, Error> {
        list.iter()
            .enumerate()
            .map(|(index, value)| {
                Arch::from_json(family, value).map_err(Error::given(numbered("architecture", index)))
            })
            .collect()
    };
    let mut numbers = None;
    let archs: Vec<Arch> = match serde_json::from_str::<Value>(&text) {
        Ok(Value::Array(values)) => list(&values)?,
        // An archive or front of a run, or a table of accuracies.
        Ok(Value::Object(object)) if object.contains_key("networks") || object.contains_key("rows") => {
            let networks = object.get("networks").or(object.get("rows")).and_then(Value::as_array);
            let networks = networks.map(Vec::as_slice).unwrap_or_default();
            let number = |network: &Value| usize::try_from(network["number"].as_u64()?).ok();
            numbers = Some(networks.iter().map(number).collect());
            list(&networks.iter().map(|network| network["arch"].clone()).collect::<Vec<_>>())?
        }
        Ok(value @ Value::Object(_)) => list(&[value])?,
        Err(error) if text.trim_start().starts_with('[') => {
            let reason = format!("it is not a JSON list of architectures: {error}");
            return Err(Error::unusable(&place, reason));
        }
        _ => text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(index, line)| Arch::parse(family, line).map_err(Error::given(numbered("line", index))))
            .collect::<Result<_, _>>()?,
    };
    if archs.is_empty() {
        Err(Error::unusable(&place, "there is no architecture in it: give at least one"))
    } else {
        Ok(match numbers {
            Some(numbers) => Archs { archs, numbers },
            None => Archs::plain(archs),
        })
    }
}

/// A genotype: a JSON list of whole numbers, or `@FILE`.
///
/// # Errors
/// A file that cannot be read, text that is no such list.
pub fn genotype(value: &str) -> Result<Vec<i64>, Error> {
    let Text { place, text } = text("GENOTYPE", value)?;
    let fail = |reason: String| Error::unusable(&place, reason);
    let values: Vec<Value> = serde_json::from_str(&text).map_err(|e| {
        fail(format!("a genotype is a JSON list of whole numbers such as [0,0,9,9,0,..]: {e}"))
    })?;
    let gene = |(index, value): (usize, &Value)| {
        value.as_i64().ok_or_else(|| fail(format!("gene {index} is {value}: whole numbers are needed")))
    };
    values.iter().enumerate().map(gene).collect()
}

/// The resolutions of `--resolutions`: `48,56,64`, or `192:256:4` for 192, 196 .. 256.
///
/// # Errors
/// Says what is wrong, for `clap` to print.
pub fn resolutions(text: &str) -> Result<Vec<u32>, String> {
    let number = |part: &str| {
        part.trim().parse::<u32>().ok().filter(|r| (MIN_RESOLUTION..=MAX_RESOLUTION).contains(r)).ok_or_else(
            || format!("`{part}` is no resolution: give pixels from {MIN_RESOLUTION} to {MAX_RESOLUTION}"),
        )
    };
    let mut list = Vec::new();
    for part in text.split(',') {
        match part.split(':').collect::<Vec<_>>()[..] {
            [single] => list.push(number(single)?),
            [first, last, step] => {
                let step = step.trim().parse::<usize>().ok().filter(|&s| s > 0);
                let step = step.ok_or_else(|| format!("`{part}`: the step must be a number above 0"))?;
                list.extend((number(first)?..=number(last)?).step_by(step));
            }
            _ => return Err(format!("`{part}`: write one number, or first:last:step")),
        }
    }
    if !list.is_empty() && list.len() <= 255 && list.is_sorted_by(|a, b| a < b) {
        Ok(list)
    } else {
        Err("1 to 255 resolutions are needed, ascending, as in 48,56,64 or 192:256:4".into())
    }
}

/// The width multipliers of `--widths`: `1.0,1.2`.
///
/// # Errors
/// Says what is wrong, for `clap` to print.
pub fn widths(text: &str) -> Result<Vec<f64>, String> {
    let number = |part: &str| {
        let width = part.trim().parse::<f64>().ok().filter(|w| (0.05..=8.0).contains(w));
        width.ok_or_else(|| format!("`{part}` is no width multiplier: give numbers from 0.05 to 8"))
    };
    let list: Vec<f64> = text.split(',').map(number).collect::<Result<_, _>>()?;
    if list.len() <= 255 && list.is_sorted_by(|a, b| a < b) {
        Ok(list)
    } else {
        Err("at most 255 width multipliers, ascending, as in 1.0,1.2".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolutions_are_lists_and_ranges() {
        assert_eq!(resolutions("48,56,64").unwrap(), [48, 56, 64]);
        assert_eq!(resolutions("192:256:4").unwrap().len(), 17);
        assert_eq!(resolutions("32,40:48:8").unwrap(), [32, 40, 48]);
        for text in ["", "16", "64,48", "48:64", "48:64:0", "64:48:4", "-32", "3000000", "48:x:1"] {
            assert!(resolutions(text).is_err(), "{text}");
        }
    }

    #[test]
    fn widths_are_lists() {
        assert_eq!(widths("1.0,1.2").unwrap(), [1.0, 1.2]);
        for text in ["", "0", "1.2,1.0", "NaN", "wide"] {
            assert!(widths(text).is_err(), "{text}");
        }
    }

    #[test]
    fn genotypes_are_lists_of_whole_numbers() {
        assert_eq!(genotype("[1, -2]").unwrap(), [1, -2]);
        for (text, part) in [("1", "JSON list"), ("[1,2.5]", "gene 1 is 2.5"), ("[1,1e30]", "gene 1")] {
            assert!(genotype(text).unwrap_err().to_string().contains(part), "{text}");
        }
    }

    #[test]
    fn architectures_come_as_a_list_or_as_lines_or_from_a_run() {
        let one = serde_json::to_string(&Arch::largest(Family::SE_B, 48, None)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = |text: &str| {
            let path = folder.path().join("archs");
            std::fs::write(&path, text).unwrap();
            archs(path.to_str().unwrap(), Family::SE_B).map(|listed| listed.archs.len())
        };
        let listed = archs(&format!("[{one},{one}]"), Family::SE_B).unwrap();
        assert_eq!((listed.archs.len(), listed.numbers), (2, vec![None, None]));
        assert_eq!(file(&format!("[{one},{one}]\n")).unwrap(), 2);
        assert_eq!(file(&format!("{one}\n\n{one}\n")).unwrap(), 2);
        assert_eq!(file(&one).unwrap(), 1);
        let front = format!("{{\"version\":1,\"networks\":[{{\"arch\":{one}}},{{\"arch\":{one}}}]}}");
        assert_eq!(file(&front).unwrap(), 2);
        // The networks of a front keep their numbers.
        let front = format!("{{\"networks\":[{{\"number\":7,\"arch\":{one}}},{{\"arch\":{one}}}]}}");
        assert_eq!(archs(&front, Family::SE_B).unwrap().numbers, [Some(7), None]);
        let message = |text: &str| file(text).unwrap_err().to_string();
        assert!(message(&format!("{one}\n{{}}\n")).contains("archs, line 2: "));
        assert!(message(&format!("[{one},3]")).contains("archs, architecture 2: "));
        assert!(message(&format!("[{one}")).contains("not a JSON list"));
        assert!(message("").contains("no architecture"));
    }
}
