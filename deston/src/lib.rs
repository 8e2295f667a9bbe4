//! Deston: a load balancer with one configuration file.
//!
//! Data flows one way: `config` (what the user wrote) becomes a [`model`] (what is valid); `control`
//! compares models and applies the changes to [`live`] state, to the userspace `proxy` and to the
//! kernel `datapath`. Health and counters flow back to `control` alone. `proxy` and `datapath` never
//! see `config`, nor each other.

pub mod config;
pub mod live;
pub mod model;
pub mod proxy;
