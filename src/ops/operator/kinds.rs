//! What the kind of an operand and its mark say, in the lists that [`operator!`](super::operator) reads.

macro_rules! slot_type {
    ([optional]) => { Option<$crate::ops::Slot> };
    ([optional_write]) => { Option<$crate::ops::Slot> };
    ([terms($most:literal)]) => { Vec<$crate::ops::Slot> };
    ([set($set:ident => $args:ident, $addresses:ident)]) => { Option<$set> };
    ([each($call:ident => $params:ident, $args:ident)]) => { Vec<$call> };
    ([$kind:ident $($of:tt)?]) => { $crate::ops::Slot };
}

macro_rules! slice_type {
    ([read] $a:lifetime, $t:ident) => { &$a [$t] };
    ([in_place($y:ident)] $a:lifetime, $t:ident) => { Option<&$a [$t]> };
    ([optional] $a:lifetime, $t:ident) => { Option<&$a [$t]> };
    ([terms($most:literal)] $a:lifetime, $t:ident) => { Vec<&$a [$t]> };
    ([set($set:ident => $args:ident, $addresses:ident)] $a:lifetime, $t:ident) => { Option<$args<$a, $t>> };
    ([each($call:ident => $params:ident, $args:ident)] $a:lifetime, $t:ident) => { Vec<($params, $args<$a, $t>)> };
    ([optional_write] $a:lifetime, $t:ident) => { Option<&$a mut [$t]> };
    ([update] $a:lifetime, $t:ident) => { &$a mut [$t] };
    ([write] $a:lifetime, $t:ident) => { &$a mut [$t] };
}

macro_rules! as_read {
    ([write] $slot:expr) => {
        None::<$crate::ops::Slot>
    };
    ([optional_write] $slot:expr) => {
        None::<$crate::ops::Slot>
    };
    ([optional] $slot:expr) => {
        $slot
    };
    ([terms($most:literal)] $slots:expr) => {
        $slots.iter().copied()
    };
    ([set($($of:tt)*)] $set:expr) => {
        $set.iter().flat_map($crate::ops::operator::Operands::reads)
    };
    ([each($($of:tt)*)] $calls:expr) => {
        $calls.iter().flat_map($crate::ops::operator::Operands::reads)
    };
    ([$kind:ident $($of:tt)?] $slot:expr) => {
        Some($slot)
    };
}

macro_rules! as_write {
    ([write] $slot:expr) => {
        Some($slot)
    };
    ([update] $slot:expr) => {
        Some($slot)
    };
    ([optional_write] $slot:expr) => {
        $slot
    };
    ([set($($of:tt)*)] $set:expr) => {
        $set.iter().flat_map($crate::ops::operator::Operands::writes)
    };
    ([each($($of:tt)*)] $calls:expr) => {
        $calls.iter().flat_map($crate::ops::operator::Operands::writes)
    };
    ([$kind:ident $($of:tt)?] $slot:expr) => {
        None::<$crate::ops::Slot>
    };
}

macro_rules! resolve {
    ([read] $memory:ident, $call:expr, $field:ident) => {
        $memory.read($call.$field)
    };
    ([in_place($y:ident)] $memory:ident, $call:expr, $field:ident) => {
        ($call.$field != $call.$y).then(|| $memory.read($call.$field))
    };
    ([optional] $memory:ident, $call:expr, $field:ident) => {
        $call.$field.map(|slot| $memory.read(slot))
    };
    ([terms($most:literal)] $memory:ident, $call:expr, $field:ident) => {
        $call.$field.iter().map(|&slot| $memory.read(slot)).collect()
    };
    ([set($($of:tt)*)] $memory:ident, $call:expr, $field:ident) => {
        $call.$field.as_ref().map(|set| set.resolve($memory))
    };
    ([each($($of:tt)*)] $memory:ident, $call:expr, $field:ident) => {
        $call.$field.iter().map(|call| (call.params, call.resolve($memory))).collect()
    };
    ([optional_write] $memory:ident, $call:expr, $field:ident) => {
        $call.$field.map(|slot| $memory.write(slot))
    };
    ([$kind:ident] $memory:ident, $call:expr, $field:ident) => {
        $memory.write($call.$field)
    };
}

macro_rules! address_type {
    ([terms($most:literal)]) => {
        [u64; $most]
    };
    ([set($set:ident => $args:ident, $addresses:ident)]) => {
        $addresses
    };
    ([$kind:ident $($of:tt)?]) => {
        u64
    };
}

macro_rules! address {
    ([optional] $to:ident, $slot:expr) => {
        $to.at_or_null($slot)
    };
    ([optional_write] $to:ident, $slot:expr) => {
        $to.at_or_null($slot)
    };
    ([terms($most:literal)] $to:ident, $slots:expr) => {
        std::array::from_fn(|i| $to.at_or_null($slots.get(i).copied()))
    };
    ([set($($of:tt)*)] $to:ident, $set:expr) => {
        $set.as_ref().map(|set| set.addresses($to)).unwrap_or_default()
    };
    ([$kind:ident $($of:tt)?] $to:ident, $slot:expr) => {
        $to.at($slot)
    };
}

macro_rules! is_scratch {
    (scratch) => {
        true
    };
    ($mark:ident) => {
        false
    };
}

macro_rules! is_halves {
    (halves) => {
        true
    };
    ($mark:ident) => {
        false
    };
}

macro_rules! stored {
    ($kind:tt $call:ident, $field:ident, $slot:ident, map) => {
        $crate::ops::operator::stored!($kind $call, $field, $slot => $crate::ops::halves::stored($call.params.format))
    };
    ($kind:tt $call:ident, $field:ident, $slot:ident, halves) => {
        $crate::ops::operator::stored!($kind $call, $field, $slot => Some($call.params.format()))
    };
    ($kind:tt $call:ident, $field:ident, $slot:ident, output) => {
        $crate::ops::operator::stored!($kind $call, $field, $slot => $crate::ops::halves::stored($call.params.output))
    };
    ($kind:tt $call:ident, $field:ident, $slot:ident $(, scratch)?) => {};
    ($kind:tt $call:ident, $field:ident, $slot:ident => $format:expr) => {
        let read = $crate::ops::operator::as_read!($kind $call.$field).into_iter();
        if read.chain($crate::ops::operator::as_write!($kind $call.$field)).any(|own| own == $slot) {
            return $format;
        }
    };
}

macro_rules! in_f32 {
    ($call:ident, map) => {
        if let Some(format) = $crate::ops::halves::stored($call.params.format) {
            let mut params = $call.params;
            params.format = 0;
            return Some((format, params));
        }
    };
    ($call:ident, $mark:ident) => {};
}

macro_rules! launch {
    ($call:ident, $to:ident, $word:ident, together) => {
        gpu::$word(std::slice::from_ref($call), $to)
    };
    ($call:ident, $to:ident, $word:ident $(, together $words:ident)?) => {
        gpu::$word($call, $to)
    };
}

macro_rules! launch_together {
    ($calls:ident, $to:ident, $word:ident, $words:ident) => {
        gpu::$words($calls, $to)
    };
    ($calls:ident, $to:ident, $word:ident) => {
        gpu::$word($calls, $to)
    };
}

pub(crate) use {
    address, address_type, as_read, as_write, in_f32, is_halves, is_scratch, launch, launch_together,
    resolve, slice_type, slot_type, stored,
};
