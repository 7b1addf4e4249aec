//! semel: lets each operation through to a payment API at most once.

pub mod protocol;
