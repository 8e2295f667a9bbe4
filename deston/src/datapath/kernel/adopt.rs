//! Loading the programs, on new maps or on those of the process before.

use aya::maps::MapInfo;
use aya::{Ebpf, EbpfLoader};
use aya_obj::{EbpfSectionKind, Object};

use super::events::Endings;
use super::maps::Maps;
use super::names::{self, Names};
use super::pin::{self, Instance};
use super::stages::Stages;
use super::{EXPIRE4, EXPIRE6, Kernel, KernelError, Sizes, TC, XDP, error, tc_mut, xdp_mut};
use crate::model;

/// Maps that each process has for its own programs: those that hold one packet while it is looked at,
/// and the arrays of the later stages, which `stages` pins.
const SCRATCH: [&str; 4] = ["CONTEXT4", "CONTEXT6", "STAGES_XDP", "STAGES_TC"];

/// A map as the object describes it, with the size that is wanted.
struct Wanted {
    name: String,
    map: aya_obj::Map,
    max_entries: u32,
}

impl Kernel {
    /// Loads the programs, with room for so many flows; nothing outlives this process. Needs
    /// CAP_BPF, CAP_NET_ADMIN and, for the clock and map pointers, CAP_PERFMON; root has them.
    pub fn load(sizes: Sizes) -> Result<Self, KernelError> {
        let wanted = wanted(sizes)?;
        Self::from_loader(&mut loader(&wanted), names::create()?)
    }

    /// Loads the programs as `[kernel]` says. With `pin`, maps and links that the last process of
    /// the instance left are adopted; without, they are removed.
    pub fn start(settings: &model::Kernel) -> Result<Self, KernelError> {
        let sizes = Sizes { flows: settings.flows, half_open: settings.half_open };
        tell_orphans(&settings.instance);
        if settings.pin {
            return Self::adopt(Instance::claim(&settings.instance)?, sizes);
        }
        if let Some(instance) = Instance::existing(&settings.instance)? {
            super::detach::remove(instance)?;
        }
        Self::load(sizes)
    }

    /// A start that fails leaves no directory in which nothing is pinned.
    fn adopt(instance: Instance, sizes: Sizes) -> Result<Self, KernelError> {
        match Self::on_maps_of(&instance, sizes) {
            Ok(kernel) => Ok(Self { instance: Some(instance), ..kernel }),
            Err(error) => {
                instance.tidy();
                Err(error)
            }
        }
    }

    fn on_maps_of(instance: &Instance, sizes: Sizes) -> Result<Self, KernelError> {
        let wanted = wanted(sizes)?;
        let directory = instance.maps();
        if !check(&wanted, instance)? {
            instance.clear_maps()?;
        }
        let is_adopted = !pin::entries(&directory)?.is_empty();
        let loaded = names::pinned(&directory).and_then(|names| {
            let mut loader = loader(&wanted);
            for map in wanted.iter().filter(|map| !SCRATCH.contains(&map.name.as_str())) {
                loader.map_pin_path(&map.name, directory.join(&map.name));
            }
            Self::from_loader(&mut loader, names)
        });
        match loaded {
            Ok(kernel) => {
                kernel.stages.pin(&instance.stages())?;
                Ok(Self { is_adopted, ..kernel })
            }
            Err(error) => {
                // Maps that nothing uses would hold their memory until the next start.
                if !is_adopted {
                    instance.clear_maps()?;
                }
                Err(error)
            }
        }
    }

    fn from_loader(loader: &mut EbpfLoader<'_>, names: Names) -> Result<Self, KernelError> {
        let mut ebpf: Ebpf = loader.load(object())?;
        let stages = Stages::load(&mut ebpf)?;
        for name in [XDP, EXPIRE4, EXPIRE6] {
            xdp_mut(&mut ebpf, name)?.load().map_err(error::program(name))?;
        }
        tc_mut(&mut ebpf, TC)?.load().map_err(error::program(TC))?;
        // First: they share maps with the others.
        let endings = Endings::take(&mut ebpf)?;
        Ok(Self {
            maps: Maps::take(&mut ebpf)?,
            endings: Some(endings),
            #[cfg(feature = "testing")]
            traces: super::maps::take(&mut ebpf, "TRACES")?,
            names,
            instance: None,
            is_adopted: false,
            claimed: Default::default(),
            deferred: Vec::new(),
            stages,
            ebpf,
        })
    }

    /// Whether the maps are those of a process before this one: they hold its listeners, servers
    /// and flows.
    pub fn is_adopted(&self) -> bool {
        self.is_adopted
    }
}

/// Tells of other instances that no process holds: what they have attached goes on.
fn tell_orphans(own: &str) {
    for orphan in pin::orphans(own).unwrap_or_default() {
        tracing::warn!(
            instance = orphan,
            "another instance is in the kernel without its process: unless that shall go on, \
             `deston detach --instance {orphan}` removes it"
        );
    }
}

/// The programs' object.
#[cfg(not(feature = "testing"))]
fn object() -> &'static [u8] {
    super::OBJECT
}

#[cfg(feature = "testing")]
use super::testing::object;

/// The maps of the object.
fn wanted(sizes: Sizes) -> Result<Vec<Wanted>, KernelError> {
    let object = Object::parse(object()).map_err(KernelError::Object)?;
    let maps = object.maps.into_iter();
    // Constants and variables of the programs, if there are any, go with the programs.
    let maps = maps.filter(|(_, map)| map.section_kind() == EbpfSectionKind::BtfMaps);
    Ok(maps
        .map(|(name, map)| {
            let max_entries = match name.as_str() {
                "FLOWS4" | "FLOWS6" | "REPLIES4" | "REPLIES6" => sizes.flows,
                "HALF_FLOWS4" | "HALF_FLOWS6" | "HALF_REPLIES4" | "HALF_REPLIES6" => {
                    sizes.half_open
                }
                _ => map.max_entries(),
            };
            Wanted { name, map, max_entries }
        })
        .collect())
}

fn loader(wanted: &[Wanted]) -> EbpfLoader<'_> {
    let mut loader = EbpfLoader::new();
    for map in wanted {
        loader.map_max_entries(&map.name, map.max_entries);
    }
    loader
}

/// Makes sure that the pinned maps are what the programs expect: what is of another shape, the
/// verifier would not always notice. Maps of another size are kept, with their flows, unless no
/// program uses them any more: then the answer is `false`.
fn check(wanted: &[Wanted], instance: &Instance) -> Result<bool, KernelError> {
    let is_used = !pin::entries(&instance.links())?.is_empty();
    let stand = pin::entries(&instance.maps())?;
    for Wanted { name, map, max_entries } in wanted.iter().filter(|map| stand.contains(&map.name)) {
        let failed = |source| KernelError::Pinned { name: name.clone(), source };
        let info = MapInfo::from_pin(instance.maps().join(name)).map_err(failed)?;
        let is_same = info.map_type().map_err(failed)? as u32 == map.map_type()
            && info.key_size() == map.key_size()
            && info.value_size() == map.value_size()
            && info.map_flags() == map.map_flags();
        if !is_same {
            let instance = instance.name().to_owned();
            return Err(KernelError::Shape { name: name.clone(), instance });
        }
        if info.max_entries() != *max_entries {
            if !is_used {
                return Ok(false);
            }
            tracing::warn!(
                map = name,
                entries = info.max_entries(),
                wanted = max_entries,
                "a pinned map keeps its size; `deston detach` and a new start give it the other, \
                 and end all flows"
            );
        }
    }
    Ok(true)
}
