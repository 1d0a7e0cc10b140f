//! Counts and encodings against independent reference values.

use crate::common;
use natv2::space::{Arch, Channels, Cost, ExitScaling, Family, Space, cost, walk::Exits};
use serde_json::Value;

#[test]
fn golden_costs() {
    let file = common::read("costs.json");
    let scaling: ExitScaling = serde_json::from_value(file["exit_scaling"].clone()).unwrap();
    for case in common::cases(&file) {
        let family: Family = case["family"].as_str().unwrap().parse().unwrap();
        let arch = Arch::from_json(family, &case["arch"]).unwrap();
        let exits = match &case["exits"] {
            Value::Null => Exits::single(&arch),
            Value::String(text) => Exits::parse(text, &arch).unwrap(),
            list => Exits::parse(list.to_string().trim_matches(['[', ']']), &arch).unwrap(),
        };
        let channels = Channels::new(arch.w.expect("a width"), scaling);
        let classes = case["classes"].as_u64().unwrap() as usize;
        let expected =
            Cost { params: case["params"].as_u64().unwrap(), macs: case["macs"].as_u64().unwrap() };
        assert_eq!(cost(&channels, &arch, exits, classes), expected, "{case}");
    }
}

#[test]
fn golden_nat_encodings() {
    let file = common::read("nat_encodings.json");
    let resolutions: Vec<u32> = (192..=256).step_by(4).collect();
    let space = Space::new(Family::SE_B, &resolutions, &[1.0, 1.2], ExitScaling::Once).unwrap();
    for case in common::cases(&file) {
        let genotype: Vec<u8> = serde_json::from_value(case["genotype"].clone()).unwrap();
        let text = case["text"].as_str().unwrap();
        let digits = genotype[1..].iter().map(|g| g.to_string()).collect::<String>();
        assert_eq!(text, format!("{:02}{digits}", genotype[0]));

        let arch = space.decode(&genotype).unwrap();
        let active =
            |list: &[u8]| -> Vec<u8> { (0..20).filter(|&i| arch.is_active(i)).map(|i| list[i]).collect() };
        let expected = &case["active"];
        let list = |name: &str| -> Vec<u8> { serde_json::from_value(expected[name].clone()).unwrap() };
        assert_eq!((active(&arch.ks), active(&arch.e)), (list("ks"), list("e")), "{text}");
        assert_eq!(arch.d.to_vec(), list("d"), "{text}");
        assert_eq!(u64::from(arch.r), expected["r"].as_u64().unwrap());
        assert_eq!(arch.w, expected["w"].as_f64());
        assert_eq!(space.encode(&arch).unwrap(), genotype);
    }
}
