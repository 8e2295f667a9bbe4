//! What maps hold, whichever maps there are: remembered once, and restored by bpf(2).
//!
//! Arrays get their values back, tables of keys and arrays of maps become empty, as they are when
//! loaded. Other kinds (ring buffers, tables of programs or devices) stay as they are.

use std::ffi::c_long;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::libc;

/// Commands of bpf(2) (`enum bpf_cmd`, linux/bpf.h).
mod command {
    pub(super) const LOOKUP: u32 = 1;
    pub(super) const UPDATE: u32 = 2;
    pub(super) const DELETE: u32 = 3;
    pub(super) const NEXT_KEY: u32 = 4;
    pub(super) const FD_BY_ID: u32 = 14;
    pub(super) const INFO_BY_FD: u32 = 15;
    pub(super) const LOOKUP_BATCH: u32 = 24;
    pub(super) const UPDATE_BATCH: u32 = 26;
}

/// Programs may not write to the map (`BPF_F_RDONLY_PROG`): its values never change.
const READ_ONLY: u32 = 1 << 7;

/// The start of `struct bpf_map_info`.
#[repr(C)]
#[derive(Debug, Default)]
struct Info {
    kind: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    name: [u8; 16],
}

/// The members of `union bpf_attr` for commands on one element.
#[repr(C)]
#[derive(Default)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    /// Also where the value is.
    next_key: u64,
    flags: u64,
}

/// The members of `union bpf_attr` for commands on many elements.
#[repr(C)]
#[derive(Default)]
struct Batch {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// What the maps of some programs hold.
#[derive(Debug)]
pub(super) struct Contents(Vec<(Map, Held)>);

#[derive(Debug)]
pub(super) struct Map {
    fd: OwnedFd,
    info: Info,
}

#[derive(Debug)]
enum Held {
    /// Every value of an array.
    Values(Vec<u8>),
    /// No key.
    Nothing,
}

impl Contents {
    /// What the maps with these numbers hold, those just loaded.
    pub(super) fn of(ids: &[u32]) -> Self {
        let held = ids.iter().filter_map(|id| {
            let map = Map::open(*id).expect("a loaded program's map can be opened");
            let held = map.held().expect("a map can be read")?;
            Some((map, held))
        });
        Self(held.collect())
    }

    /// Makes them hold that again.
    pub(super) fn restore(&self) {
        for (map, held) in &self.0 {
            match held {
                Held::Values(values) => map.fill(values),
                Held::Nothing => map.empty(),
            }
            .unwrap_or_else(|error| panic!("{map:?} is not restored: {error}"));
        }
    }
}

impl Map {
    /// The map of that name among those with these numbers. The kernel keeps 15 bytes of a name.
    pub(super) fn named(ids: &[u32], name: &str) -> Option<Self> {
        ids.iter().find_map(|id| {
            let map = Self::open(*id).expect("a loaded program's map can be opened");
            let end = map.info.name.iter().position(|byte| *byte == 0).unwrap_or(16);
            (map.info.name[..end] == name.as_bytes()[..name.len().min(15)]).then_some(map)
        })
    }

    /// The value under a key.
    pub(super) fn get(&self, key: &mut [u8]) -> Result<Vec<u8>> {
        let mut value = vec![0; self.info.value_size as usize];
        self.element(command::LOOKUP, key, &mut value)?;
        Ok(value)
    }

    /// Writes a value under a key.
    pub(super) fn put(&self, key: &mut [u8], value: &[u8]) -> Result<()> {
        assert_eq!(value.len(), self.info.value_size as usize, "the value's size");
        self.element(command::UPDATE, key, &mut value.to_vec()).map(drop)
    }

    fn element(&self, command: u32, key: &mut [u8], value: &mut [u8]) -> Result<c_long> {
        assert_eq!(key.len(), self.info.key_size as usize, "the key's size");
        let mut element = Element {
            map: self.number(),
            key: address(key.as_mut_ptr()),
            next_key: address(value.as_mut_ptr()),
            ..Element::default()
        };
        bpf(command, &mut element)
    }

