//! The kernel ring: the checked-in programs, loaded and run on single packets.
//!
//! A [`Lab`] is a balancer with one listener and one pool, attached to nothing. Each step of a spec
//! names the one outcome that a packet has; that outcome's counter has to move by one and every
//! other has to stand still, what is passed has to come out as it went in, and what is sent is
//! judged by an independent implementation.

mod claims;
mod connection;
mod contents;
mod lab;
mod loan;
mod pinned;
mod recycle;
mod rows;
mod seed;
mod setting;
mod steps;
mod verdict;

pub use self::claims::Entries;
pub use self::connection::{CLIENT_ISN, Connection, SERVER_ISN};
pub use self::lab::{Change, Lab, SIZES};
pub use self::loan::Loan;
pub use self::pinned::Pinned;
pub use self::recycle::{Table, recycle};
pub use self::rows::{Row, each, rows};
pub use self::seed::{
    BALANCER_TO_SERVERS_MAC, IFINDEX, SNAT_PORTS, TCP_LISTENER, TIMEOUTS, UDP_LISTENER,
    listener_entry, members, server_entry, server_hop, server_mac,
};
pub use self::setting::{Family, Setting};
pub use self::steps::Frame;
pub use self::verdict::Verdict;

/// Nanoseconds of a millisecond.
pub const MILLISECOND: u64 = 1_000_000;
/// Nanoseconds of a second.
pub const SECOND: u64 = 1_000_000_000;

/// Whether kernel specs can run: root is needed. Says why not, and fails where a skip must not be.
pub fn available(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        let required = std::env::var_os("DESTON_REQUIRE_KERNEL").is_some_and(|value| value == "1");
        assert!(!required, "{test} needs root, and DESTON_REQUIRE_KERNEL=1 forbids to skip it");
        println!("skipped: {test} needs root to load programs into the kernel");
    }
    root
}

/// Skips a kernel spec, by name and with a reason, where the kernel cannot be had.
#[macro_export]
macro_rules! require_kernel {
    () => {
        if !$crate::kernel::available(&$crate::kernel::test_name()) {
            return;
        }
    };
}

/// The name of the running test: the test runner names its threads so.
pub fn test_name() -> String {
    std::thread::current().name().unwrap_or("a kernel spec").to_owned()
}
