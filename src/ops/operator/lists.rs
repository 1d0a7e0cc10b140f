//! Calls from lists of operands.

/// Makes a call, its operands on the host and its operands on a GPU from a list of operands, and makes the call an
/// [`Operator`](super::Operator).
///
/// ```text
/// operator! {
///     /// What it computes.
///     Name(Params) as word => host Args, gpu Addresses = "NameArgs" {
///         /// Shape.
///         read x: map,
///         /// Shape.
///         in_place(y) v,      // read, may be the slot of `y`; the host's `v` is then absent
///         /// Shape.
///         terms(4) t,         // read, up to four slots
///         /// Shape.
///         optional gate,      // read, may be absent
///         /// Shape.
///         set(Fold => FoldArgs, FoldAddresses) fold,      // an `operand_set!` that may be absent
///         /// Shape.
///         each(Job => JobParams, JobArgs) jobs,           // any number of calls of an `operator!`; no `gpu`
///         /// Shape.
///         optional_write z,   // written, may be absent
///         /// Shape.
///         update dw,          // read and written
///         /// Shape.
///         write partials: scratch,
///         /// Shape.
///         write y: map,
///     } with {
///         groups: u32,        // what the launch works out and the kernel takes too
///     }
/// }
/// ```
///
/// The word names three functions. `reference::word` and `cpu::word` take the parameters and `Args`, and `cpu::word` how
/// it may use threads; `gpu::word` takes the call and a launcher. With `as word, together` it takes a slice of calls,
/// which it launches together; with `as word, together words` there is a `gpu::words` for that. Without `as` the list
/// makes no operator: it is a part of one.
///
/// A mark behind the colon says what an operand holds that is more than f32. A `map` holds numbers as `params.format`
/// says, f32 or 16 bits. `halves` are 16-bit numbers of the format `params.format()`. An `output` holds numbers as
/// `params.output` says. `scratch` holds nothing that is a result.
///
/// The GPU's struct holds an address an operand in this order, then the parameters as `p`, then what stands
/// in `with`, and is named as its twin in `kernels/` after `=`. Where kernels take many of them at once, `group
/// gpu::SIZE = "Twin"` behind that says how many and names that struct's twin. Without `gpu`, for parameters that are
/// no plain struct, it is left to the module, as the [`Cost`](super::Cost) of a call always is. `launch gpu::Args`
/// names what kernels take instead, a [`launched!`](crate::launch::launched) struct.
macro_rules! operator {
    (
        $(#[$doc:meta])*
        $name:ident($params:ty) $(as $word:ident $(, together $($words:ident)?)?)?
        => host $args:ident, gpu $addresses:ident = $twin:literal
        $(, group $size:path = $group:literal)? $(, launch $launch:ty)? {
            $($(#[$field_doc:meta])* $kind:ident $(($($of:tt)*))? $field:ident $(: $mark:ident)?,)*
        } $(with { $($worked_out:ident: $type:ty,)* })?
    ) => {
        $crate::ops::operator::operator! {
            $(#[$doc])*
            $name($params) $(as $word $(, together $($words)?)?)? => host $args, launch $addresses $(, $launch)? {
                $($(#[$field_doc])* $kind $(($($of)*))? $field $(: $mark)?,)*
            }
        }

        impl $name {
            pub(crate) fn addresses(
                &self,
                to: &$crate::launch::Launcher<'_>,
                $($($worked_out: $type,)*)?
            ) -> $addresses {
                $addresses {
                    $($field: $crate::ops::operator::address!([$kind $(($($of)*))?] to, self.$field),)*
                    p: self.params,
                    $($($worked_out,)*)?
                }
            }
        }

        $crate::launch::launched! {
            #[derive(bytemuck::Zeroable)]
            pub(crate) struct $addresses = $twin $(, group $size = $group)? {
                $(pub $field: $crate::ops::operator::address_type!([$kind $(($($of)*))?]),)*
                pub p: $params,
                $($(pub $worked_out: $type,)*)?
            }
        }
    };
    (
        $(#[$doc:meta])*
        $name:ident($params:ty) $(as $word:ident $(, together $($words:ident)?)?)?
        => host $args:ident, launch $($launch:ty),+ {
            $($(#[$field_doc:meta])* $kind:ident $(($($of:tt)*))? $field:ident $(: $mark:ident)?,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            /// Shape.
            pub params: $params,
            $($(#[$field_doc])* pub $field: $crate::ops::operator::slot_type!([$kind $(($($of)*))?]),)*
        }

        $crate::ops::operator::operands! { $name => host $args { $($kind $(($($of)*))? $field,)* } }

        $crate::ops::operator::runs! {
            [$(as $word $(, together $($words)?)?)?] $name($params), launch [$($launch),+] {
                $($kind $(($($of)*))? $field $(: $mark)?,)*
            }
        }
    };
}

/// Makes a call an operator, of its operands and the functions that its folder has.
macro_rules! runs {
    ([] $($part:tt)*) => {};
    (
        [as $word:ident $(, together $($words:ident)?)?] $name:ident($params:ty), launch [$($launch:ty),+] {
            $($kind:ident $(($($of:tt)*))? $field:ident $(: $mark:ident)?,)*
        }
    ) => {
        impl $name {
            /// Where maps hold 16-bit numbers: their format, and the parameters of the same call on maps in f32.
            fn in_f32(&self) -> Option<($crate::ops::halves::Format, $params)> {
                $($($crate::ops::operator::in_f32!(self, $mark);)?)*
                None
            }
        }

        impl $crate::ops::operator::Operator for $name {
            const BY_QUADS: bool = false $($(|| $crate::ops::operator::is_halves!($mark))?)*;

            fn results(&self) -> Vec<$crate::ops::Slot> {
                let mut slots = Vec::new();
                $(if true $(&& !$crate::ops::operator::is_scratch!($mark))? {
                    slots.extend($crate::ops::operator::as_write!([$kind $(($($of)*))?] self.$field));
                })*
                slots
            }

            fn stored(&self, slot: $crate::ops::Slot) -> Option<$crate::ops::halves::Format> {
                let _ = slot;
                $($crate::ops::operator::stored!([$kind $(($($of)*))?] self, $field, slot $(, $mark)?);)*
                None
            }

            fn run_definition<T: $crate::ops::Real>(&self, memory: &impl $crate::ops::operator::Resolve<T>) {
                match self.in_f32() {
                    None => reference::$word(&self.params, self.resolve(memory)),
                    Some((format, params)) => $crate::ops::widened::run(self, format, memory, |widened| {
                        reference::$word(&params, self.resolve(widened));
                    }),
                }
            }

            fn run_fast(
                &self,
                memory: &impl $crate::ops::operator::Resolve<f32>,
                threads: $crate::ops::Threads,
            ) {
                match self.in_f32() {
                    None => cpu::$word(&self.params, self.resolve(memory), threads),
                    Some((format, params)) => $crate::ops::widened::run(self, format, memory, |widened| {
                        cpu::$word(&params, self.resolve(widened), threads);
                    }),
                }
            }

            fn launch(&self, to: &$crate::launch::Launcher<'_>) -> Result<(), $crate::launch::Error> {
                $crate::ops::operator::launch!(self, to, $word $(, together $($words)?)?)
            }

            $(fn launch_together(
                calls: &[Self],
                to: &$crate::launch::Launcher<'_>,
            ) -> Result<(), $crate::launch::Error> {
                $crate::ops::operator::launch_together!(calls, to, $word $(, $words)?)
            })?

            #[cfg(test)]
            fn layouts() -> Vec<$crate::launch::Layout> {
                [$(<$launch as $crate::launch::Twin>::layouts()),+].concat()
            }
        }
    };
}

/// Makes operands that are there together or not at all, as [`operator!`] makes those of a call, which names
/// them as `set(Name => Args, Addresses)`. Where they are absent, the kernel finds null everywhere.
macro_rules! operand_set {
    (
        $(#[$doc:meta])*
        $name:ident => host $args:ident, gpu $addresses:ident = $twin:literal {
            $($(#[$field_doc:meta])* $kind:ident $field:ident,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $crate::ops::operator::slot_type!([$kind]),)*
        }

        $crate::ops::operator::operands! { $name => host $args { $($kind $field,)* } }

        impl $name {
            pub(crate) fn addresses(&self, to: &$crate::launch::Launcher<'_>) -> $addresses {
                $addresses { $($field: $crate::ops::operator::address!([$kind] to, self.$field),)* }
            }
        }

        $crate::launch::launched! {
            #[derive(Default, bytemuck::Zeroable)]
            pub(crate) struct $addresses = $twin {
                $(pub $field: u64,)*
            }
        }
    };
}

/// The operands of a call or a set on the host, and which of them it reads and writes.
macro_rules! operands {
    ($name:ident => host $args:ident { $($kind:ident $(($($of:tt)*))? $field:ident,)* }) => {
        /// The operands as slices on the host.
        #[allow(missing_docs)]
        pub struct $args<'a, T> {
            $(pub $field: $crate::ops::operator::slice_type!([$kind $(($($of)*))?] 'a, T),)*
        }

        impl $crate::ops::operator::Operands for $name {
            fn reads(&self) -> Vec<$crate::ops::Slot> {
                let mut slots = Vec::new();
                $(slots.extend($crate::ops::operator::as_read!([$kind $(($($of)*))?] self.$field));)*
                slots
            }

            fn writes(&self) -> Vec<$crate::ops::Slot> {
                let mut slots = Vec::new();
                $(slots.extend($crate::ops::operator::as_write!([$kind $(($($of)*))?] self.$field));)*
                slots
            }
        }

        impl $name {
            fn resolve<'a, T>(&self, memory: &'a impl $crate::ops::operator::Resolve<T>) -> $args<'a, T> {
                $args {
                    $($field: $crate::ops::operator::resolve!([$kind $(($($of)*))?] memory, self, $field),)*
                }
            }
        }
    };
}

pub(crate) use {operand_set, operands, operator, runs};
