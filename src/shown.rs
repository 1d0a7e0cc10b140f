//! Commands that are shown: what to run next, as it can be pasted into a shell.
//!
//! Every `next:` line, every command of a report and every hint with a path in it is made here, so that they
//! agree. A shown command gives the result that it is shown beside: it names weights, data and precision
//! wherever the command would take others by itself. Words are quoted for a POSIX shell where they need it,
//! so that a folder's name stays one word and never runs as a command.
//!
//! - [`Shown`] is a command word by word, [`quoted`] a word as a shell reads it;
//! - [`OfRun`] knows what can be done with a run that has searched; [`evaluate_network`] and the others are
//!   about files.

use crate::config::{Config, Precision, Profile};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::Path;

/// A command, its words in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown(Vec<OsString>);

impl Shown {
    /// `natv2` with the words of a subcommand.
    pub fn natv2(subcommand: &str) -> Shown {
        Shown::program("natv2").words(subcommand)
    }

    /// A program of that name.
    pub fn program(name: &str) -> Shown {
        Shown(vec![name.into()])
    }

    /// Further words, parted by spaces.
    #[must_use]
    pub fn words(mut self, text: &str) -> Shown {
        self.0.extend(text.split_whitespace().map(OsString::from));
        self
    }

    /// A word as it stands, whatever is in it.
    #[must_use]
    pub fn word(mut self, word: impl Into<OsString>) -> Shown {
        self.0.push(word.into());
        self
    }

    /// A path that is an argument by itself.
    #[must_use]
    pub fn path(self, path: &Path) -> Shown {
        self.word(plain(path))
    }

    /// A flag with its value.
    #[must_use]
    pub fn flag(self, flag: &str, value: impl fmt::Display) -> Shown {
        self.word(flag).word(value.to_string())
    }

    /// A flag with its value, where there is one.
    #[must_use]
    pub fn maybe(self, flag: &str, value: Option<impl fmt::Display>) -> Shown {
        match value {
            Some(value) => self.flag(flag, value),
            None => self,
        }
    }

    /// A flag with a path.
    #[must_use]
    pub fn file(self, flag: &str, path: &Path) -> Shown {
        self.word(flag).path(path)
    }

    /// A flag with a path, where there is one.
    #[must_use]
    pub fn maybe_file(self, flag: &str, path: Option<&Path>) -> Shown {
        match path {
            Some(path) => self.file(flag, path),
            None => self,
        }
    }

    /// A setting, where it has a value.
    #[must_use]
    pub fn set(self, key: &str, value: Option<impl fmt::Display>) -> Shown {
        match value {
            Some(value) => self.word("--set").word(format!("{key}={value}")),
            None => self,
        }
    }

    /// A setting that is a path, where it has a value.
    #[must_use]
    pub fn set_path(self, key: &str, value: Option<&Path>) -> Shown {
        let Some(value) = value else { return self };
        let text = value.to_string_lossy();
        // A value in quotes is read as TOML, and one without loses the spaces around it.
        let bare = text.trim() == text && !text.starts_with(['"', '\'']);
        let text = if bare { text.into_owned() } else { toml::Value::from(text.as_ref()).to_string() };
        self.set(key, Some(text))
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, word) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            f.write_str(&quoted(word))?;
        }
        Ok(())
    }
}

/// A path as an argument that is taken for a path, not for a flag, a file of text (`@FILE`) or JSON.
fn plain(path: &Path) -> OsString {
    match path.as_os_str().as_encoded_bytes().first() {
        Some(b'-' | b'@' | b'[' | b'{') => Path::new(".").join(path).into_os_string(),
        _ => path.as_os_str().to_os_string(),
    }
}

/// Characters that would break a line, or make a command read as another: control characters, and the marks
/// that embed, override and isolate directions of writing.
fn unseen(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A word as a POSIX shell reads it back: as it stands where that is safe, else in single quotes. Characters
/// that cannot be seen and bytes that are no text stand as escapes in `$'..'`, so that a command stays on one
/// line.
pub fn quoted(word: &OsStr) -> String {
    let bytes = word.as_encoded_bytes();
    let safe = |b: &u8| b.is_ascii_alphanumeric() || b"-_./=:,@%+".contains(b);
    match word.to_str() {
        Some(text) if !bytes.is_empty() && bytes.iter().all(safe) => text.into(),
        Some(text) if !text.chars().any(unseen) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => {
            let escape = |&b: &u8| match b {
                b'\'' | b'\\' => format!("\\{}", char::from(b)),
                b' '..=b'~' => char::from(b).to_string(),
                other => format!("\\{other:03o}"),
            };
            format!("$'{}'", bytes.iter().map(escape).collect::<String>())
        }
    }
}

/// The commands about a run that has searched.
#[derive(Debug, Clone, Copy)]
pub struct OfRun<'a> {
    /// The run directory.
    pub run: &'a Path,
    /// Its configuration.
    pub config: &'a Config,
    /// The weights that the accuracies of its front belong to; `None` is the built-in super-network.
    pub weights: Option<&'a Path>,
    /// The weights of the wider super-network, where there are two.
    pub wide_weights: Option<&'a Path>,
    /// Whether its front was measured on test images. Where there are none it is only on validation images.
    pub tested: bool,
}

