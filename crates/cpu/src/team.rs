//! The threads that share an operation's tasks with the thread that calls it.
//!
//! A pass through a model is hundreds of operations of some ten to some hundred microseconds. A thread that sleeps
//! between two of them wakes as late as a short one ends; so workers watch for the next operation for a while before they
//! sleep, the caller takes tasks too, and a worker that comes late finds the operation closed and is not waited for.
//!
//! Each thread has a share of the tasks that lie side by side, the same of any operation, and takes them in order; who has done its own
//! takes from the end of another's. So rows that one operation wrote are read by the next where they still lie in that core's cache, and
//! no thread waits while there is a task. (Two cores that share no cache lost a third of a training step to rows that changed sides.)
//!
//! All of it hangs on one word, [`Shared::state`]: which operation it is, whether it may still be entered, and how many
//! workers are inside. The caller's closure lives on its stack: it is read only by those who are inside, and the caller
//! leaves only when nobody is.

use std::{
    any::Any,
    cell::UnsafeCell,
    hint::spin_loop,
    io,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Condvar, Mutex, PoisonError, TryLockError,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release, SeqCst},
        },
    },
    thread::{self, JoinHandle},
};

/// How often a worker checks for an operation before it sleeps: some hundred microseconds, longer than the caller takes
/// between two operations of a pass.
const SPINS: usize = 1 << 12;

/// In [`Shared::state`]: workers inside the operation.
const INSIDE: u64 = (1 << 16) - 1;
/// In [`Shared::state`]: whether workers may enter.
const OPEN: u64 = 1 << 16;
/// In [`Shared::state`]: what the number of an operation is counted in.
const NUMBER: u64 = 1 << 17;
/// The [`Shared::state`] that ends the workers.
const OVER: u64 = u64::MAX - INSIDE - OPEN;

/// Which operation it is, in [`Shared::state`].
fn number(state: u64) -> u64 {
    state & !(OPEN | INSIDE)
}

/// What an operation's tasks are.
#[derive(Clone, Copy)]
struct Work {
    task: *const (dyn Fn(usize) + Sync),
    tasks: usize,
}

/// Tasks that nobody has taken, side by side: where they start, and in the upper half where they end. In a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Share(AtomicU64);

impl Share {
    const END: u32 = 32;

    fn set(&self, tasks: Range<usize>) {
        self.0.store((tasks.end as u64) << Self::END | tasks.start as u64, Relaxed);
    }

    /// Takes the first task for the thread whose share it is, for another the last.
    fn take(&self, is_own: bool) -> Option<usize> {
        let parts = |x: u64| (x & u64::from(u32::MAX), x >> Self::END);
        let next = |x: u64| {
            let (start, end) = parts(x);
            let rest = if is_own { (start + 1, end) } else { (start, end.wrapping_sub(1)) };
            (start < end).then_some(rest.1 << Self::END | rest.0)
        };
        let before = self.0.fetch_update(Relaxed, Relaxed, next).ok()?;
        let (start, end) = parts(before);
        Some(if is_own { start } else { end - 1 } as usize)
    }
}

struct Shared {
    state: AtomicU64,
    /// Written by the caller while nobody is inside, read by those who are.
    work: UnsafeCell<Option<Work>>,
    /// The caller's share of the tasks, then each worker's.
    shares: Vec<Share>,
    /// Workers that sleep or are about to.
    asleep: AtomicUsize,
    sleep: (Mutex<()>, Condvar),
    /// What the first task that panicked in a worker said.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `work` is written only while the state is closed and nobody is inside, and read only inside; entering and leaving
// order the two. What it points at may be shared among threads, by its type.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

/// Workers that wait for operations.
pub(crate) struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held by the one thread whose operation is being worked on.
    caller: Mutex<()>,
}

impl Team {
    /// # Errors
    /// If the system refuses to start a thread.
    pub(crate) fn new(workers: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            work: UnsafeCell::new(None),
            shares: (0..=workers).map(|_| Share::default()).collect(),
            asleep: AtomicUsize::new(0),
            sleep: (Mutex::new(()), Condvar::new()),
            panic: Mutex::new(None),
        });
        let mut team = Self { shared, workers: Vec::new(), caller: Mutex::new(()) };
        for i in 0..workers {
            let shared = Arc::clone(&team.shared);
            let worker = thread::Builder::new().name(format!("koan-cpu-{i}"));
            team.workers.push(worker.spawn(move || shared.serve(1 + i))?);
        }
        Ok(team)
    }

    pub(crate) fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Runs `task(0)`, …, `task(tasks - 1)`. While another thread's operation is being worked on, and from within a task,
    /// the caller does all of it itself.
    ///
    /// # Panics
    /// If a task does, when no task is running any more.
    pub(crate) fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let _caller = match self.caller.try_lock() {
            Ok(caller) => caller,
            Err(TryLockError::Poisoned(caller)) => caller.into_inner(),
            Err(TryLockError::WouldBlock) => return (0..tasks).for_each(task),
        };
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes, and `Open` does not end before the last worker has left.
        let task: &'static (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(task) };
        let work = Work { task, tasks };
        {
            let _open = shared.open(work);
            // SAFETY: the closure lives on this function's caller's stack.
            unsafe { shared.take_tasks(work, 0) };
        }
        if let Some(panic) = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take() {
            resume_unwind(panic);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.state.store(OVER, SeqCst);
        self.shared.wake();
        for worker in self.workers.drain(..) {
            // A worker catches what its tasks panic with.
            let _ = worker.join();
        }
    }
}

