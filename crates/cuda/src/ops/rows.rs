//! How the threads of a grid lie over rows and elements.

use crate::{cuda::Cuda, launch::Params};

/// Elements that a thread takes at once, where their number allows.
pub(crate) const PACK: usize = 4;
/// Threads of a block.
const THREADS: usize = 256;

/// Rows that threads share: 2^shift threads a row, `blocks` blocks of `threads` threads.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) shift: u32,
    pub(crate) threads: usize,
    pub(crate) blocks: usize,
}

/// Whether all of these are a multiple of [`PACK`]: rows and their parts then begin at a multiple of 16 bytes.
pub(crate) fn wide(sizes: &[usize]) -> bool {
    sizes.iter().all(|size| size.is_multiple_of(PACK))
}

/// How many threads, as a power of two, share a row of `packs`, each of which takes `each` of them, or fewer if a warp then has
/// enough for all its threads. It depends on features alone, as sums over them must.
pub(crate) fn shift(packs: usize, each: usize) -> u32 {
    let lanes = packs.div_ceil(each).max(packs.min(32)).next_power_of_two();
    lanes.min(THREADS).ilog2()
}

impl Rows {
    /// `n` rows of `packs`, of which each thread takes some `each`.
    pub(crate) fn new(cuda: &Cuda, n: usize, packs: usize, each: usize) -> Self {
        let shift = shift(packs, each);
        // Few rows are spread over the multiprocessors.
        let few = (n << shift).div_ceil(cuda.device.multiprocessors() as usize).next_power_of_two();
        let threads = few.clamp(32.max(1 << shift), THREADS);
        Self { shift, threads, blocks: n.div_ceil(threads >> shift) }
    }

    /// Launches a kernel of these rows.
    pub(crate) fn launch<P: Params>(self, cuda: &Cuda, kernel: &'static str, shared: usize, params: P) {
        cuda.launch(kernel, [self.blocks, 1, 1], self.threads, shared, params);
    }
}

/// The number of packs in `len` elements, or of elements if they are not taken in packs.
pub(crate) fn packs(len: usize, wide: bool) -> usize {
    if wide { len / PACK } else { len }
}
