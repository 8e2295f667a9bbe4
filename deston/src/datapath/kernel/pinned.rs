//! Links that outlive the process.
//!
//! The next process finds a link by its name and replaces the program behind it in one step, so that
//! no packet meets an empty hook. A link whose program is of another layout keeps it until the new
//! maps are filled.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use aya::programs::ProgramError;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::SchedClassifierLink;
use aya::programs::xdp::XdpLink;
use nix::libc;

use super::attach::{filter, keep_filter};
use super::error::{AttachError, errno};
use super::link::{Kind, LinkName};
use super::pin::{self, PinError};
use super::{Kernel, KernelError, TC, XDP, sys, tc_mut, xdp_mut};

/// A link whose program is of another layout.
#[derive(Debug)]
pub(super) struct Deferred {
    interface: String,
    name: LinkName,
    /// Where it is pinned.
    pin: PathBuf,
}

/// A link that stands.
struct Standing {
    name: LinkName,
    pin: PathBuf,
    is_of_this_layout: bool,
}

impl Kernel {
    /// Attaches by the link of a name, which may stand already.
    pub(super) fn attach_pinned(
        &mut self,
        interface: &str,
        name: LinkName,
    ) -> Result<(), AttachError> {
        let mut stands = false;
        for standing in self.standing()? {
            let there = standing.name;
            let is_there = there.index == name.index && there.namespace == name.namespace;
            if !is_there || there.kind.hook() != name.kind.hook() {
                continue;
            }
            if there.kind != name.kind {
                // A link cannot change its mode.
                remove_link(there, &standing.pin)?;
            } else if !standing.is_of_this_layout {
                let interface = interface.to_owned();
                self.deferred.push(Deferred { interface, name, pin: standing.pin });
                stands = true;
            } else {
                let replaced = self.replace(interface, name, &standing.pin)?;
                // A filter's record has to name the new program.
                stands = matches!(replaced, Some(Replaced::Link(_)));
                if !stands {
                    pin::unpin(&standing.pin)?;
                }
            }
        }
        if !stands {
            self.link_and_pin(interface, name)?;
        }
        self.claimed.insert(name);
        Ok(())
    }

