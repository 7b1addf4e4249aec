//! semel: lets each operation through to a payment API at most once.

pub mod attempt;
pub mod demo;
pub mod entropy;
pub mod ledger;
pub mod metrics;
pub mod protocol;
pub mod proxy;
pub mod reconcile;
pub mod server;
pub mod store;
pub mod task;
pub mod telemetry;
pub mod upstream;