/// An operation that workers may enter. Its end, by a panic too, waits for those inside.
struct Open<'a>(&'a Shared);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut spins = 0;
        let mut state = self.0.state.fetch_and(!OPEN, SeqCst);
        while state & INSIDE != 0 {
            spins += 1;
            if spins < SPINS {
                spin_loop();
            } else {
                thread::yield_now();
            }
            state = self.0.state.load(Acquire);
        }
    }
}

impl Shared {
    /// Lets workers enter. The caller is the only one, and nobody is inside.
    fn open(&self, work: Work) -> Open<'_> {
        // SAFETY: the state is closed and nobody is inside, so nobody reads it.
        unsafe { *self.work.get() = Some(work) };
        self.deal(work.tasks);
        self.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        let state = self.state.load(Relaxed);
        // A worker about to sleep counts itself, then looks at the state once more; here it is the other way round, so one
        // of the two sees the other.
        self.state.store(number(state).wrapping_add(NUMBER) | OPEN, SeqCst);
        if self.asleep.load(SeqCst) > 0 {
            self.wake();
        }
        Open(self)
    }

    /// Gives each thread its share of `tasks`.
    fn deal(&self, tasks: usize) {
        let first = |i: usize| i * tasks / self.shares.len();
        self.shares.iter().enumerate().for_each(|(i, share)| share.set(first(i)..first(i + 1)));
    }

    fn wake(&self) {
        let _lock = self.sleep.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleep.1.notify_all();
    }

    /// Does tasks, those of share `own` first, until none is left.
    ///
    /// # Safety
    /// The work's closure is alive.
    unsafe fn take_tasks(&self, work: Work, own: usize) {
        // SAFETY: by this function's contract.
        let task = unsafe { &*work.task };
        let (others, first) = self.shares.split_at(own);
        for (i, share) in first.iter().chain(others).enumerate() {
            while let Some(i) = share.take(i == 0) {
                task(i);
            }
        }
    }

    /// A worker's life.
    fn serve(&self, own: usize) {
        let mut known = 0;
        loop {
            let mut state = self.wait_for_another(known);
            known = number(state);
            if known == OVER {
                return;
            }
            while state & OPEN != 0 && number(state) == known {
                match self.state.compare_exchange_weak(state, state + 1, Acquire, Acquire) {
                    Ok(_) => {
                        self.work_inside(own);
                        self.state.fetch_sub(1, Release);
                        break;
                    }
                    Err(now) => state = now,
                }
            }
        }
    }

    /// The state, once it is of another operation than the one `known`.
    fn wait_for_another(&self, known: u64) -> u64 {
        for _ in 0..SPINS {
            let state = self.state.load(Acquire);
            if number(state) != known {
                return state;
            }
            spin_loop();
        }
        let mut lock = self.sleep.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.fetch_add(1, SeqCst);
        let state = loop {
            let state = self.state.load(SeqCst);
            if number(state) != known {
                break state;
            }
            lock = self.sleep.1.wait(lock).unwrap_or_else(PoisonError::into_inner);
        };
        self.asleep.fetch_sub(1, SeqCst);
        state
    }

    fn work_inside(&self, own: usize) {
        // SAFETY: this worker is inside: the caller wrote it before, and writes it again after this worker has left.
        let Some(work) = (unsafe { *self.work.get() }) else { return };
        // SAFETY: the caller waits for this worker, so its closure is alive.
        let done = catch_unwind(AssertUnwindSafe(|| unsafe { self.take_tasks(work, own) }));
        if let Err(panic) = done {
            self.deal(0);
            self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, time::Duration};

    use super::*;

    #[test]
    fn each_task_runs_once() {
        let team = Team::new(3).expect("threads");
        for round in 0..2_000_usize {
            let counts: Vec<AtomicUsize> = (0..=round % 37).map(|_| AtomicUsize::new(0)).collect();
            team.run(counts.len(), &|i| {
                counts[i].fetch_add(1, SeqCst);
            });
            assert!(counts.iter().all(|count| count.load(SeqCst) == 1), "round {round}");
            if round % 500 == 0 {
                thread::sleep(Duration::from_millis(5)); // long enough for the workers to fall asleep
            }
        }
    }

    #[test]
    fn callers_at_the_same_time_and_within_a_task_are_served() {
        let team = Team::new(2).expect("threads");
        let count = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        team.run(4, &|_| {
                            team.run(2, &|_| {
                                count.fetch_add(1, SeqCst);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 3 * 200 * 4 * 2);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_goes_on() {
        let team = Team::new(2).expect("threads");
        for bad in 0..8 {
            let run = || {
                team.run(8, &|i| {
                    thread::sleep(Duration::from_micros(200)); // so that workers take some of them
                    assert!(i != bad, "task {i}");
                });
            };
            let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("a panic");
            assert_eq!(
                panic.downcast_ref::<String>().map(String::as_str),
                Some(format!("task {bad}").as_str())
            );
        }
        let count = AtomicUsize::new(0);
        team.run(8, &|_| {
            count.fetch_add(1, SeqCst);
        });
        assert_eq!(count.into_inner(), 8);
    }
}
