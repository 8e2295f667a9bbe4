//! The programs at work on interfaces.

use std::mem::ManuallyDrop;

use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle};
use aya::programs::xdp::XdpLink;
use aya::programs::{Link as _, LinkOrder, ProgramError, TcAttachType, XdpMode as AyaMode};
use aya::util::KernelVersion;
use nix::libc;

use super::error::{AttachError, errno, program};
use super::link::{Kind, LinkName};
use super::{Kernel, KernelError, TC, XDP, tc_mut, xdp_mut};
use crate::model::XdpMode;

/// Where a filter of ours stands among those of the interface: first.
const PRIORITY: u16 = 1;
/// What a filter of ours is known by at that place.
const HANDLE: TcHandle = TcHandle::new(0, 0xde57);

/// Where a program meets packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// In the driver, before the kernel has made anything of the packet.
    Xdp,
    /// At TC ingress, before any qdisc and the stack.
    Tc,
}

/// A program at work on an interface. `Kernel::detach` ends that; dropping this does too, unless
/// links are pinned.
#[derive(Debug)]
pub struct Attached {
    interface: String,
    index: u32,
    hook: Hook,
    held: Held,
}

#[derive(Debug)]
enum Held {
    Xdp(XdpLink),
    Tc(SchedClassifierLink),
    Pinned(LinkName),
}

impl Attached {
    /// The interface.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Its index: an interface that is made anew under the same name is another one.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The hook.
    pub fn hook(&self) -> Hook {
        self.hook
    }
}

impl Kernel {
    /// Attaches the balancer of a hook to an interface; `mode` is for XDP alone. What the process
    /// before has attached there is taken over.
    pub fn attach(
        &mut self,
        interface: &str,
        hook: Hook,
        mode: XdpMode,
    ) -> Result<Attached, AttachError> {
        let kind = match hook {
            Hook::Xdp => Kind::of_xdp(mode),
            Hook::Tc if has_tcx() => Kind::Tcx,
            Hook::Tc => Kind::Filter,
        };
        self.attach_as(interface, kind)
    }

    pub(super) fn attach_as(
        &mut self,
        interface: &str,
        kind: Kind,
    ) -> Result<Attached, AttachError> {
        let index = nix::net::if_::if_nametoindex(interface)
            .map_err(|_| AttachError::NoInterface(interface.to_owned()))?;
        let held = if self.instance.is_some() {
            let name = LinkName::here(kind, index);
            self.attach_pinned(interface, name)?;
            Held::Pinned(name)
        } else {
            match kind {
                Kind::Native | Kind::Generic => Held::Xdp(self.link_xdp(interface, index, kind)?),
                Kind::Tcx | Kind::Filter => Held::Tc(self.link_tc(interface, kind)?),
            }
        };
        Ok(Attached { interface: interface.to_owned(), index, hook: kind.hook(), held })
    }

    /// Detaches from an interface. That the interface is gone is as well.
    pub fn detach(&mut self, attached: Attached) -> Result<(), KernelError> {
        match attached.held {
            Held::Xdp(link) => link.detach().map_err(program(XDP)),
            Held::Tc(link) => {
                // Of a filter nothing is left when its interface is gone, and a link tells nothing.
                let is_here = nix::net::if_::if_nametoindex(attached.interface.as_str()).is_ok();
                link.detach()
                    .or_else(|error| if is_here { Err(error) } else { Ok(()) })
                    .map_err(program(TC))
            }
            Held::Pinned(name) => self.detach_pinned(name),
        }
    }

    /// A new XDP link.
    pub(super) fn link_xdp(
        &mut self,
        interface: &str,
        index: u32,
        kind: Kind,
    ) -> Result<XdpLink, AttachError> {
        let mode = if kind == Kind::Generic { AyaMode::Skb } else { AyaMode::Driver };
        let xdp = xdp_mut(&mut self.ebpf, XDP)?;
        let interface = interface.to_owned();
        let attached =
            xdp.attach_to_if_index(index, mode).map_err(|source| match errno(&source) {
                Some(libc::EBUSY | libc::EEXIST) => AttachError::Taken(interface.clone()),
                Some(libc::EOPNOTSUPP | libc::EINVAL) => AttachError::NotNative(interface.clone()),
                Some(libc::ERANGE) => AttachError::Mtu(interface.clone()),
                Some(_) | None => AttachError::Refused { interface: interface.clone(), source },
            })?;
        xdp.take_link(attached).map_err(|source| AttachError::Refused { interface, source })
    }

    /// A new TC link or filter, before all others.
    pub(super) fn link_tc(
        &mut self,
        interface: &str,
        kind: Kind,
    ) -> Result<SchedClassifierLink, AttachError> {
        let refused = |source| AttachError::Refused { interface: interface.to_owned(), source };
        let options = if kind == Kind::Filter {
            add_clsact(interface).map_err(|error| refused(error.into()))?;
            // A process that was killed leaves its filter behind.
            if self.replace_filter(interface)? {
                return filter(interface).map_err(refused);
            }
            TcAttachOptions::Netlink(NlOptions {
                priority: PRIORITY,
                handle: HANDLE,
                classid: None,
            })
        } else {
            TcAttachOptions::TcxOrder(LinkOrder::first())
        };
        let tc = tc_mut(&mut self.ebpf, TC)?;
        let attached =
            tc.attach_with_options(interface, TcAttachType::Ingress, options).map_err(refused)?;
        tc.take_link(attached).map_err(refused)
    }

    /// Puts the program behind a filter that stands, in one step; `false` if there is no such
    /// filter.
    pub(super) fn replace_filter(&mut self, interface: &str) -> Result<bool, AttachError> {
        let refused = |source| AttachError::Refused { interface: interface.to_owned(), source };
        let tc = tc_mut(&mut self.ebpf, TC)?;
        match tc.attach_to_link(filter(interface).map_err(refused)?) {
            Ok(replaced) => {
                keep_filter(tc.take_link(replaced).map_err(refused)?);
                Ok(true)
            }
            Err(error) if matches!(errno(&error), Some(libc::ENOENT | libc::EINVAL)) => Ok(false),
            Err(error) => Err(refused(error)),
        }
    }
}

/// The filter that stands, or may stand, at an interface's ingress under our handle.
pub(super) fn filter(interface: &str) -> Result<SchedClassifierLink, ProgramError> {
    let link =
        SchedClassifierLink::attached(interface, TcAttachType::Ingress, PRIORITY, HANDLE, None);
    link.map_err(ProgramError::from)
}

/// Lets a filter stand when its record is dropped.
pub(super) fn keep_filter(link: SchedClassifierLink) {
    let _ = ManuallyDrop::new(link);
}

/// The first kernel with TC links (tcx); before it, programs at TC are filters of a qdisc.
pub const TCX_KERNEL: (u8, u8) = (6, 6);

fn has_tcx() -> bool {
    let (major, minor) = TCX_KERNEL;
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(major, minor, 0))
}

/// Gives an interface the qdisc that filters hang in.
fn add_clsact(interface: &str) -> Result<(), TcError> {
    match tc::qdisc_add_clsact(interface) {
        Err(error) if errno(&error) == Some(libc::EEXIST) => Ok(()),
        added => added,
    }
}
