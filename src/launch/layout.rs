//! The structs that kernels take, and how each is laid out, for the test that compares it with its twin in `kernels/`.

/// Size and offsets of a struct, as Rust lays it out.
#[cfg(test)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The name of the C++ twin.
    pub name: &'static str,
    pub bytes: usize,
    pub fields: Vec<(&'static str, usize)>,
}

/// What kernels take, and what stands in that.
#[cfg(test)]
pub(crate) trait Twin {
    /// The layouts of a struct, of the structs in it, and of a group of it. A number has none.
    fn layouts() -> Vec<Layout> {
        Vec::new()
    }
}

/// Declares a struct that a kernel takes, or a part of one. Behind `=` stands the name of its twin in `kernels/`; where
/// several files there have the struct by a name of their own, all names. Where a launch takes a
/// [`Grouped`](super::Grouped) of them, `group SIZE = "Name"` says how many it takes, and that twin's name.
macro_rules! launched {
    (
        $(#[$attribute:meta])*
        $visible:vis struct $name:ident = $($twin:literal),+ $(, group $size:path = $group:literal)? {
            $($(#[$field_attribute:meta])* $field_visible:vis $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$attribute])*
        #[repr(C)]
        #[derive(Clone, Copy)]
        $visible struct $name {
            $($(#[$field_attribute])* $field_visible $field: $type,)*
        }

        #[cfg(test)]
        impl $crate::launch::Twin for $name {
            fn layouts() -> Vec<$crate::launch::Layout> {
                let mut found = [$(<$type as $crate::launch::Twin>::layouts()),*].concat();
                let fields = vec![$((stringify!($field), std::mem::offset_of!($name, $field))),*];
                for name in [$($twin),+] {
                    let fields = fields.clone();
                    found.push($crate::launch::Layout { name, bytes: size_of::<$name>(), fields });
                }
                $(
                    type Group = $crate::launch::Grouped<$name, { $size }>;
                    let fields = vec![("calls", std::mem::offset_of!(Group, calls))];
                    found.push($crate::launch::Layout { name: $group, bytes: size_of::<Group>(), fields });
                )?
                found
            }
        }
    };
}

/// Declares parameters that a kernel takes: a [`launched!`] struct of public numbers.
///
/// ```text
/// params! {
///     /// What it is.
///     #[derive(Eq)]
///     Params = "NameParams" {
///         /// What it is.
///         images: u32,
///     }
/// }
/// ```
macro_rules! params {
    (
        $(#[$attribute:meta])*
        $name:ident = $($twin:literal),+ {
            $($(#[$field_doc:meta])* $field:ident: $type:ty,)*
        }
    ) => {
        $crate::launch::launched! {
            $(#[$attribute])*
            #[derive(Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
            pub struct $name = $($twin),+ {
                $($(#[$field_doc])* pub $field: $type,)*
            }
        }
    };
}

pub(crate) use {launched, params};

#[cfg(test)]
mod numbers {
    use super::{Layout, Twin};

    impl Twin for u32 {}
    impl Twin for u64 {}
    impl Twin for f32 {}

    impl<T: Twin, const N: usize> Twin for [T; N] {
        fn layouts() -> Vec<Layout> {
            T::layouts()
        }
    }
}
