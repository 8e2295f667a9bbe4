//! The programs at work on interfaces.

use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::xdp::XdpLink;
use aya::programs::{LinkOrder, TcAttachType, XdpMode as AyaMode};

use super::error::{self, errno};
use super::{AttachError, Kernel, KernelError, TC, XDP, tc_mut, xdp_mut};
use crate::model::XdpMode;

/// Where a program meets packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// In the driver, before the kernel has made anything of the packet.
    Xdp,
    /// At TC ingress, before any qdisc and the stack.
    Tc,
}

/// A program at work on an interface, until `Kernel::detach`.
#[derive(Debug)]
pub struct Attached {
    interface: String,
    index: u32,
    hook: Hook,
    link: Link,
}

#[derive(Debug)]
enum Link {
    Xdp(XdpLink),
    Tc(SchedClassifierLink),
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
    /// Attaches a balancer to an interface. `mode` is for XDP alone.
    pub fn attach(
        &mut self,
        interface: &str,
        hook: Hook,
        mode: XdpMode,
    ) -> Result<Attached, AttachError> {
        let index = nix::net::if_::if_nametoindex(interface)
            .map_err(|_| AttachError::NoInterface(interface.to_owned()))?;
        let link = match hook {
            Hook::Xdp => self.attach_xdp(interface, index, mode).map(Link::Xdp),
            Hook::Tc => self.attach_tc(interface).map(Link::Tc),
        }?;
        Ok(Attached { interface: interface.to_owned(), index, hook, link })
    }

    fn attach_xdp(
        &mut self,
        interface: &str,
        index: u32,
        mode: XdpMode,
    ) -> Result<XdpLink, AttachError> {
        let refused = |source| AttachError::Refused { interface: interface.to_owned(), source };
        let mode = match mode {
            XdpMode::Native => AyaMode::Driver,
            XdpMode::Generic => AyaMode::Skb,
        };
        let xdp = xdp_mut(&mut self.ebpf, XDP)?;
        let link = xdp.attach_to_if_index(index, mode).map_err(|source| match errno(&source) {
            Some(nix::libc::EBUSY | nix::libc::EEXIST) => AttachError::Taken(interface.to_owned()),
            Some(nix::libc::EOPNOTSUPP | nix::libc::EINVAL) => {
                AttachError::NotNative(interface.to_owned())
            }
            Some(_) | None => refused(source),
        })?;
        xdp.take_link(link).map_err(refused)
    }

    fn attach_tc(&mut self, interface: &str) -> Result<SchedClassifierLink, AttachError> {
        let refused = |source| AttachError::Refused { interface: interface.to_owned(), source };
        let program = tc_mut(&mut self.ebpf, TC)?;
        let first = TcAttachOptions::TcxOrder(LinkOrder::first());
        let link = program
            .attach_with_options(interface, TcAttachType::Ingress, first)
            .map_err(refused)?;
        program.take_link(link).map_err(refused)
    }

    /// Detaches from an interface.
    pub fn detach(&mut self, attached: Attached) -> Result<(), KernelError> {
        match attached.link {
            Link::Xdp(link) => detach(XDP, link),
            Link::Tc(link) => detach(TC, link),
        }
    }
}

fn detach(name: &'static str, link: impl aya::programs::Link) -> Result<(), KernelError> {
    link.detach().map_err(error::program(name))
}
