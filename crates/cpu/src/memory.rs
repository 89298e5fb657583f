//! The memory of tasks: what several of them write at once, and what is a thread's own.

use std::{cell::RefCell, marker::PhantomData, ops::Range};

use koan_backend::AlignedVec;

/// Elements of which several tasks write different parts at the same time. The one place where this crate
/// shares memory that is being written.
#[derive(Clone, Copy)]
pub(crate) struct Disjoint<'a, T = f32> {
    start: *mut T,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: it gives access only through `slice` and `pointer`, whose callers keep threads off each other's
// parts.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(x: &'a mut [T]) -> Self {
        Self { start: x.as_mut_ptr(), len: x.len(), owner: PhantomData }
    }

    /// The elements of `range`.
    ///
    /// # Safety
    /// While the slice lives, no other access to these elements happens.
    #[inline(always)]
    #[allow(clippy::mut_from_ref, reason = "that the slices do not overlap is this function's contract")]
    pub(crate) unsafe fn slice(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {} elements", self.len);
        // SAFETY: within the slice that `new` was given; exclusive by this function's contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }

    /// The address of element `i`, for a kernel that writes rows of a part whose last element is `last`.
    #[inline(always)]
    pub(crate) fn pointer(&self, i: usize, last: usize) -> *mut T {
        assert!(i <= last && last < self.len, "{i}..={last} of {} elements", self.len);
        // SAFETY: within the slice that `new` was given.
        unsafe { self.start.add(i) }
    }
}

/// Lends `len` elements of the thread's own memory, which hold anything. Not to be nested.
pub(crate) fn with_scratch<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    thread_local! {
        static SCRATCH: RefCell<AlignedVec<f32>> = RefCell::new(AlignedVec::empty());
    }
    SCRATCH.with_borrow_mut(|scratch| f(grown(scratch, len)))
}

/// The memory of `x` for twice as many bf16.
pub(crate) fn as_bf16(x: &mut [f32]) -> &mut [u16] {
    // SAFETY: it is as large, aligned for more, and any bits are some of each type.
    unsafe { std::slice::from_raw_parts_mut(x.as_mut_ptr().cast(), 2 * x.len()) }
}

/// The first `len` elements of `buf`, which is made longer if it is too short. They hold anything.
pub(crate) fn grown(buf: &mut AlignedVec<f32>, len: usize) -> &mut [f32] {
    if buf.len() < len {
        // Scratch is small beside what is planned for: without it no operation can go on.
        *buf = AlignedVec::zeros(len).unwrap_or_else(|refused| panic!("scratch: {refused}"));
    }
    &mut buf[..len]
}
