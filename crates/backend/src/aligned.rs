//! Memory aligned to a cache line, which vector loads and tile loads want.
//!
//! On Linux large buffers are mapped in huge pages where the system has them: reading weights from memory, which bounds the
//! decoding of few sequences, was 1.4 times as fast that way on a virtual machine, where a miss of the translation buffer
//! costs two walks. Such memory takes no room until it is written.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    fmt,
    ops::{Deref, DerefMut},
    ptr::NonNull,
};

use crate::OutOfMemory;

/// Bytes of a cache line, of an AVX-512 register, and of a row of an AMX tile.
const ALIGNMENT: usize = 64;

/// Bytes of a huge page, where there are any.
#[cfg(target_os = "linux")]
const HUGE_PAGE: usize = 1 << 21;

/// How much of a buffer may be wasted for its last elements to lie in a huge page too.
#[derive(Clone, Copy)]
enum Waste {
    /// A sixteenth.
    Little = 16,
    /// A quarter.
    Some = 4,
}

/// A fixed number of elements, zero at first, aligned to 64 bytes.
pub struct AlignedVec<T: Plain> {
    pointer: NonNull<T>,
    len: usize,
    /// Where the elements lie, if not on the heap.
    mapping: Option<Mapping>,
}

/// Elements for which all-zero bytes are a value, and which need no drop.
///
/// # Safety
/// The implementing type must be valid for any bit pattern and have no drop glue.
pub unsafe trait Plain: Copy + Send + Sync + 'static {}
// SAFETY: plain numbers of which every bit pattern is a value.
unsafe impl Plain for f32 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}

// SAFETY: the vector owns its memory, and `T` is `Send`.
unsafe impl<T: Plain> Send for AlignedVec<T> {}
// SAFETY: shared access only reads, and `T` is `Sync`.
unsafe impl<T: Plain> Sync for AlignedVec<T> {}

impl<T: Plain> AlignedVec<T> {
    /// `len` zeros.
    ///
    /// # Errors
    /// If the system refuses the memory.
    pub fn zeros(len: usize) -> Result<Self, OutOfMemory> {
        Self::with_waste(len, Waste::Little)
    }

    /// No elements, and no memory.
    pub fn empty() -> Self {
        Self { pointer: NonNull::dangling(), len: 0, mapping: None }
    }

    /// As [`zeros`](Self::zeros), for what is read from memory over and over: rather in huge pages than small.
    ///
    /// # Errors
    /// As [`zeros`](Self::zeros).
    pub fn zeros_read_often(len: usize) -> Result<Self, OutOfMemory> {
        Self::with_waste(len, Waste::Some)
    }

    fn with_waste(len: usize, waste: Waste) -> Result<Self, OutOfMemory> {
        let refused = || OutOfMemory::of_host(len.saturating_mul(size_of::<T>()));
        let layout = Self::layout(len).ok_or_else(refused)?;
        if layout.size() == 0 {
            return Ok(Self { pointer: NonNull::dangling(), len, mapping: None });
        }
        if let Some((mapping, pointer)) = Mapping::zeros(layout.size(), waste) {
            return Ok(Self { pointer: pointer.cast(), len, mapping: Some(mapping) });
        }
        // SAFETY: the layout's size is not zero.
        let pointer = unsafe { alloc_zeroed(layout) };
        let pointer = NonNull::new(pointer.cast::<T>()).ok_or_else(refused)?;
        Ok(Self { pointer, len, mapping: None })
    }

    /// Bytes of memory that [`zeros`](Self::zeros) takes for `len` elements once all of them are written: with huge pages,
    /// up to a sixteenth more than the elements.
    pub fn bytes_of(len: usize) -> usize {
        used(len.saturating_mul(size_of::<T>()), Waste::Little)
    }

    /// The same of [`zeros_read_often`](Self::zeros_read_often): up to a quarter more.
    pub fn bytes_read_often(len: usize) -> usize {
        used(len.saturating_mul(size_of::<T>()), Waste::Some)
    }

