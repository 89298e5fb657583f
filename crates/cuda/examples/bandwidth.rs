//! How close the operations that memory binds come to its bandwidth:
//!
//! ```text
//! bandwidth [cuda:N | emulated]
//! ```
//!
//! Of each operation the bytes that it must move, the time, and the rate, beside that of a copy. Buffers are larger than a GPU's caches.
//! The emulator shows only that they run.

use std::{env, time::Instant};

use koan_backend::{
    AdamWStep, Backend, Columns, Keep, Layout, MomentType, OutOfMemory, Pairs, Rotation, Store,
};
use koan_cuda::Cuda;

/// What is measured, and on how many rows.
struct Bench {
    b: Cuda,
    rows: usize,
    times: usize,
    copy: Option<f64>,
}

impl Bench {
    /// Times `run`, which moves `bytes`.
    fn line(&mut self, name: &str, bytes: usize, mut run: impl FnMut(&Cuda)) -> Result<(), OutOfMemory> {
        let one = self.b.zeros(1)?;
        let wait = |b: &Cuda| drop(b.read([(&one, 1)]));
        (0..3).for_each(|_| run(&self.b));
        wait(&self.b);
        let start = Instant::now();
        (0..self.times).for_each(|_| run(&self.b));
        wait(&self.b);
        let seconds = start.elapsed().as_secs_f64() / self.times as f64;
        let rate = bytes as f64 / seconds;
        let copy = *self.copy.get_or_insert(rate);
        println!(
            "{name:44} {:10.1} us {:8.0} GB/s {:5.0}% of a copy",
            seconds * 1e6,
            rate / 1e9,
            100.0 * rate / copy
        );
        Ok(())
    }

    fn buf(&self, features: usize) -> Result<<Cuda as Backend>::Buf, OutOfMemory> {
        self.b.zeros(self.rows * features)
    }

    fn operand(&self, features: usize, keep: Keep) -> Result<<Cuda as Backend>::Operand, OutOfMemory> {
        self.b.operand(self.rows * features, keep)
    }

    fn all(&mut self) -> Result<(), OutOfMemory> {
        let n = self.rows;
        let (mut x, y) = (self.buf(1024)?, self.buf(1024)?);
        self.line("copy, 1024", n * 1024 * 8, |b| b.copy(&mut x, &y, n * 1024))?;
        self.line("clear, 1024", n * 1024 * 4, |b| b.clear(&mut x))?;
        self.norms()?;
        self.heads()?;
        self.elements()?;
        self.rows_by_number()
    }

    fn norms(&mut self) -> Result<(), OutOfMemory> {
        for features in [576, 1024, 2048, 4096, 64, 128] {
            let heads = if features < 500 { 16 } else { 1 };
            let rows = self.rows * heads;
            let len = rows * features;
            let (x, mut y, mut dx) =
                (self.buf(heads * features)?, self.buf(heads * features)?, self.buf(heads * features)?);
            let mut rounded = self.operand(heads * features, Keep::Operand)?;
            let (w, mut dw, mut rstd) =
                (self.b.zeros(features)?, self.b.zeros(features)?, self.b.zeros(rows)?);
            if heads == 1 {
                self.line(&format!("rms_norm_forward, {features}"), len * 6, |b| {
                    b.rms_norm_forward(&mut rounded, &mut rstd, &x, &w, 1e-6, rows);
                })?;
            } else {
                self.line(&format!("head_norm_forward, {heads} x {features}"), len * 8, |b| {
                    b.head_norm_forward(&mut y, &mut rstd, &x, &w, 1e-6, rows);
                })?;
            }
            self.line(&format!("rms_norm_backward, {heads} x {features}"), len * 16, |b| {
                b.rms_norm_backward(&mut dx, Some(&mut dw), &y, &x, &w, &rstd, rows);
            })?;
        }
        Ok(())
    }

