//! What stands outside of semel and is shipped with it, to see it work and to practise on.
//!
//! Must not know the protocol, the store or the proxy: it is the world they are tested against.

pub mod provider;
