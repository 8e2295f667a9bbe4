//! What aya does not offer of bpf(2). All that is unsafe about the loader is here.

use std::ffi::{CString, c_long};
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aya::maps::{MapData, MapError, RingBuf};
use nix::libc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Commands (`enum bpf_cmd`, linux/bpf.h).
mod command {
    pub(super) const OBJ_GET: u32 = 7;
    pub(super) const MAP_LOOKUP_BATCH: u32 = 24;
    pub(super) const LINK_DETACH: u32 = 34;
}

/// The members of `union bpf_attr` for BPF_OBJ_GET.
#[repr(C)]
#[derive(Default)]
struct ObjectGet {
    path: u64,
    fd: u32,
    flags: u32,
}

/// The members of `union bpf_attr` for BPF_LINK_DETACH.
#[repr(C)]
struct LinkDetach {
    link: u32,
}

/// The members of `union bpf_attr` for BPF_MAP_LOOKUP_BATCH.
#[repr(C)]
#[derive(Default)]
struct LookupBatch {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// Where in a map a batch begins: the kernel's own notion, the number of a bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(u64);

/// What one call has read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    /// Entries.
    pub(super) count: usize,
    /// Where the next one begins; `None`: that was all.
    pub(super) next: Option<Place>,
}

/// A hash map that is read in batches.
pub(super) struct BatchMap {
    fd: OwnedFd,
    key_size: usize,
    value_size: usize,
}

impl BatchMap {
    /// Another handle to a hash map.
    pub(super) fn of(map: &MapData) -> std::result::Result<Self, MapError> {
        let info = map.info()?;
        Ok(Self {
            fd: map.fd().as_fd().try_clone_to_owned()?,
            key_size: info.key_size() as usize,
            value_size: info.value_size() as usize,
        })
    }

    /// Reads up to `room` entries, from a place on: keys and values, which begin the two buffers.
    /// ENOSPC: `room` is too small for the entries of one hash bucket.
    pub(super) fn read(
        &self,
        from: Option<Place>,
        keys: &mut Vec<u8>,
        values: &mut Vec<u8>,
        room: usize,
    ) -> Result<Batch> {
        keys.resize(room * self.key_size, 0);
        values.resize(room * self.value_size, 0);
        let from = from.map(|place| place.0);
        let mut next = 0_u64;
        let mut ask = LookupBatch {
            from: from.as_ref().map_or(0, |from| std::ptr::from_ref(from).addr() as u64),
            to: std::ptr::from_mut(&mut next).addr() as u64,
            keys: keys.as_mut_ptr().addr() as u64,
            values: values.as_mut_ptr().addr() as u64,
            count: u32::try_from(room).map_err(Error::other)?,
            map: number(self.fd.as_fd()),
            ..LookupBatch::default()
        };
        // SAFETY: the buffers have room for so many keys and values of the sizes that the kernel
        // gives them. `from` and `next` live until the call returns, and are larger than a hash
        // map's notion of a place, 4 bytes.
        let answer = unsafe { bpf(command::MAP_LOOKUP_BATCH, &mut ask) };
        let next = match answer {
            Ok(_) => Some(Place(next)),
            // The end of the map, with the entries before it.
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Batch { count: ask.count as usize, next })
    }
}

/// The value that `bytes` begin with; `None` if they are too few.
pub(super) fn read<T: aya::Pod>(bytes: &[u8]) -> Option<T> {
    let bytes = bytes.get(..size_of::<T>())?;
    // SAFETY: there are as many bytes, they may be unaligned, and every pattern is a value of Pod.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// Opens what is pinned at a path.
pub(super) fn open_pin(path: &Path) -> Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(Error::other)?;
    let mut ask = ObjectGet { path: path.as_ptr().addr() as u64, ..ObjectGet::default() };
    // SAFETY: `path` lives until the call returns, and ends with a zero.
    let fd = unsafe { bpf(command::OBJ_GET, &mut ask) }?;
    let fd = i32::try_from(fd).map_err(Error::other)?;
    // SAFETY: the kernel has just made it for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Has the runtime tell when there is something in a ring buffer.
pub(super) fn watch(ring: RingBuf<MapData>) -> Result<AsyncFd<RingBuf<MapData>>> {
    // SAFETY: the ring owns its descriptor for as long as it lives, and never changes it.
    unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }.map_err(Error::from)
}

/// Takes a link off its hook at once. Removing its last pin would do so some time later.
pub(super) fn detach_link(link: BorrowedFd<'_>) -> Result<()> {
    let mut ask = LinkDetach { link: number(link) };
    // SAFETY: the structure holds no address.
    unsafe { bpf(command::LINK_DETACH, &mut ask) }.map(drop)
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

/// bpf(2) with the structure of a command.
///
/// # Safety
/// `attributes` has the layout that the command expects, and the addresses in it are those of
/// buffers that live until this returns, of the sizes that the command reads or writes.
unsafe fn bpf<T>(command: u32, attributes: &mut T) -> Result<c_long> {
    // SAFETY: the kernel touches size_of::<T>() bytes of the structure; the rest is the caller's
    // promise.
    let answer = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>())
    };
    if answer < 0 { Err(Error::last_os_error()) } else { Ok(answer) }
}
