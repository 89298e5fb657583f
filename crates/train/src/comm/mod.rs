//! Ranks: processes, on one machine or on many, that make one run together.
//!
//! ```text
//! problems, texts and shards are dealt to ranks by rule; each samples, judges and learns what is its own
//! counts, what was found out, and gradients are summed over ranks in an order that does not depend on their number
//! rank 0 writes the run's directory; all read it
//! ```
//!
//! - [`Comm`]: what a transport does, an exchange between two ranks; [`Alone`], [`threads`]: one rank, and ranks in one process; `Mpi`, in
//!   programs built with the feature `mpi`: processes that `mpirun` or `srun` started,
//! - [`Ranks`]: what is made of exchanges: gathering, sums,
//! - [`Shards`]: the parts of an update, and whose they are; [`Parts`]: how many.

mod error;
#[cfg(feature = "mpi")]
mod mpi;
mod shards;
mod sum;
mod threads;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytemuck::Pod;
use serde::{Serialize, de::DeserializeOwned};

#[cfg(feature = "mpi")]
pub use self::mpi::Mpi;
pub use error::CommError;
pub use shards::{Parts, Shards};
pub use threads::threads;

/// A transport between ranks.
pub trait Comm: Send + Sync {
    /// This rank's number, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn ranks(&self) -> usize;

    /// Sends `send` to rank `peer`, and receives from it so many bytes, at the same time. Two ranks call it for each other, in the
    /// same order.
    ///
    /// # Errors
    /// If a rank has ended, or the transport fails.
    fn exchange(&self, peer: usize, send: Vec<u8>, receive: usize) -> Result<Vec<u8>, CommError>;

    /// Tells all others that this rank ends, and why: so do they then, by [`CommError::Ended`].
    fn end(&self, why: &str);

    /// The run is over on all ranks: nothing is exchanged any more.
    fn finish(&self) {}
}

/// The one rank of a run that is made by one process.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Comm for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn ranks(&self) -> usize {
        1
    }

    fn exchange(&self, peer: usize, _: Vec<u8>, _: usize) -> Result<Vec<u8>, CommError> {
        Err(CommError::Transport(format!("there is no rank {peer}")))
    }

    fn end(&self, _: &str) {}
}

/// The ranks of a run, seen from one of them.
#[derive(Clone)]
pub struct Ranks {
    comm: Arc<dyn Comm>,
    /// Time spent waiting for others, since it was last taken.
    waited: Arc<Mutex<Duration>>,
}

impl Ranks {
    /// Ranks that reach each other by `comm`.
    ///
    /// # Errors
    /// If their number is no power of two.
    pub fn new(comm: Arc<dyn Comm>) -> Result<Self, CommError> {
        match comm.ranks() {
            ranks if ranks.is_power_of_two() => Ok(Self { comm, waited: Arc::default() }),
            ranks => Err(CommError::Number { ranks }),
        }
    }

    /// One rank.
    pub fn alone() -> Self {
        Self { comm: Arc::new(Alone), waited: Arc::default() }
    }

    /// This rank's number, from 0.
    pub fn rank(&self) -> usize {
        self.comm.rank()
    }

    /// How many there are: a power of two.
    pub fn ranks(&self) -> usize {
        self.comm.ranks()
    }

    /// Whether there are several.
    pub fn are_several(&self) -> bool {
        self.ranks() > 1
    }

    /// Whether this is the rank that writes.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Refuses several ranks: `what`, a sentence without an end, works on one alone.
    ///
    /// # Errors
    /// If there are several.
    pub fn refuse_several(&self, what: &'static str) -> Result<(), CommError> {
        match self.ranks() {
            1 => Ok(()),
            ranks => Err(CommError::OneRankOnly { what, ranks }),
        }
    }

    /// Tells all others that this rank ends, and why.
    pub fn end(&self, why: &str) {
        self.comm.end(why);
    }

    /// Waits until the run is over on all ranks, and takes leave of them.
    ///
    /// # Errors
    /// If a rank has ended before.
    pub fn finish(&self) -> Result<(), CommError> {
        self.meet()?;
        self.comm.finish();
        Ok(())
    }

    /// Sends `send` to rank `peer`, and receives `n` elements from it.
    fn exchange<T: Pod>(&self, peer: usize, send: &[T], n: usize) -> Result<Vec<T>, CommError> {
        let send = bytemuck::cast_slice(send).to_vec();
        let received = self.comm.exchange(peer, send, n * size_of::<T>())?;
        Ok(bytemuck::pod_collect_to_vec(&received))
    }

