//! What semel promises, tried over real sockets and processes: one binary, one file per promise.

mod canary;
mod front_door;
mod operators;
mod operators_store;
mod path_answers;
mod path_asking;
mod path_content;
mod path_drain;
mod path_keys;
mod path_large;
mod path_leaving;
mod path_lookup;
mod path_passing;
mod path_reference;
mod path_store;
mod path_waiting;
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