impl OfRun<'_> {
    /// The front's accuracies again, as the search's table has them.
    pub fn evaluate_front(&self) -> Shown {
        let Config { supernet, data, search, .. } = self.config;
        // What the run has trained or adapted itself says its family on its card.
        let given = self.weights == supernet.weights.as_deref();
        let mut shown = Shown::natv2("evaluate")
            .maybe_file("--weights", self.weights)
            .maybe_file("--wide-weights", self.wide_weights)
            .maybe("--family", supernet.family.filter(|_| given))
            .maybe("--data", data.name.as_ref())
            .maybe_file("--data-dir", data.dir.as_deref())
            .maybe("--validation-images", data.validation_images)
            .maybe("--validation-fraction", data.validation_fraction)
            .maybe("--calibration-images", search.calibration_images)
            .maybe("--precision", not_f32(search.precision));
        if !self.tested {
            shown = shown.flag("--split", "val").maybe("--images", search.eval_images);
        }
        shown.file("--archs", &self.run.join("front.json"))
    }

    /// Where the run stands.
    pub fn status(&self) -> Shown {
        status(self.run)
    }

    /// The page again.
    pub fn report(&self) -> Shown {
        report(self.run)
    }

    /// A network of the run in a file of its own, in the form that the name `out` ends in.
    pub fn export(&self, network: usize, out: &str) -> Shown {
        export(self.run, network, Path::new(out))
    }

    /// Networks of its front trained on their own: the one with this number.
    pub fn finetune(&self, network: usize) -> Shown {
        Shown::natv2("finetune")
            .maybe("--profile", not_quick(self.config.profile))
            .set_path("finetune.search", Some(self.run))
            .set("finetune.number", Some(network))
    }
}

/// Where a run stands.
pub fn status(run: &Path) -> Shown {
    Shown::natv2("status").path(run)
}

/// The page of a run again.
pub fn report(run: &Path) -> Shown {
    Shown::natv2("report").path(run)
}

/// A network of a run in a file of its own, in the form that the name of `out` ends in.
pub fn export(run: &Path, network: usize, out: &Path) -> Shown {
    Shown::natv2("export").file("--run", run).flag("--network", network).file("--out", out)
}

/// The accuracy of a stand-alone network, whose card says all that there is to know.
pub fn evaluate_network(weights: &Path) -> Shown {
    Shown::natv2("evaluate").file("--weights", weights)
}

/// A stand-alone network in another form.
pub fn export_network(weights: &Path, out: &Path) -> Shown {
    Shown::natv2("export").file("--weights", weights).file("--out", out)
}

/// What a file for onnxruntime says of itself.
pub fn describe_onnx(file: &Path) -> Shown {
    const SCRIPT: &str = "import sys, onnxruntime as o; s = o.InferenceSession(sys.argv[1]); \
                          print(s.get_inputs()[0].shape, s.get_modelmeta().custom_metadata_map)";
    Shown::program("python3").word("-c").word(SCRIPT).path(file)
}

/// A search of super-networks that a training with `config` has left.
pub fn search_of(config: &Config, weights: &Path, wide_weights: Option<&Path>) -> Shown {
    let data = &config.data;
    Shown::natv2("search")
        .maybe("--profile", not_quick(config.profile))
        .set_path("supernet.weights", Some(weights))
        .set_path("supernet.wide_weights", wide_weights)
        .set("data.name", data.name.as_ref())
        .set_path("data.dir", data.dir.as_deref())
        .set("data.validation_images", data.validation_images)
        .set("data.validation_fraction", data.validation_fraction)
        .set("search.precision", not_f32(config.search.precision))
        .set("adaptation.precision", not_f32(config.adaptation.precision))
}

