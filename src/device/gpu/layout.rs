//! Checks that the structs that kernels take are laid out as their twins in `kernels/`.

#[cfg(natv2_emulator)]
mod tests {
    use crate::ops::Call;
    use std::collections::BTreeMap;
    use std::ffi::{CStr, c_char, c_int};

    /// `natv2_emulator_layout_info` of `kernels/emulator/layout.h`.
    #[repr(C)]
    struct Info {
        name: *const c_char,
        fields: *const c_char,
        bytes: usize,
        field_count: usize,
        offsets: *const usize,
    }

    unsafe extern "C" {
        fn natv2_emulator_layout(index: usize, info: *mut Info) -> c_int;
    }

    /// Every struct of the kernels: its size, and its fields with their offsets.
    fn kernels() -> BTreeMap<String, (usize, Vec<(String, usize)>)> {
        let mut found = BTreeMap::new();
        for index in 0.. {
            let mut info = std::mem::MaybeUninit::<Info>::uninit();
            // SAFETY: `info` is laid out as the C struct and written where 1 is returned; its
            // pointers are then to constants of the program.
            let info = unsafe {
                match natv2_emulator_layout(index, info.as_mut_ptr()) {
                    1 => info.assume_init(),
                    _ => break,
                }
            };
            // SAFETY: as above: strings that end with 0, and an array of `field_count` sizes.
            let (name, fields, offsets) = unsafe {
                (
                    CStr::from_ptr(info.name).to_str().unwrap(),
                    CStr::from_ptr(info.fields).to_str().unwrap(),
                    std::slice::from_raw_parts(info.offsets, info.field_count),
                )
            };
            let fields = fields.split(", ").map(str::to_string).zip(offsets.iter().copied()).collect();
            assert!(found.insert(name.to_string(), (info.bytes, fields)).is_none(), "{name} is there twice");
        }
        found
    }

    #[test]
    fn structs_are_laid_out_alike_on_both_sides() {
        let mut twins = BTreeMap::new();
        for layout in super::super::layouts().into_iter().chain(Call::layouts()) {
            let fields = layout.fields.into_iter().map(|(name, at)| (name.to_string(), at)).collect();
            let twin = (layout.bytes, fields);
            // Operators have structs in common.
            let found = twins.entry(layout.name.to_string()).or_insert_with(|| twin.clone());
            assert_eq!(*found, twin, "two structs are {}", layout.name);
        }
        assert_eq!(twins, kernels());
    }
}
