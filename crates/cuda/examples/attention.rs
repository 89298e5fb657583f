//! Times attention at the heads of SmolLM2-135M and of Qwen3-0.6B:
//!
//! ```text
//! attention [cuda:N | emulated]
//! ```
//!
//! Decoding: the rate at which keys and values are read, beside that of a copy. Keys are in pages of 16, as a cache's, and calls take
//! turns on caches that are larger than a GPU's own together. Training: TFLOP/s of the pairs that are seen, 4 FLOPs each and feature
//! forward, 10 backward. The emulator shows only that it runs.

use std::{env, time::Instant};

use koan_backend::{Attention, Backend, Heads, Keep, Layout, OutOfMemory, Sequence};
use koan_cuda::Cuda;

const SMOLLM2: (&str, Heads) = ("SmolLM2", Heads { query: 9, key_value: 3, dim: 64, value_dim: 64 });
const QWEN3: (&str, Heads) = ("Qwen3", Heads { query: 16, key_value: 8, dim: 128, value_dim: 128 });
const PAGE: usize = 16;
/// Rows that are filled with numbers at once.
const FILLED: usize = 16 << 10;

struct Bench {
    b: Cuda,
    times: usize,
    /// What keys and values of all caches take together, at least, in bytes.
    caches: usize,
}

impl Bench {
    /// Seconds of one call, of many one after the other.
    fn seconds(&self, mut run: impl FnMut(usize)) -> Result<f64, OutOfMemory> {
        let one = self.b.zeros(1)?;
        let wait = || drop(self.b.read([(&one, 1)]));
        (0..3).for_each(&mut run);
        wait();
        let start = Instant::now();
        (0..self.times).for_each(&mut run);
        wait();
        Ok(start.elapsed().as_secs_f64() / self.times as f64)
    }

