//! The rows of a pass on the device: one block of words, uploaded once.

use koan_backend::{Layout, OutOfMemory};

use crate::{cuda::Cuda, device::Address, memory::Memory};

/// A [`Layout`] on a device.
pub struct DeviceLayout {
    /// The layout itself: its sizes are the host's to read.
    pub(crate) host: Layout,
    words: Memory<u32>,
    ids: Part,
    positions: Part,
    cache_rows: Part,
    head_rows: Part,
    targets: Part,
}

/// Words of a block that begin at a multiple of 16 bytes.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    start: usize,
    len: usize,
}

/// A block of words, part by part.
#[derive(Default)]
pub(crate) struct Parts(Vec<u32>);

impl Parts {
    /// Adds a part.
    pub(crate) fn push(&mut self, words: &[u32]) -> Part {
        let start = self.0.len().next_multiple_of(4);
        self.0.resize(start, 0);
        self.0.extend_from_slice(words);
        Part { start, len: words.len() }
    }
}

impl DeviceLayout {
    pub(crate) fn new(cuda: &Cuda, host: Layout) -> Result<Self, OutOfMemory> {
        host.check();
        let mut parts = Parts::default();
        let ids = parts.push(&host.ids);
        let positions = parts.push(&host.positions);
        let cache_rows = parts.push(&host.cache_rows);
        let head_rows = parts.push(&host.head_rows);
        let targets = parts.push(&host.targets);
        let words = Memory::upload(&cuda.device, &parts.0)?;
        Ok(Self { host, words, ids, positions, cache_rows, head_rows, targets })
    }

    fn at(&self, part: Part) -> Address {
        self.words.at(part.start)
    }

    /// u32 `[rows]`
    pub(crate) fn ids(&self) -> Address {
        self.at(self.ids)
    }

    /// u32 `[rows]`
    pub(crate) fn positions(&self) -> Address {
        assert_eq!(self.positions.len, self.host.len(), "a position for each row");
        self.at(self.positions)
    }

    /// u32 `[rows]`, or null without a cache.
    pub(crate) fn cache_rows(&self) -> Address {
        if self.cache_rows.len == 0 { 0 } else { self.at(self.cache_rows) }
    }

    /// u32 `[head rows]`
    pub(crate) fn head_rows(&self) -> Address {
        self.at(self.head_rows)
    }

    /// u32 `[head rows]`
    pub(crate) fn targets(&self) -> Address {
        self.at(self.targets)
    }
}
