//! The names of the kernels in a file of `kernels/`, without a compiler.
//!
//! Macros put many of them together, so the file goes through a preprocessor of its own: as much of C's as the
//! files use. It expands everything but the macros that declare a kernel; the first argument of each is a name.
//! What it does not know is an error and not a guess. `tests/scripts/build_script.rs` includes this file too.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

/// The macros of `nat_device.cuh` that declare a kernel.
const DECLARATIONS: [&str; 3] = ["NAT_KERNEL", "NAT_KERNEL_BOUNDED", "NAT_KERNEL_RESIDENT"];

/// The names of the kernels that a file declares, in its order. `header` gives the text of a header by name.
///
/// # Errors
/// A sentence about what the preprocessor does not know.
pub fn kernel_names(text: &str, header: &dyn Fn(&str) -> Option<String>) -> Result<Vec<String>, String> {
    let mut preprocessor = Preprocessor {
        header,
        macros: BTreeMap::new(),
        included: BTreeSet::new(),
        pending: Vec::new(),
        names: Vec::new(),
    };
    preprocessor.file(text)?;
    preprocessor.flush()?;
    Ok(preprocessor.names)
}

struct Macro {
    /// `None` where it takes no arguments; `__VA_ARGS__` stands for the last one's dots.
    parameters: Option<Vec<String>>,
    body: Vec<String>,
}

struct Preprocessor<'a> {
    header: &'a dyn Fn(&str) -> Option<String>,
    macros: BTreeMap<String, Macro>,
    included: BTreeSet<String>,
    /// Tokens since the last directive.
    pending: Vec<String>,
    names: Vec<String>,
}

/// A branch of a condition.
struct Branch {
    /// Whether what is around it counts.
    outside: bool,
    /// Whether this or an earlier one counts.
    taken: bool,
    active: bool,
}