    fn numbers(&self, len: usize) -> Result<<Cuda as Backend>::Buf, OutOfMemory> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        self.b.upload(&(0..len).map(|_| next()).collect::<Vec<_>>())
    }

    /// Keys or values of `rows` rows.
    fn keys(&self, rows: usize, features: usize) -> Result<<Cuda as Backend>::Keys, OutOfMemory> {
        let mut keys = self.b.keys(rows * features)?;
        let values = self.numbers(rows.min(FILLED) * features)?;
        for first in (0..rows).step_by(FILLED) {
            let filled = first as u32..rows.min(first + FILLED) as u32;
            let layout =
                Layout { ids: vec![0; filled.len()], cache_rows: filled.collect(), ..Layout::default() };
            self.b.store_keys(&mut keys, &values, features, &self.b.upload_layout(layout)?);
        }
        Ok(keys)
    }

    /// Copying `bytes`, read and written together, as fast as the device can.
    fn copy(&self, bytes: usize) -> Result<f64, OutOfMemory> {
        let len = bytes / 8;
        let (mut y, x) = (self.b.zeros(len)?, self.b.zeros(len)?);
        Ok((8 * len) as f64 / self.seconds(|_| self.b.copy(&mut y, &x, len))?)
    }

    fn decode(
        &self,
        (name, heads): (&str, Heads),
        sequences: usize,
        keys: usize,
        copy: f64,
    ) -> Result<(), OutOfMemory> {
        let rows = sequences * keys;
        let bytes = rows * (heads.key_features() + heads.value_features()) * 2;
        let caches = self.caches.div_ceil(bytes).clamp(1, 8);
        let caches: Vec<_> = (0..caches)
            .map(|_| Ok((self.keys(rows, heads.key_features())?, self.keys(rows, heads.value_features())?)))
            .collect::<Result<_, OutOfMemory>>()?;
        // Pages of all sequences by turns: none adjoins the one before it.
        let page = |sequence: usize, page: usize| {
            let start = (page * sequences + sequence) * PAGE;
            start..start + PAGE
        };
        let pages = keys / PAGE;
        let sequence = |s: usize| Sequence {
            rows: s..s + 1,
            prefix: (0..pages - 1).map(|i| page(s, i)).collect(),
            keys: page(s, pages - 1),
        };
        let sequences_of_pass = (0..sequences).map(sequence).collect();
        let layout = Layout { ids: vec![0; sequences], sequences: sequences_of_pass, ..Layout::default() };
        let start = Instant::now();
        let layout = self.b.upload_layout(layout)?;
        let uploaded = start.elapsed().as_secs_f64();
        let q = self.numbers(sequences * heads.query_features())?;
        let mut out = self.b.operand(sequences * heads.output_features(), Keep::Operand)?;
        let mut sums = self.b.zeros(sequences * heads.query)?;
        let scale = 1.0 / (heads.dim as f64).sqrt();
        let seconds = self.seconds(|i| {
            let (k, v) = &caches[i % caches.len()];
            let inputs = Attention { q: &q, k, v: Some(v), layout: &layout, heads, scale };
            self.b.attention_forward(&mut out, &mut sums, inputs);
        })?;
        let rate = bytes as f64 / seconds;
        println!(
            "{name:8} decode {sequences:4} x {keys:5} keys {:10.1} us {:8.0} GB/s {:5.0}% of a copy; layout {:.0} us",
            seconds * 1e6,
            rate / 1e9,
            100.0 * rate / copy,
            uploaded * 1e6
        );
        Ok(())
    }

    fn train(&self, (name, heads): (&str, Heads), sequences: usize, len: usize) -> Result<(), OutOfMemory> {
        let n = sequences * len;
        let of = |s: usize| s * len..(s + 1) * len;
        let sequence = |s: usize| Sequence { rows: of(s), prefix: vec![], keys: of(s) };
        let layout = Layout {
            ids: vec![0; n],
            sequences: (0..sequences).map(sequence).collect(),
            ..Layout::default()
        };
        let pairs = layout.pairs();
        let layout = self.b.upload_layout(layout)?;
        let (k, v) = (self.keys(n, heads.key_features())?, self.keys(n, heads.value_features())?);
        let q = self.numbers(n * heads.query_features())?;
        let dout = self.numbers(n * heads.output_features())?;
        let mut out = self.b.operand(n * heads.output_features(), Keep::Values)?;
        let mut sums = self.b.zeros(n * heads.query)?;
        let mut dq = self.b.zeros(n * heads.query_features())?;
        let mut dk = self.b.zeros(n * heads.key_features())?;
        let mut dv = self.b.zeros(n * heads.value_features())?;
        let scale = 1.0 / (heads.dim as f64).sqrt();
        let inputs = Attention { q: &q, k: &k, v: Some(&v), layout: &layout, heads, scale };
        let forward = self.seconds(|_| self.b.attention_forward(&mut out, &mut sums, inputs))?;
        let backward = self.seconds(|_| {
            self.b.attention_backward([&mut dq, &mut dk, &mut dv], &dout, inputs, &out, &sums);
        })?;
        let flops = (pairs * heads.query * heads.dim) as f64;
        println!(
            "{name:8} train {sequences:4} x {len:5}: forward {:8.1} us {:6.1} TFLOP/s, backward {:8.1} us {:6.1} TFLOP/s",
            forward * 1e6,
            4.0 * flops / forward / 1e12,
            backward * 1e6,
            10.0 * flops / backward / 1e12
        );
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = env::args().nth(1).unwrap_or_else(|| "cuda:0".to_owned());
    let emulated = device == "emulated";
    let b = match device.strip_prefix("cuda:") {
        Some(ordinal) => Cuda::open(ordinal.parse()?)?,
        None if emulated => Cuda::emulated(1)?,
        None => return Err("usage: attention [cuda:N | emulated]".into()),
    };
    println!("{}", b.name());
    let (times, caches) = if emulated { (1, 0) } else { (20, 256 << 20) };
    let bench = Bench { b, times, caches };
    let copy = bench.copy(if emulated { 1 << 10 } else { 1 << 30 })?;
    println!("copy {:.0} GB/s, read and written", copy / 1e9);
    for model in [SMOLLM2, QWEN3] {
        for sequences in if emulated { vec![2] } else { vec![64, 512] } {
            for keys in if emulated { vec![32] } else { vec![128, 512, 2048] } {
                bench.decode(model, sequences, keys, copy)?;
            }
        }
        for (sequences, len) in if emulated { vec![(2, 20)] } else { vec![(16, 1024), (64, 109), (2, 8192)] }
        {
            bench.train(model, sequences, len)?;
        }
    }
    Ok(())
}
