//! Memory aligned to a cache line, which vector loads and tile loads want.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    fmt,
    ops::{Deref, DerefMut},
    ptr::NonNull,
};

/// Bytes of a cache line, of an AVX-512 register, and of a row of an AMX tile.
const ALIGNMENT: usize = 64;
/// Bytes of a large page. Buffers of at least one are aligned to it and ask for them: a fault a page is what making a model's
/// buffers mostly costs, and an entry a page of what reading them does.
const LARGE_PAGE: usize = 2 << 20;

/// A fixed number of zero-initialised numbers, aligned to 64 bytes.
pub struct AlignedVec<T: Plain> {
    pointer: NonNull<T>,
    len: usize,
    /// The allocation that holds them.
    base: *mut u8,
}

/// Numbers for which all-zero bytes are a value, and which need no drop.
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
    /// # Panics
    /// If `len` numbers exceed the address space; the process aborts if the memory can't be had.
    pub fn zeros(len: usize) -> Self {
        let Some((layout, alignment)) = Self::layout(len) else {
            return Self { pointer: NonNull::dangling(), len, base: std::ptr::null_mut() };
        };
        // SAFETY: the layout's size is not zero.
        let base = unsafe { alloc_zeroed(layout) };
        if base.is_null() {
            handle_alloc_error(layout);
        }
        // SAFETY: less than `alignment` bytes on, which the layout has room for.
        let start = unsafe { base.add(base.align_offset(alignment)) };
        if alignment == LARGE_PAGE {
            advise_large_pages(start, len * size_of::<T>());
        }
        // SAFETY: within an allocation, so not null.
        Self { pointer: unsafe { NonNull::new_unchecked(start.cast()) }, len, base }
    }

    /// Of the allocation for `len` numbers, and how they are aligned within it; none for nothing. Asked for no more than
    /// its numbers' own alignment, so that zeros come from the system rather than from writing them.
    fn layout(len: usize) -> Option<(Layout, usize)> {
        let bytes =
            len.checked_mul(size_of::<T>()).filter(|&bytes| bytes <= isize::MAX as usize - LARGE_PAGE);
        let bytes = bytes.unwrap_or_else(|| panic!("a buffer of {len} numbers exceeds the address space"));
        let alignment = if bytes >= LARGE_PAGE { LARGE_PAGE } else { ALIGNMENT };
        let layout = Layout::from_size_align(bytes + alignment, align_of::<T>());
        layout.ok().filter(|_| bytes > 0).map(|layout| (layout, alignment))
    }
}

/// Asks the system to back `bytes` from `start` on by large pages. It may decline.
#[cfg(target_os = "linux")]
fn advise_large_pages(start: *mut u8, bytes: usize) {
    // SAFETY: whole pages within an allocation of ours, of which this changes no content.
    unsafe { libc::madvise(start.cast(), bytes / LARGE_PAGE * LARGE_PAGE, libc::MADV_HUGEPAGE) };
}

/// Elsewhere the system decides by itself.
#[cfg(not(target_os = "linux"))]
fn advise_large_pages(_: *mut u8, _: usize) {}

impl<T: Plain> From<&[T]> for AlignedVec<T> {
    fn from(values: &[T]) -> Self {
        let mut v = Self::zeros(values.len());
        v.copy_from_slice(values);
        v
    }
}

impl<T: Plain> Drop for AlignedVec<T> {
    fn drop(&mut self) {
        if let Some((layout, _)) = Self::layout(self.len) {
            // SAFETY: allocated in `zeros` with this layout, and freed once.
            unsafe { dealloc(self.base, layout) }
        }
    }
}

impl<T: Plain> Deref for AlignedVec<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `len` initialised numbers, or a dangling aligned pointer with `len` 0.
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
        for len in [0, 1, 15, 16, 1000, (1 << 20) - 1, (1 << 20) + 1, 3 << 20] {
            let v = AlignedVec::<f32>::zeros(len);
            assert!(v.iter().all(|&x| x == 0.0) && v.len() == len);
            assert!(len == 0 || (v.as_ptr() as usize).is_multiple_of(ALIGNMENT));
        }
    }
}
