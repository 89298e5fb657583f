//! Threads, and memory that several of them write at once.
//!
//! Work is cut into tasks by its size alone; which thread takes which task is left to chance, and no result
//! depends on it.

use std::{cell::RefCell, io, marker::PhantomData, ops::Range};

use koan_backend::AlignedVec;

use crate::team::Team;

/// Numbers that an element-wise task should at least take, so that starting it costs little beside it.
pub(crate) const TASK_LEN: usize = 1 << 14;

/// How many rows of `features` numbers make a task.
pub(crate) fn task_rows(features: usize) -> usize {
    (TASK_LEN / features.max(1)).max(1)
}

/// A fixed number of threads, of which the caller is one.
pub(crate) struct Threads {
    team: Team,
}

impl Threads {
    pub(crate) fn new(count: usize) -> io::Result<Self> {
        Ok(Self { team: Team::new(count.max(1) - 1)? })
    }

    pub(crate) fn count(&self) -> usize {
        1 + self.team.workers()
    }

    /// Runs `task(0)`, …, `task(tasks - 1)`, in any order.
    pub(crate) fn run(&self, tasks: usize, task: impl Fn(usize) + Sync) {
        if tasks > 1 && self.team.workers() > 0 {
            self.team.run(tasks, &task);
        } else {
            (0..tasks).for_each(task);
        }
    }

    /// Cuts each output, given with the length of its chunks, into the same number of chunks; the last may be
    /// shorter. Runs `task(i, chunks)` for the `i`th chunks of all outputs.
    pub(crate) fn chunks<const N: usize>(
        &self,
        outputs: [(&mut [f32], usize); N],
        task: impl Fn(usize, [&mut [f32]; N]) + Sync,
    ) {
        let tasks = outputs[0].0.len().div_ceil(outputs[0].1);
        let outputs = outputs.map(|(y, len)| {
            assert_eq!(y.len().div_ceil(len), tasks, "outputs of different lengths");
            (y.len(), len, Disjoint::new(y))
        });
        self.run(tasks, |i| {
            let chunks = outputs.each_ref().map(|(total, len, y)| {
                // SAFETY: chunk `i` belongs to task `i`, of which there is one.
                unsafe { y.slice(i * len..((i + 1) * len).min(*total)) }
            });
            task(i, chunks);
        });
    }
}

/// Numbers of which several tasks write different parts at the same time. The one place where this crate
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

    /// The numbers of `range`.
    ///
    /// # Safety
    /// While the slice lives, no other access to these numbers happens.
    #[inline(always)]
    #[allow(clippy::mut_from_ref, reason = "that the slices do not overlap is this function's contract")]
    pub(crate) unsafe fn slice(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {} numbers", self.len);
        // SAFETY: within the slice that `new` was given; exclusive by this function's contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }

    /// The address of number `i`, for a kernel that writes rows of a part whose last number is `last`.
    #[inline(always)]
    pub(crate) fn pointer(&self, i: usize, last: usize) -> *mut T {
        assert!(i <= last && last < self.len, "{i}..={last} of {} numbers", self.len);
        // SAFETY: within the slice that `new` was given.
        unsafe { self.start.add(i) }
    }
}

/// Lends `len` numbers of the thread's own memory, which hold anything. Not to be nested.
pub(crate) fn with_scratch<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    thread_local! {
        static SCRATCH: RefCell<AlignedVec<f32>> = RefCell::new(AlignedVec::empty());
    }
    SCRATCH.with_borrow_mut(|scratch| f(grown(scratch, len)))
}

/// The first `len` numbers of `buf`, which is made longer if it is too short. They hold anything.
pub(crate) fn grown(buf: &mut AlignedVec<f32>, len: usize) -> &mut [f32] {
    if buf.len() < len {
        // Scratch is small beside what is planned for: without it no operation can go on.
        *buf = AlignedVec::zeros(len).unwrap_or_else(|refused| panic!("scratch: {refused}"));
    }
    &mut buf[..len]
}
