//! Checks that the structs that kernels take are laid out as their twins in `kernels/*.cu`.

#[cfg(natv2_emulator)]
mod tests {
    use crate::launch::Layout;
    use crate::ops;
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
        let twins: Vec<Layout> = [
            super::super::layouts(),
            ops::stem::gpu::layouts(),
            ops::pointwise::gpu::layouts(),
            ops::pointwise_half::gpu::layouts(),
            ops::mbconv::gpu::layouts(),
            ops::mbconv_pass::gpu::layouts(),
            ops::expand_depthwise::gpu::layouts(),
            ops::branches::gpu::layouts(),
            ops::depthwise::gpu::layouts(),
            ops::squeeze_excite::gpu::layouts(),
            ops::pool::gpu::layouts(),
            ops::sum::gpu::layouts(),
            ops::batch_norm::gpu::layouts(),
            ops::kernel_transform::gpu::layouts(),
            ops::score::gpu::layouts(),
            ops::preprocess::gpu::layouts(),
            ops::augment::gpu::layouts(),
            ops::grad::batch_norm::gpu::layouts(),
            ops::grad::squeeze_excite::gpu::layouts(),
            ops::grad::pool::gpu::layouts(),
            ops::grad::activation::gpu::layouts(),
            ops::grad::kernel_transform::gpu::layouts(),
            ops::loss::gpu::layouts(),
            ops::update::gpu::layouts(),
            ops::grad::pointwise::gpu::layouts(),
            ops::grad::pointwise_half::gpu::layouts(),
            ops::half_rows::gpu::layouts(),
            ops::grad::depthwise::gpu::layouts(),
            ops::grad::stem::gpu::layouts(),
            ops::grad::batch_norm::gpu::layouts(),
            ops::grad::squeeze_excite::gpu::layouts(),
            ops::grad::pool::gpu::layouts(),
            ops::grad::activation::gpu::layouts(),
            ops::grad::kernel_transform::gpu::layouts(),
            ops::loss::gpu::layouts(),
            ops::update::gpu::layouts(),
        ]
        .concat();
        let twins: BTreeMap<_, _> = twins
            .into_iter()
            .map(|layout| {
                let fields = layout.fields.into_iter().map(|(name, at)| (name.to_string(), at)).collect();
                (layout.name.to_string(), (layout.bytes, fields))
            })
            .collect();
        assert_eq!(twins, kernels());
    }
}
