//! Log-probabilities of given tokens, and their backward.
//!
//! The vocabulary is cut into strips of [`STRIP`] tokens and chunks of [`CHUNK`], of each of which a row keeps a partial. Where rows
//! are many, the products themselves leave the partials of strips, and the gradient of logits (`head.cu`): logits are not stored.
//! Where they are few, logits are computed in slabs of some rows and some chunks that stay in the second-level cache (`log_prob.cu`).
//! It changes no bit: a partial is of its tokens alone, and they are summed in the order of the vocabulary.

use koan_backend::{Matrix, Store};

use crate::{
    cuda::Cuda,
    device::Address,
    launch::params,
    layout::DeviceLayout,
    memory::{Bf16, Memory},
    ops::{
        operand::Operand,
        product::{self, Hopper, Rounded, word},
    },
};

/// Tokens of a chunk, as in `vocabulary.h`.
pub(crate) const CHUNK: usize = 1024;

/// Bytes of a partial: three f32 in four.
const PARTIAL: usize = 4;

/// Tokens of a strip.
const STRIP: usize = 64;

/// Partials of strips that are held at once: 256 MiB.
const STRIPS: usize = 16 << 20;

/// Rows from which on logits are not stored.
const MANY_ROWS: usize = 128;

/// Logits of a slab: 32 MiB.
const SLAB: usize = 8 << 20;

/// Rows of a slab at most, if there are more.
const SLAB_ROWS: usize = 8192;

/// Columns of the vocabulary whose gradient of logits is held for all rows at once, in bf16: 16 KiB a row. A row's `dx` is
/// summed over them, so that they are the same for any number of rows.
const BACKWARD_COLUMNS: usize = 8192;

params! {
    struct OfChunks {
        partials: Address, of_targets: Address, logits: Address, targets: Address, draws: Address,
        rows: u32, width: u32, first: u32, chunks: u32, inverse_temperature: f32, unused: u32,
    }
}

params! {
    struct OfRows {
        log_probs: Address, entropy: Address, log_sum_exp: Address, partials: Address, of_targets: Address,
        rows: u32, chunks: u32,
    }
}

/// By what logits are divided.
#[derive(Clone, Copy)]
pub(crate) enum Temperature {
    /// By one number; these targets' logits are kept.
    One { temperature: f32, targets: Address },
    /// By that of each row's draw.
    OfDraws(Address),
}

/// Partials of rows, `[rows, chunks]`, and their targets' logits.
pub(crate) struct Partials {
    chunks: usize,
    values: Memory<f32>,
    of_targets: Memory<f32>,
}

impl Partials {
    pub(crate) fn new(cuda: &Cuda, rows: usize, vocab: usize) -> Self {
        let chunks = vocab.div_ceil(CHUNK);
        Self { chunks, values: cuda.scratch(rows * chunks * PARTIAL), of_targets: cuda.scratch(rows) }
    }

    /// Of chunks in a row.
    pub(crate) fn chunks(&self) -> usize {
        self.chunks
    }

    /// Where those of `row` begin.
    pub(crate) fn of(&self, row: usize) -> Address {
        self.values.at(row * self.chunks * PARTIAL)
    }

    /// Writes those of a slab of logits `[rows, width]` that begins at a row and at a token, the first of a chunk.
    pub(crate) fn fill(
        &self,
        cuda: &Cuda,
        logits: Address,
        [row, first]: [usize; 2],
        [rows, width]: [usize; 2],
        by: Temperature,
    ) {
        let (inverse_temperature, targets, draws) = match by {
            Temperature::One { temperature, targets } => (temperature.recip(), of_row(targets, row, 4), 0),
            Temperature::OfDraws(draws) => (1.0, 0, of_row(draws, row, 32)),
        };
        let params = OfChunks {
            partials: self.of(row),
            of_targets: self.of_targets.at(row),
            logits,
            targets,
            draws,
            rows: rows as u32,
            width: width as u32,
            first: first as u32,
            chunks: self.chunks as u32,
            inverse_temperature,
            unused: 0,
        };
        let blocks = width.div_ceil(CHUNK).div_ceil(4);
        cuda.launch("chunk_partials", [rows * blocks, 1, 1], 128, 0, params);
    }
}

