//! The loaded programs and typed handles to their maps.

use aya::maps::{Array, ArrayOfMaps, HashMap, MapData, PerCpuArray};
use aya::programs::xdp::XdpLinkId;
use aya::programs::{Xdp, XdpMode as AyaMode};
use aya::{Ebpf, EbpfLoader};
use deston_common::flow::{FlowEntry, FlowKey, ReplyEntry};
use deston_common::listener::{ListenerEntry, ListenerKey};
use deston_common::outcome::Outcome;
use deston_common::server::{Load, ServerEntry, ServerId};
use deston_common::table::Table;

use crate::model::XdpMode;

/// The programs, built by `cargo xtask ebpf` and checked in, so that users need no BPF toolchain.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/deston.bpf.o");

pub(super) const BALANCE: &str = "deston_xdp";
pub(super) const EXPIRE: &str = "deston_expire";

/// Why the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The object could not be loaded.
    #[error("loading the kernel programs: {0}")]
    Load(#[from] aya::EbpfError),
    /// A program is missing or was refused by the verifier.
    #[error("program {name}: {source}")]
    Program {
        /// Its name.
        name: &'static str,
        /// What the kernel said.
        source: aya::programs::ProgramError,
    },
    /// The object lacks a map or a program that this build expects.
    #[error("the kernel object has no `{0}`: it was built from other sources")]
    Missing(&'static str),
    /// A map could not be read or written.
    #[error("map {name}: {source}")]
    Map {
        /// Its name.
        name: &'static str,
        /// What the kernel said.
        source: aya::maps::MapError,
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
         datapath = \"userspace\""
    )]
    Taken(String),
    /// The driver does not do native XDP.
    #[error(
        "interface `{0}` does not support native XDP: use datapath = \"auto\" or \"userspace\" (to \
         try things out, `[kernel] xdp_mode = \"generic\"` works on any interface)"
    )]
    NotNative(String),
    /// The kernel refused for another reason.
    #[error("attaching to interface `{interface}`: {source}")]
    Refused {
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: aya::programs::ProgramError,
    },
}

/// The kernel datapath of this process. Dropping it detaches and forgets everything.
pub struct Kernel {
    pub(super) ebpf: Ebpf,
    listeners: HashMap<MapData, ListenerKey, ListenerEntry>,
    tables: ArrayOfMaps<MapData, Array<MapData, Table>>,
    #[cfg(feature = "testing")]
    pub(super) cursors: Array<MapData, u64>,
    /// Pools that ever had a table: asking the kernel takes 10 ms for each place on Linux 6.1.
    #[cfg(feature = "testing")]
    pub(super) pools_with_table: std::collections::BTreeSet<u32>,
    servers: Array<MapData, ServerEntry>,
    loads: Array<MapData, Load>,
    pub(super) flows: HashMap<MapData, FlowKey, FlowEntry>,
    pub(super) replies: HashMap<MapData, FlowKey, ReplyEntry>,
    outcomes: PerCpuArray<MapData, u64>,
}

/// A program at work on an interface, until `Kernel::detach`.
#[derive(Debug)]
pub struct Attached {
    interface: String,
    index: u32,
    link: XdpLinkId,
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
}

impl Kernel {
    /// Loads the programs, with room for `flows` flows. Needs CAP_BPF, CAP_NET_ADMIN and, for the
    /// clock and map pointers, CAP_PERFMON; root has them.
    pub fn load(flows: u32) -> Result<Self, KernelError> {
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("FLOWS", flows)
            .map_max_entries("REPLIES", flows)
            .load(OBJECT)?;
        for name in [BALANCE, EXPIRE] {
            program_mut(&mut ebpf, name)?
                .load()
                .map_err(|source| KernelError::Program { name, source })?;
        }
        Ok(Self {
            listeners: take(&mut ebpf, "LISTENERS")?,
            tables: take(&mut ebpf, "POOL_TABLES")?,
            #[cfg(feature = "testing")]
            cursors: take(&mut ebpf, "CURSORS")?,
            #[cfg(feature = "testing")]
            pools_with_table: std::collections::BTreeSet::new(),
            servers: take(&mut ebpf, "SERVERS")?,
            loads: take(&mut ebpf, "LOADS")?,
            flows: take(&mut ebpf, "FLOWS")?,
            replies: take(&mut ebpf, "REPLIES")?,
            outcomes: take(&mut ebpf, "OUTCOMES")?,
            ebpf,
        })
    }

