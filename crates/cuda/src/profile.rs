//! How long each kernel takes on the GPU, where `KOAN_CUDA_PROFILE=1` in the environment asks for it.

use std::{collections::HashMap, fmt::Write};

use cudarc::driver::{
    DriverError,
    result::event,
    sys::{CUevent, CUevent_flags, CUstream},
};

/// Lines of the table.
const LINES: usize = 60;

/// The times of kernels, between two events each. Events cost some microseconds a kernel, so that a profiled program is slower;
/// what the GPU takes for a kernel is not.
pub(crate) struct Profile {
    stream: CUstream,
    free: Vec<CUevent>,
    /// Kernels that may not have ended yet.
    open: Vec<(Work, [CUevent; 2])>,
    /// How often, and milliseconds.
    times: HashMap<Work, (usize, f64)>,
}

/// A kernel, and its blocks.
type Work = (&'static str, [u32; 3]);

impl Profile {
    /// A profile of the work on `stream`, if the environment asks for one.
    pub(crate) fn asked_for(stream: CUstream) -> Option<Self> {
        let asked = std::env::var_os("KOAN_CUDA_PROFILE").is_some_and(|value| value == "1");
        asked.then(|| Self { stream, free: Vec::new(), open: Vec::new(), times: HashMap::new() })
    }

    /// Marks a point in the stream of work.
    pub(crate) fn mark(&mut self) -> Result<CUevent, DriverError> {
        let event = match self.free.pop() {
            Some(event) => event,
            None => event::create(CUevent_flags::CU_EVENT_DEFAULT)?,
        };
        // SAFETY: the event is new or was read, and the stream lives as long as its driver, which this belongs to.
        unsafe { event::record(event, self.stream)? };
        Ok(event)
    }

    /// A kernel was queued since `start`.
    pub(crate) fn end(&mut self, work: Work, start: CUevent) -> Result<(), DriverError> {
        let end = self.mark()?;
        self.open.push((work, [start, end]));
        Ok(())
    }

    /// Counts what was queued, once all of it is done.
    pub(crate) fn count(&mut self) -> Result<(), DriverError> {
        for (work, [start, end]) in self.open.drain(..) {
            // SAFETY: both events are recorded, and the work between them is done.
            let milliseconds = unsafe { event::elapsed(start, end)? };
            let (times, sum) = self.times.entry(work).or_default();
            *times += 1;
            *sum += f64::from(milliseconds);
            self.free.extend([start, end]);
        }
        Ok(())
    }

    /// The kernels that take longest, first.
    pub(crate) fn table(&self) -> String {
        let mut all: Vec<_> = self.times.iter().collect();
        all.sort_by(|a, b| b.1.1.total_cmp(&a.1.1).then(a.0.cmp(b.0)));
        let sum: f64 = all.iter().map(|(_, (_, ms))| ms).sum();
        let times: usize = all.iter().map(|(_, (times, _))| times).sum();
        let mut table = format!(
            "{times} kernels, {sum:.1} ms on the GPU\n   share        ms    times  us each  kernel, blocks\n"
        );
        for ((name, grid), (times, ms)) in all.iter().take(LINES) {
            let (share, each) = (100.0 * ms / sum, 1000.0 * ms / *times as f64);
            let _ = writeln!(table, "{share:7.1}% {ms:9.2} {times:8} {each:8.1}  {name} {grid:?}");
        }
        table
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        for event in self.free.drain(..).chain(self.open.drain(..).flat_map(|(_, events)| events)) {
            // SAFETY: an event of this profile, which nothing uses after it.
            let _ = unsafe { event::destroy(event) };
        }
    }
}
