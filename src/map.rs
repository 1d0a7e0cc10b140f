//! Checks that the map of the house in `lib.rs` is true: every module stands in it, and uses only those above it. And
//! that the links of the documents lead to files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the map, from the top down.
fn modules() -> Vec<String> {
    let text = include_str!("lib.rs");
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | [`")?.split_once("`]"));
    rows.map(|(name, _)| name.trim_start_matches("mod@").to_string()).collect()
}

/// The source files below a folder, without those of tests.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
    found.retain(|path| {
        !path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs")))
    });
}

/// The text of a file without comments and without its unit tests, which may look anywhere.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The modules at the root that a file names: by `crate::`, also in braces, and by as many `super::` as lead there.
fn named(code: &str, depth: usize) -> Vec<String> {
    let mut found = Vec::new();
    let root = "super::".repeat(depth);
    for from in ["crate::", &root].into_iter().filter(|from| !from.is_empty()) {
        for (at, _) in code.match_indices(from) {
            let before =
                code[..at].ends_with("super::") || code[..at].ends_with(|c: char| c.is_alphanumeric());
            if before {
                continue;
            }
            let rest = &code[at + from.len()..];
            match rest.strip_prefix('{') {
                Some(list) => found.extend(of_braces(list)),
                None => found.push(word(rest)),
            }
        }
    }
    found
}

/// The first word of a path.
fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first word of each path of a list in braces, whose opening one is taken off.
fn of_braces(list: &str) -> Vec<String> {
    let (mut depth, mut found, mut fresh) = (0, Vec::new(), true);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if fresh && (c.is_alphabetic() || c == '_') => {
                found.push(word(&list[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    found
}

/// What looks down the map: the file, its module and the one that it names.
fn arrows_up(modules: &[String]) -> Vec<String> {
    let place: BTreeMap<&str, usize> =
        modules.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    let mut found = Vec::new();
    for file in all {
        let inside = file.strip_prefix(&src).unwrap().with_extension("");
        let path: Vec<&str> =
            inside.iter().map(|part| part.to_str().unwrap()).filter(|part| *part != "mod").collect();
        let Some(&own) = place.get(path[0]) else { continue };
        let code = code(&fs::read_to_string(&file).unwrap());
        for other in named(&code, path.len()) {
            if place.get(other.as_str()).is_some_and(|&at| at > own) {
                found.push(format!("{} uses `{other}`, which stands below `{}`", inside.display(), path[0]));
            }
        }
    }
    found
}

#[test]
fn every_module_uses_only_those_above_it() {
    let found = arrows_up(&modules());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_module_stands_in_the_map() {
    let text = include_str!("lib.rs");
    let mut declared: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let mut listed = modules();
    assert!(declared.len() > 15);
    declared.sort_unstable();
    listed.sort_unstable();
    assert_eq!(listed, declared);
}

#[test]
fn an_arrow_up_is_seen_however_it_is_written() {
    let words = |code: &str, depth| named(&super::map::code(code), depth);
    assert_eq!(words("use crate::device::Error;", 1), ["device"]);
    assert_eq!(words("use crate::{ops::{self, Call}, space};", 2), ["ops", "space"]);
    assert_eq!(words("let x = super::super::train::Step;", 2), ["train"]);
    assert_eq!(words("use super::super::pointwise;", 3), Vec::<String>::new());
    assert_eq!(
        words("// crate::device\nfn f() {}\n#[cfg(test)]\nmod tests {\nuse crate::cli;", 1),
        Vec::<String>::new()
    );
    // The map upside down has arrows up.
    let mut upside_down = modules();
    upside_down.reverse();
    assert!(arrows_up(&upside_down).len() > 100);
}

#[test]
fn links_of_the_documents_lead_to_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = vec![root.join("README.md"), root.join("kernels/README.md")];
    documents.extend(fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    let mut followed = 0;
    for document in documents.iter().filter(|path| path.extension().is_some_and(|kind| kind == "md")) {
        let text = fs::read_to_string(document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") {
                let target = document.parent().unwrap().join(file);
                assert!(target.exists(), "{}: no {file}", document.display());
                followed += 1;
            }
        }
    }
    assert!(followed > 40);
}

/// The glossary and the comments of the walks name files in backquotes.
#[test]
fn files_that_the_glossary_names_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = include_str!("../docs/glossary.md");
    let named: Vec<&str> =
        text.split('`').skip(1).step_by(2).filter(|word| word.starts_with("src/")).collect();
    assert!(named.len() > 30);
    for file in named {
        assert!(root.join(file).exists(), "no {file}");
    }
}