/// Where the `bytes` of a row begin.
fn of_row(at: Address, row: usize, bytes: usize) -> Address {
    at + (row * bytes) as u64
}

/// Of rows `x` [n, features] in bf16 and a head `w` [vocab, features].
#[derive(Clone, Copy)]
pub(crate) struct Head {
    pub(crate) x: Address,
    pub(crate) w: Address,
    pub(crate) features: usize,
    pub(crate) vocab: usize,
}

impl Head {
    pub(crate) fn new(x: &Operand, w: &Rounded<'_>, [vocab, features]: [usize; 2], n: usize) -> Self {
        assert!(vocab <= 1 << 24, "a vocabulary of {vocab} tokens, more than 2²⁴");
        Self { x: x.rounded.first(n * features, "x"), w: w.first(vocab * features), features, vocab }
    }

    fn x_of(&self, row: usize) -> Address {
        of_row(self.x, row, 2 * self.features)
    }

    fn w_of(&self, token: usize) -> Address {
        of_row(self.w, token, 2 * self.features)
    }

    /// Writes the logits `[rows, width]` that begin at a row and a token.
    pub(crate) fn logits(
        &self,
        cuda: &Cuda,
        logits: Address,
        [row, token]: [usize; 2],
        [rows, width]: [usize; 2],
    ) {
        let sizes = [rows, width, self.features];
        product::forward(cuda, logits, self.x_of(row), self.w_of(token), sizes, Store::Write);
    }
}

params! {
    #[derive(Default)]
    struct HeadProduct {
        x: Address, w: Address, strips: Address, of_targets: Address, targets: Address, d_log_probs: Address,
        log_sum_exp: Address, dl: Address,
        m: u32, n: u32, k: u32, strips_of_row: u32, first: u32, group: u32, inverse_temperature: f32, unused: u32,
    }
}

params! {
    struct OfStrips { partials: Address, strips: Address, chunks: u64, chunks_of_row: u32, strips_of_row: u32 }
}

params! {
    /// As `head.cu` has it.
    struct HopperHead { product: Hopper, head: HeadProduct, unused: [u32; 8] }
}

