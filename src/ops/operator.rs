//! What every operator with named operands needs, from one list of them.

use super::Slot;

/// Gives slots of one list of calls as slices.
pub(crate) trait Resolve<'a, T> {
    /// A slot that is read.
    fn read(&self, slot: Slot) -> &'a [T];
    /// A slot that is written.
    fn write(&self, slot: Slot) -> &'a mut [T];
}

/// Makes a call, its operands on the host and its operands on a GPU from a list of operands.
///
/// ```text
/// operator! {
///     /// What it computes.
///     Name(Params) => host Args, gpu Addresses = "NameArgs" {
///         /// Shape.
///         read x,
///         /// Shape.
///         optional gate,      // read, may be absent
///         /// Shape.
///         optional_write z,   // written, may be absent
///         /// Shape.
///         update dw,          // read and written
///         /// Shape.
///         write y,
///     }
/// }
/// ```
///
/// The GPU's struct holds an address an operand in this order, then the parameters as `p`, and is
/// named as its twin in `kernels/` after `=`. Without `gpu`, for parameters that are no plain struct, it
/// is left to the module, as `work` of the call always is.
macro_rules! operator {
    (
        $(#[$doc:meta])*
        $name:ident($params:ty) => host $args:ident, gpu $addresses:ident = $twin:literal {
            $($(#[$field_doc:meta])* $kind:ident $field:ident,)*
        }
    ) => {
        $crate::ops::operator::operator! {
            $(#[$doc])*
            $name($params) => host $args {
                $($(#[$field_doc])* $kind $field,)*
            }
        }

        impl $name {
            pub(crate) fn addresses(&self, to: &$crate::launch::Launcher<'_>) -> $addresses {
                $addresses {
                    $($field: $crate::ops::operator::address!($kind, to, self.$field),)*
                    p: self.params,
                }
            }
        }

        #[repr(C)]
        #[derive(Clone, Copy)]
        pub(crate) struct $addresses {
            $(pub $field: u64,)*
            pub p: $params,
        }

        #[cfg(test)]
        impl $addresses {
            pub(crate) fn layout() -> $crate::launch::Layout {
                $crate::launch::layout!($twin, $addresses { $($field,)* p })
            }
        }
    };
    (
        $(#[$doc:meta])*
        $name:ident($params:ty) => host $args:ident {
            $($(#[$field_doc:meta])* $kind:ident $field:ident,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            /// Shape.
            pub params: $params,
            $($(#[$field_doc])* pub $field: $crate::ops::operator::slot_type!($kind),)*
        }

        /// The operands as slices on the host.
        #[allow(missing_docs)]
        pub struct $args<'a, T> {
            $(pub $field: $crate::ops::operator::slice_type!($kind, 'a, T),)*
        }

        impl $name {
            pub(in $crate::ops) fn reads(&self) -> Vec<$crate::ops::Slot> {
                let slots: Vec<Option<$crate::ops::Slot>> =
                    vec![$($crate::ops::operator::as_read!($kind, self.$field),)*];
                slots.into_iter().flatten().collect()
            }

            pub(in $crate::ops) fn writes(&self) -> Vec<$crate::ops::Slot> {
                let slots: Vec<Option<$crate::ops::Slot>> =
                    vec![$($crate::ops::operator::as_write!($kind, self.$field),)*];
                slots.into_iter().flatten().collect()
            }

            pub(crate) fn resolve<'a, T>(
                &self,
                resolver: &impl $crate::ops::operator::Resolve<'a, T>,
            ) -> $args<'a, T> {
                $args { $($field: $crate::ops::operator::resolve!($kind, resolver, self.$field),)* }
            }
        }
    };
}

/// Calls of one operator that are one call: `Name of Call`, or `Name of Call, work apart` where its work is not
/// the sum of theirs and the module has it.
macro_rules! group {
    ($(#[$doc:meta])* $name:ident of $call:ident) => {
        $crate::ops::operator::group! { $(#[$doc])* $name of $call, work apart }

        impl $name {
            pub(in $crate::ops) fn work(&self) -> $crate::ops::Work {
                self.calls.iter().map(|call| call.work()).sum()
            }
        }
    };
    ($(#[$doc:meta])* $name:ident of $call:ident, work apart) => {
        $(#[$doc])*
        ///
        /// None reads what another writes.
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct $name {
            /// Them.
            pub calls: Vec<$call>,
        }

        impl $name {
            pub(in $crate::ops) fn reads(&self) -> Vec<$crate::ops::Slot> {
                self.calls.iter().flat_map(|call| call.reads()).collect()
            }

            pub(in $crate::ops) fn writes(&self) -> Vec<$crate::ops::Slot> {
                self.calls.iter().flat_map(|call| call.writes()).collect()
            }
        }
    };
}

macro_rules! slot_type {
    (optional) => { Option<$crate::ops::Slot> };
    (optional_write) => { Option<$crate::ops::Slot> };
    ($kind:ident) => { $crate::ops::Slot };
}

macro_rules! slice_type {
    (read, $a:lifetime, $t:ident) => { &$a [$t] };
    (optional, $a:lifetime, $t:ident) => { Option<&$a [$t]> };
    (optional_write, $a:lifetime, $t:ident) => { Option<&$a mut [$t]> };
    (update, $a:lifetime, $t:ident) => { &$a mut [$t] };
    (write, $a:lifetime, $t:ident) => { &$a mut [$t] };
}

macro_rules! as_read {
    (write, $slot:expr) => {
        None
    };
    (optional_write, $slot:expr) => {
        None
    };
    (optional, $slot:expr) => {
        $slot
    };
    ($kind:ident, $slot:expr) => {
        Some($slot)
    };
}

macro_rules! as_write {
    (read, $slot:expr) => {
        None
    };
    (optional_write, $slot:expr) => {
        $slot
    };
    (optional, $slot:expr) => {
        None
    };
    ($kind:ident, $slot:expr) => {
        Some($slot)
    };
}

macro_rules! resolve {
    (read, $resolver:ident, $slot:expr) => {
        $resolver.read($slot)
    };
    (optional, $resolver:ident, $slot:expr) => {
        $slot.map(|slot| $resolver.read(slot))
    };
    (optional_write, $resolver:ident, $slot:expr) => {
        $slot.map(|slot| $resolver.write(slot))
    };
    ($kind:ident, $resolver:ident, $slot:expr) => {
        $resolver.write($slot)
    };
}

macro_rules! address {
    (optional, $to:ident, $slot:expr) => {
        $to.at_or_null($slot)
    };
    (optional_write, $to:ident, $slot:expr) => {
        $to.at_or_null($slot)
    };
    ($kind:ident, $to:ident, $slot:expr) => {
        $to.at($slot)
    };
}

pub(crate) use {address, as_read, as_write, group, operator, resolve, slice_type, slot_type};
