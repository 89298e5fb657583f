//! One product: which kernel computes it, and in which grid.

use koan_backend::Store;

use super::kernels::{Form, Kernel, Layout};
use crate::{
    cuda::Cuda,
    device::{Address, Device, TensorMap},
    launch::params,
};

/// Rows that a weight's gradient sums from zero, before it adds them to what it has.
pub(crate) const CHUNK: usize = 2048;
/// Rows of tiles that are computed side by side, so that their operands stay in L2.
pub(crate) const GROUP: u32 = 8;
/// Bytes of sums of chunks, at most, that wait to be added.
const PARTS_BYTES: usize = 512 << 20;
/// Bytes per second that memory gives.
const BANDWIDTH: f64 = 4e12;
/// Bytes per second that a multiprocessor loads from L2, itself and by its copy engine.
const LOADS: f64 = 5e10;
const ENGINE_LOADS: f64 = 7e10;
/// Seconds in which a block adds the sums of a chunk to C.
const FLUSH: f64 = 2.5e-6;
/// Seconds that a step of a chain takes, with its share of barriers.
const STEP: f64 = 25e-9;

params! {
    /// A product, as `kernels/product.h` has it.
    struct Product {
        a: Address, b: Address, c: Address, part: u64,
        m: u32, n: u32, k: u32, span: u32, chunk: u32, add: u32, paired: u32, group: u32,
    }
}

params! {
    /// A product whose operands Hopper's copy engine brings, as `kernels/hopper.cu` has it.
    struct Hopper {
        a: TensorMap, b: TensorMap, c: Address, part: u64,
        m: u32, n: u32, k: u32, span: u32, chunk: u32, add: u32, paired: u32, group: u32, pieces: u32, unused: [u32; 3],
    }
}

params! {
    /// `c[i] += parts[..][i]`
    struct AddParts { c: Address, parts: Address, n: u64, count: u32, fours: u32 }
}

/// `C [m, n] = Σ A B`, or `+=`, over `k`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) layout: Layout,
    pub(crate) c: Address,
    pub(crate) a: Address,
    pub(crate) b: Address,
    /// `[m, n, k]`
    pub(crate) sizes: [usize; 3],
    pub(crate) store: Store,
}

impl Call {
    /// Whether all rows of the operands begin at multiples of 16 bytes.
    fn aligned(&self) -> bool {
        let [m, n, k] = self.sizes;
        let rows = match self.layout {
            Layout::Forward => [k, k],
            Layout::BackwardInput => [k, n],
            Layout::BackwardWeight => [m, n],
        };
        rows.iter().all(|row| row.is_multiple_of(8)) && (self.a | self.b).is_multiple_of(16)
    }

    /// Chunks of k that are added one after the other.
    pub(crate) fn chunks(&self) -> usize {
        if self.layout == Layout::BackwardWeight { self.sizes[2].div_ceil(CHUNK) } else { 1 }
    }

    /// Seconds that a kernel takes, by what is known of it, with a block for each of `parts` of k: the multiplying, the loads of
    /// a multiprocessor, or the steps of a chain, whichever takes longest.
    fn seconds(&self, kernel: &Kernel, parts: usize, multiprocessors: usize) -> f64 {
        let [m, n, k] = self.sizes;
        let [rows, columns] = kernel.tile;
        let blocks = m.div_ceil(rows) * n.div_ceil(columns) * parts;
        let each = blocks.div_ceil(multiprocessors) as f64;
        let k = k as f64 / parts as f64;
        let multiplying = 2.0 * (rows * columns) as f64 * k * multiprocessors as f64 / (kernel.rate * 1e12);
        let loads = if kernel.form == Form::Staged { ENGINE_LOADS } else { LOADS };
        let loads = 2.0 * (rows + columns) as f64 * k / loads;
        let chain = k / 16.0 * STEP * blocks.div_ceil(multiprocessors * kernel.resident) as f64;
        let adding = match (parts, self.chunks()) {
            (1, 1) => 0.0,
            (1, chunks) => each * chunks as f64 * FLUSH,
            _ => 4.0 * ((parts + 2) * m * n) as f64 / BANDWIDTH + 3e-6,
        };
        (each * multiplying.max(loads)).max(chain) + adding
    }

