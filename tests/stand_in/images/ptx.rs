//! PTX as `cuModuleLoadData` may be given it alone, as NVRTC makes it.

use crate::image::{Error, Image, Kind, read};

const HEAD: &str = "// a comment\n.version 8.7\n.target sm_80, debug\n.address_size 64\n";

fn image(body: &str) -> Image {
    read(format!("{HEAD}{body}\0").as_bytes(), (9, 0)).unwrap_or_else(|error| panic!("{error}: {body}"))
}

/// Offset and bytes of the parameters of a kernel.
fn parameters(declared: &str) -> Vec<(u32, u32)> {
    let image = image(&format!(".visible .entry one({declared}) {{ ret; }}"));
    image.kernels["one"].parameters.iter().map(|parameter| (parameter.offset, parameter.bytes)).collect()
}

#[test]
fn parameters_lie_at_their_alignments() {
    assert_eq!(parameters(""), []);
    assert_eq!(
        parameters(".param .u64 a,\n.param .align 8 .b8 b[40],\n\t.param .u8 c, .param .f32 d"),
        [(0, 8), (8, 40), (48, 1), (52, 4)]
    );
    // Alignment behind `.ptr` is of what it leads to.
    assert_eq!(
        parameters(".param .u16 a, .param .u64 .ptr .global .align 64 b, .param .align 16 .b8 c[0x14]"),
        [(0, 2), (8, 8), (16, 20)]
    );
    assert_eq!(parameters(".param .align 1 .b8 a[3], .param .b8 b"), [(0, 3), (3, 1)]);
}

#[test]
fn bounds_are_the_product_of_their_axes() {
    for (directives, wanted) in [
        ("", 1024),
        (".maxntid 256, 1, 1\n.minnctapersm 2", 256),
        (".reqntid 16, 8", 128),
        (".maxnreg 64 .maxntid 64", 64),
        (".maxntid 2048", 1024),
    ] {
        let image = image(&format!(".entry one(.param .u32 a)\n{directives}\n{{ ret; }}"));
        assert_eq!(image.kernels["one"].max_threads, wanted, "{directives}");
    }
}

#[test]
fn a_body_is_empty_where_it_does_nothing_but_return() {
    let empty = |body: &str| {
        let image = image(&format!(".visible .entry one(.param .u64 a)\n{{\n{body}\n}}"));
        image.kernels["one"].kind == Kind::Ptx { empty_body: true }
    };
    let nothing =
        ["", "ret;", "exit;", ".reg .b32 %r<3>;\n$L__BB0:\n{ ret; }", ".loc 1 7 3\nret;", "/* st; */ ret;"];
    for body in nothing {
        assert!(empty(body), "{body}");
    }
    assert!(empty(
        ".loc 1 7 3, function_name $L__info0, inlined_at 1 9 1\n.pragma \"nounroll;\";\nret; // st"
    ));
    for body in
        ["bar.sync 0;\nret;", "ret;\n{ mov.u32 %r1, %tid.x; }", "@%p1 ret;", ".loc 1 7 3\nst.u32 [%rd1], 0;"]
    {
        assert!(!empty(body), "{body}");
    }
}

#[test]
fn memory_is_what_a_kernel_and_the_functions_that_it_calls_declare() {
    let image = image(
        "
        .extern .shared .align 16 .b8 dynamic[];
        .shared .align 4 .b8 kept[400];
        .shared .f32 other[2][3];
        .global .align 4 .b8 numbers[8] = {1, 2, 3, 4, 5, 6, 7, 8};
        .extern .func (.param .b32 r) far(.param .b64 a);
        .func (.param .b32 r) near(.param .b64 a) {
            .local .align 8 .b8 depot[24];
            .shared .align 2 .b8 own[6];
            st.shared.f32 [other+4], %f1;
            call.uni (r), near, (a);
            ret;
        }
        .entry none() { mov.u64 %rd1, numbers; st.global.u64 [%rd1], %rd1; ret; }
        .entry one() { st.shared.f32 [kept], %f1; ret; }
        .entry all() {
            .shared .align 1 .b8 first[5];
            { .param .b64 a; st.shared.v2.f32 [kept+8], {%f1, %f2}; call.uni (r), near, (a); }
            ret;
        }
        .entry declared(.param .u64 a);
        ",
    );
    let memory = |name: &str| (image.kernels[name].static_shared_bytes, image.kernels[name].local_bytes);
    assert_eq!(memory("none"), (0, 0));
    assert_eq!(memory("one"), (400, 0));
    // 400, 24, 5 and 6 bytes, at their alignments, and what the dynamic memory begins behind.
    assert_eq!(memory("all"), (448, 24));
    assert_eq!(image.kernels.len(), 3, "the last is only declared");
    assert!(image.kernels.values().all(|kernel| kernel.registers == 0 && kernel.architecture == (8, 0)));
}

