//! Checks that the structs that kernels take are laid out as their twins in `kernels/*.cu`.

/// Size and offsets of a struct, as Rust lays it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The name of the C++ twin.
    pub name: &'static str,
    pub bytes: usize,
    pub fields: Vec<(&'static str, usize)>,
}

macro_rules! layout {
    ($name:literal, $type:ident { $($field:ident),* }) => {
        $crate::launch::Layout {
            name: $name,
            bytes: size_of::<$type>(),
            fields: vec![$((stringify!($field), std::mem::offset_of!($type, $field))),*],
        }
    };
}
pub(crate) use layout;
