//! Memory aligned to a cache line, which vector loads and tile loads want.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    fmt,
    ops::{Deref, DerefMut},
    ptr::NonNull,
};

/// Bytes of a cache line, of an AVX-512 register, and of a row of an AMX tile.
const ALIGNMENT: usize = 64;

/// A fixed number of zero-initialised numbers, aligned to 64 bytes.
pub struct AlignedVec<T: Plain> {
    pointer: NonNull<T>,
    len: usize,
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
        let layout = Self::layout(len);
        if layout.size() == 0 {
            return Self { pointer: NonNull::dangling(), len };
        }
        // SAFETY: the layout's size is not zero.
        let pointer = unsafe { alloc_zeroed(layout) };
        let Some(pointer) = NonNull::new(pointer.cast::<T>()) else { handle_alloc_error(layout) };
        Self { pointer, len }
    }

    fn layout(len: usize) -> Layout {
        let layout = Layout::array::<T>(len).and_then(|l| l.align_to(ALIGNMENT));
        layout.unwrap_or_else(|_| panic!("a buffer of {len} numbers exceeds the address space"))
    }
}

impl<T: Plain> From<&[T]> for AlignedVec<T> {
    fn from(values: &[T]) -> Self {
        let mut v = Self::zeros(values.len());
        v.copy_from_slice(values);
        v
    }
}

impl<T: Plain> Drop for AlignedVec<T> {
    fn drop(&mut self) {
        let layout = Self::layout(self.len);
        if layout.size() > 0 {
            // SAFETY: allocated in `zeros` with this layout, and freed once.
            unsafe { dealloc(self.pointer.as_ptr().cast(), layout) }
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
        for len in [0, 1, 15, 16, 1000] {
            let v = AlignedVec::<f32>::zeros(len);
            assert!(v.iter().all(|&x| x == 0.0) && v.len() == len);
            assert!(len == 0 || (v.as_ptr() as usize).is_multiple_of(ALIGNMENT));
        }
    }
}
