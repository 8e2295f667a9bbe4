//! Maps and programs are there when the process is not, on every kernel: at the loopback of a
//! namespace, by TC links or, before Linux 6.6, by filters.

use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

use deston::datapath::{Hook, Kernel, KernelError, PinError, instances, orphans, remove_instance};
use deston::model::{OnStop, XdpMode};
use deston_tests::instance::Instance;
use deston_tests::lab::Namespace;
use deston_tests::require_kernel;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Meetings of packets with the programs so far.
fn met(kernel: &Kernel) -> u64 {
    kernel.outcomes().unwrap().iter().sum()
}

/// Sends a datagram to oneself; it meets what is attached to the loopback.
fn send() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"?", socket.local_addr().unwrap()).unwrap();
    assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
}

fn attach(kernel: &mut Kernel) -> Vec<deston::datapath::Attached> {
    let attach = |hook| kernel.attach("lo", hook, XdpMode::Generic).unwrap();
    [Hook::Xdp, Hook::Tc].map(attach).into()
}

#[test]
fn the_kernel_goes_on_without_a_process_and_the_next_one_takes_over() {
    require_kernel!();
    let (instance, namespace) = (Instance::default(), Namespace::new("lo"));
    let instance = namespace.within(move || {
        let mut kernel = instance.start();
        assert!(!kernel.is_adopted());
        kernel.put_number("pool a", 3).unwrap();
        let attached = attach(&mut kernel);
        let begun = met(&kernel);
        send();
        assert_eq!(met(&kernel), begun + 2);
        // As a process that is killed leaves them.
        drop((kernel, attached));
        send();

        let mut kernel = instance.start();
        assert!(kernel.is_adopted());
        assert_eq!((kernel.number("pool a"), kernel.number("pool b")), (Some(3), None));
        assert_eq!(met(&kernel), begun + 4);
        let attached = attach(&mut kernel);
        kernel.take_over().unwrap();
        send();
        assert_eq!(met(&kernel), begun + 6);

        let settings = instance.settings();
        assert!(matches!(
            Kernel::start(&settings),
            Err(KernelError::Pin(PinError::Held(name))) if name == instance.name()
        ));
        kernel.stop(attached, OnStop::Detach).unwrap();
        send();
        instance
    });
    assert_eq!(remove_instance(instance.name(), false).unwrap(), None);
}

#[test]
fn an_instance_without_its_process_is_an_orphan_and_one_with_it_is_none() {
    require_kernel!();
    let (left, held, own) = (Instance::default(), Instance::default(), Instance::default());
    drop(left.start());
    let running = held.start();
    let found = orphans(own.name()).unwrap();
    assert!(found.iter().any(|name| name == left.name()), "{found:?}");
    assert!(!found.iter().any(|name| name == held.name()), "{found:?}");
    assert!(!orphans(left.name()).unwrap().iter().any(|name| name == left.name()));
    drop(running);
    assert!(orphans(own.name()).unwrap().iter().any(|name| name == held.name()));
}

/// Lowers how many files this process may open while it is there.
struct FewFiles(u64, u64);

impl FewFiles {
    fn more(count: u64) -> Self {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        // The lowest free number is as many as are open, if none was closed between them.
        let free = std::fs::File::open("/").unwrap().as_raw_fd() as u64;
        setrlimit(Resource::RLIMIT_NOFILE, free + count, hard).unwrap();
        Self(soft, hard)
    }
}

impl Drop for FewFiles {
    fn drop(&mut self) {
        setrlimit(Resource::RLIMIT_NOFILE, self.0, self.1).unwrap();
    }
}

#[test]
fn a_start_with_too_few_descriptors_names_the_limit_and_leaves_nothing() {
    require_kernel!();
    let instance = Instance::default();
    // Enough to look for other instances and to take this one, and for some of the maps.
    let few = FewFiles::more(12);
    let error = Kernel::start(&instance.settings()).err().expect("there are more maps than that");
    drop(few);
    let told = error.to_string();
    assert!(told.contains("failed to create map"), "{told}");
    assert!(told.contains("os error 24") && told.contains("`ulimit -n`"), "{told}");
    assert_eq!(instances().unwrap().iter().find(|name| *name == instance.name()), None);
    // Nothing is in the way of the next.
    drop(instance.start());
}