impl Preprocessor<'_> {
    fn file(&mut self, text: &str) -> Result<(), String> {
        let mut branches: Vec<Branch> = Vec::new();
        for line in without_comments(&text.replace("\\\n", " ")).lines() {
            let line = line.trim();
            let active = branches.last().is_none_or(|branch| branch.active);
            let Some(directive) = line.strip_prefix('#') else {
                if active {
                    self.pending.extend(tokens(line));
                }
                continue;
            };
            let directive = directive.trim_start();
            let (word, rest) = directive
                .split_at(directive.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(directive.len()));
            let rest = rest.trim();
            match word {
                "if" | "ifdef" | "ifndef" => {
                    let holds = active
                        && match word {
                            "if" => self.holds(rest)?,
                            _ => self.macros.contains_key(rest) == (word == "ifdef"),
                        };
                    branches.push(Branch { outside: active, taken: holds, active: holds });
                }
                "elif" | "else" => {
                    let branch = branches.last().ok_or_else(|| format!("#{word} without #if"))?;
                    let open = branch.outside && !branch.taken;
                    let holds = open && (word == "else" || self.holds(rest)?);
                    if let Some(branch) = branches.last_mut() {
                        (branch.active, branch.taken) = (holds, branch.taken || holds);
                    }
                }
                "endif" => {
                    branches.pop().ok_or("#endif without #if")?;
                }
                _ if !active => {}
                // Macros expand as they are defined where they are used.
                "define" => {
                    self.flush()?;
                    let (name, defined) = definition(rest)?;
                    self.macros.insert(name, defined);
                }
                "undef" => {
                    self.flush()?;
                    self.macros.remove(rest);
                }
                "include" => self.include(rest)?,
                "pragma" | "error" => {}
                _ => return Err(format!("a directive that is not known: {line}")),
            }
        }
        if branches.is_empty() { Ok(()) } else { Err("#if without #endif".to_owned()) }
    }

    /// Headers of the project, each once, as all of them say; those of the compiler declare no kernels.
    fn include(&mut self, what: &str) -> Result<(), String> {
        let Some(name) = what.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
            return Ok(());
        };
        if !self.included.insert(name.to_owned()) {
            return Ok(());
        }
        let text = (self.header)(name).ok_or_else(|| format!("no header of the name {name}"))?;
        self.file(&text)
    }

    /// A condition: `defined(NAME)`, or that with `!` in front.
    fn holds(&self, condition: &str) -> Result<bool, String> {
        let tokens = tokens(condition);
        let texts: Vec<&str> = tokens.iter().map(String::as_str).collect();
        match texts.as_slice() {
            ["defined", "(", name, ")"] => Ok(self.macros.contains_key(*name)),
            ["!", "defined", "(", name, ")"] => Ok(!self.macros.contains_key(*name)),
            _ => Err(format!("a condition that is not known: #if {condition}")),
        }
    }

    /// Expands what has been read, with the macros as they are now.
    fn flush(&mut self) -> Result<(), String> {
        let pending = mem::take(&mut self.pending);
        let mut names = Vec::new();
        self.expand(&pending, &mut Vec::new(), &mut names)?;
        self.names.extend(names);
        Ok(())
    }

    /// The tokens with all macros expanded but those of `inside`; names of kernels are added to `names`.
    fn expand(
        &self,
        tokens: &[String],
        inside: &mut Vec<String>,
        names: &mut Vec<String>,
    ) -> Result<Vec<String>, String> {
        let mut out = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            let token = &tokens[at];
            at += 1;
            let called = tokens.get(at).is_some_and(|next| next == "(");
            if called && DECLARATIONS.contains(&token.as_str()) {
                let (arguments, after) = arguments(tokens, at)?;
                let first = arguments.first().map_or(&[][..], Vec::as_slice);
                match self.expand(first, inside, names)?.as_slice() {
                    [name] if is_identifier(name) => names.push(name.clone()),
                    other => return Err(format!("{token} of {other:?}, which is no name")),
                }
                at = after;
                continue;
            }
            let Some(found) = self.macros.get(token).filter(|_| !inside.contains(token)) else {
                out.push(token.clone());
                continue;
            };
            let replaced = match &found.parameters {
                None => self.substitute(found, &[], &[], inside, names)?,
                Some(_) if !called => {
                    out.push(token.clone());
                    continue;
                }
                Some(parameters) => {
                    let (arguments, after) = arguments(tokens, at)?;
                    at = after;
                    let arguments = matched(token, parameters, arguments)?;
                    self.substitute(found, parameters, &arguments, inside, names)?
                }
            };
            inside.push(token.clone());
            out.extend(self.expand(&replaced, inside, names)?);
            inside.pop();
        }
        Ok(out)
    }

    /// A macro's body with its arguments in place.
    fn substitute(
        &self,
        found: &Macro,
        parameters: &[String],
        arguments: &[Vec<String>],
        inside: &mut Vec<String>,
        names: &mut Vec<String>,
    ) -> Result<Vec<String>, String> {
        let argument =
            |token: &String| parameters.iter().position(|name| name == token).map(|index| &arguments[index]);
        let is = |index: usize, text: &str| found.body.get(index).is_some_and(|token| token == text);
        let mut out: Vec<String> = Vec::new();
        let mut paste = false;
        for (index, token) in found.body.iter().enumerate() {
            if token == "##" {
                paste = true;
                continue;
            }
            // The text of an argument, as a string: no name is in there.
            if token == "#" && found.parameters.is_some() {
                continue;
            }
            let stringized = index > 0 && is(index - 1, "#") && found.parameters.is_some();
            let piece = match argument(token) {
                Some(_) if stringized => vec!["\"\"".to_owned()],
                // What is pasted is not expanded before.
                Some(raw) if paste || is(index + 1, "##") => raw.clone(),
                Some(raw) => self.expand(raw, inside, names)?,
                None => vec![token.clone()],
            };
            let mut piece = piece.into_iter();
            if mem::take(&mut paste)
                && let Some(first) = piece.next()
            {
                match out.last_mut() {
                    Some(last) => last.push_str(&first),
                    None => out.push(first),
                }
            }
            out.extend(piece);
        }
        Ok(out)
    }
}

