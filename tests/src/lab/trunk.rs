//! A client behind VLAN tags, without a VLAN device: a kernel may have none.
//!
//! ```text
//!   client's stack -- tap `untagged` == puts tags on, takes tags off == tap `trunk` -- balancer
//! ```

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use nix::libc;

use super::Lab;
use super::tunnel::open;
use crate::kernel::Family;
use crate::packet::Tag;

/// Bytes of two Ethernet addresses, behind which tags stand.
const ADDRESSES: usize = 12;

/// What keeps the frames of a full packet with two tags as short as interfaces take them.
const MTU: u32 = 1_496;

/// The client's address of a family behind the tags.
pub fn tagged_client(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([192, 0, 2, 2]),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 2]),
    }
}

/// A link from a lab's client to its balancer on which every frame has tags.
pub struct Trunk {
    counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Counts {
    to_balancer: AtomicU64,
    to_client: AtomicU64,
    other: AtomicU64,
}

impl Trunk {
    /// Joins client and balancer. Frames of the client get `tags`, outermost first, and those with
    /// the tags `expected` come back. `listener` is behind the balancer's end, which is `trunk`.
    pub fn start(lab: &Lab, tags: &[Tag], expected: &[Tag], listener: IpAddr) -> Self {
        let client = lab.client.within(|| open("untagged", libc::IFF_TAP));
        let balancer = lab.balancer.within(|| open("trunk", libc::IFF_TAP));
        lab.balancer.batch(&["link set trunk address 02:00:00:00:88:01 up"]);
        let family = if listener.is_ipv4() { Family::V4 } else { Family::V6 };
        let bits = if listener.is_ipv4() { 24 } else { 64 };
        lab.client.batch(&[format!("link set untagged address 02:00:00:00:88:02 mtu {MTU} up")]);
        lab.client.address("untagged", &format!("{}/{bits}", tagged_client(family)));
        // The balancer's stack has no VLAN device that would say so.
        lab.client.batch(&[format!(
            "neighbour add {listener} lladdr 02:00:00:00:88:01 dev untagged nud permanent"
        )]);
        let (client, balancer) = (Arc::new(client), Arc::new(balancer));
        let (counts, stop) = (Arc::new(Counts::default()), Arc::new(AtomicBool::new(false)));
        let tag = {
            let (counts, tags) = (Arc::clone(&counts), bytes(tags));
            let balancer = Arc::clone(&balancer);
            move |frame: &[u8]| {
                let tagged = [&frame[..ADDRESSES], &tags, &frame[ADDRESSES..]].concat();
                if (&*balancer).write_all(&tagged).is_ok() {
                    counts.to_balancer.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let untag = {
            let (counts, tags) = (Arc::clone(&counts), bytes(expected));
            let client = Arc::clone(&client);
            move |frame: &[u8]| {
                // The balancer's own host has words for every neighbour.
                if frame[0] & 1 != 0 {
                    return;
                }
                let Some(rest) = frame[ADDRESSES..].strip_prefix(&*tags) else {
                    counts.other.fetch_add(1, Ordering::Relaxed);
                    return;
                };
                if (&*client).write_all(&[&frame[..ADDRESSES], rest].concat()).is_ok() {
                    counts.to_client.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let threads =
            vec![carry(client, Arc::clone(&stop), tag), carry(balancer, Arc::clone(&stop), untag)];
        Self { counts, stop, threads }
    }

    /// Frames that came to the balancer, and back to the client, with their tags.
    pub fn carried(&self) -> [u64; 2] {
        [&self.counts.to_balancer, &self.counts.to_client].map(|n| n.load(Ordering::Relaxed))
    }

    /// Frames for the client that had other tags, or none.
    pub fn other(&self) -> u64 {
        self.counts.other.load(Ordering::Relaxed)
    }
}

impl Drop for Trunk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn bytes(tags: &[Tag]) -> Vec<u8> {
    let words = tags.iter().flat_map(|tag| [tag.tpid, tag.tci]);
    words.flat_map(u16::to_be_bytes).collect()
}

/// Gives each frame from a device to `each`, until it is told to stop.
fn carry(
    from: Arc<File>,
    stop: Arc<AtomicBool>,
    each: impl Fn(&[u8]) + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut frame = vec![0; 65_536];
        while !stop.load(Ordering::Relaxed) {
            if !is_ready(&from) {
                continue;
            }
            match (&*from).read(&mut frame) {
                Ok(length) if length > ADDRESSES => each(&frame[..length]),
                Ok(_) => {}
                // The device is gone.
                Err(_) => return,
            }
        }
    })
}

/// Waits a moment for something to read.
fn is_ready(device: &File) -> bool {
    let mut asked = libc::pollfd { fd: device.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: poll reads and writes one pollfd, which lives beyond the call.
    unsafe { libc::poll(&raw mut asked, 1, 100) == 1 }
}
