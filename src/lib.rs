//! semel: lets each operation through to a payment API at most once.

pub mod admin;
pub mod app;
pub mod attempt;
pub mod cli;
pub mod config;
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
