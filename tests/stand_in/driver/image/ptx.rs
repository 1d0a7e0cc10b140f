//! PTX: kernels as `.entry` declares them, and the memory that they and the functions that they call declare.

use super::ptx_text::{Text, Token};
use super::target::Target;
use super::{Error, Image, Kernel, Kind, MOST_THREADS, Parameter};
use std::collections::{BTreeMap, BTreeSet};

/// A variable, or a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Variable<'a> {
    name: &'a str,
    align: u32,
    /// 0 where the size is left to the launch.
    bytes: u32,
}

/// The body of a kernel or of a function.
#[derive(Debug, Default)]
struct Body<'a> {
    shared: Vec<Variable<'a>>,
    local: Vec<Variable<'a>>,
    /// The names in its instructions.
    names: BTreeSet<&'a str>,
    /// Whether it does more than return.
    does_more: bool,
}

/// A kernel as it stands there.
#[derive(Debug)]
struct Entry<'a> {
    name: &'a str,
    parameters: Vec<Variable<'a>>,
    max_threads: u32,
    body: Body<'a>,
}

/// A whole text.
#[derive(Debug, Default)]
struct Module<'a> {
    version: Option<(u32, u32)>,
    target: Option<Target>,
    shared: Vec<Variable<'a>>,
    functions: BTreeMap<&'a str, Body<'a>>,
    entries: Vec<Entry<'a>>,
}

/// The image of these bytes, which may end in a NUL, and what it is for.
pub fn read(bytes: &[u8]) -> Result<(Image, Target), Error> {
    let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    let none = || Error::invalid("it begins like no fat binary and no machine code, and it is no PTX");
    let text = std::str::from_utf8(text).map_err(|_| none())?;
    let mut module = Module::default();
    let whole = module.read(&mut Text::new(text));
    let (Some(version), Some(target)) = (module.version, module.target) else {
        return Err(none());
    };
    whole.ok_or_else(|| {
        let last = module.entries.last().map_or("its beginning", |entry| entry.name);
        Error::invalid(format!("the PTX is damaged behind {last}"))
    })?;
    let mut kernels = BTreeMap::new();
    for entry in &module.entries {
        let kernel = module.kernel(entry, target);
        let kernel = kernel.ok_or_else(|| Error::invalid(format!("the PTX of {} is damaged", entry.name)))?;
        kernel.check()?;
        if kernels.insert(kernel.name.clone(), kernel).is_some() {
            return Err(Error::invalid(format!("the PTX has two kernels {}", entry.name)));
        }
    }
    Ok((Image { kernels, architecture: target.version, release: release(version) }, target))
}

/// The release of CUDA that brought a version of PTX; `None` for those before CUDA 11.
fn release((major, minor): (u32, u32)) -> Option<(u32, u32)> {
    match (major, minor) {
        (8, 6..) => Some((12, minor.checked_add(1)?)),
        (7.., _) => Some((major.checked_add(4)?, minor)),
        _ => None,
    }
}

impl<'a> Module<'a> {
    /// Reads a text to its end; `None` where it is damaged.
    fn read(&mut self, text: &mut Text<'a>) -> Option<()> {
        while let Some(token) = text.next() {
            match token {
                Token::Word(".version") => {
                    let (major, minor) = text.word()?.split_once('.')?;
                    self.version = Some((major.parse().ok()?, minor.parse().ok()?));
                }
                Token::Word(".target") => self.target = Some(Target::named(text.word()?)?),
                Token::Word(".shared") => self.shared.extend(variables(text)?),
                Token::Word(".entry") => self.entries.extend(entry(text)?),
                Token::Word(".func") => self.functions.extend(function(text)?),
                Token::Sign(b'{') => text.pass_block()?,
                _ => {}
            }
        }
        Some(())
    }

    fn kernel(&self, entry: &Entry<'_>, target: Target) -> Option<Kernel> {
        let (mut parameters, mut end) = (Vec::new(), 0);
        for parameter in &entry.parameters {
            let offset = place(&mut end, parameter)?;
            parameters.push(Parameter { offset, bytes: parameter.bytes });
        }
        // Functions whose names stand in its body, and in theirs: it may call them.
        let (mut bodies, mut names) = (vec![&entry.body], BTreeSet::new());
        let mut next = 0;
        while let Some(body) = bodies.get(next).copied() {
            next += 1;
            for &name in &body.names {
                if names.insert(name) {
                    bodies.extend(self.functions.get(name));
                }
            }
        }
        // Dynamic shared memory begins behind all others, at its alignment, whether the kernel has a use for it or not.
        let variables = self.shared.iter();
        let (dynamic, others): (Vec<&Variable>, Vec<_>) = variables.partition(|variable| variable.bytes == 0);
        let named = others.into_iter().filter(|variable| names.contains(variable.name));
        let shared = size(named.chain(bodies.iter().flat_map(|body| &body.shared)).chain(dynamic))?;
        Some(Kernel {
            name: entry.name.to_owned(),
            parameters,
            static_shared_bytes: shared,
            registers: 0,
            max_threads: entry.max_threads,
            local_bytes: size(bodies.iter().flat_map(|body| &body.local))?,
            architecture: target.version,
            kind: Kind::Ptx { empty_body: !entry.body.does_more },
        })
    }
}

/// The offset of a variable behind others that end there; `None` where it overflows.
fn place(end: &mut u32, variable: &Variable<'_>) -> Option<u32> {
    let offset = end.checked_next_multiple_of(variable.align)?;
    *end = offset.checked_add(variable.bytes)?;
    Some(offset)
}

/// The bytes of variables one behind the other.
fn size<'a>(variables: impl Iterator<Item = &'a Variable<'a>>) -> Option<u32> {
    let mut end = 0;
    for variable in variables {
        place(&mut end, variable)?;
    }
    Some(end)
}

