//! The numbers by which people name the networks of a front: those in files, tables, reports and commands.

use super::Genotype;
use serde_json::Value;
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// What decides the number of a network: its multiply-accumulates, then its genotype.
pub type Place<'a> = (u64, Option<&'a Genotype>);

/// The order in which networks are numbered.
pub fn order(a: Place<'_>, b: Place<'_>) -> Ordering {
    a.0.cmp(&b.0).then_with(|| a.1.cmp(&b.1))
}

/// The number of each network of a front, from 1.
pub fn numbers(places: &[Place<'_>]) -> Vec<usize> {
    let mut sorted: Vec<usize> = (0..places.len()).collect();
    sorted.sort_by(|&a, &b| order(places[a], places[b]));
    let mut numbers = vec![0; places.len()];
    sorted.into_iter().enumerate().for_each(|(number, index)| numbers[index] = number + 1);
    numbers
}

/// The number of each network that a `front.json` lists: what the file says. In one without numbers, as
/// earlier versions wrote it, it follows from the costs in the file.
///
/// # Errors
/// Says which number is missing, wrong or there twice.
pub fn listed(rows: &[Value]) -> Result<Vec<usize>, String> {
    if rows.iter().all(|row| row["number"].is_null()) {
        let genotypes: Vec<Option<Genotype>> =
            rows.iter().map(|row| serde_json::from_value(row["genotype"].clone()).ok()).collect();
        let macs = rows.iter().map(|row| row["macs"].as_u64().unwrap_or(0));
        let places: Vec<Place<'_>> = macs.zip(genotypes.iter().map(Option::as_ref)).collect();
        return Ok(numbers(&places));
    }
    let mut seen = BTreeSet::new();
    let number = |(index, row): (usize, &Value)| {
        let number = row["number"].as_u64().and_then(|number| usize::try_from(number).ok());
        match number.filter(|&number| number > 0) {
            None => {
                Err(format!("network {} of the list has no number from 1 on: {}", index + 1, row["number"]))
            }
            Some(number) if !seen.insert(number) => Err(format!("two networks have number {number}")),
            Some(number) => Ok(number),
        }
    };
    rows.iter().enumerate().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn networks_are_numbered_by_cost_then_genotype() {
        let genotypes: Vec<Genotype> = vec![vec![2], vec![1], vec![0], vec![3]];
        let macs = [5, 5, 9, 1];
        let places: Vec<Place<'_>> = macs.into_iter().zip(genotypes.iter().map(Some)).collect();
        assert_eq!(numbers(&places), [3, 2, 4, 1]);
        assert_eq!(numbers(&[]), [0; 0]);
    }

    #[test]
    fn a_file_says_its_numbers_itself_or_they_follow_from_its_costs() {
        let old = [json!({"genotype": [1], "macs": 7}), json!({"genotype": [0], "macs": 7})];
        assert_eq!(listed(&old).unwrap(), [2, 1]);
        // A part of a front keeps the numbers of the whole.
        let part = [json!({"number": 9, "macs": 1}), json!({"number": 4, "macs": 8})];
        assert_eq!(listed(&part).unwrap(), [9, 4]);
        let message = |rows: &[Value]| listed(rows).unwrap_err();
        assert!(
            message(&[json!({"number": 4}), json!({"number": 4})]).contains("two networks have number 4")
        );
        for odd in [json!(0), json!("1"), json!(-1), json!(1.5), json!(null)] {
            let rows = [json!({"number": 4}), json!({"number": odd})];
            assert!(message(&rows).contains("network 2 of the list has no number"), "{odd}");
        }
    }
}
