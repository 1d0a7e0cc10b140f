//! Which networks are fine-tuned.

use super::Error;
use crate::config::{Finetune, Objective, Pick};
use crate::evaluator::together;
use crate::moo::{Points, tradeoff};
use crate::space::walk::Exits;
use crate::space::{Arch, Cost, Family, Genotype, cost};
use crate::supernet::{Supernet, of_width};
use crate::train;
use serde::Serialize;
use serde_json::Value;

/// A network to fine-tune.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Picked {
    /// Its number in the front by multiply-accumulates, from 1; 1 where there is no front.
    pub number: usize,
    /// Its genotype, where the super-network's space has one for it.
    pub genotype: Option<Genotype>,
    /// Its architecture.
    pub arch: Arch,
    /// Its validation accuracy in the search, per cent.
    pub search_top1: Option<f64>,
    /// Parameters.
    pub params: u64,
    /// Multiply-accumulates.
    pub macs: u64,
}

impl Picked {
    /// A network that no search has found, of the super-network of its width.
    pub fn given(supernets: &[Supernet], arch: &Arch) -> Picked {
        let supernet = of_width(supernets, arch);
        let cost = supernet.map(|of| cost(of.channels(), arch, Exits::single(arch), of.classes()));
        let Cost { params, macs } = cost.unwrap_or_default();
        let space = together(supernets.to_vec()).ok().map(|(_, space)| space);
        let genotype = space.and_then(|space| space.encode(arch).ok());
        let arch = arch.canonical();
        Picked { number: 1, genotype, arch, search_top1: None, params, macs }
    }
}

/// A front as a search has left it.
#[derive(Debug, Clone, PartialEq)]
pub struct Front {
    /// What it trades off.
    pub objectives: Vec<Objective>,
    /// Its networks, by multiply-accumulates, then genotype, as the search's table lists them.
    pub networks: Vec<Picked>,
    /// Milliseconds a pass, where measured.
    latencies: Vec<Option<f64>>,
}