/// What a product takes its logits for: the names of its kernels, for any GPU and for Hopper.
type FusedKernel = [&'static str; 2];

const TO_STRIPS: FusedKernel = ["strips_128x128x64", "staged_strips_128x128"];
const TO_GRADIENTS: FusedKernel = ["gradients_128x128x64", "staged_gradients_128x128"];
/// Rows and columns of their tiles, features and number of their stages.
const TILE: [usize; 2] = [128, 128];
const FEATURES: usize = 64;
const STAGES: usize = 3;
/// Blocks that run on a multiprocessor at a time.
const RESIDENT: usize = 2;
/// Bytes of shared memory, with two barriers for each stage.
const FUSED_SHARED: usize = STAGES * ((TILE[0] + TILE[1]) * FEATURES * 2 + 16);

impl Head {
    /// Whether products of `n` rows take their logits themselves.
    fn is_fused(&self, cuda: &Cuda, n: usize) -> bool {
        n >= MANY_ROWS && self.features.is_multiple_of(8) && FUSED_SHARED <= cuda.device.shared()
    }

    /// Launches a product of `rows` rows by `width` tokens, which takes its logits itself.
    fn run(
        cuda: &Cuda,
        on_hopper: bool,
        [kernel, staged]: FusedKernel,
        [rows, width, features]: [usize; 3],
        head: HeadProduct,
    ) {
        let [m, n, k] = [rows, width, features].map(word);
        let head = HeadProduct { m, n, k, group: product::GROUP, ..head };
        let tiles = rows.div_ceil(TILE[0]) * width.div_ceil(TILE[1]);
        if !on_hopper {
            return cuda.launch(kernel, [tiles, 1, 1], 128, FUSED_SHARED, head);
        }
        let product = Hopper {
            a: cuda.device.tensor_map(head.x, [rows, features], TILE[0]),
            b: cuda.device.tensor_map(head.w, [width, features], TILE[1]),
            c: 0,
            part: 0,
            m,
            n,
            k,
            span: k,
            chunk: k,
            add: 0,
            paired: 0,
            group: head.group,
            pieces: word(tiles),
            unused: [0; 3],
        };
        let blocks = tiles.min(cuda.device.multiprocessors() as usize * RESIDENT);
        let params = HopperHead { product, head, unused: [0; 8] };
        cuda.launch(staged, [blocks, 1, 1], 256, FUSED_SHARED, params);
    }

    /// Writes the partials of all rows, and their targets' logits, without storing logits.
    fn fill_fused(
        &self,
        cuda: &Cuda,
        on_hopper: bool,
        partials: &Partials,
        n: usize,
        temperature: f32,
        targets: Address,
    ) {
        let strips_of_row = self.vocab.div_ceil(STRIP);
        let wave = n.min((STRIPS / strips_of_row).next_multiple_of(1024));
        let strips = cuda.scratch::<f32>(wave * strips_of_row * PARTIAL);
        for (row, rows) in parts(n, wave) {
            let product = HeadProduct {
                x: self.x_of(row),
                w: self.w,
                strips: strips.at(0),
                of_targets: partials.of_targets.at(row),
                targets: of_row(targets, row, 4),
                strips_of_row: word(strips_of_row),
                inverse_temperature: temperature.recip(),
                ..HeadProduct::default()
            };
            Self::run(cuda, on_hopper, TO_STRIPS, [rows, self.vocab, self.features], product);
            let chunks = rows * partials.chunks;
            let params = OfStrips {
                partials: partials.of(row),
                strips: strips.at(0),
                chunks: chunks as u64,
                chunks_of_row: word(partials.chunks),
                strips_of_row: word(strips_of_row),
            };
            cuda.launch("combine_strips", [chunks.div_ceil(128), 1, 1], 128, 0, params);
        }
    }

    /// The same by way of logits in slabs.
    fn fill_in_slabs(&self, cuda: &Cuda, partials: &Partials, n: usize, by: Temperature) {
        let rows = n.min(SLAB_ROWS);
        let width = (SLAB / rows / CHUNK * CHUNK).clamp(CHUNK, self.vocab.next_multiple_of(CHUNK));
        let logits = cuda.scratch::<f32>(rows * width.min(self.vocab));
        for (row, rows) in parts(n, rows) {
            for (first, width) in parts(self.vocab, width) {
                self.logits(cuda, logits.at(0), [row, first], [rows, width]);
                partials.fill(cuda, logits.at(0), [row, first], [rows, width], by);
            }
        }
    }

    /// Writes the gradient of the logits of all rows for `width` tokens from `first` on, without storing logits.
    fn gradients_fused(
        &self,
        cuda: &Cuda,
        on_hopper: bool,
        dl: Address,
        [first, width]: [usize; 2],
        of: Gradients,
    ) {
        let product = HeadProduct {
            x: self.x,
            w: self.w_of(first),
            targets: of.targets,
            d_log_probs: of.d_log_probs,
            log_sum_exp: of.log_sum_exp,
            dl,
            first: word(first),
            inverse_temperature: of.inverse_temperature,
            ..HeadProduct::default()
        };
        Self::run(cuda, on_hopper, TO_GRADIENTS, [of.n, width, self.features], product);
    }

    /// The same by way of logits in slabs, in `logits` `[rows, width]`.
    fn gradients_in_slabs(
        &self,
        cuda: &Cuda,
        dl: Address,
        [first, width]: [usize; 2],
        of: Gradients,
        logits: (Address, usize),
    ) {
        let (logits, slab_rows) = logits;
        for (row, rows) in parts(of.n, slab_rows) {
            self.logits(cuda, logits, [row, first], [rows, width]);
            let params = LogitGradients {
                dl: of_row(dl, row, 2 * width),
                logits,
                targets: of_row(of.targets, row, 4),
                d_log_probs: of_row(of.d_log_probs, row, 4),
                log_sum_exp: of_row(of.log_sum_exp, row, 4),
                rows: word(rows),
                width: word(width),
                first: word(first),
                inverse_temperature: of.inverse_temperature,
            };
            cuda.launch("logit_gradients", [rows * width.div_ceil(2048), 1, 1], 256, 0, params);
        }
    }
}

/// What the gradient of logits is computed of, besides them: all `[n]`.
#[derive(Clone, Copy)]
struct Gradients {
    targets: Address,
    d_log_probs: Address,
    log_sum_exp: Address,
    n: usize,
    inverse_temperature: f32,
}

/// Parts of `n`, each of `size` at most: where it begins, and its size.
pub(crate) fn parts(n: usize, size: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).step_by(size.max(1)).map(move |first| (first, size.min(n - first)))
}

