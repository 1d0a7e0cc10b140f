//! An architecture: one sub-network of a family, in the form that people and files write.
//!
//! `{"r":64,"w":1.0,"ks":[20 values],"e":[20 values],"d":[5 values]}`, with `"nw"` for P families
//! and `"nd"` for EE families. Lists always have all 20 entries; those of layers that the depths or
//! the exit leave out are ignored on reading and written as 3, 3 and 4.

use super::backbone::{DEPTHS, EXPANSIONS, KERNELS, LAYERS, MAX_DEPTH, STAGES};
use super::{Error, Family};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

/// Smallest side that every command accepts.
pub const MIN_RESOLUTION: u32 = 32;
/// Largest side that every command accepts.
pub const MAX_RESOLUTION: u32 = 1024;

/// What fills the entries of layers that are not there: kernel, expansion, branch mask.
const INACTIVE: (u8, u8, u8) = (3, 3, 4);

/// One sub-network.
#[derive(Debug, Clone, PartialEq)]
pub struct Arch {
    /// The family that the fields follow.
    pub family: Family,
    /// Side of the square input image, in pixels.
    pub r: u32,
    /// Width multiplier; `None` means the only width of the super-network in use.
    pub w: Option<f64>,
    /// Depthwise kernel of each layer.
    pub ks: [u8; LAYERS],
    /// Expansion ratio of each layer.
    pub e: [u8; LAYERS],
    /// Layers of each stage.
    pub d: [u8; STAGES],
    /// Branch mask of each layer; 4 (only the MBConv) in families without parallel blocks.
    pub nw: [u8; LAYERS],
    /// The exit that is read, from 1; always 5 in families without early exits.
    pub nd: u8,
}

impl Arch {
    /// The largest sub-network of a family.
    pub fn largest(family: Family, r: u32, w: Option<f64>) -> Arch {
        let nw = if family.parallel { 7 } else { INACTIVE.2 };
        Arch { family, r, w, ks: [7; LAYERS], e: [6; LAYERS], d: [4; STAGES], nw: [nw; LAYERS], nd: 5 }
    }

    /// The network of a family that figures are given of: filters of 5, expansions of 4, depths of 3.
    pub fn middle(family: Family, r: u32, w: Option<f64>) -> Arch {
        Arch { ks: [5; LAYERS], e: [4; LAYERS], d: [3; STAGES], ..Arch::largest(family, r, w) }
    }

    /// Stages that run: all of them, or those up to the exit.
    pub fn stages(&self) -> usize {
        usize::from(self.nd)
    }

    /// Whether layer `index` (0..20) is part of the network.
    pub fn is_active(&self, index: usize) -> bool {
        let stage = index / MAX_DEPTH;
        stage < self.stages() && index % MAX_DEPTH < usize::from(self.d[stage])
    }

    /// The same network with every entry that is not part of it set to its fixed value.
    pub fn canonical(&self) -> Arch {
        let mut arch = self.clone();
        for stage in arch.stages()..STAGES {
            arch.d[stage] = DEPTHS[0];
        }
        for index in 0..LAYERS {
            if !self.is_active(index) {
                (arch.ks[index], arch.e[index], arch.nw[index]) = INACTIVE;
            }
        }
        arch
    }

    /// Reads an architecture from JSON text.
    ///
    /// # Errors
    /// Names the field that is missing, does not belong to the family, has the wrong length or
    /// holds a value outside the space.
    pub fn parse(family: Family, text: &str) -> Result<Arch, Error> {
        let value = serde_json::from_str(text).map_err(|e| Error::Malformed { reason: e.to_string() })?;
        Arch::from_json(family, &value)
    }

    /// Reads an architecture from a JSON value; see [`Arch::parse`].
    ///
    /// # Errors
    /// As [`Arch::parse`].
    pub fn from_json(family: Family, value: &Value) -> Result<Arch, Error> {
        let object = value.as_object().ok_or_else(|| Error::Malformed {
            reason: format!("an object is expected, found {}", brief(value)),
        })?;
        for key in object.keys() {
            let remedy = match key.as_str() {
                "r" | "w" | "ks" | "e" | "d" => continue,
                "nw" if family.parallel => continue,
                "nd" if family.early_exits => continue,
                "nw" => "leave it out, or choose a family with parallel blocks (P, DP)".into(),
                "nd" => "leave it out, or choose a family with early exits (EE)".into(),
                _ => "the fields are r, w, ks, e, d, nw (P families) and nd (EE families)".into(),
            };
            return Err(Error::UnexpectedField { field: key.clone(), family, remedy });
        }
        let field = |name: &'static str, remedy: &'static str| {
            object.get(name).ok_or(Error::MissingField { field: name, remedy })
        };
        let resolution = field("r", "give the side of the image in pixels")?;
        let w = object.get("w").filter(|w| !w.is_null()).map(width).transpose()?;
        let nd = if family.early_exits {
            single("nd", field("nd", "give the exit to read, 1 to 5")?, &[1, 2, 3, 4, 5])?
        } else {
            STAGES as u8
        };
        let d = list::<STAGES>("d", field("d", "give the five depths")?)?;
        let ks = list::<LAYERS>("ks", field("ks", "give the 20 kernel sizes")?)?;
        let e = list::<LAYERS>("e", field("e", "give the 20 expansion ratios")?)?;
        let nw = if family.parallel {
            list::<LAYERS>("nw", field("nw", "give the 20 branch masks")?)?
        } else {
            [i64::from(INACTIVE.2); LAYERS]
        };

        let mut arch = Arch::largest(family, self::resolution(resolution)?, w);
        arch.nd = nd;
        for (stage, &depth) in d.iter().enumerate().take(arch.stages()) {
            arch.d[stage] = choice("d", stage, depth, &DEPTHS)?;
        }
        let mut arch = arch.canonical();
        for index in 0..LAYERS {
            if arch.is_active(index) {
                arch.ks[index] = choice("ks", index, ks[index], &KERNELS)?;
                arch.e[index] = choice("e", index, e[index], &EXPANSIONS)?;
                arch.nw[index] = choice("nw", index, nw[index], &[1, 2, 3, 4, 5, 6, 7])?;
            }
        }
        Ok(arch)
    }
}

