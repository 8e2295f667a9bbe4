//! What the system must be able to do before anything is loaded: a kernel new enough, and the
//! privileges.

use super::Reason;

/// The oldest kernel that this build is meant for.
pub const OLDEST: (u32, u32) = (6, 1);

/// The first kernel that knows `BPF_F_IPV6` of `bpf_l4_csum_replace`.
const CSUM_IPV6: (u32, u32) = (6, 16);

pub(super) fn check_kernel() -> Result<(), Reason> {
    let release = release();
    if version(&release) < Some(OLDEST) {
        return Err(Reason::OldKernel(release));
    }
    Ok(())
}

/// Whether the kernel's checksum helper knows IPv6.
pub(in crate::datapath) fn has_csum_ipv6() -> bool {
    version(&release()) >= Some(CSUM_IPV6)
}

/// Whether this process may load programs and attach them to interfaces.
pub(super) fn check_privileges() -> Result<(), Reason> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if may_load(&status) { Ok(()) } else { Err(Reason::NotPrivileged) }
}

fn release() -> String {
    nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Reads the effective capabilities of /proc/PID/status (capabilities(7)).
fn may_load(status: &str) -> bool {
    const NET_ADMIN: u64 = 1 << 12;
    const SYS_ADMIN: u64 = 1 << 21;
    const PERFMON: u64 = 1 << 38;
    const BPF: u64 = 1 << 39;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let has = |wanted: u64| effective & wanted == wanted;
    has(NET_ADMIN) && (has(BPF | PERFMON) || has(SYS_ADMIN))
}

/// Major and minor number of a kernel release such as "6.1.0-56-amd64".
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_compared_by_number() {
        assert!(version("6.1.0-56-cloud-amd64") >= Some(OLDEST));
        assert!(version("6.18.44") >= Some(CSUM_IPV6));
        assert!(version("6.9.1") < Some(CSUM_IPV6));
        assert!(version("5.15.0") < Some(OLDEST));
        assert!(version("garbage") < Some(OLDEST));
    }

    #[test]
    fn loading_takes_the_capabilities_for_programs_and_interfaces() {
        let may = |effective| may_load(&format!("Name:\tdeston\nCapEff:\t{effective}\n"));
        assert!(may("000001ffffffffff"));
        assert!(may("000000c000001000"), "bpf, perfmon and net_admin");
        assert!(may("0000000000201000"), "sys_admin and net_admin");
        assert!(!may("000000c000000000"), "without net_admin");
        assert!(!may("0000000000001000"), "net_admin alone");
        assert!(!may("0000000000000000"));
        assert!(!may_load(""));
    }
}
