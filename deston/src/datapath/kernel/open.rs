//! Opening the maps that an instance has pinned, beside its process or after it.

use aya::programs::{ProgramType, loaded_programs};
use aya::sys::is_program_supported;

use super::link::LinkName;
use super::maps::{Maps, Pins};
use super::pin::{self, Instance, PinError};
use super::{Hook, KernelError, layout};

/// Why the maps of an instance cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum NoMaps {
    /// Nothing of that name is pinned.
    #[error(
        "instance `{name}` has nothing pinned{others}: it does not run, or no listener of it is in \
         the kernel, or its `[kernel] pin` is false, and then its maps are its own"
    )]
    NotPinned {
        /// The instance.
        name: String,
        /// Those that there are, to be told.
        others: Others,
    },
    /// What is pinned is of a build with other maps.
    #[error(
        "instance `{0}` is of another build of deston, whose maps this one cannot read: use the \
         program that runs it"
    )]
    OtherBuild(String),
    /// The pins could not be read.
    #[error("{0} (this needs root)")]
    Pin(#[from] PinError),
    /// A map could not be opened.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// The instances that there are, for somebody who meant one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Others(Vec<String>);

impl std::fmt::Display for Others {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " (there are: {})", self.0.join(", ")) }
    }
}

impl Maps {
    /// Opens the maps that an instance has pinned, whether or not a process holds it.
    pub fn of_instance(name: &str) -> Result<Self, NoMaps> {
        Ok(Self::take(&mut Pins(&standing(name)?.maps()))?)
    }
}

/// Whether an instance has an XDP program at an interface of this thread's namespace, by what it has
/// pinned.
pub(in crate::datapath) fn has_xdp_link(instance: &str, index: u32) -> bool {
    let homes = Instance::of_another(instance).homes().unwrap_or_default();
    let links = homes.iter().flat_map(|home| pin::entries(&home.join("links")).unwrap_or_default());
    links
        .filter_map(|name| name.parse::<LinkName>().ok())
        .any(|link| link.kind.hook() == Hook::Xdp && link.index == index && link.is_here())
}

/// Whether the kernel runs XDP programs; `None` if it does not tell us, for want of privileges.
pub fn has_bpf() -> Option<bool> {
    is_program_supported(ProgramType::Xdp).ok()
}

/// The name of a program, if the kernel tells.
pub(in crate::datapath) fn program_name(id: u32) -> Option<String> {
    let program = loaded_programs().filter_map(Result::ok).find(|program| program.id() == id)?;
    program.name_as_str().map(str::to_owned)
}

/// An instance that has maps of this build's layout.
pub(super) fn standing(name: &str) -> Result<Instance, NoMaps> {
    let others = pin::instances()?;
    // A name that is none, such as `..`, is not among them.
    if !others.iter().any(|there| there == name) {
        return Err(NoMaps::NotPinned { name: name.to_owned(), others: Others(others) });
    }
    let instance = Instance::of_another(name);
    if !pin::entries(&instance.maps())?.is_empty() {
        return Ok(instance);
    }
    tracing::debug!(layout = layout::LAYOUT, "no maps of this layout");
    if instance.other_homes()?.is_empty() {
        return Err(NoMaps::NotPinned { name: name.to_owned(), others: Others(Vec::new()) });
    }
    Err(NoMaps::OtherBuild(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_no_instance_is_told_which_there_are() {
        let no = |others: &[&str]| NoMaps::NotPinned {
            name: "web".to_owned(),
            others: Others(others.iter().map(|name| (*name).to_owned()).collect()),
        };
        let told = no(&["edge", "lab"]).to_string();
        assert!(told.starts_with("instance `web` has nothing pinned (there are: edge, lab): "));
        assert!(no(&[]).to_string().starts_with("instance `web` has nothing pinned: it does not"));
    }
}
