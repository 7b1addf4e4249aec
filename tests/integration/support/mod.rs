//! What the tests share: servers they start and faults they cause. Knows no promise.

pub(crate) mod cutter;
pub(crate) mod listener;
pub(crate) mod raw;
pub(crate) mod rawserver;
pub(crate) mod redis;
pub(crate) mod swaps;