/// A kernel, behind `.entry`; none inside where it is only declared.
fn entry<'a>(text: &mut Text<'a>) -> Option<Option<Entry<'a>>> {
    let name = text.word()?;
    let mut parameters = Vec::new();
    if text.pass(b'(') {
        while !text.pass(b')') {
            match text.next()? {
                Token::Word(".param") => parameters.push(parameter(text)?),
                Token::Sign(b',') => {}
                _ => return None,
            }
        }
    }
    let mut max_threads = MOST_THREADS;
    loop {
        match text.next()? {
            Token::Word(".maxntid" | ".reqntid") => {
                let mut threads = text.number()?;
                while text.pass(b',') {
                    threads = threads.checked_mul(text.number()?)?;
                }
                max_threads = max_threads.min(Some(threads).filter(|&threads| threads > 0)?);
            }
            Token::Sign(b'{') => break,
            Token::Sign(b';') => return Some(None),
            _ => {}
        }
    }
    Some(Some(Entry { name, parameters, max_threads, body: body(text)? }))
}

/// A function, behind `.func`; none inside where it is only declared.
fn function<'a>(text: &mut Text<'a>) -> Option<Option<(&'a str, Body<'a>)>> {
    let mut name = None;
    loop {
        match text.next()? {
            // What it returns, or its parameters.
            Token::Sign(b'(') => while text.next()? != Token::Sign(b')') {},
            Token::Sign(b'{') => return Some(Some((name?, body(text)?))),
            Token::Sign(b';') => return Some(None),
            Token::Word(word) if name.is_none() && !word.starts_with('.') => name = Some(word),
            _ => {}
        }
    }
}

/// A body, behind its `{`.
fn body<'a>(text: &mut Text<'a>) -> Option<Body<'a>> {
    let (mut body, mut depth) = (Body::default(), 1_usize);
    while depth > 0 {
        match text.next()? {
            Token::Sign(b'{') => depth += 1,
            Token::Sign(b'}') => depth -= 1,
            Token::Sign(b';') => {}
            // Both end with the line.
            Token::Word(".loc" | ".file") => text.pass_line(),
            Token::Word(".shared") => body.shared.extend(variables(text)?),
            Token::Word(".local") => body.local.extend(variables(text)?),
            Token::Word(word) if word.starts_with('.') => while text.next()? != Token::Sign(b';') {},
            // A label.
            Token::Word(_) if text.pass(b':') => {}
            Token::Word("ret" | "exit") if text.pass(b';') => {}
            _ => {
                body.does_more = true;
                loop {
                    match text.next()? {
                        Token::Sign(b';') => break,
                        Token::Word(word) if is_name(word) => {
                            body.names.insert(word);
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    Some(body)
}

/// Whether a word can be the name of a variable or of a function: registers and directives cannot.
fn is_name(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_alphabetic() || matches!(first, '_' | '$'))
        && !word.contains('.')
}

/// The variables of a declaration, behind their space, with its `;`. They may have values.
fn variables<'a>(text: &mut Text<'a>) -> Option<Vec<Variable<'a>>> {
    let (align, bytes) = kind(text)?;
    let mut variables = vec![declared(text, align, bytes)?];
    loop {
        match text.next()? {
            Token::Sign(b',') => variables.push(declared(text, align, bytes)?),
            Token::Sign(b';') => return Some(variables),
            Token::Sign(b'{') => text.pass_block()?,
            _ => {}
        }
    }
}

/// A parameter, behind `.param`.
fn parameter<'a>(text: &mut Text<'a>) -> Option<Variable<'a>> {
    let (align, bytes) = kind(text)?;
    declared(text, align, bytes)
}

/// The alignment of a declaration and the bytes of an element, up to the name.
fn kind(text: &mut Text<'_>) -> Option<(u32, u32)> {
    let (mut align, mut elements, mut bytes, mut of_pointer) = (None, 1, None, false);
    while let Some(Token::Word(word)) = text.peek() {
        let Some(word) = word.strip_prefix('.') else { break };
        text.next();
        match word {
            // What follows is said of the memory that the pointer leads to.
            "ptr" => of_pointer = true,
            "align" => {
                let number = text.number()?;
                if !of_pointer {
                    align = Some(number).filter(|number| number.is_power_of_two());
                    align?;
                }
            }
            "v2" => elements = 2,
            "v4" => elements = 4,
            _ => bytes = bytes.or(bytes_of_type(word)),
        }
    }
    let bytes = bytes? * elements;
    Some((align.unwrap_or(bytes), bytes))
}

fn bytes_of_type(name: &str) -> Option<u32> {
    Some(match name {
        "b8" | "u8" | "s8" => 1,
        "b16" | "u16" | "s16" | "f16" | "bf16" => 2,
        "b32" | "u32" | "s32" | "f32" | "f16x2" | "bf16x2" => 4,
        "b64" | "u64" | "s64" | "f64" | "texref" | "samplerref" | "surfref" => 8,
        "b128" => 16,
        _ => return None,
    })
}

/// A name with the lengths of an array behind it. Where a length is left out the launch gives it: 0 bytes.
fn declared<'a>(text: &mut Text<'a>, align: u32, bytes: u32) -> Option<Variable<'a>> {
    let name = text.word().filter(|name| is_name(name) || name.starts_with('%'))?;
    let mut bytes = bytes;
    while text.pass(b'[') {
        let length = if text.peek()? == Token::Sign(b']') { 0 } else { text.number()? };
        bytes = bytes.checked_mul(length)?;
        if !text.pass(b']') {
            return None;
        }
    }
    Some(Variable { name, align, bytes })
}
