//! The far end of an IP tunnel: takes packets out of their outer header and gives them to the stack.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::libc;
use socket2::{Domain, Protocol, Socket, Type};

use super::Namespace;
use crate::packet::protocol;

/// Ends of IPIP, IP6IP6 and IPv4 in IPv6 on a host; what comes out enters by the device `tunnel`.
///
/// In user space, since a kernel may have no such device.
pub struct TunnelEnd {
    taken: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl TunnelEnd {
    /// Sets the host up.
    pub fn start(host: &Namespace) -> Self {
        host.batch(&[
            "tuntap add dev tunnel mode tun",
            "link set tunnel up",
            // Segments that are joined on arrival would leave the tunnel without their checksums.
            "link set eth0 gro_max_size 1",
        ]);
        let (taken, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let device = Arc::new(host.within(|| open("tunnel", libc::IFF_TUN)));
        let outer = [
            (Domain::IPV4, protocol::IPIP),
            (Domain::IPV6, protocol::IPIP),
            (Domain::IPV6, protocol::IPV6),
        ];
        let threads = outer.map(|(domain, number)| {
            let (taken, stop) = (Arc::clone(&taken), Arc::clone(&stop));
            let device = Arc::clone(&device);
            let socket = host.within(move || {
                let number = Protocol::from(i32::from(number));
                let socket = Socket::new(domain, Type::RAW, Some(number)).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
                socket
            });
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let Some(packet) = received(&socket) else { continue };
                    // IPv6 sockets are given what is behind the outer header, IPv4 ones all of it.
                    let header =
                        if domain == Domain::IPV4 { usize::from(packet[0] & 15) * 4 } else { 0 };
                    if (&*device).write_all(&packet[header..]).is_ok() {
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        });
        Self { taken, stop, threads: threads.into() }
    }

    /// Packets that came out so far.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for TunnelEnd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn received(socket: &Socket) -> Option<Vec<u8>> {
    let mut buffer = [MaybeUninit::uninit(); 65_536];
    match socket.recv(&mut buffer) {
        Ok(length) => {
            let received = buffer[..length].iter();
            // SAFETY: the kernel has written so many bytes.
            Some(received.map(|byte| unsafe { byte.assume_init() }).collect())
        }
        Err(error) => {
            let is_time = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            assert!(is_time || error.kind() == ErrorKind::Interrupted, "{error}");
            None
        }
    }
}

/// Opens a device of this namespace for whole packets: IP with `IFF_TUN`, frames with `IFF_TAP`.
pub(super) fn open(name: &str, kind: libc::c_int) -> File {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun").unwrap();
    // SAFETY: all zeroes is a valid ifreq: characters, integers and pointers that nobody reads.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (kind | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq (linux/if_tun.h), which lives beyond the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &mut request) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    file
}
