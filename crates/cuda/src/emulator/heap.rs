//! The emulator's memory: NaN where nothing was written, and watched at both ends.

use std::{
    alloc::{Layout, alloc, dealloc},
    collections::{BTreeMap, VecDeque},
    slice,
};

use koan_backend::OutOfMemory;

use crate::device::Address;

/// How CUDA aligns memory.
const ALIGN: usize = 256;
/// Bytes before and behind each allocation that nobody may write.
const ZONE: usize = 256;
/// What memory holds before it is written, and after it was freed: NaN, as f32 or bf16.
const NOTHING: u8 = 0xff;
/// Bytes of freed memory that are kept from reuse, so that a late write is seen.
const KEPT: usize = 32 << 20;

/// Allocations by address.
#[derive(Default)]
pub(super) struct Heap {
    live: BTreeMap<Address, usize>,
    freed: VecDeque<(Address, usize)>,
    freed_bytes: usize,
}

impl Heap {
    pub(super) fn alloc(&mut self, bytes: usize) -> Result<Address, OutOfMemory> {
        let refused = || OutOfMemory { bytes: bytes as u64, free: None };
        let layout = layout(bytes).ok_or_else(refused)?;
        // SAFETY: the layout's size is not 0.
        let start = unsafe { alloc(layout) };
        if start.is_null() {
            return Err(refused());
        }
        // SAFETY: as many bytes as were allocated, and one zone into them.
        let address = unsafe {
            start.write_bytes(NOTHING, layout.size());
            start.add(ZONE) as Address
        };
        self.live.insert(address, bytes);
        Ok(address)
    }

    pub(super) fn free(&mut self, address: Address) {
        let bytes =
            self.live.remove(&address).expect("memory that is freed was allocated, and is freed once");
        // SAFETY: an allocation of so many bytes.
        unsafe { (address as *mut u8).write_bytes(NOTHING, bytes) };
        self.freed.push_back((address, bytes));
        self.freed_bytes += bytes;
        while self.freed_bytes > KEPT {
            self.release_oldest();
        }
    }

    /// Where `bytes` bytes lie, which must be of one allocation.
    pub(super) fn bytes(&self, at: Address, bytes: usize) -> *mut u8 {
        let of = self.live.range(..=at).next_back();
        let inside = of.is_some_and(|(start, len)| at + bytes as u64 <= start + *len as u64);
        assert!(inside, "{bytes} bytes at {at:#x} are not of one allocation");
        at as *mut u8
    }

    /// What was written where nobody may write, if anything was.
    pub(super) fn overrun(&self) -> Option<String> {
        self.live.iter().find_map(|(&address, &bytes)| {
            let (first, last) = (address - ZONE as u64, address + bytes as u64);
            if !nothing_at(first, ZONE) {
                Some(format!("wrote before memory of {bytes} bytes"))
            } else if !nothing_at(last, ZONE) {
                Some(format!("wrote behind memory of {bytes} bytes"))
            } else {
                None
            }
        })
    }

    fn release_oldest(&mut self) {
        let Some((address, bytes)) = self.freed.pop_front() else { return };
        self.freed_bytes -= bytes;
        let untouched = nothing_at(address, bytes);
        // SAFETY: allocated with this layout, one zone before the address, and forgotten here.
        unsafe {
            dealloc((address as *mut u8).sub(ZONE), layout(bytes).expect("it was allocated"));
        }
        assert!(untouched || std::thread::panicking(), "{bytes} bytes were written after they were freed");
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        while !self.freed.is_empty() {
            self.release_oldest();
        }
    }
}

/// Memory of `bytes` between two zones.
fn layout(bytes: usize) -> Option<Layout> {
    Layout::from_size_align(bytes.checked_add(2 * ZONE)?, ALIGN).ok()
}

fn nothing_at(address: Address, bytes: usize) -> bool {
    // SAFETY: the callers name bytes of an allocation or its zones, all of which were written.
    let bytes = unsafe { slice::from_raw_parts(address as *const u8, bytes) };
    bytes.iter().all(|&byte| byte == NOTHING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_outside_of_memory_or_too_late_is_seen() {
        let mut heap = Heap::default();
        let address = heap.alloc(100).expect("a little memory");
        assert_eq!(address % ALIGN as u64, 0);
        assert!(nothing_at(address, 100) && heap.overrun().is_none());
        // SAFETY: bytes of the zones.
        unsafe { (address as *mut u8).add(100).write(0) };
        assert!(heap.overrun().is_some_and(|what| what.contains("behind memory of 100")));
        heap.free(address);
        // SAFETY: freed memory that is still kept.
        unsafe { (address as *mut u8).write(0) };
        let late = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| heap.release_oldest()));
        assert!(late.is_err());
    }
}