/// A precision that must be said.
fn not_f32(precision: Precision) -> Option<Precision> {
    (precision != Precision::F32).then_some(precision)
}

/// A profile that must be said.
fn not_quick(profile: Profile) -> Option<Profile> {
    (profile != Profile::Quick).then_some(profile)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::os::unix::ffi::OsStringExt;
    use std::process::Command;

    /// The words of a command as a shell takes them apart.
    fn read_by(shell: &str, shown: &Shown) -> Vec<Vec<u8>> {
        let script = format!("natv2() {{ printf '%s\\0' \"$@\"; }}; {shown}");
        let output = Command::new(shell).args(["-c", &script]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{script}: {output:?}");
        let mut words: Vec<Vec<u8>> = output.stdout.split(|&b| b == 0).map(<[u8]>::to_vec).collect();
        words.pop();
        words
    }

    #[test]
    fn every_word_comes_back_from_a_shell_as_it_was() {
        let words = [
            "plain-1.2/file_x",
            "a b",
            "it's",
            "$(touch pwned)",
            "`touch pwned`",
            "a;b|c&d>e<f",
            "~",
            "*",
            "?",
            "[x]",
            "{a,b}",
            "\"",
            "\\",
            "!!",
            "#x",
            "",
            "$HOME",
            "ü",
            "a=b",
            "x\u{301}",
        ];
        let mut shown = Shown::natv2("x");
        for word in words {
            shown = shown.word(word);
        }
        let found = read_by("sh", &shown);
        let wanted: Vec<Vec<u8>> = ["x"].iter().chain(&words).map(|word| word.as_bytes().to_vec()).collect();
        assert_eq!(found, wanted, "{shown}");
        // What is safe stays as it is.
        assert_eq!(Shown::natv2("status").path(Path::new("runs/a-1")).to_string(), "natv2 status runs/a-1");
        // Lines stay lines, and bytes that are no text are kept.
        let odd = OsString::from_vec(b"a\nb\t'\\\xe2\x80\xae\xff".to_vec());
        let shown = Shown::natv2("status").word(odd.clone());
        assert!(!shown.to_string().contains('\n'));
        assert_eq!(read_by("bash", &shown)[1], odd.into_vec());
    }

    #[test]
    fn paths_are_taken_for_paths() {
        for name in ["-x", "@x", "[x]", "{x}"] {
            let shown = status(Path::new(name));
            assert_eq!(read_by("sh", &shown)[1], format!("./{name}").into_bytes());
        }
        let sets = ["a b", " a ", "\"a\"", "'a'", "2024"];
        for text in sets {
            let shown = Shown::natv2("search").set_path("data.dir", Some(Path::new(text)));
            let words = read_by("sh", &shown);
            let set = String::from_utf8(words[2].clone()).unwrap();
            let config = config::load("search", None, &[set], None).unwrap();
            assert_eq!(config.data.dir.as_deref(), Some(Path::new(text)), "{shown}");
        }
    }

    #[test]
    fn a_front_is_evaluated_with_the_weights_and_data_of_its_search() {
        let sets = [
            "supernet.weights=net.safetensors",
            "supernet.family=EE_D",
            "data.name=cifar10",
            "data.dir=a b",
            "data.validation_images=500",
            "search.precision=bf16",
            "search.calibration_images=200",
        ];
        let config = config::load("search", None, &sets.map(String::from), None).unwrap();
        let (run, weights) = (Path::new("runs/x"), config.supernet.weights.as_deref());
        let commands = OfRun { run, config: &config, weights, wide_weights: None, tested: true };
        assert_eq!(
            commands.evaluate_front().to_string(),
            "natv2 evaluate --weights net.safetensors --family EE_D --data cifar10 --data-dir 'a b' \
             --validation-images 500 --calibration-images 200 --precision bf16 --archs runs/x/front.json"
        );
        // Adapted weights say what they are.
        let adapted = Path::new("runs/x/adapted.safetensors");
        let commands = OfRun { weights: Some(adapted), tested: false, ..commands };
        let shown = commands.evaluate_front().to_string();
        assert!(
            shown.starts_with("natv2 evaluate --weights runs/x/adapted.safetensors --data cifar10"),
            "{shown}"
        );
        assert!(shown.contains(" --split val "), "{shown}");
        let config = config::load("search", None, &[], None).unwrap();
        let commands = OfRun { run, config: &config, weights: None, wide_weights: None, tested: true };
        assert_eq!(commands.evaluate_front().to_string(), "natv2 evaluate --archs runs/x/front.json");
    }
}