#[test]
fn the_version_says_the_release() {
    let release = |version: &str| {
        let text = format!(".version {version}\n.target sm_52\n");
        read(text.as_bytes(), (9, 0)).expect("it is right").release
    };
    for (version, wanted) in [
        ("9.0", Some((13, 0))),
        ("8.8", Some((12, 9))),
        ("8.7", Some((12, 8))),
        ("8.6", Some((12, 7))),
        ("8.5", Some((12, 5))),
        ("8.0", Some((12, 0))),
        ("7.8", Some((11, 8))),
        ("6.5", None),
    ] {
        assert_eq!(release(version), wanted, "{version}");
    }
}

#[test]
fn it_runs_on_its_card_and_later_ones_unless_it_is_for_that_alone() {
    let runs = |target: &str, card| match read(format!(".version 9.0 .target {target}").as_bytes(), card) {
        Ok(_) => true,
        Err(Error::NoBinary { .. }) => false,
        Err(other) => panic!("{other}"),
    };
    for (target, card, wanted) in [
        ("sm_80", (8, 0), true),
        ("sm_80", (12, 0), true),
        ("sm_80", (7, 5), false),
        ("sm_90a", (9, 0), true),
        ("sm_90a", (10, 0), false),
        ("sm_100f", (10, 3), true),
        ("sm_100f", (11, 0), false),
    ] {
        assert_eq!(runs(target, card), wanted, "{target} {card:?}");
    }
}

#[test]
fn damaged_text_is_refused_by_what_is_damaged() {
    let wrong = |text: &str| match read(text.as_bytes(), (9, 0)).expect_err("it is wrong") {
        Error::Invalid(what) => what,
        other => panic!("{other}"),
    };
    for text in
        ["", "hello", ".target sm_80", ".version 9.0", ".version 9 .target sm_80", ".version 9.0 .target 80"]
    {
        let said = wrong(text);
        assert!(said.contains("it is no PTX"), "{text}: {said}");
    }
    let said = wrong(&format!("{HEAD}.entry one() {{ ret; }} .entry two() {{ bar.sync 0; "));
    assert!(said.contains("damaged behind one"), "{said}");
    for body in [
        ".entry one(.param .u64 a",
        ".entry one(.reg .u64 a) { ret; }",
        ".entry one(.param .pred a) { ret; }",
        ".entry one(.param .align 3 .b8 a[8]) { ret; }",
        ".entry one(.param .b8 a[x]) { ret; }",
        ".entry one(.param .b64 a[0x20000000]) { ret; }",
        ".entry one() .maxntid 0 { ret; }",
        ".entry one() .maxntid 65536, 65536 { ret; }",
        ".entry one() { .shared .b8 a[4]",
    ] {
        let said = wrong(&format!("{HEAD}{body}"));
        assert!(said.contains("the PTX is damaged behind its beginning"), "{body}: {said}");
    }
    let said = wrong(&format!("{HEAD}.entry one() {{ ret; }} .entry one() {{ ret; }}"));
    assert!(said.contains("two kernels one"), "{said}");
    let said = wrong(&format!("{HEAD}.entry one(.param .b8 a[32765]) {{ ret; }}"));
    assert!(said.contains("one takes 32765 bytes of parameters"), "{said}");
    let said = wrong(&format!("{HEAD}.entry one() {{ .local .b8 a[0xffffffff]; .local .b64 b; }}"));
    assert!(said.contains("the PTX of one is damaged"), "{said}");
}