    /// The kernel for this product, and how many parts of k have blocks of their own.
    pub(crate) fn choose(&self, device: &dyn Device) -> (&'static Kernel, usize) {
        let multiprocessors = device.multiprocessors() as usize;
        let [m, n, _] = self.sizes;
        let chunks = self.chunks();
        let in_parts = chunks > 1 && 4 * chunks * m * n <= PARTS_BYTES;
        let parts: &[usize] = if in_parts { &[1, chunks] } else { &[1] };
        let kernels = if !self.aligned() {
            std::slice::from_ref(self.layout.of_elements())
        } else {
            self.layout.kernels()
        };
        let kernels = kernels.iter().filter(|kernel| kernel.runs_on(device));
        let each = kernels.flat_map(|kernel| parts.iter().map(move |parts| (kernel, *parts)));
        each.min_by(|a, b| {
            let [a, b] = [a, b].map(|(kernel, parts)| self.seconds(kernel, *parts, multiprocessors));
            a.total_cmp(&b)
        })
        .expect("at least one kernel")
    }

    /// Computes it by the best kernel.
    pub(crate) fn run(&self, cuda: &Cuda) {
        let (kernel, parts) = self.choose(&*cuda.device);
        self.run_by(cuda, kernel, parts);
    }

    /// Computes it by a kernel, in one part or one for each chunk of k.
    pub(crate) fn run_by(&self, cuda: &Cuda, kernel: &Kernel, parts: usize) {
        let [m, n, k] = self.sizes;
        if k == 0 {
            // The sum of no rows.
            assert!(self.store == Store::Add, "an inner dimension");
            return;
        }
        let parted = parts > 1;
        let sums = cuda.scratch::<f32>(if parted { parts * m * n } else { 0 });
        let product = Product {
            a: self.a,
            b: self.b,
            c: if parted { sums.at(0) } else { self.c },
            part: (m * n) as u64,
            m: word(m),
            n: word(n),
            k: word(k),
            span: word(if parted { CHUNK } else { k }),
            chunk: word(CHUNK),
            add: (!parted && self.store == Store::Add).into(),
            paired: (n.is_multiple_of(2) && self.c.is_multiple_of(8)).into(),
            group: GROUP,
        };
        let tiles = m.div_ceil(kernel.tile[0]) * n.div_ceil(kernel.tile[1]);
        if kernel.form == Form::Staged {
            self.launch_staged(cuda, kernel, product, tiles * parts);
        } else {
            cuda.launch(kernel.name, [tiles, parts, 1], kernel.threads, kernel.shared, product);
        }
        if parted {
            let n = (m * n) as u64;
            let add = AddParts {
                c: self.c,
                parts: sums.at(0),
                n,
                count: word(parts),
                fours: n.is_multiple_of(4).into(),
            };
            let threads = if add.fours == 1 { n / 4 } else { n };
            cuda.for_each("add_parts", threads as usize, add);
        }
    }
}

impl Call {
    /// Launches blocks that stay for all `pieces` of work.
    fn launch_staged(&self, cuda: &Cuda, kernel: &Kernel, product: Product, pieces: usize) {
        let ([m, n, k], [rows, columns]) = (self.sizes, kernel.tile);
        let along = |at, size, tile| cuda.device.tensor_map(at, [size, k], tile);
        let across = |at, size| cuda.device.tensor_map(at, [k, size], 64);
        let [a, b] = match self.layout {
            _ if pieces == 0 => return,
            Layout::Forward => [along(self.a, m, rows), along(self.b, n, columns)],
            Layout::BackwardInput => [along(self.a, m, rows), across(self.b, n)],
            Layout::BackwardWeight => [across(self.a, m), across(self.b, n)],
        };
        let Product { c, part, m, n, k, span, chunk, add, paired, group, .. } = product;
        let staged = Hopper {
            a,
            b,
            c,
            part,
            m,
            n,
            k,
            span,
            chunk,
            add,
            paired,
            group,
            pieces: word(pieces),
            unused: [0; 3],
        };
        let blocks = pieces.min(cuda.device.multiprocessors() as usize * kernel.resident);
        cuda.launch(kernel.name, [blocks, 1, 1], kernel.threads, kernel.shared, staged);
    }
}

