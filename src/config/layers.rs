//! Laying the layers over each other, and checking every value that comes in.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::error::{Error, Origin};
use super::keys::{self, Key, Kind};
use super::profiles::{Given, Profile};
use super::training::{Phase, Schedule, Teacher};
use super::{Config, Method};
use crate::data::Facts;

/// Checked values by key, with where they came from.
type Settings = BTreeMap<&'static str, (Value, Origin)>;

pub(super) fn resolve(
    command: &str,
    file: Option<(&Path, &str)>,
    sets: &[String],
    profile: Option<Profile>,
) -> Result<Config, Error> {
    let mut settings = Settings::new();
    if let Some((path, text)) = file {
        let table: Table = text.parse().map_err(|error: toml::de::Error| Error::Syntax {
            path: path.into(),
            reason: error.to_string(),
        })?;
        let origin = Origin::File(path.into());
        add_table(&mut settings, "", table, &origin)?;
    }
    for text in sets {
        add_set(&mut settings, text)?;
    }
    if let Some(profile) = profile {
        settings.insert("profile", (profile.as_str().into(), Origin::Set));
    }

    let profile = typed(&settings, "profile").unwrap_or(Profile::Quick);
    // What is published, or what is best in minutes. Phases of one's own have the teacher that they always had.
    let schedule = |section: &str, published| {
        let own = settings.contains_key(&*format!("{section}.phases"));
        let usual = if own || profile == Profile::Paper { published } else { Schedule::Sandwich };
        typed(&settings, &format!("{section}.schedule")).unwrap_or(usual)
    };
    let given = Given {
        command,
        profile,
        method: typed(&settings, "search.method").unwrap_or(Method::Natv2),
        archive: typed(&settings, "search.archive"),
        candidates: typed(&settings, "search.candidates"),
        train: schedule("train", Schedule::Eps),
        warmup: schedule("warmup", Schedule::Target),
    };
    let config = overlay(&Config::usual(&given), &settings)?;
    check_together(&config)?;
    Ok(config)
}

/// A setting that others follow. Its value has been checked, so it has the type.
fn typed<T: DeserializeOwned>(settings: &Settings, key: &str) -> Option<T> {
    settings.get(key).and_then(|(value, _)| value.clone().try_into().ok())
}

fn add_table(settings: &mut Settings, prefix: &str, table: Table, origin: &Origin) -> Result<(), Error> {
    for (name, value) in table {
        let path = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match (keys::find(&path), value) {
            (Some(_), Value::Table(_)) => {
                let reason = "is a value, not a section".into();
                return Err(Error::Shape { origin: origin.clone(), key: path, reason });
            }
            (Some(key), value) => {
                let value = checked(key.path, key.kind, value, origin)?;
                settings.insert(key.path, (value, origin.clone()));
            }
            // An unknown section that is empty is found out here, others by their first key.
            (None, Value::Table(inner)) if keys::is_section(&path) || !inner.is_empty() => {
                add_table(settings, &path, inner, origin)?;
            }
            (None, _) => return Err(unknown(path, origin)),
        }
    }
    Ok(())
}

fn add_set(settings: &mut Settings, text: &str) -> Result<(), Error> {
    let (path, value) = text
        .split_once('=')
        .map(|(path, value)| (path.trim(), value.trim()))
        .filter(|(path, _)| !path.is_empty())
        .ok_or_else(|| Error::Set { text: text.into() })?;
    let key = keys::find(path).ok_or_else(|| unknown(path.into(), &Origin::Set))?;
    let value = checked(key.path, key.kind, set_value(key, value), &Origin::Set)?;
    settings.insert(key.path, (value, Origin::Set));
    Ok(())
}

/// The value of a `--set`: TOML if it is that, else text. A key of text takes it as it stands
/// (a folder named 2024), and one of lists splits it at commas, as quotes are a nuisance in a shell.
fn set_value(key: &Key, text: &str) -> Value {
    let parsed = text.parse::<Value>().ok();
    match (key.kind, parsed) {
        (Kind::Path | Kind::Choice(_), Some(Value::String(text))) => Value::String(text),
        (Kind::Path | Kind::Choice(_), _) => Value::String(text.into()),
        (Kind::Choices(_), Some(Value::Array(list))) => Value::Array(list),
        (Kind::Choices(_), _) => {
            let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
            let words = inner.split(',').map(|word| word.trim().trim_matches('"').trim_matches('\''));
            Value::Array(words.map(Value::from).collect())
        }
        (Kind::Numbers(_) | Kind::Ascending(..), None | Some(Value::Integer(_))) => {
            format!("[{text}]").parse().unwrap_or_else(|_| Value::String(text.into()))
        }
        (_, Some(value)) => value,
        (_, None) => Value::String(text.into()),
    }
}