    /// Ends the adoption of what the process before left, once the maps are filled: programs of
    /// another layout are replaced, and what is attached where this process attached nothing is
    /// detached.
    pub fn take_over(&mut self) -> Result<(), AttachError> {
        // An interface that goes wrong is no reason to leave the others as they are.
        let mut failed = None;
        for deferred in std::mem::take(&mut self.deferred) {
            if let Err(error) = self.renew(&deferred) {
                let interface = deferred.interface;
                tracing::warn!(interface, %error, "the program of another version is not replaced");
                failed = failed.or(Some(error));
            }
        }
        for Standing { name, pin, .. } in self.standing()? {
            if !self.claimed.contains(&name) {
                tracing::info!(link = %name, "detached: nothing needs it any more");
                remove_link(name, &pin)?;
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        if let Some(instance) = &self.instance {
            for home in instance.other_homes()? {
                pin::remove_tree(&home)?;
                let home = home.display();
                tracing::warn!(%home, "maps of another version are removed, with their flows");
            }
        }
        self.forget_other_stages()?;
        Ok(())
    }

    /// Puts the program behind a link that waited for the maps to be filled.
    fn renew(&mut self, Deferred { interface, name, pin }: &Deferred) -> Result<(), AttachError> {
        let Some(own) = self.path(*name) else { return Ok(()) };
        match self.replace(interface, *name, pin)? {
            Some(Replaced::Link(link)) => pin_link(interface, link, &own)?,
            Some(Replaced::Filter) | None => self.link_and_pin(interface, *name)?,
        }
        Ok(pin::unpin(pin)?)
    }

    pub(super) fn detach_pinned(&mut self, name: LinkName) -> Result<(), KernelError> {
        self.claimed.remove(&name);
        self.deferred.retain(|deferred| deferred.name != name);
        for standing in self.standing()? {
            if standing.name == name {
                remove_link(name, &standing.pin)?;
            }
        }
        Ok(())
    }

    /// Where the link of a name is pinned, if links are.
    fn path(&self, name: LinkName) -> Option<PathBuf> {
        self.instance.as_ref().map(|instance| instance.links().join(name.to_string()))
    }

    /// The links that stand, those of this layout first.
    fn standing(&self) -> Result<Vec<Standing>, PinError> {
        // What stands there after ours was taken away is another process's.
        let ours = self.instance.as_ref().filter(|instance| instance.is_ours());
        let Some(instance) = ours else { return Ok(Vec::new()) };
        let others = instance.other_homes()?.into_iter().map(|home| (home.join("links"), false));
        let mut standing = Vec::new();
        for (links, is_of_this_layout) in [(instance.links(), true)].into_iter().chain(others) {
            for file in pin::entries(&links)? {
                if let Ok(name) = file.parse() {
                    standing.push(Standing { name, pin: links.join(file), is_of_this_layout });
                }
            }
        }
        Ok(standing)
    }

    /// Puts this process's program behind a link that stands; `None` if its interface is gone.
    fn replace(
        &mut self,
        interface: &str,
        name: LinkName,
        pin: &Path,
    ) -> Result<Option<Replaced>, AttachError> {
        let refused = |source| AttachError::Refused { interface: interface.to_owned(), source };
        let no_link = |source| AttachError::Link { interface: interface.to_owned(), source };
        let gone = |error: ProgramError| match errno(&error) {
            Some(libc::ENOLINK) => Ok(None),
            Some(_) | None => Err(refused(error)),
        };
        let open = || PinnedLink::from_pin(pin).map(FdLink::from);
        let link: FdLink = match name.kind {
            Kind::Filter => return Ok(self.replace_filter(interface)?.then_some(Replaced::Filter)),
            Kind::Native | Kind::Generic => {
                let xdp = xdp_mut(&mut self.ebpf, XDP)?;
                let link = open().and_then(XdpLink::try_from).map_err(no_link)?;
                match xdp.attach_to_link(link) {
                    Ok(id) => xdp.take_link(id).map_err(refused)?.try_into().map_err(no_link)?,
                    Err(error) => return gone(error),
                }
            }
            Kind::Tcx => {
                let tc = tc_mut(&mut self.ebpf, TC)?;
                let link = open().and_then(SchedClassifierLink::try_from).map_err(no_link)?;
                match tc.attach_to_link(link) {
                    Ok(id) => tc.take_link(id).map_err(refused)?.try_into().map_err(no_link)?,
                    Err(error) => return gone(error),
                }
            }
        };
        Ok(Some(Replaced::Link(link)))
    }

    /// A new link, pinned under its name.
    fn link_and_pin(&mut self, interface: &str, name: LinkName) -> Result<(), AttachError> {
        let Some(path) = self.path(name) else { return Ok(()) };
        let no_link = |source| AttachError::Link { interface: interface.to_owned(), source };
        match name.kind {
            Kind::Native | Kind::Generic => {
                let link = self.link_xdp(interface, name.index, name.kind)?;
                pin_link(interface, link.try_into().map_err(no_link)?, &path)
            }
            Kind::Tcx => {
                let link = self.link_tc(interface, name.kind)?;
                pin_link(interface, link.try_into().map_err(no_link)?, &path)
            }
            Kind::Filter => {
                let link = self.link_tc(interface, name.kind)?;
                let pinned = tc_mut(&mut self.ebpf, TC)?.pin(&path);
                pinned.map_err(|source| not_pinned(interface, source))?;
                keep_filter(link);
                Ok(())
            }
        }
    }
}

/// Takes away a link that is pinned. That it is gone, or its interface, is as well.
pub(super) fn remove_link(name: LinkName, pin: &Path) -> Result<(), PinError> {
    match name.kind {
        Kind::Native | Kind::Generic | Kind::Tcx => {
            if let Ok(link) = sys::open_pin(pin) {
                sys::detach_link(link.as_fd()).map_err(pin::file(pin))?;
            }
        }
        // Where the interface is another namespace's, the filter is out of reach.
        Kind::Filter if name.is_here() => {
            let interface = nix::net::if_::if_indextoname(name.index).ok();
            drop(interface.and_then(|name| filter(&name.to_string_lossy()).ok()));
        }
        Kind::Filter => {}
    }
    pin::unpin(pin)
}

fn pin_link(interface: &str, link: FdLink, path: &Path) -> Result<(), AttachError> {
    link.pin(path).map(drop).map_err(|source| not_pinned(interface, source))
}

fn not_pinned(interface: &str, source: aya::pin::PinError) -> AttachError {
    AttachError::NotPinned { interface: interface.to_owned(), source }
}

/// What stood and has a new program.
enum Replaced {
    Link(FdLink),
    Filter,
}
