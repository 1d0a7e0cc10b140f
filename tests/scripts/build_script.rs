//! What the build script works out before it calls a compiler.

#[path = "../../build/architectures.rs"]
mod architectures;
#[path = "../../build/files.rs"]
mod files;
#[path = "../../build/kernel_names.rs"]
mod kernel_names;

use architectures::{flags, parse, release, wants_line_information};
use files::{files_with_extension, kernel_files, kernel_folders, stem};
use kernel_names::kernel_names;
use std::path::Path;

fn names(list: &str) -> Vec<String> {
    parse(list).expect("a list").iter().map(|architecture| architecture.name().to_owned()).collect()
}

#[test]
fn architectures_are_those_asked_for_or_the_default() {
    assert_eq!(names(""), ["sm_80", "sm_90", "compute_80"]);
    assert_eq!(names(" , "), names(""));
    assert_eq!(names("sm_90"), ["sm_90"]);
    assert_eq!(names("sm_90a, compute_90 sm_90a"), ["sm_90a", "compute_90"]);
    for wrong in ["90", "sm_", "sm_9", "sm_90,h200", "sm_90ab", "SM_90", "sm_90;rm"] {
        let error = parse(wrong).expect_err(wrong);
        assert!(error.contains("NATV2_CUDA_ARCHS") && error.contains("sm_90 (machine code)"), "{error}");
    }
}

#[test]
fn line_information_is_left_out_only_when_asked() {
    assert!(wants_line_information(None) && wants_line_information(Some("1")));
    assert!(wants_line_information(Some("")) && !wants_line_information(Some("0")));
    let small = flags(&parse("sm_90").expect("one"), false);
    assert!(!small.contains(&"-lineinfo".to_owned()), "{small:?}");
    assert_eq!(small.last().map(String::as_str), Some("-gencode=arch=compute_90,code=sm_90"));
    assert_eq!(small.iter().filter(|flag| flag.starts_with("-gencode")).count(), 1);
    assert!(flags(&parse("sm_90").expect("one"), true).contains(&"-lineinfo".to_owned()));
}

#[test]
fn the_release_of_the_toolkit_is_read() {
    let said = "nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 13.0, V13.0.88\n";
    assert_eq!(release(said), Some((13, 0)));
    assert_eq!(release("clang version 19.1"), None);
}

/// `.ci/nvcc` hands out an image of its own only where the flags and the folders of headers are these.
#[test]
fn the_default_flags_are_those_of_the_check_of_images() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = root.join(".ci/kernel_images.py");
    let text = std::fs::read_to_string(&file).expect("the file is in the checkout");
    let print = "import sys; sys.dont_write_bytecode = True; from kernel_images import FLAGS, INCLUDES; \
                 print(*FLAGS, *INCLUDES)";
    let python = std::process::Command::new("python3")
        .args(["-c", print])
        .current_dir(file.parent().expect("a folder"))
        .output();
    let mut default = flags(&parse("").expect("the default"), true);
    for folder in kernel_folders(&root.join("kernels")) {
        default.extend(["-I".to_owned(), folder.display().to_string()]);
    }
    match python {
        Ok(output) if output.status.success() => {
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), default.join(" "));
        }
        // Without Python the architectures at least are compared.
        _ => assert!(text.contains(r#"ARCHITECTURES = ["sm_80", "sm_90"]"#) && text.contains("compute_80")),
    }
}

#[test]
fn every_header_of_kernels_has_the_prefix_and_every_file_a_row_in_the_readme() {
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let headers = kernel_files(&kernels, "cuh");
    assert!(headers.iter().any(|header| header.ends_with("common/nat_device.cuh")), "{headers:?}");
    for header in headers {
        assert!(stem(&header).starts_with("nat_"), "{}", header.display());
    }
    let readme = std::fs::read_to_string(kernels.join("README.md")).expect("the file is in the checkout");
    for folder in kernel_folders(&kernels) {
        let role = format!("| `{}/` |", folder.file_name().expect("a name").display());
        let row = readme.lines().find(|line| line.starts_with(&role)).unwrap_or_else(|| panic!("{role}"));
        for source in files_with_extension(&folder, "cu") {
            let name = stem(&source);
            let told =
                row.contains(&format!("`{name}`")) || (name.starts_with("grad_") && row.contains("`grad_*`"));
            assert!(told, "kernels/README.md: {name} is not in the row of {}", folder.display());
        }
    }
}

#[test]
fn files_of_kernels_that_nothing_would_find_are_refused() {
    let kernels = tempfile::tempdir().expect("a folder");
    let put = |name: &str| {
        let file = kernels.path().join(name);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        std::fs::write(file, "").expect("a file");
    };
    let found = || -> Result<Vec<String>, _> {
        let files = || kernel_files(kernels.path(), "cu").iter().map(|file| stem(file).to_owned()).collect();
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(files))
    };
    for name in ["two/a.cu", "one/b.cu", "emulator/c.cu", "two/d.cuh", "README.md"] {
        put(name);
    }
    assert_eq!(found().expect("files"), ["a", "b"]);
    put("one/a.cu");
    assert!(found().is_err(), "two files of one name");
    std::fs::remove_file(kernels.path().join("one/a.cu")).expect("the file");
    put("e.cu");
    assert!(found().is_err(), "a file without a role");
}

fn found(text: &str) -> Result<Vec<String>, String> {
    let header = |name: &str| match name {
        "two.cuh" => Some("#pragma once\n#define TWO(name) ONE(name##_a) ONE(name##_b)\n".to_owned()),
        _ => None,
    };
    kernel_names(text, &header)
}

#[test]
fn names_that_macros_put_together_are_found() {
    let text = r#"
        // NAT_KERNEL(in_a_comment) /* and "not a string
        #include <cuda_fp16.h>
        #include "two.cuh"
        #include "two.cuh"
        #define ONE(name, ...)                \
            using T_##name = Tile<__VA_ARGS__>; \
            NAT_KERNEL_BOUNDED(name, T_##name::kThreads, Args a) { say("NAT_KERNEL(in_a_string)", '"'); }
        TWO(first)
        #undef ONE
        #define ONE(name) NAT_KERNEL(other_##name, Args a, Args b) {}
        TWO(second)
        #if defined(NATV2_EMULATOR)
        NAT_KERNEL(not_here) {}
        #elif !defined(NATV2_EMULATOR)
        NAT_KERNEL_RESIDENT(here, 1'024, 2, int (*f)(int, int)) {}
        #else
        NAT_KERNEL(nor_here) {}
        #endif
        #define SUFFIX f32
        #define PASTE(a, b) a##b
        #define JOIN(a, b) PASTE(a, b)
        NAT_KERNEL(JOIN(named_, SUFFIX)) {}
    "#;
    let names = ["first_a", "first_b", "other_second_a", "other_second_b", "here", "named_f32"];
    assert_eq!(found(text).expect("names"), names);
}

#[test]
fn what_the_preprocessor_does_not_know_is_said() {
    for (text, part) in [
        ("#include \"three.cuh\"", "three.cuh"),
        ("#if X > 2\n#endif", "X > 2"),
        ("#if defined(X)", "#endif"),
        ("#define F(a, b) a b\nF(1)", "takes 2 arguments and is given 1"),
        ("NAT_KERNEL(a b) {}", "is no name"),
        ("NAT_KERNEL(a", "not closed"),
        ("#line 3", "#line 3"),
    ] {
        let error = found(text).expect_err(text);
        assert!(error.contains(part), "{text}: {error}");
    }
}