fn unknown(key: String, origin: &Origin) -> Error {
    if keys::is_section(&key) {
        let reason = format!("is a section, not a value: its keys are {}", keys_of(&key));
        return Error::Shape { origin: origin.clone(), key, reason };
    }
    let nearest = keys::nearest(&key);
    Error::UnknownKey { origin: origin.clone(), key, nearest }
}

fn keys_of(section: &str) -> String {
    let inside = |key: &&Key| key.path.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'));
    keys::KEYS.iter().filter(inside).map(|key| key.path).collect::<Vec<_>>().join(", ")
}

/// The value as the key keeps it, or an error that says what it allows.
fn checked(name: &str, kind: Kind, value: Value, origin: &Origin) -> Result<Value, Error> {
    let once = |list: &[Value]| list.iter().enumerate().all(|(at, item)| !list[..at].contains(item));
    let accepted = match (kind, &value) {
        (Kind::Phases, Value::Array(list)) if !list.is_empty() && list.iter().all(Value::is_table) => {
            return phases(name, list, origin);
        }
        (Kind::Whole(from, to), Value::Integer(number)) => (from..=to).contains(number),
        (Kind::Between(..) | Kind::From(..), Value::Float(number)) => in_range(kind, *number),
        (Kind::Between(..) | Kind::From(..), Value::Integer(number)) => in_range(kind, *number as f64),
        (Kind::Flag, Value::Boolean(_)) => true,
        (Kind::Numbers(numbers), Value::Array(list)) => {
            let known = |item: &Value| item.as_integer().is_some_and(|number| numbers.contains(&number));
            !list.is_empty() && once(list) && list.iter().all(known)
        }
        (Kind::Ascending(from, to), Value::Array(list)) => {
            let numbers: Vec<i64> = list.iter().map_while(Value::as_integer).collect();
            let inside = numbers.iter().all(|number| (from..=to).contains(number));
            !list.is_empty() && numbers.len() == list.len() && inside && numbers.is_sorted_by(|a, b| a < b)
        }
        (Kind::Name, Value::String(text)) => {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            (1..=40).contains(&text.len()) && text.bytes().all(plain)
        }
        (Kind::Choice(words), Value::String(word)) => words.contains(&word.as_str()),
        (Kind::Choices(words), Value::Array(list)) => {
            let known = |item: &Value| item.as_str().is_some_and(|word| words.contains(&word));
            !list.is_empty() && once(list) && list.iter().all(known)
        }
        (Kind::Path, Value::String(text)) => !text.is_empty() && !text.contains('\0'),
        _ => false,
    };
    if accepted {
        return Ok(match (kind, value) {
            (Kind::Between(..) | Kind::From(..), Value::Integer(number)) => Value::Float(number as f64),
            (_, value) => value,
        });
    }
    let wrong = match (&value, kind) {
        (Value::String(word), _) => Some(word.as_str()),
        (Value::Array(list), Kind::Choices(words)) => {
            list.iter().filter_map(Value::as_str).find(|word| !words.contains(word))
        }
        _ => None,
    };
    let nearest = wrong.and_then(|word| keys::nearest_choice(&kind, word));
    let value = shortened(&value.to_string());
    Err(Error::Value { origin: origin.clone(), key: name.into(), value, allowed: kind.allowed(), nearest })
}

fn in_range(kind: Kind, number: f64) -> bool {
    match kind {
        Kind::Between(from, to) => from < number && number < to,
        Kind::From(from, to) => from <= number && number < to,
        _ => false,
    }
}

