//! Attention where the suite does not go: long contexts, whose splits other blocks may take, and heads of many features.
//!
//! In the emulator; on a GPU with KOAN_DEVICE=cuda:N.

use koan_backend::{Attention, Backend, Heads, Keep, Layout, Reference, Sequence};
use koan_cuda::{Cuda, CudaError};

/// Sequences of a pass, whose rows, and key rows, have the same numbers whatever else is in it.
struct Case {
    heads: Heads,
    scale: f64,
    keys: usize,
    sequences: Vec<Sequence>,
}

/// One sequence, whose first tokens have keys, but no rows.
fn one(heads: Heads, scale: f64, past: usize, rows: usize) -> Case {
    let sequence = Sequence { rows: 0..rows, prefix: vec![], keys: 0..past + rows };
    Case { heads, scale, keys: past + rows, sequences: vec![sequence] }
}

/// `len` numbers within ±1 that bf16 holds.
fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from((state >> 24) as u8) / 128.0 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// What a device computes: `out`, `log_sum_exp`, `dq`, `dk`, `dv`.
type Results = [Vec<f32>; 5];

impl Case {
    fn rows(&self) -> usize {
        self.sequences.iter().map(|s| s.rows.end).max().unwrap_or(0)
    }

    /// The row `row` of the only sequence alone.
    fn decode(&self, b: &Cuda, row: usize) -> Results {
        let whole = &self.sequences[0];
        let keys = 0..whole.visible(row);
        let sequences = vec![Sequence { rows: 0..1, prefix: vec![], keys }];
        Self { sequences, ..*self }.run(b, row)
    }

    /// The pass, whose first row is row `first` of the numbers.
    fn run<B: Backend>(&self, b: &B, first: usize) -> Results {
        let Self { heads, scale, .. } = *self;
        let n = self.rows();
        let layout = Layout { ids: vec![0; n], sequences: self.sequences.clone(), ..Layout::default() };
        let layout = b.upload_layout(layout).expect("a little memory");
        let stored = Layout {
            ids: vec![0; self.keys],
            cache_rows: (0..self.keys as u32).collect(),
            ..Layout::default()
        };
        let stored = b.upload_layout(stored).expect("a little memory");
        let keys = |features: usize, seed| {
            let mut keys = b.keys(self.keys * features).expect("a little memory");
            let values = b.upload(&numbers(self.keys * features, seed)).expect("a little memory");
            b.store_keys(&mut keys, &values, features, &stored);
            keys
        };
        let (k, v) = (keys(heads.key_features(), 1), keys(heads.value_features(), 2));
        let some = |features: usize, seed| {
            let all = numbers((first + n) * features, seed);
            b.upload(&all[first * features..]).expect("a little memory")
        };
        let (q, dout) = (some(heads.query_features(), 3), some(heads.output_features(), 4));
        let mut out = b.operand(n * heads.output_features(), Keep::Values).expect("a little memory");
        let mut log_sum_exp = b.zeros(n * heads.query).expect("a little memory");
        let inputs = Attention { q: &q, k: &k, v: Some(&v), layout: &layout, heads, scale };
        b.attention_forward(&mut out, &mut log_sum_exp, inputs);
        let zeros = |len| b.zeros(len).expect("a little memory");
        let mut dq = zeros(n * heads.query_features());
        let mut dk = zeros(self.keys * heads.key_features());
        let mut dv = zeros(self.keys * heads.value_features());
        b.attention_backward([&mut dq, &mut dk, &mut dv], &dout, inputs, &out, &log_sum_exp);
        let parts = [b.values(&out), &log_sum_exp, &dq, &dk, &dv];
        b.read(parts.map(|x| (x, b.len(x))))
    }
}

fn device(seed: u64) -> Option<Cuda> {
    if let Ok(name) = std::env::var("KOAN_DEVICE") {
        let ordinal = name.strip_prefix("cuda:").and_then(|n| n.parse().ok()).expect("cuda:N");
        return Some(Cuda::open(ordinal).unwrap_or_else(|error| panic!("{error}")));
    }
    match Cuda::emulated(seed) {
        Ok(cuda) => Some(cuda),
        Err(CudaError::NoCppCompiler) => {
            eprintln!("skipped: no C++ compiler");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_row_of_a_long_context_has_the_bits_of_its_decoding() {
    let Some(cuda) = device(1) else { return };
    for (dim, rows) in [(16, 300), (64, 60), (128, 60)] {
        let heads = Heads { query: 2, key_value: 1, dim, value_dim: dim };
        let case = one(heads, 8.0 / dim as f64, 230, rows);
        let [out, log_sum_exp, ..] = case.run(&cuda, 0);
        for row in [0, 25, 26, 27, 59, 90, 281, 282, 299].into_iter().filter(|&row| row < rows) {
            let [alone, sum, ..] = case.decode(&cuda, row);
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            let features = heads.output_features();
            assert_eq!(bits(&alone), bits(&out[row * features..][..features]), "row {row}");
            assert_eq!(bits(&sum), bits(&log_sum_exp[row * 2..][..2]), "row {row}");
        }
    }
}

#[test]
fn heads_of_many_features_are_close_to_the_reference() {
    let Some(cuda) = device(2) else { return };
    for (dim, value_dim, rows) in
        [(16, 16, 270), (128, 128, 70), (192, 128, 40), (130, 150, 20), (576, 512, 17)]
    {
        let heads = Heads { query: 2, key_value: 1, dim, value_dim };
        let case = one(heads, 1.0 / (dim as f64).sqrt(), 3, rows);
        assert_close(&case, &case.run(&cuda, 0), &case.run(&Reference, 0));
    }
}

#[test]
fn gradients_of_a_prompt_are_summed_over_its_completions() {
    let Some(cuda) = device(3) else { return };
    for (dim, value_dim) in [(16, 8), (64, 64)] {
        let heads = Heads { query: 2, key_value: 2, dim, value_dim };
        let prompt = Sequence { rows: 0..70, prefix: vec![], keys: 0..70 };
        let shared = prompt.keys.clone();
        let completion = |i: usize| {
            let rows = 70 + i * 150..70 + (i + 1) * 150;
            Sequence { keys: rows.clone(), rows, prefix: vec![shared.clone()] }
        };
        let sequences: Vec<_> = std::iter::once(prompt).chain((0..4).map(completion)).collect();
        let case = Case { heads, scale: 0.3, keys: 670, sequences };
        assert_close(&case, &case.run(&cuda, 0), &case.run(&Reference, 0));
    }
}

fn assert_close(case: &Case, got: &Results, want: &Results) {
    for (name, (got, want)) in ["out", "log_sum_exp", "dq", "dk", "dv"].iter().zip(got.iter().zip(want)) {
        let size = |x: &[f32]| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let off: Vec<f32> = got.iter().zip(want).map(|(got, want)| got - want).collect();
        let error = size(&off) / size(want);
        assert!(error < 0.005, "{:?}: {name} is off by {error}", case.heads);
    }
}
