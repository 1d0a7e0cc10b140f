//! Images as `cuModuleLoadData` is given them: a pointer, and no length.

use super::made::{self, Packing, Part, fat, machine_code, machine_part, ptx_part};
use crate::image::{Error, bytes_at};

/// The bytes that are found where these begin, with more behind them that belong to none.
fn found(image: &[u8]) -> Vec<u8> {
    let memory = [image, &[0x5a; 4096]].concat();
    // SAFETY: the memory is there until the end of the function, and is long enough for all that is looked at.
    unsafe { bytes_at(memory.as_ptr()) }.expect("an image").to_vec()
}

fn wrong(memory: &[u8]) -> String {
    // SAFETY: the tests see to it that all that is looked at is there.
    match unsafe { bytes_at(memory.as_ptr()) }.expect_err("no image") {
        Error::Invalid(what) => what,
        other => panic!("{other}"),
    }
}

#[test]
fn images_end_where_they_say() {
    // Shared memory is not in the file, and may be said to lie anywhere.
    let kernel = made::Made { shared: Some(1 << 40), ..made::kernel("one", &[(0, 8)]) };
    let code = machine_code(&made::header(90), &[kernel]);
    assert!(found(&code) == code);
    for packing in [Packing::Not, Packing::Zstd] {
        let image = fat(&[Part { packing, ..machine_part(90, "one") }, ptx_part(80, "", "one")]);
        assert!(found(&image) == image);
    }
    let text = b".version 9.0\n.target sm_80 // \xc3\xa9\r\n\t\0";
    assert_eq!(found(text), text[..text.len() - 1]);
}

/// Sections may lie behind their headers.
#[test]
fn machine_code_ends_with_its_last_section() {
    let mut code = machine_code(&made::header(90), &[made::kernel("one", &[(0, 8)])]);
    let headers = u64::from_le_bytes(code[40..48].try_into().expect("eight bytes")) as usize;
    // Section 2 has the names of symbols.
    let header = headers + 2 * 64;
    let end = code.len() as u64;
    code[header + 24..header + 32].copy_from_slice(&end.to_le_bytes());
    code.extend(b"\0one\0helper\0table\0");
    assert!(found(&code) == code);
}

/// As nvcc puts fat binaries into programs.
#[repr(C)]
struct Wrapper {
    magic: u32,
    version: u32,
    data: *const u8,
    file: *const u8,
}

#[test]
fn the_structure_around_a_fat_binary_leads_to_it() {
    let image = fat(&[machine_part(90, "one")]);
    let found = |version, data| {
        let wrapper = Wrapper { magic: 0x4662_43b1, version, data, file: std::ptr::null() };
        // SAFETY: it leads to nothing, or to bytes that are there until the end of the function.
        unsafe { bytes_at((&raw const wrapper).cast()) }.map(<[u8]>::to_vec)
    };
    assert!(found(1, image.as_ptr()).expect("a fat binary") == image);
    for (version, data) in [(1, std::ptr::null()), (2, image.as_ptr()), (1, c"no fat binary".as_ptr().cast())]
    {
        let error = found(version, data).expect_err("none");
        assert!(error.to_string().contains("does not lead to one"), "{error}");
    }
}

#[test]
fn other_pointers_are_refused() {
    // SAFETY: null is looked at no further.
    let error = unsafe { bytes_at(std::ptr::null()) }.expect_err("null");
    assert!(error.to_string().contains("null pointer"), "{error}");
    for memory in [&b"\0"[..], b"P\x01", b"\x50\xed\x55\x01", b"\x7fEL\0", b"text\x01\0"] {
        let said = wrong(memory);
        assert!(said.contains("it begins like no fat binary"), "{memory:?}: {said}");
    }
    let mut long = fat(&[]);
    long[8..16].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    assert!(wrong(&long).contains("the header of a fat binary"));
    let mut code = machine_code(&made::header(90), &[]);
    code[40..48].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    assert!(wrong(&code).contains("more than any image"));
}
