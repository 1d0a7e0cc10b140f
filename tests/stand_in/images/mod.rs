//! What the stand-in reads from images: from those of this build, kernel by kernel; from small ones that the tests
//! write byte by byte (`made.rs`); and from damaged ones, of which none may stop the program.

mod damaged;
mod fat;
mod machine_code;
pub mod made;
mod pointers;
mod ptx;

#[cfg(natv2_fatbin)]
mod of_this_build {
    use crate::image::{Kernel, Kind, read};
    use natv2::device::cuda::{architectures, kernel_sources, kernel_table};
    use std::collections::BTreeMap;

    /// The kernels of all files as a card of this compute capability takes them.
    fn kernels(card: (u32, u32)) -> BTreeMap<String, Kernel> {
        let mut found = BTreeMap::new();
        for source in kernel_sources() {
            let fatbin = source.fatbin.expect("a build with images");
            let image = read(fatbin, card).unwrap_or_else(|error| panic!("{}: {error}", source.name));
            assert!(image.release.is_some_and(|(major, _)| major >= 12), "{:?}", image.release);
            for (name, kernel) in image.kernels {
                assert_eq!(name, kernel.name);
                assert!(found.insert(name, kernel).is_none(), "twice in {}", source.name);
            }
        }
        found
    }

    /// What machine code of this build the tests ask for. A build may be for other cards.
    fn built() -> impl Iterator<Item = ((u32, u32), &'static str)> {
        [((8, 0), "sm_80"), ((9, 0), "sm_90")].into_iter().filter(|(_, name)| architectures().contains(name))
    }

    /// Whether it is for the cards that builds are for by default.
    fn is_for_the_usual_cards() -> bool {
        architectures() == ["sm_80", "sm_90", "compute_80"]
    }

    /// Of registers a few rows may differ by a few: nvcc makes one of a few images of a file now and then, and another
    /// release than that of the table makes others.
    #[test]
    fn machine_code_has_every_kernel_with_what_it_takes_as_the_compiler_says() {
        for (card, architecture) in built() {
            let kernels = kernels(card);
            assert!(kernel_table().iter().map(|(name, _)| *name).eq(kernels.keys()), "{architecture}");
            let (mut rows, mut others) = (0, Vec::new());
            for line in include_str!("../../../kernels/RESOURCES.md").lines() {
                let cells: Vec<&str> = line.trim_matches(['|', ' ']).split(" | ").collect();
                let &[_, name, of, registers, shared, stack, _, threads, _] = &cells[..] else { continue };
                if of != architecture {
                    continue;
                }
                rows += 1;
                let kernel = &kernels[name];
                let number = |cell: &str| -> u32 { cell.trim_end_matches('+').parse().expect("a number") };
                let threads = if threads == "-" { 1024 } else { number(threads) };
                let found = (kernel.static_shared_bytes, kernel.local_bytes, kernel.max_threads);
                assert_eq!(found, (number(shared), number(stack), threads), "{line}");
                assert_eq!((kernel.architecture, kernel.kind), (card, Kind::Machine), "{line}");
                let apart = kernel.registers.abs_diff(number(registers));
                assert!(apart <= 8, "{}: {line}", kernel.registers);
                others.extend((apart > 0).then_some(name));
            }
            assert_eq!(rows, kernels.len(), "{architecture}");
            assert!(others.len() * 10 < rows, "{others:?} have other registers");
        }
    }

    /// A card that no machine code is for takes the PTX. What it says before it is compiled is what machine code says.
    #[test]
    fn ptx_has_every_kernel_and_says_the_same_of_it() {
        if !is_for_the_usual_cards() {
            return;
        }
        let (machine_code, ptx) = (kernels((8, 0)), kernels((12, 0)));
        assert!(machine_code.keys().eq(ptx.keys()));
        for (kernel, from_ptx) in machine_code.values().zip(ptx.values()) {
            let Kind::Ptx { empty_body } = from_ptx.kind else { panic!("{} is no PTX", kernel.name) };
            assert!(!empty_body, "{} does nothing", kernel.name);
            let same = Kernel { registers: 0, kind: from_ptx.kind, ..kernel.clone() };
            assert_eq!(*from_ptx, same);
        }
    }

    /// g++ lays out the structures that are parameters as nvcc does.
    #[cfg(natv2_emulator)]
    #[test]
    fn parameters_are_as_large_as_the_emulators() {
        let emulated = natv2::device::emulated::kernels();
        for (card, architecture) in built() {
            let kernels = kernels(card);
            assert_eq!(kernels.len(), emulated.len());
            for wanted in &emulated {
                let kernel = &kernels[&wanted.name];
                let bytes: Vec<usize> =
                    kernel.parameters.iter().map(|parameter| parameter.bytes as usize).collect();
                assert_eq!(bytes, wanted.argument_bytes, "{} {architecture}", wanted.name);
                assert_eq!(kernel.max_threads, wanted.max_threads, "{} {architecture}", wanted.name);
            }
        }
    }

    #[test]
    fn a_card_before_all_of_them_is_told_what_there_is() {
        if !is_for_the_usual_cards() {
            return;
        }
        for source in kernel_sources() {
            let error = read(source.fatbin.expect("a build with images"), (7, 5)).expect_err("no code");
            assert!(error.to_string().contains("compute_80"), "{}: {error}", source.name);
        }
    }
}