    /// None if `len` elements exceed the address space.
    fn layout(len: usize) -> Option<Layout> {
        Layout::array::<T>(len).and_then(|l| l.align_to(ALIGNMENT)).ok()
    }
}

/// Memory of the system's, unmapped when it is dropped.
struct Mapping {
    #[cfg(target_os = "linux")]
    start: NonNull<u8>,
    #[cfg(target_os = "linux")]
    len: usize,
}

// SAFETY: it owns its memory, and gives no access to it.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// Of `len` bytes, those that memory is taken for: a last huge page that would stand mostly empty is left to small ones.
#[cfg(target_os = "linux")]
fn used(len: usize, waste: Waste) -> usize {
    match len.checked_next_multiple_of(HUGE_PAGE) {
        Some(whole) if whole - len <= len / waste as usize => whole,
        _ => len,
    }
}

#[cfg(not(target_os = "linux"))]
fn used(len: usize, _: Waste) -> usize {
    len
}

impl Mapping {
    /// At least `len` zero bytes from the returned address on, in huge pages where the system has them; none where `len` is
    /// not worth it, or the system refuses.
    #[cfg(target_os = "linux")]
    fn zeros(len: usize, waste: Waste) -> Option<(Self, NonNull<u8>)> {
        use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
        let used = used(len, waste);
        if used < HUGE_PAGE {
            return None;
        }
        let len = used + HUGE_PAGE; // room to begin at a multiple of a huge page
        let flags = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: new memory, at an address of the system's choice.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), len, flags.0, flags.1) }.ok()?;
        let mapping = Self { start: NonNull::new(start.cast())?, len };
        let skip = mapping.start.as_ptr().align_offset(HUGE_PAGE);
        // SAFETY: `skip` is less than a huge page, by which the mapping is longer than `used`.
        let aligned = unsafe { mapping.start.add(skip) };
        // SAFETY: within the mapping. Without huge pages the advice is refused, and nothing is lost.
        let _ = unsafe { madvise(aligned.as_ptr().cast(), used, Advice::LinuxHugepage) };
        Some((mapping, aligned))
    }

    #[cfg(not(target_os = "linux"))]
    fn zeros(_: usize, _: Waste) -> Option<(Self, NonNull<u8>)> {
        None
    }
}

#[cfg(target_os = "linux")]
impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `zeros`, and unmapped once.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

impl<T: Plain> Drop for AlignedVec<T> {
    fn drop(&mut self) {
        let layout = Self::layout(self.len).expect("memory that was allocated has a layout");
        if layout.size() > 0 && self.mapping.is_none() {
            // SAFETY: allocated in `zeros` with this layout, and freed once.
            unsafe { dealloc(self.pointer.as_ptr().cast(), layout) }
        }
    }
}

impl<T: Plain> Deref for AlignedVec<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `len` initialised elements, or a dangling aligned pointer with `len` 0.
        unsafe { std::slice::from_raw_parts(self.pointer.as_ptr(), self.len) }
    }
}

impl<T: Plain> DerefMut for AlignedVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.as_ptr(), self.len) }
    }
}

impl<T: Plain> fmt::Debug for AlignedVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedVec(len {})", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_zeroed_aligned_and_may_be_empty() {
        for len in [0, 1, 15, 16, 1000, 1 << 19, (1 << 20) - 7, 1 << 21] {
            for v in [AlignedVec::<f32>::zeros(len), AlignedVec::zeros_read_often(len)] {
                let mut v = v.expect("a little memory");
                assert!(v.iter().all(|&x| x == 0.0) && v.len() == len);
                v.fill(1.0);
                assert!(len == 0 || (v.as_ptr() as usize).is_multiple_of(ALIGNMENT));
            }
        }
    }

    #[test]
    fn memory_that_does_not_exist_is_an_error_with_its_size() {
        for len in [usize::MAX, usize::MAX / 8, 1 << 58] {
            let error = AlignedVec::<f32>::zeros(len).expect_err("refused");
            assert_eq!(error.bytes, (len as u64).saturating_mul(4));
            assert!(error.to_string().contains("GiB"), "{error}");
        }
    }
}
