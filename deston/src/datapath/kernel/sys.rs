//! The commands of bpf(2) that aya does not offer. All that is unsafe about them is here.

use std::ffi::{CString, c_long};
use std::io::{Error, Result};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::libc;

/// Commands (`enum bpf_cmd`, linux/bpf.h).
mod command {
    pub(super) const OBJ_GET: u32 = 7;
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