/// A definition: the macro's name, and what it stands for.
fn definition(text: &str) -> Result<(String, Macro), String> {
    let end = text.find(|c: char| !is_word(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return Err(format!("#define of no name: {text}"));
    }
    // Only a parenthesis that follows at once opens parameters.
    let Some(inner) = rest.strip_prefix('(') else {
        return Ok((name.to_owned(), Macro { parameters: None, body: tokens(rest) }));
    };
    let (list, body) = inner.split_once(')').ok_or_else(|| format!("#define {name} is not closed"))?;
    let parameters = list
        .split(',')
        .map(str::trim)
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| if parameter == "..." { "__VA_ARGS__" } else { parameter }.to_owned());
    Ok((name.to_owned(), Macro { parameters: Some(parameters.collect()), body: tokens(body) }))
}

/// The arguments of the parenthesis at `open`, and the place behind it.
fn arguments(tokens: &[String], open: usize) -> Result<(Vec<Vec<String>>, usize), String> {
    let mut found = vec![Vec::new()];
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.as_str() {
            "(" => depth += 1,
            ")" => depth -= 1,
            _ => {}
        }
        match (token.as_str(), depth) {
            (")", 0) => return Ok((found, index + 1)),
            ("(", 1) if index == open => {}
            (",", 1) => found.push(Vec::new()),
            _ => {
                if let Some(last) = found.last_mut() {
                    last.push(token.clone());
                }
            }
        }
    }
    Err(format!("a parenthesis that is not closed behind {:?}", tokens.get(open.wrapping_sub(1))))
}

/// The arguments as the parameters take them: all that are left for the dots.
fn matched(
    name: &str,
    parameters: &[String],
    mut arguments: Vec<Vec<String>>,
) -> Result<Vec<Vec<String>>, String> {
    if parameters.last().is_some_and(|last| last == "__VA_ARGS__") {
        let fixed = parameters.len() - 1;
        let rest = arguments.split_off(fixed.min(arguments.len()));
        if arguments.len() == fixed {
            arguments.push(rest.join(&[",".to_owned()][..]));
        }
    }
    if parameters.is_empty() && arguments.iter().all(Vec::is_empty) {
        arguments.clear();
    }
    if arguments.len() == parameters.len() {
        Ok(arguments)
    } else {
        Err(format!("{name} takes {} arguments and is given {}", parameters.len(), arguments.len()))
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_identifier(token: &str) -> bool {
    token.starts_with(|c: char| is_word(c) && !c.is_ascii_digit()) && token.chars().all(is_word)
}

/// The text with a space for each comment; lines stay lines.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '"' | '\'' => literal(rest),
            '/' if rest.starts_with("//") => {
                rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
                continue;
            }
            '/' if rest.starts_with("/*") => {
                let end = rest[2..].find("*/").map_or(rest.len(), |at| at + 4);
                out.push(' ');
                out.extend(rest[..end].matches('\n'));
                rest = &rest[end..];
                continue;
            }
            // A number with separators is not the start of a character.
            c if is_word(c) => word(rest),
            c => c.len_utf8(),
        };
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    out
}

/// The length of the name or number that a text starts with.
fn word(text: &str) -> usize {
    let number = text.starts_with(|c: char| c.is_ascii_digit());
    let inside = |c: char| is_word(c) || (number && matches!(c, '.' | '\''));
    text.find(|c: char| !inside(c)).unwrap_or(text.len())
}

/// The length of the string or character that a text starts with.
fn literal(text: &str) -> usize {
    let quote = text.chars().next();
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\n' => return at,
            _ if Some(c) == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The tokens of a line without comments: names, numbers, strings, `##`, and single characters.
fn tokens(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '"' | '\'' => literal(rest),
            '#' if rest.starts_with("##") => 2,
            c if is_word(c) => word(rest),
            c => c.len_utf8(),
        };
        found.push(rest[..taken].to_owned());
        rest = rest[taken..].trim_start();
    }
    found
}