    /// Attaches the balancer to an interface.
    pub fn attach(&mut self, interface: &str, mode: XdpMode) -> Result<Attached, AttachError> {
        let refused = |source| AttachError::Refused { interface: interface.to_owned(), source };
        let index = nix::net::if_::if_nametoindex(interface)
            .map_err(|_| AttachError::NoInterface(interface.to_owned()))?;
        let mode = match mode {
            XdpMode::Native => AyaMode::Driver,
            XdpMode::Generic => AyaMode::Skb,
        };
        let xdp = match self.ebpf.program_mut(BALANCE).map(<&mut Xdp>::try_from) {
            Some(Ok(xdp)) => xdp,
            Some(Err(source)) => return Err(refused(source)),
            None => return Err(refused(aya::programs::ProgramError::NotLoaded)),
        };
        let link = xdp.attach_to_if_index(index, mode).map_err(|source| match errno(&source) {
            Some(nix::libc::EBUSY | nix::libc::EEXIST) => AttachError::Taken(interface.to_owned()),
            Some(nix::libc::EOPNOTSUPP | nix::libc::EINVAL) => {
                AttachError::NotNative(interface.to_owned())
            }
            Some(_) | None => refused(source),
        })?;
        Ok(Attached { interface: interface.to_owned(), index, link })
    }

    /// Detaches from an interface.
    pub fn detach(&mut self, attached: Attached) -> Result<(), KernelError> {
        program_mut(&mut self.ebpf, BALANCE)?
            .detach(attached.link)
            .map_err(|source| KernelError::Program { name: BALANCE, source })
    }

    /// Writes how a server is reached.
    pub fn put_server(&mut self, id: ServerId, entry: &ServerEntry) -> Result<(), KernelError> {
        self.servers.set(u32::from(id.0), entry, 0).map_err(map("SERVERS"))
    }

    /// How a server is reached, as the kernel sees it.
    pub fn server(&self, id: ServerId) -> Result<ServerEntry, KernelError> {
        self.servers.get(&u32::from(id.0), 0).map_err(map("SERVERS"))
    }

    /// Swaps a pool's table; a packet sees the old one or the new one.
    pub fn put_table(&mut self, pool: u32, table: &Table) -> Result<(), KernelError> {
        let mut inner = Array::<MapData, Table>::create(1, 0).map_err(map("POOL_TABLES"))?;
        inner.set(0, table, 0).map_err(map("POOL_TABLES"))?;
        #[cfg(feature = "testing")]
        self.pools_with_table.insert(pool);
        self.tables.set(pool, &inner, 0).map_err(map("POOL_TABLES"))
    }

    /// Opens or changes a listener. Its pool's table and servers must stand already.
    pub fn put_listener(
        &mut self,
        key: &ListenerKey,
        entry: &ListenerEntry,
    ) -> Result<(), KernelError> {
        self.listeners.insert(key, entry, 0).map_err(map("LISTENERS"))
    }

    /// Forgets a listener; packets of its flows are passed from here on.
    pub fn remove_listener(&mut self, key: &ListenerKey) -> Result<(), KernelError> {
        self.listeners.remove(key).map_err(map("LISTENERS"))
    }

    /// A server's counts of flows.
    pub fn load_of(&self, id: ServerId) -> Result<Load, KernelError> {
        self.loads.get(&u32::from(id.0), 0).map_err(map("LOADS"))
    }

    /// Packets of each outcome since the programs were loaded, in the order of `Outcome::ALL`.
    pub fn outcomes(&self) -> Result<[u64; Outcome::COUNT as usize], KernelError> {
        let mut sums = [0; Outcome::COUNT as usize];
        for (sum, index) in sums.iter_mut().zip(0_u32..) {
            let counts = self.outcomes.get(&index, 0).map_err(map("OUTCOMES"))?;
            *sum = counts.iter().sum();
        }
        Ok(sums)
    }

    /// All flows, as they stand while they are read.
    pub fn flows(&self) -> impl Iterator<Item = FlowEntry> + '_ {
        self.flows.iter().filter_map(|entry| entry.ok().map(|(_, flow)| flow))
    }

    /// The reply entry of a flow.
    pub fn reply(&self, key: &FlowKey) -> Option<ReplyEntry> {
        self.replies.get(key, 0).ok()
    }
}

pub(super) fn program<'a>(ebpf: &'a Ebpf, name: &'static str) -> Result<&'a Xdp, KernelError> {
    ebpf.program(name)
        .ok_or(KernelError::Missing(name))?
        .try_into()
        .map_err(|source| KernelError::Program { name, source })
}

fn program_mut<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, KernelError> {
    ebpf.program_mut(name)
        .ok_or(KernelError::Missing(name))?
        .try_into()
        .map_err(|source| KernelError::Program { name, source })
}

fn take<T: TryFrom<aya::maps::Map, Error = aya::maps::MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, KernelError> {
    let taken = ebpf.take_map(name).ok_or(KernelError::Missing(name))?;
    T::try_from(taken).map_err(map(name))
}

pub(super) fn map(name: &'static str) -> impl Fn(aya::maps::MapError) -> KernelError {
    move |source| KernelError::Map { name, source }
}

/// The system's error number inside an aya error.
fn errno(error: &aya::programs::ProgramError) -> Option<i32> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.raw_os_error();
        }
        source = error.source();
    }
    None
}
