//! Which networks are fine-tuned.

use super::Error;
use crate::config::{Finetune, Objective, Pick};
use crate::moo::{Points, tradeoff};
use crate::space::numbers::{self, order};
use crate::space::walk::Exits;
use crate::space::{Arch, Cost, Family, Genotype, cost};
use crate::supernet::{Supernet, of_width, together};
use crate::train;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Why a network was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It is among those with the highest trade-off.
    TradeOff,
    /// No other is more accurate on the validation images.
    MostAccurate,
    /// It is among the most accurate.
    Best,
    /// All of the front were asked for.
    Front,
    /// Its number was asked for.
    Number,
    /// Its architecture was given.
    Given,
}

impl Reason {
    /// The reason in words, as they follow the network.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::TradeOff => "high trade-off",
            Reason::MostAccurate => "most accurate",
            Reason::Best => "among the most accurate",
            Reason::Front => "all of the front",
            Reason::Number => "asked for by number",
            Reason::Given => "given",
        }
    }
}

/// A network to fine-tune.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Picked {
    /// Its number in the front, as [`numbers`] has it; 1 where there is no front.
    pub number: usize,
    /// Why it was picked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub picked_for: Vec<Reason>,
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
        let picked_for = vec![Reason::Given];
        Picked { number: 1, picked_for, genotype, arch, search_top1: None, params, macs }
    }
}

