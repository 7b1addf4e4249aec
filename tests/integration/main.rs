//! What semel promises, tried over real sockets and processes: one binary, one file per promise.

mod front_door;
mod practice;
mod receipts;
mod server;
mod store_embedded;
mod store_redis;
mod store_redis_cut;
mod support;
mod upstream;
mod upstream_pass;
mod upstream_tls;