/// A size as kernels have it.
pub(crate) fn word(size: usize) -> u32 {
    u32::try_from(size).expect("sizes of a product below 2³²")
}

#[cfg(test)]
mod tests {
    use super::{
        super::kernels::{BACKWARD_INPUT, BACKWARD_WEIGHT, ELEMENTS, FORWARD},
        *,
    };
    use crate::{CudaError, compile::SOURCES, trial::Trial};

    #[test]
    fn every_kernel_gives_the_same_bits() {
        let cuda = match Cuda::emulated(1) {
            Ok(cuda) => cuda,
            Err(CudaError::NoCppCompiler) => return eprintln!("skipped: no C++ compiler"),
            Err(error) => panic!("{error}"),
        };
        // Rows, outputs, inputs: beyond a tile, within one, of several chunks of rows.
        let sizes = [[77, 72, 136], [130, 264, 40], [5, 8, 400], [2 * CHUNK + 90, 24, 16]];
        for layout in [Layout::Forward, Layout::BackwardInput, Layout::BackwardWeight] {
            for sizes in sizes {
                let trial = Trial::new(&cuda, layout, sizes, 1);
                let bits = |kernel| trial.result(kernel).iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                let want = bits(None);
                for (i, (name, parts)) in trial.kernels().into_iter().enumerate() {
                    assert!(bits(Some(i)) == want, "{name} in {parts} parts at {sizes:?}");
                }
            }
        }
    }

    #[test]
    fn the_table_has_the_shapes_of_the_kernels() {
        let text = |kernel: &Kernel| {
            let start = format!("KERNEL({}, ", kernel.name);
            let line =
                SOURCES.iter().flat_map(|source| source.text.lines()).find(|line| line.starts_with(&start));
            line.unwrap_or_else(|| panic!("{} is in no source", kernel.name))
        };
        let kernels = [FORWARD, BACKWARD_INPUT, BACKWARD_WEIGHT, &ELEMENTS].into_iter().flatten();
        for kernel in kernels {
            let line = text(kernel);
            let words = |text: &str| -> Vec<usize> {
                text.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
            };
            let shape = line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).expect("a shape").0;
            let threads = line.split_once(") {").expect("a head").0.rsplit_once(", ").expect("threads").1;
            let (m, n, k, stages, threads_of_shape) = match words(shape)[..] {
                [m, n, k, stages, along_m, along_n] => (m, n, k, stages, 32 * along_m * along_n),
                [m, n, stages] => (m, n, 64, stages, 2 * m),
                _ => panic!("{line}"),
            };
            assert_eq!(kernel.tile, [m, n], "{line}");
            let barriers = if kernel.form == Form::Staged { 16 * stages } else { 0 };
            assert_eq!(kernel.shared, stages * (m + n) * k * 2 + barriers, "{line}");
            assert_eq!(
                (kernel.threads, threads),
                (threads_of_shape, threads_of_shape.to_string().as_str()),
                "{line}"
            );
        }
    }

    #[test]
    fn few_rows_are_spread_over_the_multiprocessors_and_many_are_in_large_tiles() {
        let tile = |sizes| {
            let call = Call { layout: Layout::Forward, c: 0, a: 0, b: 0, sizes, store: Store::Write };
            let seconds = |kernel: &&Kernel| call.seconds(kernel, 1, 132);
            FORWARD.iter().min_by(|a, b| seconds(a).total_cmp(&seconds(b))).expect("kernels").tile
        };
        assert_eq!(tile([1, 1024, 1024])[0], 16);
        let [rows, columns] = tile([64, 1024, 3072]);
        assert!(64 / rows * (1024 / columns) >= 64, "{rows} x {columns}");
        assert_eq!(tile([64, 151_936, 1024])[0], 64);
        let [rows, columns] = tile([16384, 3072, 1024]);
        assert!(rows * columns >= 128 * 128, "{rows} x {columns}");
    }
}