    fn open(id: u32) -> Result<Self> {
        let mut attributes = [id, 0, 0];
        let fd = bpf(command::FD_BY_ID, &mut attributes)?;
        let fd = i32::try_from(fd).map_err(Error::other)?;
        // SAFETY: the kernel has just made it, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut info = Info::default();
        #[repr(C)]
        struct Ask {
            fd: u32,
            length: u32,
            info: u64,
        }
        let length = size_of::<Info>() as u32;
        bpf(
            command::INFO_BY_FD,
            &mut Ask { fd: fd.as_raw_fd().unsigned_abs(), length, info: address(&raw mut info) },
        )?;
        Ok(Self { fd, info })
    }

    /// `None` for maps that are left alone. The numbers are those of `enum bpf_map_type`.
    fn held(&self) -> Result<Option<Held>> {
        Ok(match self.info.kind {
            _ if self.info.flags & READ_ONLY != 0 => None,
            // Array; for each processor.
            2 => Some(Held::Values(self.values(self.info.value_size as usize)?)),
            6 => {
                let each = self.info.value_size.next_multiple_of(8) as usize;
                Some(Held::Values(self.values(each * possible_processors()?)?))
            }
            // Hash, hash for each processor, both evicting, prefixes, array of maps, hash of maps.
            1 | 5 | 9 | 10 | 11 | 12 | 13 => Some(Held::Nothing),
            _ => None,
        })
    }

    fn values(&self, size: usize) -> Result<Vec<u8>> {
        let mut values = vec![0; size * self.info.max_entries as usize];
        self.batch(command::LOOKUP_BATCH, values.as_mut_ptr())?;
        Ok(values)
    }

    fn fill(&self, values: &[u8]) -> Result<()> {
        self.batch(command::UPDATE_BATCH, values.as_ptr().cast_mut())
    }

    /// Reads or writes all values of an array; `values` has room for them.
    fn batch(&self, command: u32, values: *mut u8) -> Result<()> {
        let mut keys: Vec<u32> = (0..self.info.max_entries).collect();
        let mut next = 0_u32;
        let mut batch = Batch {
            to: address(&raw mut next),
            keys: address(keys.as_mut_ptr()),
            values: address(values),
            count: self.info.max_entries,
            map: self.number(),
            ..Batch::default()
        };
        match bpf(command, &mut batch) {
            // Said by a lookup that came to the end.
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ if batch.count != self.info.max_entries => Err(Error::other("not all values")),
            _ => Ok(()),
        }
    }

    fn empty(&self) -> Result<()> {
        let mut key = vec![0_u8; self.info.key_size as usize];
        let mut next = key.clone();
        let mut at = 0;
        loop {
            let mut element = Element {
                map: self.number(),
                key: at,
                next_key: address(next.as_mut_ptr()),
                ..Element::default()
            };
            let more = bpf(command::NEXT_KEY, &mut element);
            if at != 0 {
                self.delete(&mut key)?;
            }
            match more {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            }
            key.copy_from_slice(&next);
            at = address(key.as_mut_ptr());
        }
    }

    /// Deletes a key; an array of maps names keys that have no map.
    fn delete(&self, key: &mut [u8]) -> Result<()> {
        let mut element =
            Element { map: self.number(), key: address(key.as_mut_ptr()), ..Element::default() };
        match bpf(command::DELETE, &mut element) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn number(&self) -> u32 {
        self.fd.as_raw_fd().unsigned_abs()
    }
}

fn address<T>(pointer: *mut T) -> u64 {
    pointer.addr() as u64
}

/// bpf(2) with one of the structures above, or words laid out alike.
fn bpf<T>(command: u32, attributes: &mut T) -> Result<c_long> {
    // SAFETY: the kernel reads and writes as many bytes as it is told; the addresses in them are
    // those of buffers that live in the callers, of the sizes that the map's description asks for.
    let answer = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>())
    };
    if answer < 0 { Err(Error::last_os_error()) } else { Ok(answer) }
}

/// Processors that a map for each processor has values for, such as 4 of `0-3`.
fn possible_processors() -> Result<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = text.trim().rsplit(['-', ',']).next().and_then(|last| last.parse::<usize>().ok());
    last.map(|last| last + 1).ok_or_else(|| Error::other(format!("processors `{text}`")))
}
