//! What the pieces of the path take, and the path without sockets: `make bench-micro`.

use std::time::Duration;

use criterion::Criterion;

mod path;
mod protocol;

fn main() {
    let mut criterion = Criterion::default()
        // Every new key stays in the memory store, so that longer is not better.
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30)
        .configure_from_args();
    protocol::bench(&mut criterion);
    path::bench(&mut criterion);
    criterion.final_summary();
}
