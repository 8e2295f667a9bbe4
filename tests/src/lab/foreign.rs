//! Another program where ours would be.

use super::Lab;
use aya::Ebpf;
use aya::programs::Xdp;

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../deston/bpf/deston.bpf.o");

/// Puts one of our programs, in the place of somebody else's, at an interface of the balancer.
pub fn put_another_program(lab: &Lab, interface: &str) {
    let path = format!("/sys/fs/bpf/{}", lab.balancer.name());
    let mut ebpf = Ebpf::load(OBJECT).unwrap();
    let program: &mut Xdp = ebpf.program_mut("deston_expire4").unwrap().try_into().unwrap();
    program.load().unwrap();
    program.pin(&path).unwrap();
    lab.balancer.run(&["ip", "link", "set", "dev", interface, "xdp", "pinned", &path]);
    std::fs::remove_file(&path).unwrap();
}