fn resolution(value: &Value) -> Result<u32, Error> {
    let side = value.as_u64().filter(|r| (u64::from(MIN_RESOLUTION)..=u64::from(MAX_RESOLUTION)).contains(r));
    side.map(|r| r as u32).ok_or_else(|| Error::Choice {
        place: "field `r` of the architecture".into(),
        value: brief(value),
        choices: format!("whole numbers from {MIN_RESOLUTION} to {MAX_RESOLUTION}"),
    })
}

fn width(value: &Value) -> Result<f64, Error> {
    value.as_f64().filter(|w| (0.05..=8.0).contains(w)).ok_or_else(|| Error::Choice {
        place: "field `w` of the architecture".into(),
        value: brief(value),
        choices: "width multipliers from 0.05 to 8".into(),
    })
}

fn single(field: &str, value: &Value, choices: &[u8]) -> Result<u8, Error> {
    value.as_u64().and_then(|v| choices.iter().copied().find(|&c| u64::from(c) == v)).ok_or_else(|| {
        Error::Choice {
            place: format!("field `{field}` of the architecture"),
            value: brief(value),
            choices: format!("{choices:?}"),
        }
    })
}

fn list<const N: usize>(field: &'static str, value: &Value) -> Result<[i64; N], Error> {
    let items = value.as_array().ok_or_else(|| Error::Choice {
        place: format!("field `{field}` of the architecture"),
        value: brief(value),
        choices: format!("lists of {N} whole numbers"),
    })?;
    if items.len() != N {
        return Err(Error::Length { field, found: items.len(), expected: N });
    }
    let mut out = [0; N];
    for (position, (slot, item)) in out.iter_mut().zip(items).enumerate() {
        *slot = item.as_i64().ok_or_else(|| Error::Choice {
            place: format!("entry {} of field `{field}` of the architecture", position + 1),
            value: brief(item),
            choices: "whole numbers".into(),
        })?;
    }
    Ok(out)
}

fn choice(field: &str, position: usize, value: i64, choices: &[u8]) -> Result<u8, Error> {
    choices.iter().copied().find(|&c| i64::from(c) == value).ok_or_else(|| Error::Choice {
        place: format!("entry {} of field `{field}` of the architecture", position + 1),
        value: value.to_string(),
        choices: format!("{choices:?}"),
    })
}

/// A JSON value short enough for a message.
fn brief(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 40 { text } else { text.chars().take(40).chain("...".chars()).collect() }
}

impl Serialize for Arch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let arch = self.canonical();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("r", &arch.r)?;
        if let Some(w) = arch.w {
            map.serialize_entry("w", &w)?;
        }
        map.serialize_entry("ks", &arch.ks)?;
        map.serialize_entry("e", &arch.e)?;
        map.serialize_entry("d", &arch.d)?;
        if arch.family.parallel {
            map.serialize_entry("nw", &arch.nw)?;
        }
        if arch.family.early_exits {
            map.serialize_entry("nd", &arch.nd)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn example() -> Value {
        json!({"r": 64, "w": 1.0, "ks": vec![5; 20], "e": vec![4; 20], "d": [2, 3, 4, 2, 3]})
    }

    fn message(change: impl FnOnce(&mut Value)) -> String {
        let mut value = example();
        change(&mut value);
        Arch::from_json(Family::SE_B, &value).unwrap_err().to_string()
    }

    #[test]
    fn reads_ignores_and_rewrites_inactive_entries() {
        let mut value = example();
        value["ks"][3] = json!(-99);
        let arch = Arch::from_json(Family::SE_B, &value).unwrap();
        assert_eq!((arch.ks[3], arch.e[3]), (3, 3));
        let written = serde_json::to_value(&arch).unwrap();
        assert_eq!(Arch::from_json(Family::SE_B, &written).unwrap(), arch);
    }

    #[test]
    fn every_bad_field_is_named() {
        assert!(message(|v| v["ks"][0] = json!(9)).contains("entry 1 of field `ks`"));
        assert!(message(|v| v["r"] = json!(-32)).contains("-32"));
        assert!(message(|v| v["r"] = json!(3_000_000)).contains("32 to 1024"));
        assert!(message(|v| v["e"] = json!(vec![3; 19])).contains("has 19 entries"));
        assert!(message(|v| v["nd"] = json!(2)).contains("early exits"));
        assert!(message(|v| v["kernel"] = json!(2)).contains("`kernel`"));
        assert!(message(|v| v["w"] = json!("wide")).contains("`w`"));
        assert!(message(|v| *v = json!([1])).contains("an object is expected"));
        assert!(message(|v| drop(v.as_object_mut().unwrap().remove("d"))).contains("no field `d`"));
        assert!(Arch::parse(Family::SE_B, "{").unwrap_err().to_string().contains("valid JSON"));
    }
}
