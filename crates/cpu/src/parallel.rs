//! Threads, and how large their tasks are.
//!
//! Work is cut into tasks by its size alone. A thread takes tasks that lie side by side, the same ones of each operation if it can
//! (see [`Team`]), and no result depends on which.

use std::io;

use crate::{memory::Disjoint, team::Team};

/// Elements that an element-wise task should at least take, so that starting it costs little beside it.
pub(crate) const TASK_LEN: usize = 1 << 14;

/// Columns of a task that sums over rows: a few cache lines.
pub(crate) const TASK_COLUMNS: usize = 64;

/// How many rows of `features` elements make a task.
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