    fn heads(&mut self) -> Result<(), OutOfMemory> {
        let n = self.rows;
        let positions: Vec<u32> = (0..n).map(|i| (i % 1024) as u32).collect();
        let layout = Layout { ids: vec![0; n], positions, ..Layout::default() };
        let layout = self.b.upload_layout(layout)?;
        let (cos, sin) = (self.b.zeros(1024 * 64)?, self.b.zeros(1024 * 64)?);
        let mut x = self.buf(16 * 128)?;
        for (heads, dim, pairs) in
            [(16, 128, Pairs::Halves), (9, 64, Pairs::Halves), (16, 128, Pairs::Neighbours)]
        {
            let rotation = Rotation { pairs, ..Rotation::whole(heads, dim) };
            let name = format!("rope_forward, {heads} x {dim}, {pairs:?}");
            self.line(&name, n * heads * dim * 8, |b| b.rope_forward(&mut x, &cos, &sin, rotation, &layout))?;
        }
        let y = self.buf(1024)?;
        let mut keys = self.b.keys(n * 1024)?;
        self.line("store_keys, 1024", n * 1024 * 6, |b| b.store_keys(&mut keys, &y, 1024, &layout))?;
        let to = Columns { features: 2048, start: 0, stride: 128 };
        let from = Columns { features: 1024, start: 0, stride: 64 };
        self.line("columns, 16 x 64", n * 1024 * 8, |b| {
            b.columns(&mut x, &y, [to, from], [16, 64], n, Store::Write);
        })
    }

    fn elements(&mut self) -> Result<(), OutOfMemory> {
        let n = self.rows * 3072;
        let (gate, up) = (self.buf(3072)?, self.buf(3072)?);
        let mut y = self.operand(3072, Keep::Operand)?;
        self.line("swiglu_forward, 3072", n * 10, |b| b.swiglu_forward(&mut y, &gate, &up, n))?;
        let [mut dy, mut gate, mut up] = [
            self.operand(3072, Keep::Values)?,
            self.operand(3072, Keep::Values)?,
            self.operand(3072, Keep::Values)?,
        ];
        self.line("swiglu_backward, 3072", n * 18, |b| {
            b.swiglu_backward(&mut dy, &mut gate, &mut up, Keep::Operand, n);
        })?;
        self.line("round, 3072", n * 6, |b| b.round(&mut dy, n))?;
        let (mut z, mut bias) = (self.buf(3072)?, self.b.zeros(3072)?);
        self.line("bias_forward, 3072", n * 8, |b| b.bias_forward(&mut z, &bias, 3072, n / 3072))?;
        self.line("bias_backward, 3072", n * 4, |b| b.bias_backward(&mut bias, &dy, 3072, n / 3072))?;

        let g = self.buf(3072)?;
        let step = AdamWStep {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            grad_scale: 1.0,
            bias_correction1: 0.1,
            bias_correction2: 0.05,
            rounding_key: 7,
        };
        for (kind, bytes) in [(MomentType::F32, 28), (MomentType::Bf16, 20)] {
            let (mut m, mut v) = (self.b.zero_moment(n, kind)?, self.b.zero_moment(n, kind)?);
            self.line(&format!("adamw_step, {kind:?}"), n * bytes, |b| {
                b.adamw_step(&mut z, &mut m, &mut v, &g, step);
            })?;
        }
        let many: Vec<_> = std::iter::repeat_n(&g, 4).collect();
        self.line("sums_of_squares, 4 buffers", 4 * n * 4, |b| drop(b.sums_of_squares(&many)))
    }

    fn rows_by_number(&mut self) -> Result<(), OutOfMemory> {
        let n = self.rows;
        for (what, tokens) in [("few", 64), ("many", 49_152)] {
            let ids = (0..n as u32).map(|i| i.wrapping_mul(2_654_435_761) % tokens).collect();
            let head_rows = (0..n as u32).rev().step_by(2).collect();
            let layout = self.b.upload_layout(Layout { ids, head_rows, ..Layout::default() })?;
            let (mut x, mut table) = (self.buf(1024)?, self.b.zeros(tokens as usize * 1024)?);
            let len = n * 1024;
            self.line(&format!("embedding_forward, {what} tokens"), len * 8, |b| {
                b.embedding_forward(&mut x, &table, 1024, &layout);
            })?;
            self.line(&format!("embedding_backward, {what} tokens"), len * 4, |b| {
                b.embedding_backward(&mut table, &x, 1024, &layout);
            })?;
            let dy = self.buf(1024)?;
            self.line("head_rows_backward, every other row", len * 6, |b| {
                b.head_rows_backward(&mut x, &dy, 1024, &layout);
            })?;
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = env::args().nth(1).unwrap_or_else(|| "emulated".into());
    let (b, rows, times) = match device.strip_prefix("cuda:") {
        Some(ordinal) => (Cuda::open(ordinal.parse()?)?, 16_384, 30),
        None => (Cuda::emulated(1)?, 33, 1),
    };
    println!("{}", b.name());
    Bench { b, rows, times, copy: None }.all()?;
    Ok(())
}