/// A front as a search has left it.
#[derive(Debug, Clone, PartialEq)]
pub struct Front {
    /// What it trades off.
    pub objectives: Vec<Objective>,
    /// Its networks by number, as the search's table lists them.
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
        // Without numbers in the file they follow from the costs below, which it may not have.
        let listed = numbers::listed(rows).map_err(&refuse)?;
        let numbered = rows.iter().any(|row| !row["number"].is_null());
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
            let (number, search_top1) = (listed[index], row["top1"].as_f64());
            let picked = Picked { number, picked_for: Vec::new(), genotype, search_top1, ..given };
            networks.push((picked, row["latency_ms"].as_f64()));
        }
        if networks.is_empty() || objectives.is_empty() {
            return Err(refuse(format!("there is no network in it: {remedy}")));
        }
        if numbered {
            networks.sort_by_key(|(picked, _)| picked.number);
        } else {
            networks.sort_by(|(a, _), (b, _)| {
                order((a.macs, a.genotype.as_ref()), (b.macs, b.genotype.as_ref()))
            });
            networks.iter_mut().enumerate().for_each(|(index, (picked, _))| picked.number = index + 1);
        }
        let (networks, latencies) = networks.into_iter().unzip();
        Ok(Front { objectives, networks, latencies })
    }

    /// The networks that the settings ask for, by number. Of several by trade-off the last gives way to the
    /// most accurate network within the limits, unless that is among them: who looks at what was fine-tuned
    /// looks for it first. A single one has the highest trade-off.
    ///
    /// # Errors
    /// A number that the front does not have, or limits that leave none; says what there is.
    pub fn pick(&self, settings: &Finetune) -> Result<Vec<Picked>, Error> {
        let picked = |index: usize, reasons: &[Reason]| Picked {
            picked_for: reasons.to_vec(),
            ..self.networks[index].clone()
        };
        if let Some(number) = settings.number {
            let found = self.networks.iter().position(|picked| picked.number == number);
            let none = || Error::NothingPicked(format!("finetune.number = {number}: {}", self.has()));
            return Ok(vec![picked(found.ok_or_else(none)?, &[Reason::Number])]);
        }
        let within = |index: &usize| {
            let picked = &self.networks[*index];
            settings.max_macs.is_none_or(|most| picked.macs <= most)
                && settings.max_params.is_none_or(|most| picked.params <= most)
                && settings.min_top1.is_none_or(|least| picked.search_top1.is_some_and(|top1| top1 >= least))
        };
        let left: Vec<usize> = (0..self.networks.len()).filter(within).collect();
        // Of equals the cheaper, which comes first.
        let by_top1 =
            self.descending(&left, |index| self.networks[index].search_top1.unwrap_or(f64::NEG_INFINITY));
        let Some(&best) = by_top1.first() else {
            return Err(Error::NothingPicked(self.nothing_within(settings)));
        };
        let count = settings.count.min(left.len());
        let mut chosen: Vec<Picked> = match settings.pick {
            Pick::Front => left.iter().map(|&index| picked(index, &[Reason::Front])).collect(),
            Pick::Best => by_top1[..count].iter().map(|&index| picked(index, &[Reason::Best])).collect(),
            Pick::TradeOff => {
                // A knee is one of the whole front, whatever part of it is allowed.
                let mu = tradeoff::tradeoff(&self.points());
                let mut knees = self.descending(&left, |index| mu[index]);
                knees.truncate(count);
                let among = knees.contains(&best);
                if count > 1 && !among {
                    knees[count - 1] = best;
                }
                let reasons: fn(bool, bool) -> &'static [Reason] = |best, among| match (best, among) {
                    (true, true) => &[Reason::TradeOff, Reason::MostAccurate],
                    (true, false) => &[Reason::MostAccurate],
                    (false, _) => &[Reason::TradeOff],
                };
                knees.into_iter().map(|index| picked(index, reasons(index == best, among))).collect()
            }
        };
        chosen.sort_by_key(|picked| picked.number);
        Ok(chosen)
    }

    /// Some networks of the front, those with the largest value first; of equals the lower number.
    fn descending(&self, of: &[usize], value: impl Fn(usize) -> f64) -> Vec<usize> {
        let mut sorted = of.to_vec();
        sorted.sort_by(|&a, &b| value(b).total_cmp(&value(a)));
        sorted
    }

    /// The numbers that there are, in words.
    fn has(&self) -> String {
        let numbers: Vec<usize> = self.networks.iter().map(|picked| picked.number).collect();
        if numbers.iter().enumerate().all(|(index, &number)| number == index + 1) {
            format!("the front has networks 1 to {}", numbers.len())
        } else {
            let list: Vec<String> = numbers.iter().map(usize::to_string).collect();
            format!("the front has networks {}", list.join(", "))
        }
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
    use serde_json::json;

    fn settings(sets: &[&str]) -> Finetune {
        let sets: Vec<String> = sets.iter().map(|set| format!("finetune.{set}")).collect();
        config::load("finetune", None, &sets, None).unwrap().finetune
    }

    /// Six networks of growing depth with a knee at the second.
    fn front() -> Front {
        let supernet = Supernet::open(None, None).unwrap();
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
        assert_eq!(numbers(&["number=3", "pick=front"]), [3]);
    }

    #[test]
    fn several_by_trade_off_contain_the_most_accurate_and_one_is_the_knee() {
        use Reason::{MostAccurate, TradeOff};
        let front = front();
        let mu = tradeoff::tradeoff(&front.points());
        let mut order: Vec<usize> = (0..6).collect();
        order.sort_by(|&a, &b| mu[b].total_cmp(&mu[a]));
        // The last network is the most accurate, and by trade-off not among the first two.
        assert!(!order[..2].contains(&5), "{mu:?}");
        for count in 1..=6 {
            let picked = front.pick(&settings(&[&format!("count={count}")])).unwrap();
            let numbers: Vec<usize> = picked.iter().map(|picked| picked.number).collect();
            let mut expected: Vec<usize> = order[..count].to_vec();
            let among = expected.contains(&5);
            if count > 1 && !among {
                expected[count - 1] = 5;
            }
            expected.sort_unstable();
            assert_eq!(numbers, expected.iter().map(|index| index + 1).collect::<Vec<_>>());
            for picked in picked {
                let reasons: &[Reason] = match (picked.number == 6, among) {
                    (true, true) => &[TradeOff, MostAccurate],
                    (true, false) => &[MostAccurate],
                    (false, _) => &[TradeOff],
                };
                assert_eq!(picked.picked_for, reasons, "{count}: {}", picked.number);
            }
        }
        // Within limits it is the most accurate there; of equals the cheaper.
        let most = format!("max_macs={}", front.networks[3].macs);
        assert!(numbers(&["count=2", &most]).contains(&4));
        assert_eq!(numbers(&["count=9", &most]), [1, 2, 3, 4]);
    }

    #[test]
    fn a_front_keeps_the_numbers_that_it_has() {
        let supernet = Supernet::open(None, None).unwrap();
        let network = |number: usize, r: u32| {
            json!({"number": number, "top1": 90.0,
            "arch": Arch::largest(Family::SE_B, r, None)})
        };
        let file = json!({"version": 1, "objectives": ["top1", "macs"],
            "networks": [network(7, 32), network(2, 48)]});
        let front = Front::parse(file.to_string().as_bytes(), "f", std::slice::from_ref(&supernet)).unwrap();
        let numbers: Vec<usize> = front.networks.iter().map(|picked| picked.number).collect();
        assert_eq!(numbers, [2, 7]);
        let picked = front.pick(&settings(&["number=7"])).unwrap();
        assert_eq!((picked[0].arch.r, &picked[0].picked_for[..]), (32, &[Reason::Number][..]));
        let message = front.pick(&settings(&["number=1"])).unwrap_err().to_string();
        assert!(message.contains("finetune.number = 1: the front has networks 2, 7"), "{message}");
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
        let supernet = Supernet::open(None, None).unwrap();
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