impl Front {
    /// Reads a `front.json`; `file` is for messages. Costs are those that `supernets` count.
    ///
    /// # Errors
    /// Text that is no front, or one of another family.
    pub fn parse(text: &[u8], file: &str, supernets: &[Supernet]) -> Result<Front, Error> {
        let refuse = |reason: String| Error::Front { file: file.into(), reason };
        let remedy = "give the run directory of a search with finetune.search";
        let value: Value = serde_json::from_slice(text)
            .map_err(|e| refuse(format!("it is no front of a search ({e}): {remedy}")))?;
        if value["version"] != 1 {
            return Err(refuse(format!("version {}, and 1 is known: search again", value["version"])));
        }
        let objectives: Vec<Objective> = serde_json::from_value(value["objectives"].clone())
            .map_err(|e| refuse(format!("its objectives cannot be read ({e}): {remedy}")))?;
        let family = supernets.first().map(|supernet| supernet.family);
        let family: Family = family.ok_or(train::Error::NoSupernet)?;
        let rows = value["networks"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut networks = Vec::with_capacity(rows.len());
        for (index, row) in rows.iter().enumerate() {
            let arch = Arch::from_json(family, &row["arch"]).map_err(|e| {
                refuse(format!("network {}: {e}; is the super-network the search's?", index + 1))
            })?;
            if of_width(supernets, &arch).is_none() {
                let widths: Vec<String> = supernets.iter().map(|s| s.channels().width.to_string()).collect();
                return Err(refuse(format!(
                    "network {} has width {}, and the super-network {}: give the search's weights",
                    index + 1,
                    arch.w.map(|width| width.to_string()).unwrap_or_default(),
                    widths.join(" and ")
                )));
            }
            let genotype: Option<Genotype> = serde_json::from_value(row["genotype"].clone()).ok();
            let given = Picked::given(supernets, &arch);
            let picked = Picked { genotype, search_top1: row["top1"].as_f64(), ..given };
            networks.push((picked, row["latency_ms"].as_f64()));
        }
        if networks.is_empty() || objectives.is_empty() {
            return Err(refuse(format!("there is no network in it: {remedy}")));
        }
        networks.sort_by(|(a, _), (b, _)| a.macs.cmp(&b.macs).then_with(|| a.genotype.cmp(&b.genotype)));
        networks.iter_mut().enumerate().for_each(|(index, (picked, _))| picked.number = index + 1);
        let (networks, latencies) = networks.into_iter().unzip();
        Ok(Front { objectives, networks, latencies })
    }

    /// The networks that the settings ask for, by number.
    ///
    /// # Errors
    /// A number that the front does not have, or limits that leave none; says what there is.
    pub fn pick(&self, settings: &Finetune) -> Result<Vec<Picked>, Error> {
        if let Some(number) = settings.number {
            let found = self.networks.get(number - 1).cloned();
            let none = || {
                Error::NothingPicked(format!(
                    "finetune.number = {number}: the front has networks 1 to {}",
                    self.networks.len()
                ))
            };
            return Ok(vec![found.ok_or_else(none)?]);
        }
        let within = |picked: &&Picked| {
            settings.max_macs.is_none_or(|most| picked.macs <= most)
                && settings.max_params.is_none_or(|most| picked.params <= most)
                && settings.min_top1.is_none_or(|least| picked.search_top1.is_some_and(|top1| top1 >= least))
        };
        let mut left: Vec<Picked> = self.networks.iter().filter(within).cloned().collect();
        if left.is_empty() {
            return Err(Error::NothingPicked(self.nothing_within(settings)));
        }
        let top1 = |picked: &Picked| picked.search_top1.unwrap_or(f64::NEG_INFINITY);
        match settings.pick {
            Pick::Front => return Ok(left),
            // A knee is one of the whole front, whatever part of it is allowed.
            Pick::TradeOff => {
                let mu = tradeoff::tradeoff(&self.points());
                left.sort_by(|a, b| {
                    mu[b.number - 1].total_cmp(&mu[a.number - 1]).then(a.number.cmp(&b.number))
                });
            }
            // Of equals the cheaper.
            Pick::Best => {
                left.sort_by(|a, b| top1(b).total_cmp(&top1(a)).then(a.number.cmp(&b.number)));
            }
        }
        left.truncate(settings.count);
        left.sort_by_key(|picked| picked.number);
        Ok(left)
    }

    fn points(&self) -> Points {
        let value = |index: usize, objective: Objective| match objective {
            Objective::Top1 => 100.0 - self.networks[index].search_top1.unwrap_or(0.0),
            Objective::Params => self.networks[index].params as f64,
            Objective::Macs => self.networks[index].macs as f64,
            Objective::Latency => self.latencies[index].unwrap_or(f64::INFINITY),
        };
        let rows = (0..self.networks.len())
            .map(|index| self.objectives.iter().map(|&o| value(index, o)).collect::<Vec<f64>>());
        Points::from_rows(self.objectives.len(), rows)
    }

    fn nothing_within(&self, settings: &Finetune) -> String {
        let given = [
            settings.max_macs.map(|most| format!("finetune.max_macs = {most}")),
            settings.max_params.map(|most| format!("finetune.max_params = {most}")),
            settings.min_top1.map(|least| format!("finetune.min_top1 = {least}")),
        ];
        let given: Vec<String> = given.into_iter().flatten().collect();
        let ends = |of: fn(&Picked) -> u64| {
            let values = self.networks.iter().map(of);
            (values.clone().min().unwrap_or(0), values.max().unwrap_or(0))
        };
        let (macs, params) = (ends(|p| p.macs), ends(|p| p.params));
        let top1 = self.networks.iter().filter_map(|p| p.search_top1).fold(0.0, f64::max);
        format!(
            "{}: no network of the front is within: it has {} to {} MACs, {} to {} parameters, at most {top1:.2} %",
            given.join(", "),
            macs.0,
            macs.1,
            params.0,
            params.1
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::evaluator::load_supernet;
    use serde_json::json;

    fn settings(sets: &[&str]) -> Finetune {
        let sets: Vec<String> = sets.iter().map(|set| format!("finetune.{set}")).collect();
        config::load("finetune", None, &sets, None).unwrap().finetune
    }

    /// Six networks of growing depth with a knee at the second.
    fn front() -> Front {
        let supernet = load_supernet(None, None).unwrap();
        let top1 = [50.0, 90.0, 91.0, 92.0, 93.0, 94.0];
        let networks: Vec<Value> = (0..6)
            .map(|i| {
                let mut arch = Arch::largest(Family::SE_B, 48, None);
                arch.d = [2; 5];
                (0..i).for_each(|stage: usize| arch.d[stage % 5] = 3 + (stage / 5) as u8);
                json!({"genotype": [i], "arch": arch, "top1": top1[i], "params": 0, "macs": 0})
            })
            .rev()
            .collect();
        let file = json!({"version": 1, "objectives": ["top1", "macs"], "networks": networks});
        Front::parse(file.to_string().as_bytes(), "front.json", std::slice::from_ref(&supernet)).unwrap()
    }

    fn numbers(sets: &[&str]) -> Vec<usize> {
        front().pick(&settings(sets)).unwrap().iter().map(|picked| picked.number).collect()
    }

    #[test]
    fn networks_are_numbered_by_their_cost_and_picked_by_every_rule() {
        let front = front();
        assert!(front.networks.is_sorted_by_key(|picked| picked.macs));
        assert_eq!(numbers(&["pick=front"]), [1, 2, 3, 4, 5, 6]);
        assert_eq!(numbers(&["number=3"]), [3]);
        assert_eq!(numbers(&["pick=best", "count=2"]), [5, 6]);
        let most = format!("max_macs={}", front.networks[3].macs);
        assert_eq!(numbers(&["pick=best", "count=1", &most]), [4]);
        assert_eq!(numbers(&["pick=front", &most, "min_top1=91"]), [3, 4]);
        let params = format!("max_params={}", front.networks[0].params);
        assert_eq!(numbers(&["pick=best", "count=9", &params]), [1]);
        let knees = numbers(&[]);
        assert_eq!(knees.len(), 4);
        assert_eq!(knees, {
            let mut expected = tradeoff::best(&front.points(), 4);
            expected.iter_mut().for_each(|index| *index += 1);
            expected
        });
    }

    #[test]
    fn what_cannot_be_picked_says_what_there_is() {
        let message = |sets: &[&str]| front().pick(&settings(sets)).unwrap_err().to_string();
        assert!(message(&["number=7"]).contains("networks 1 to 6"));
        let text = message(&["max_macs=10", "min_top1=20"]);
        assert!(
            text.contains("finetune.max_macs = 10, finetune.min_top1 = 20") && text.contains("94.00 %"),
            "{text}"
        );
    }

    #[test]
    fn what_is_no_front_is_refused() {
        let supernet = load_supernet(None, None).unwrap();
        let message = |text: &str| {
            Front::parse(text.as_bytes(), "front.json", std::slice::from_ref(&supernet))
                .unwrap_err()
                .to_string()
        };
        assert!(message("{").contains("front.json: it is no front"));
        assert!(message("{\"version\":2}").contains("version 2"));
        assert!(message("{\"version\":1,\"objectives\":[\"top1\"],\"networks\":[]}").contains("no network"));
        let text = message("{\"version\":1,\"objectives\":[\"top1\"],\"networks\":[{\"arch\":{\"nd\":1}}]}");
        assert!(text.contains("network 1"), "{text}");
    }
}
