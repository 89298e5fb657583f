//! Sampling of tokens.

use koan_backend::{Draw, Matrix};

use crate::{
    cuda::Cuda,
    device::Address,
    launch::params,
    layout::DeviceLayout,
    memory::Memory,
    ops::{
        divergence::SHARED_OF_CUT,
        log_prob::{Head, Partials, Temperature, parts},
        operand::Operand,
        product::Rounded,
    },
};

/// Logits of the rows that are sampled at once: 512 MiB.
const LOGITS: usize = 128 << 20;

params! {
    struct Sample {
        tokens: Address, log_probs: Address, full_log_probs: Address, logits: Address, partials: Address, draws: Address,
        masses: Address, rows: u32, vocab: u32, chunks: u32, unused: u32,
    }
}

/// Samples a token for each head row, as its draw says. The logits of some rows are computed and kept; what the forward of
/// log-probabilities keeps of them says in which chunk of the vocabulary a token lies.
pub(crate) fn sample(
    cuda: &Cuda,
    outputs: [&mut Memory<f32>; 3],
    x: &Operand,
    w: &Matrix<Cuda>,
    layout: &DeviceLayout,
) {
    let n = layout.host.head_rows.len();
    let rounded = Rounded::of(cuda, w);
    let head = Head::new(x, &rounded, w.shape(), n);
    let vocab = head.vocab;
    let outputs = outputs.map(|output| output.first(n, "an output"));
    if n == 0 {
        return;
    }
    let draws = layout.draws();
    let partials = Partials::new(cuda, n, vocab);
    let wave = n.min((LOGITS / vocab).max(1));
    let logits = cuda.scratch::<f32>(wave * vocab);
    let truncates = layout.host.draws.iter().any(Draw::truncates);
    let masses = truncates.then(|| cuda.scratch::<f64>(wave * partials.chunks()));
    for (row, rows) in parts(n, wave) {
        head.logits(cuda, logits.at(0), [row, 0], [rows, vocab]);
        partials.fill(cuda, logits.at(0), [row, 0], [rows, vocab], Temperature::OfDraws(draws));
        let [tokens, log_probs, full_log_probs] = outputs.map(|output| output + (row * 4) as u64);
        let params = Sample {
            tokens,
            log_probs,
            full_log_probs,
            logits: logits.at(0),
            partials: partials.of(row),
            draws: draws + (row * 32) as u64,
            masses: masses.as_ref().map_or(0, |masses| masses.at(0)),
            rows: rows as u32,
            vocab: vocab as u32,
            chunks: partials.chunks() as u32,
            unused: 0,
        };
        cuda.launch("draw_whole", [rows.div_ceil(4), 1, 1], 128, 0, params);
        if truncates {
            cuda.launch("draw_truncated", [rows, 1, 1], 512, SHARED_OF_CUT, params);
        }
    }
}
