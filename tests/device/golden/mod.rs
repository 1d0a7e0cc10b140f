//! Whole networks and training steps against the values in `tests/golden`, or in the folder that `NATV2_GOLDEN` names.

mod networks;
mod sandwich;
mod step;