/// The entries of `[[train.phases]]`, each checked by the keys of a phase.
fn phases(name: &str, list: &[Value], origin: &Origin) -> Result<Value, Error> {
    let usual = Table::try_from(Phase::new("", 1, 1.0)).unwrap_or_default();
    let mut phases: Vec<Value> = Vec::with_capacity(list.len());
    for (number, table) in list.iter().filter_map(Value::as_table).enumerate() {
        let name = format!("{name}[{}]", number + 1);
        let mut phase = Table::new();
        for (field, value) in table {
            let path = format!("{name}.{field}");
            let Some(key) = keys::PHASE_KEYS.iter().find(|key| key.path == field) else {
                let nearest = keys::nearest_of(&keys::PHASE_KEYS, field);
                return Err(Error::UnknownKey { origin: origin.clone(), key: path, nearest });
            };
            phase.insert(field.clone(), checked(&path, key.kind, value.clone(), origin)?);
        }
        let missing =
            keys::PHASE_KEYS.iter().find(|key| key.absent.is_none() && !phase.contains_key(key.path));
        if let Some(key) = missing {
            let reason = format!("has no `{}`, {}: give name, epochs and rate", key.path, key.kind.allowed());
            return Err(Error::Shape { origin: origin.clone(), key: name, reason });
        }
        let is = |field: &str, value: Value| phase.get(field) == Some(&value);
        if is("full", true.into()) && is("teacher", Teacher::Largest.as_str().into()) {
            let reason =
                "trains the largest network alone, which has nobody to teach: leave out full or teacher";
            return Err(Error::Shape { origin: origin.clone(), key: name, reason: reason.into() });
        }
        let same = |other: &&Value| other.get("name") == phase.get("name");
        if let Some(twin) = phases.iter().find(same).and_then(|other| other.get("name")) {
            let reason = format!("is the second phase called {twin}: every phase needs a name of its own");
            return Err(Error::Shape { origin: origin.clone(), key: name, reason });
        }
        phases.push(Value::Table(usual.clone().into_iter().chain(phase).collect()));
    }
    Ok(Value::Array(phases))
}

/// Enough of a value to recognise it in a message.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        None => text.into(),
        Some((at, _)) => format!("{}..", &text[..at]),
    }
}

fn overlay(defaults: &Config, settings: &Settings) -> Result<Config, Error> {
    // Checked values always fit the schema; should the two tables ever disagree, say so.
    let misfit = |error: String| Error::Shape {
        origin: Origin::Profile,
        key: "configuration".into(),
        reason: format!("does not fit its schema: {error}"),
    };
    let mut table = Table::try_from(defaults).map_err(|error| misfit(error.to_string()))?;
    for (path, (value, _)) in settings {
        match path.split_once('.') {
            None => drop(table.insert((*path).into(), value.clone())),
            Some((section, name)) => {
                if let Some(Value::Table(inner)) = table.get_mut(section) {
                    inner.insert(name.into(), value.clone());
                }
            }
        }
    }
    let config: Config = table.try_into().map_err(|error: toml::de::Error| misfit(error.to_string()))?;
    Ok(Config { command: defaults.command.clone(), ..config })
}

/// What no key can see alone.
fn check_together(config: &Config) -> Result<(), Error> {
    let conflict =
        |key, value: &dyn ToString, reason| Err(Error::Conflict { key, value: value.to_string(), reason });
    let (search, predictor) = (&config.search, &config.predictor);
    if search.candidates > search.population {
        let reason = format!(
            "candidates are chosen from the population, search.population = {}: make that as large",
            search.population
        );
        return conflict("search.candidates", &search.candidates, reason);
    }
    if predictor.folds > search.archive {
        let reason = format!(
            "each fold needs a network of the archive, search.archive = {}: use fewer",
            search.archive
        );
        return conflict("predictor.folds", &predictor.folds, reason);
    }
    let supernet = &config.supernet;
    if let (Some(wide), None) = (&supernet.wide_weights, &supernet.weights) {
        let reason = "it is a second super-network: give the narrow one as supernet.weights".into();
        return conflict("supernet.wide_weights", &wide.display(), reason);
    }
    if let Some(wide) = supernet.wide_width {
        let narrow = supernet.width.unwrap_or(1.0);
        let reason = match supernet.weights {
            Some(_) => "it is for new super-networks: a second one's file is supernet.wide_weights".into(),
            None => format!("the second super-network is the wider one, and supernet.width = {narrow}"),
        };
        if supernet.weights.is_some() || wide <= narrow {
            return conflict("supernet.wide_width", &wide, reason);
        }
    }
    if let Some(name) = &config.data.name
        && config.data.dir.is_none()
        && !Facts::of(name).is_ok_and(Facts::is_built_in)
    {
        let reason = "data.dir must say where its files are".into();
        return conflict("data.name", &format!("{name:?}"), reason);
    }
    Ok(())
}
