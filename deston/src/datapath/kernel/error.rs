//! What the kernel can refuse.

use aya::maps::MapError;
use aya::programs::ProgramError;
use nix::libc;

use super::pin::PinError;

/// Why the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The object could not be loaded.
    #[error("loading the kernel programs: {}", with_cause(.0))]
    Load(#[from] aya::EbpfError),
    /// The object could not be read.
    #[error("reading the kernel programs: {0}")]
    Object(#[from] aya_obj::ParseError),
    /// A program is missing or was refused by the verifier.
    #[error("program {name}: {source}")]
    Program {
        /// Its name.
        name: &'static str,
        /// What the kernel said.
        source: ProgramError,
    },
    /// The object lacks a map or a program that this build expects.
    #[error("the kernel object has no `{0}`: it was built from other sources")]
    Missing(&'static str),
    /// The instance's pins cannot be had.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// A pinned map could not be looked at.
    #[error("the pinned map {name}: {source}")]
    Pinned {
        /// Its name.
        name: String,
        /// What the kernel said.
        source: MapError,
    },
    /// A pinned map is none of this build's.
    #[error(
        "the pinned map {name} is not what this build of deston expects: `deston detach --instance \
         {instance}` removes it, and all flows"
    )]
    Shape {
        /// Its name.
        name: String,
        /// The instance.
        instance: String,
    },
    /// A map could not be read or written.
    #[error("map {name}: {source}")]
    Map {
        /// Its name.
        name: &'static str,
        /// What the kernel said.
        source: MapError,
    },
}

/// Why a program could not be attached to an interface.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// There is no such interface.
    #[error("there is no interface `{0}`")]
    NoInterface(String),
    /// The interface has an XDP program already.
    #[error(
        "interface `{0}` has another XDP program: remove it (`ip link set dev {0} xdp off`), or use \
         datapath = \"tc\""
    )]
    Taken(String),
    /// The driver does native XDP for smaller packets only.
    #[error(
        "the MTU of interface `{0}` is too large for native XDP: lower it, there and at its peer, \
         or use datapath = \"tc\""
    )]
    Mtu(String),
    /// The driver does not do native XDP.
    #[error(
        "interface `{0}` does not support native XDP: use datapath = \"tc\" or \"auto\" (to try \
         things out, `[kernel] xdp_mode = \"generic\"` works on any interface)"
    )]
    NotNative(String),
    /// The programs are not there.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The instance's pins could not be read or changed.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// A link could not be pinned.
    #[error("pinning the link to interface `{interface}`: {source}")]
    NotPinned {
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: aya::pin::PinError,
    },
    /// What is pinned for an interface is no link of ours.
    #[error("the pinned link to interface `{interface}`: {source}")]
    Link {
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: aya::programs::links::LinkError,
    },
    /// The kernel refused for another reason.
    #[error("attaching to interface `{interface}`: {}", whole(source))]
    Refused {
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: ProgramError,
    },
}

/// Names the program of an error.
pub(super) fn program(name: &'static str) -> impl Fn(ProgramError) -> KernelError {
    move |source| KernelError::Program { name, source }
}

/// Names the map of an error.
pub(super) fn map(name: &'static str) -> impl Fn(MapError) -> KernelError {
    move |source| KernelError::Map { name, source }
}

/// The system's error number inside an aya error.
pub(super) fn errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    chain(error).find_map(|error| error.downcast_ref::<std::io::Error>())?.raw_os_error()
}

/// An error of the loader with the kernel's own word, and what there is to do about it.
fn with_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut told = error.to_string();
    if let Some(last) = chain(error).last().map(ToString::to_string)
        && !told.contains(&last)
    {
        told = format!("{told}: {last}");
    }
    match errno(error).and_then(remedy) {
        Some(remedy) => format!("{told}: {remedy}"),
        None => told,
    }
}

/// What helps where the kernel gave an error number for a map or a program.
fn remedy(errno: i32) -> Option<&'static str> {
    match errno {
        libc::EMFILE => Some(
            "this process may not open more files: raise `ulimit -n` (`LimitNOFILE` of a systemd \
             unit)",
        ),
        libc::ENFILE => Some("the host may not open more files: raise `fs.file-max` with sysctl"),
        libc::EPERM | libc::EACCES => Some(
            "run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; `deston doctor` tells \
             which are missing",
        ),
        libc::ENOMEM => Some(
            "there is not enough memory, or its control group may not use more: lower `[kernel] \
             flows` and `half_open`, or raise the limit (`MemoryMax` of a systemd unit)",
        ),
        _ => None,
    }
}

/// An error with what is behind it: the last of them is the kernel's own word.
fn whole(error: &(dyn std::error::Error + 'static)) -> String {
    chain(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// An error and what is behind it, one after the other.
fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}