    /// The same with bytes whose number only the sender knows.
    fn exchange_any(&self, peer: usize, send: &[u8]) -> Result<Vec<u8>, CommError> {
        let [n] = self.exchange(peer, &[send.len() as u64], 1)?[..] else {
            return Err(CommError::Transport(format!("rank {peer} sent no length")));
        };
        self.exchange(peer, send, n as usize)
    }

    /// The partners of this rank, one for each level of a binary tree over the ranks.
    fn peers(&self) -> impl DoubleEndedIterator<Item = usize> {
        let rank = self.rank();
        (0..self.ranks().ilog2()).map(move |level| rank ^ (1 << level))
    }

    /// Waits until all ranks are here; the time counts as waited.
    ///
    /// # Errors
    /// If a rank has ended, or the transport fails.
    pub fn meet(&self) -> Result<(), CommError> {
        let start = Instant::now();
        for peer in self.peers() {
            self.exchange(peer, &[0u8], 1)?;
        }
        *self.waited.lock().unwrap_or_else(PoisonError::into_inner) += start.elapsed();
        Ok(())
    }

    /// Seconds spent waiting since the last call.
    pub fn take_waited(&self) -> f64 {
        std::mem::take(&mut *self.waited.lock().unwrap_or_else(PoisonError::into_inner)).as_secs_f64()
    }

    /// What each rank gives, on all of them, in the order of the ranks.
    ///
    /// # Errors
    /// As [`meet`](Self::meet).
    pub fn all_gather<T: DeserializeOwned>(&self, own: &impl Serialize) -> Result<Vec<T>, CommError> {
        let mut all = line(own)?;
        for peer in self.peers() {
            let theirs = self.exchange_any(peer, all.as_bytes())?;
            all = if peer > self.rank() { all + &text(theirs)? } else { text(theirs)? + &all };
        }
        values(&all)
    }

    /// What each rank gives, on rank 0, in the order of the ranks; on others nothing.
    ///
    /// # Errors
    /// As [`meet`](Self::meet).
    pub fn gather<T: DeserializeOwned>(&self, own: &impl Serialize) -> Result<Vec<T>, CommError> {
        let mut all = line(own)?;
        for peer in self.peers() {
            if peer < self.rank() {
                self.exchange_any(peer, all.as_bytes())?;
                return Ok(Vec::new());
            }
            all += &text(self.exchange_any(peer, &[])?)?;
        }
        values(&all)
    }

    /// What rank 0 gives, on all of them. Others give nothing.
    ///
    /// # Errors
    /// As [`meet`](Self::meet).
    pub fn broadcast<T: Serialize + DeserializeOwned>(&self, of_first: Option<T>) -> Result<T, CommError> {
        let nothing = || CommError::Transport("rank 0 gave nothing".into());
        if !self.are_several() {
            return of_first.ok_or_else(nothing);
        }
        let all: Vec<Option<T>> = self.all_gather(&of_first.filter(|_| self.is_first()))?;
        all.into_iter().next().flatten().ok_or_else(nothing)
    }

    /// The sums of counts over the ranks.
    ///
    /// # Errors
    /// As [`meet`](Self::meet).
    pub fn count<const N: usize>(&self, own: [usize; N]) -> Result<[usize; N], CommError> {
        let mut sums = own.map(|n| n as u64);
        for peer in self.peers() {
            let theirs = self.exchange(peer, &sums, N)?;
            sums.iter_mut().zip(theirs).for_each(|(sum, n)| *sum += n);
        }
        Ok(sums.map(|n| n as usize))
    }
}

impl fmt::Debug for Ranks {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank(), self.ranks())
    }
}

/// A value as a line of JSON, which has no line end within.
fn line(value: &impl Serialize) -> Result<String, CommError> {
    serde_json::to_string(value).map(|line| line + "\n").map_err(|e| CommError::Transport(e.to_string()))
}

fn text(bytes: Vec<u8>) -> Result<String, CommError> {
    String::from_utf8(bytes).map_err(|e| CommError::Transport(e.to_string()))
}

fn values<T: DeserializeOwned>(lines: &str) -> Result<Vec<T>, CommError> {
    let read = |line| serde_json::from_str(line).map_err(|e| CommError::Transport(e.to_string()));
    lines.lines().map(read).collect()
}