/// Writes the log-probabilities of the layout's targets, the entropies, and the logarithms of the sums.
pub(crate) fn forward(
    cuda: &Cuda,
    [log_probs, entropy, log_sum_exp]: [&mut Memory<f32>; 3],
    x: &Operand,
    w: &Matrix<Cuda>,
    temperature: f32,
    layout: &DeviceLayout,
) {
    let n = layout.host.head_rows.len();
    let rounded = Rounded::of(cuda, w);
    let head = Head::new(x, &rounded, w.shape(), n);
    let outputs = [&*log_probs, entropy, log_sum_exp].map(|output| output.first(n, "an output"));
    if n == 0 {
        return;
    }
    let partials = Partials::new(cuda, n, head.vocab);
    if head.is_fused(cuda, n) {
        let on_hopper = cuda.device.is_hopper();
        head.fill_fused(cuda, on_hopper, &partials, n, temperature, layout.targets());
    } else {
        let by = Temperature::One { temperature, targets: layout.targets() };
        head.fill_in_slabs(cuda, &partials, n, by);
    }
    let params = OfRows {
        log_probs: outputs[0],
        entropy: outputs[1],
        log_sum_exp: outputs[2],
        partials: partials.of(0),
        of_targets: partials.of_targets.at(0),
        rows: n as u32,
        chunks: partials.chunks() as u32,
    };
    cuda.launch("log_prob_rows", [n.div_ceil(4), 1, 1], 128, 0, params);
}

params! {
    struct LogitGradients {
        dl: Address, logits: Address, targets: Address, d_log_probs: Address, log_sum_exp: Address,
        rows: u32, width: u32, first: u32, inverse_temperature: f32,
    }
}

