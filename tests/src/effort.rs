//! How much work specs do: all of it, or less on a slow machine.

/// Whether `DESTON_SLOW_MACHINE=1` says that this machine is slow, as an emulated one is.
pub fn is_slow_machine() -> bool {
    std::env::var_os("DESTON_SLOW_MACHINE").is_some_and(|value| value == "1")
}

/// `full`, or `reduced` on a slow machine: cases of a property, packets, flows.
pub fn amount(full: u32, reduced: u32) -> u32 {
    if is_slow_machine() { reduced } else { full }
}
