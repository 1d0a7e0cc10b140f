//! Machine code as `cuModuleLoadData` may be given it alone.

use super::made::{self, Made, machine_code};
use crate::image::{Error, Kernel, Kind, Parameter, read};

/// What is read of one kernel.
fn one(header: &made::Header, kernel: Made, card: (u32, u32)) -> Result<Kernel, Error> {
    let name = kernel.name;
    let image = read(&machine_code(header, &[kernel]), card)?;
    assert_eq!(image.kernels.len(), 1);
    Ok(image.kernels[name].clone())
}

/// What is wrong with one kernel.
fn wrong(kernel: Made) -> String {
    match one(&made::header(90), kernel, (9, 0)).expect_err("it is wrong") {
        Error::Invalid(what) => what,
        other => panic!("{other}"),
    }
}

#[test]
fn a_kernel_is_read_with_all_that_it_takes() {
    let mut made = made::kernel("spread", &[(0, 8), (8, 40), (48, 1), (52, 4)]);
    made.attributes.extend(made::bounds([16, 8, 2]));
    (made.shared, made.registers, made.stack) = (Some(1024 + 400), Some(77), 48);
    let wanted = Kernel {
        name: "spread".to_owned(),
        parameters: [(0, 8), (8, 40), (48, 1), (52, 4)]
            .map(|(offset, bytes)| Parameter { offset, bytes })
            .to_vec(),
        static_shared_bytes: 400,
        registers: 77,
        max_threads: 256,
        local_bytes: 48,
        architecture: (9, 0),
        kind: Kind::Machine,
    };
    let header = made::header(90);
    assert_eq!(one(&header, made.clone(), (9, 0)).expect("it is right"), wanted);

    // Before sm_90 all of the shared memory is the kernel's.
    let before = one(&made::header(80), made.clone(), (8, 6)).expect("it is right");
    assert_eq!((before.static_shared_bytes, before.architecture), (1424, (8, 0)));

    let several = machine_code(&header, &[made::kernel("none", &[]), made]);
    let image = read(&several, (9, 0)).expect("they are right");
    assert_eq!((image.architecture, image.release), ((9, 0), Some((13, 0))));
    assert_eq!(image.kernels["spread"], wanted);
    let none = &image.kernels["none"];
    assert!(none.parameters.is_empty() && none.max_threads == 1024 && none.static_shared_bytes == 0);
    assert_eq!(image.kernels.len(), 2, "a function and a table are no kernels");
}

#[test]
fn threads_that_a_block_must_have_are_the_most_too() {
    for (attribute, wanted) in [
        (made::required([8, 4, 2]), 64),
        (made::bounds([512, 2, 2]), 1024),
        ([made::bounds([256, 1, 1]), made::required([96, 1, 1])].concat(), 96),
    ] {
        let mut made = made::kernel("one", &[]);
        made.attributes.extend(attribute);
        assert_eq!(one(&made::header(90), made, (9, 0)).expect("it is right").max_threads, wanted);
    }
}

#[test]
fn parameters_of_many_bytes_are_said_otherwise() {
    let mut made = made::kernel("large", &[]);
    made.attributes.extend(made::large_parameter(1, 20_000, 8));
    made.attributes.extend(made::large_parameter(0, 0, 20_000));
    made.attributes.extend(made::parameters_size(20_008));
    made.constants = 0x210 + 20_008;
    let read = one(&made::header(90), made, (9, 0)).expect("it is right");
    assert_eq!(
        read.parameters,
        [Parameter { offset: 0, bytes: 20_000 }, Parameter { offset: 20_000, bytes: 8 }]
    );
}

#[test]
fn the_header_says_what_it_is_for_in_the_ways_of_two_releases() {
    let alone = Some(vec![2, 9, 1, 0, 2, 2, 1, 0]);
    let later = Some(vec![2, 9, 0, 0, 2, 2, 1, 0]);
    let old = |flags| made::Header { interface: 7, flags, ..made::header(90) };
    let cases = [
        (made::header(90), "sm_90"),
        (made::header(103), "sm_103"),
        (made::Header { compatible: later, ..made::header(90) }, "sm_90"),
        (made::Header { compatible: alone, ..made::header(90) }, "sm_90a"),
        (made::Header { flags: 0x600_640a, ..made::header(100) }, "sm_100a"),
        (old(0x50_055a), "sm_90"),
        (old(0x5a_0d5a), "sm_90a"),
        (old(0x50_0556), "sm_86"),
    ];
    for (header, wanted) in cases {
        // No card is so old.
        let error = one(&header, made::kernel("one", &[(0, 8)]), (1, 0)).expect_err("no code");
        assert_eq!(error, Error::NoBinary { card: (1, 0), held: vec![wanted.to_owned()] }, "{header:?}");
    }
}

#[test]
fn code_runs_on_its_own_card_and_on_later_ones_of_the_same_major() {
    let image = machine_code(&made::header(86), &[made::kernel("one", &[(0, 8)])]);
    for (card, runs) in
        [((8, 6), true), ((8, 9), true), ((8, 0), false), ((7, 5), false), ((9, 0), false), ((12, 8), false)]
    {
        assert_eq!(read(&image, card).is_ok(), runs, "{card:?}");
    }
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let parameters = [(0, 8), (8, 4)];
    let change = |change: &dyn Fn(&mut Made)| {
        let mut made = made::kernel("spread", &parameters);
        change(&mut made);
        wrong(made)
    };
    let said = change(&|made| made.attributes.extend(made::parameters_size(16)));
    assert!(said.contains("the parameters of spread") && said.contains("[12, 12, 16, 16] bytes"), "{said}");
    let said = change(&|made| made.attributes.extend(made::parameter(1, 12, 4)));
    assert!(said.contains("the parameters of spread"), "{said}");
    let said = change(&|made| made.attributes.extend(made::parameter(2, 10, 2)));
    assert!(said.contains("the parameters of spread"), "they lie over one another: {said}");
    let said = change(&|made| made.attributes.extend(made::bounds([256, 0, 1])));
    assert!(said.contains("the launch bounds of spread are [256, 0, 1]"), "{said}");
    let said = change(&|made| made.constants -= 1);
    assert!(said.contains("bank of constants of spread"), "{said}");
    let said = change(&|made| made.registers = None);
    assert!(said.contains("spread does not say how many registers"), "{said}");
    let said = change(&|made| made.registers = Some(256));
    assert!(said.contains("spread takes 256 registers"), "{said}");
    let said = change(&|made| made.stack = (512 << 10) + 1);
    assert!(said.contains("bytes of local memory"), "{said}");
    let said = change(&|made| made.shared = Some(1000));
    assert!(said.contains("1000 bytes of shared memory"), "less than the system's: {said}");
    let said = change(&|made| made.shared = Some(1 << 40));
    assert!(said.contains("bytes of shared memory"), "{said}");
    let said = change(&|made| made.attributes.extend([5, 0, 0, 0]));
    assert!(said.contains(".nv.info.spread"), "{said}");

    let twice = [made::kernel("spread", &parameters), made::kernel("spread", &parameters)];
    let error = read(&machine_code(&made::header(90), &twice), (9, 0)).expect_err("two");
    assert!(error.to_string().contains("two kernels spread"), "{error}");
}

#[test]
fn another_elf_file_is_refused() {
    let mut image = machine_code(&made::header(90), &[made::kernel("one", &[(0, 8)])]);
    // x86-64.
    image[18] = 62;
    let error = read(&image, (9, 0)).expect_err("no code for CUDA");
    assert!(error.to_string().contains("not one of machine code for CUDA"), "{error}");
}