/// Writes `dx = dl W`, adds `dlᵀ x` to `dw`, if it is asked for, with `dlᵥ = d_log_prob ([v = target] − pᵥ) / temperature`. All
/// rows by some columns of the vocabulary, then the next: so each row of `dw` is read and written once.
pub(crate) fn backward(
    cuda: &Cuda,
    dx: &mut Memory<f32>,
    dw: Option<&mut Memory<f32>>,
    d_log_probs: &Memory<f32>,
    x: &Operand,
    w: &Matrix<Cuda>,
    log_sum_exp: &Memory<f32>,
    temperature: f32,
    layout: &DeviceLayout,
) {
    let n = layout.host.head_rows.len();
    let rounded = Rounded::of(cuda, w);
    let head = Head::new(x, &rounded, w.shape(), n);
    let Head { features, vocab, .. } = head;
    let dx = dx.first(n * features, "dx");
    let dw = dw.map(|dw| dw.first(vocab * features, "dw"));
    let (d_log_probs, log_sum_exp) =
        (d_log_probs.first(n, "d_log_probs"), log_sum_exp.first(n, "log_sum_exp"));
    if n == 0 {
        return;
    }
    let of = Gradients {
        targets: layout.targets(),
        d_log_probs,
        log_sum_exp,
        n,
        inverse_temperature: temperature.recip(),
    };
    let fused = head.is_fused(cuda, n) && vocab.is_multiple_of(8);
    let widest = BACKWARD_COLUMNS.min(vocab);
    let slab_rows = if fused { 0 } else { n.min(SLAB / BACKWARD_COLUMNS) };
    let (logits, dl) = (cuda.scratch::<f32>(slab_rows * widest), cuda.scratch::<Bf16>(n * widest));
    for (first, width) in parts(vocab, BACKWARD_COLUMNS) {
        if fused {
            head.gradients_fused(cuda, cuda.device.is_hopper(), dl.at(0), [first, width], of);
        } else {
            head.gradients_in_slabs(cuda, dl.at(0), [first, width], of, (logits.at(0), slab_rows));
        }
        let (dl, w, sizes) = (dl.at(0), head.w_of(first), [n, width, features]);
        let store = if first == 0 { Store::Write } else { Store::Add };
        product::backward_input(cuda, dx, dl, w, sizes, store);
        if let Some(dw) = dw {
            product::backward_weight(cuda, of_row(dw, first, 4 * features), dl, head.x, sizes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CudaError;

    /// Numbers in [-1, 1).
    fn numbers(seed: u32, n: usize) -> Vec<f32> {
        let hash = |i: usize| (i as u32 ^ seed).wrapping_mul(0x9E37_79B1) ^ 0x5bd1;
        (0..n).map(|i| (hash(i).wrapping_mul(0x85eb_ca6b) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    #[test]
    fn logits_that_are_not_stored_give_the_same_bits() {
        let cuda = match Cuda::emulated(1) {
            Ok(cuda) => cuda,
            Err(CudaError::NoCppCompiler) => return eprintln!("skipped: no C++ compiler"),
            Err(error) => panic!("{error}"),
        };
        // Rows, tokens, features: beyond a tile, within one; strips and chunks that are not whole.
        for [n, vocab, features] in [[130, 1096, 24], [7, 136, 72], [3, 2060, 8], [129, 61, 16]] {
            let rounded = |seed, len| {
                let values: Vec<Bf16> =
                    numbers(seed, len).into_iter().map(|x| Bf16((x.to_bits() >> 16) as u16)).collect();
                Memory::upload(&cuda.device, &values).expect("memory")
            };
            let (x, w) = (rounded(1, n * features), rounded(2, vocab * features));
            let head = Head { x: x.at(0), w: w.at(0), features, vocab };
            let targets: Vec<u32> = (0..n).map(|i| (i * 37 % vocab) as u32).collect();
            let targets = Memory::upload(&cuda.device, &targets).expect("memory");
            let [fused, on_hopper, in_slabs] = [Some(false), Some(true), None].map(|fused| {
                let partials = Partials::new(&cuda, n, vocab);
                if let Some(on_hopper) = fused {
                    head.fill_fused(&cuda, on_hopper, &partials, n, 0.7, targets.at(0));
                } else {
                    let by = Temperature::One { temperature: 0.7, targets: targets.at(0) };
                    head.fill_in_slabs(&cuda, &partials, n, by);
                }
                let bits =
                    |x: &Memory<f32>| x.read(x.len()).into_iter().map(f32::to_bits).collect::<Vec<_>>();
                (bits(&partials.values), bits(&partials.of_targets))
            });
            assert_eq!(on_hopper, in_slabs, "{n} rows, {vocab} tokens, {features} features on Hopper");
            assert_eq!(fused, in_slabs, "{n} rows, {vocab} tokens, {features} features");

            if vocab % 8 == 0 {
                let d = Memory::upload(&cuda.device, &numbers(3, n)).expect("memory");
                let of = Gradients {
                    targets: targets.at(0),
                    d_log_probs: d.at(0),
                    log_sum_exp: d.at(0),
                    n,
                    inverse_temperature: 0.7,
                };
                let [fused, on_hopper, in_slabs] = [Some(false), Some(true), None].map(|fused| {
                    let dl = cuda.scratch::<Bf16>(n * vocab);
                    if let Some(on_hopper) = fused {
                        head.gradients_fused(&cuda, on_hopper, dl.at(0), [0, vocab], of);
                    } else {
                        let logits = cuda.scratch::<f32>(5 * vocab);
                        head.gradients_in_slabs(&cuda, dl.at(0), [0, vocab], of, (logits.at(0), 5));
                    }
                    dl.read(n * vocab)
                });
                assert!(
                    fused == in_slabs && on_hopper == in_slabs,
                    "gradients of {n} rows, {vocab} tokens, {features} features"
                );
            }
        }
    }
}
