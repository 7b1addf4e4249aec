//! What the tests share: servers they start and faults they cause. Knows no promise.

pub(crate) mod binary;
pub(crate) mod client;
pub(crate) mod cutter;
pub(crate) mod listener;
pub(crate) mod moody;
pub(crate) mod raw;
pub(crate) mod rawserver;
pub(crate) mod redis;
pub(crate) mod scripted;
pub(crate) mod sdk;
pub(crate) mod sidecar;
pub(crate) mod swaps;
pub(crate) mod world;
