//! Times the output head and the choices of experts at the shapes of SmolLM2-135M, Qwen3-0.6B and a small DeepSeek-V3:
//!
//! ```text
//! head [cuda:N | emulated]
//! ```
//!
//! Log-probabilities: TFLOP/s of their products, 2 FLOPs for each row, token and feature forward, 6 backward, beside those of the
//! same products alone. Sampling: the rate at which the head's weights are read, beside that of a copy. The emulator shows only that
//! it runs.

use std::{env, time::Instant};

use koan_backend::{
    Backend, Divergence, DivergenceForm, Draw, Forms, GroupScore, Keep, Layout, Matrix, OutOfMemory, Routing,
    Scoring, Store, Support,
};
use koan_cuda::Cuda;

type Buf = <Cuda as Backend>::Buf;
type Operand = <Cuda as Backend>::Operand;

struct Bench {
    b: Cuda,
    times: usize,
    copy: f64,
}

/// A vocabulary, and features.
struct Head {
    name: &'static str,
    vocab: usize,
    features: usize,
}

impl Bench {
    /// Seconds of one call, of many one after the other.
    fn seconds(&self, mut run: impl FnMut()) -> Result<f64, OutOfMemory> {
        let one = self.b.zeros(1)?;
        let wait = || drop(self.b.read([(&one, 1)]));
        (0..2).for_each(|_| run());
        wait();
        let start = Instant::now();
        (0..self.times).for_each(|_| run());
        wait();
        Ok(start.elapsed().as_secs_f64() / self.times as f64)
    }

    /// Numbers in [-size, size), of a block that repeats.
    fn values(len: usize, size: f32) -> Vec<f32> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            size * ((state >> 8) as f32 / (1 << 23) as f32 - 1.0)
        };
        let block: Vec<f32> = (0..len.min(1_000_003)).map(|_| next()).collect();
        block.iter().copied().cycle().take(len).collect()
    }

    fn buf(&self, len: usize, size: f32) -> Result<Buf, OutOfMemory> {
        self.b.upload(&Self::values(len, size))
    }

    fn operand(&self, len: usize, keep: Keep) -> Result<Operand, OutOfMemory> {
        let mut x = self.b.operand(len, keep)?;
        self.b.write_operand(&mut x, &Self::values(len, 1.0).into_iter().map(f64::from).collect::<Vec<_>>());
        Ok(x)
    }

    /// Logits of a spread that models have.
    fn matrix(&self, Head { vocab, features, .. }: &Head) -> Result<Matrix<Cuda>, OutOfMemory> {
        let values = Self::values(vocab * features, 7.0 / (*features as f32).sqrt());
        Matrix::new(&self.b, &values, [*vocab, *features], Forms { values: false, packed: true })
    }

    fn learn(&self, head: &Head, w: &Matrix<Cuda>, n: usize) -> Result<(), OutOfMemory> {
        let Head { name, vocab, features } = *head;
        let b = &self.b;
        let x = self.operand(n * features, Keep::Operand)?;
        let targets = (0..n as u32).map(|i| i.wrapping_mul(2_654_435_761) % vocab as u32).collect();
        let (ids, head_rows) = (vec![0; n], (0..n as u32).collect());
        let layout = b.upload_layout(Layout { ids, head_rows, targets, ..Layout::default() })?;
        let [mut log_probs, mut entropy, mut sums] = [b.zeros(n)?, b.zeros(n)?, b.zeros(n)?];
        let forward = self
            .seconds(|| b.log_prob_forward(&mut log_probs, &mut entropy, &mut sums, &x, w, 1.0, &layout))?;
        let (mut dx, mut dw, d) = (b.zeros(n * features)?, b.zeros(vocab * features)?, self.buf(n, 1.0)?);
        let backward =
            self.seconds(|| b.log_prob_backward(&mut dx, Some(&mut dw), &d, &x, w, &sums, 1.0, &layout))?;
        let mut alone = f64::NAN;
        if n * vocab <= 1 << 30 {
            let mut logits = b.zeros(n * vocab)?;
            alone = self.seconds(|| b.linear_forward(&mut logits, &x, w, n, Store::Write))?;
        }
        let flops = 2.0 * (n * vocab * features) as f64 / 1e12;
        println!(
            "{name:8} {n:6} rows: log_prob forward {:9.1} us {:6.1} TFLOP/s (logits alone {:6.1}), backward {:9.1} us {:6.1} TFLOP/s",
            forward * 1e6,
            flops / forward,
            flops / alone,
            backward * 1e6,
            3.0 * flops / backward,
        );
        Ok(())
    }

    fn sample(&self, head: &Head, w: &Matrix<Cuda>, n: usize) -> Result<(), OutOfMemory> {
        let Head { name, vocab, features } = *head;
        let b = &self.b;
        let x = self.operand(n * features, Keep::Operand)?;
        let mut logits = b.zeros(n * vocab)?;
        let alone = self.seconds(|| b.linear_forward(&mut logits, &x, w, n, Store::Write))?;
        let whole = Draw::whole(0.0, 1.0);
        let kinds = [
            ("whole", whole),
            ("greedy", Draw::whole(0.0, 0.0)),
            ("top-p 0.95", Draw { top_p: 0.95, ..whole }),
            ("top-k 20, top-p 0.95", Draw { top_k: 20, top_p: 0.95, ..whole }),
            ("flat, top-p 0.95", Draw { temperature: 20.0, top_p: 0.95, ..whole }),
        ];
        for (what, draw) in kinds {
            let draws = (0..n).map(|i| Draw { uniform: (i as f64 + 0.5) / n as f64, ..draw }).collect();
            let (ids, head_rows) = (vec![0; n], (0..n as u32).collect());
            let layout = b.upload_layout(Layout { ids, head_rows, draws, ..Layout::default() })?;
            let [mut tokens, mut log_probs, mut full] = [b.zeros(n)?, b.zeros(n)?, b.zeros(n)?];
            let seconds =
                self.seconds(|| b.sample(&mut tokens, &mut log_probs, &mut full, &x, w, &layout))?;
            let rate = (2 * vocab * features) as f64 / seconds;
            println!(
                "{name:8} {n:6} rows: sample {what:22} {:9.1} us, weights read at {:6.0} GB/s, {:4.0}% of a copy (logits alone {:9.1} us)",
                seconds * 1e6,
                rate / 1e9,
                100.0 * rate / self.copy,
                alone * 1e6,
            );
        }
        Ok(())
    }

    fn diverge(&self, vocab: usize, n: usize) -> Result<(), OutOfMemory> {
        let b = &self.b;
        let mut student = self.operand(n * vocab, Keep::Values)?;
        let (mut teacher, mut d) = (self.buf(n * vocab, 8.0)?, b.zeros(n)?);
        let jensen_shannon = DivergenceForm::JensenShannon { beta: 0.5 };
        for (form, support, bytes) in [
            (DivergenceForm::Forward, Support::Whole, 22),
            (DivergenceForm::Reverse, Support::Whole, 30),
            (jensen_shannon, Support::Whole, 30),
            (DivergenceForm::Forward, Support::WithRest(64), 22),
        ] {
            let of = Divergence { form, temperature: 1.0, support };
            let seconds = self
                .seconds(|| b.divergence(&mut d, &mut student, &mut teacher, of, 1e-3, [n, vocab, vocab]))?;
            let rate = (bytes * n * vocab) as f64 / seconds;
            println!(
                "divergence {form:?} {support:?}, {n} rows of {vocab}: {:9.1} us {:6.0} GB/s, {:4.0}% of a copy",
                seconds * 1e6,
                rate / 1e9,
                100.0 * rate / self.copy
            );
        }
        Ok(())
    }

    fn route(&self, n: usize, experts: usize, hidden: usize, features: usize) -> Result<(), OutOfMemory> {
        let b = &self.b;
        let of = Routing {
            experts,
            per_token: 8.min(experts / 2),
            groups: 4,
            groups_kept: 2,
            scoring: Scoring::Sigmoid,
            group_score: GroupScore::SumOfTopTwo,
            normalized: true,
            scale: 2.5,
        };
        let copies = n * of.per_token;
        let mut routes = b.routes(n, of)?;
        let (mut scores, bias, d_weights) =
            (self.buf(n * experts, 2.0)?, self.buf(experts, 0.1)?, self.buf(copies, 1.0)?);
        let layout = b.upload_layout(Layout { ids: vec![0; n], ..Layout::default() })?;
        let mut d_logits = b.operand(n * experts, Keep::Operand)?;
        let x = self.operand(n * hidden, Keep::Operand)?;
        let mut copied = b.operand(copies * hidden, Keep::Operand)?;
        let (terms, mut sum) = (self.buf(copies * hidden, 1.0)?, self.buf(n * hidden, 1.0)?);
        let len = copies * features;
        let [mut dy, mut gate, mut up] = [(); 3]
            .map(|()| self.operand(len, Keep::Values))
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?
            .try_into()
            .unwrap_or_else(|_| unreachable!("three"));
        let mut of_copies = b.zeros(copies)?;
        let line = |what: &str, bytes: usize, seconds: f64| {
            let rate = bytes as f64 / seconds;
            println!(
                "{n:6} rows, {} of {experts} experts: {what:24} {:9.1} us {:6.0} GB/s, {:4.0}% of a copy",
                of.per_token,
                seconds * 1e6,
                rate / 1e9,
                100.0 * rate / self.copy
            );
        };
        let seconds = self.seconds(|| b.route_forward(&mut routes, &mut scores, Some(&bias), of, n))?;
        line("route_forward", n * experts * 8 + copies * 20, seconds);
        let seconds = self.seconds(|| {
            b.route_backward(&mut d_logits, None, &d_weights, &scores, &routes, of, 0.0, &layout);
        })?;
        line("route_backward", n * experts * 6 + copies * 8, seconds);
        let seconds = self.seconds(|| b.copies_forward(&mut copied, &x, &routes, hidden))?;
        line("copies_forward", (copies + n) * hidden * 2, seconds);
        let seconds = self.seconds(|| b.sum_copies(&mut sum, &terms, &routes, hidden, Store::Add))?;
        line("sum_copies", (copies + 2 * n) * hidden * 4, seconds);
        let values = [b.values(&gate), b.values(&up)];
        let seconds =
            self.seconds(|| b.weighted_swiglu_forward(&mut dy, values[0], values[1], &routes, features))?;
        line("weighted_swiglu_forward", len * 10, seconds);
        let seconds = self.seconds(|| {
            let keep = Keep::Operand;
            b.weighted_swiglu_backward(&mut of_copies, &mut dy, &mut gate, &mut up, keep, &routes, features);
        })?;
        line("weighted_swiglu_backward", len * 18, seconds);
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = env::args().nth(1).unwrap_or_else(|| "cuda:0".to_owned());
    let b = match device.strip_prefix("cuda:") {
        Some(ordinal) => Cuda::open(ordinal.parse()?)?,
        None if device == "emulated" => Cuda::emulated(1)?,
        None => return Err("usage: head [cuda:N | emulated]".into()),
    };
    println!("{}", b.name());
    let mut bench = Bench { b, times: 10, copy: f64::NAN };
    if device == "emulated" {
        bench.times = 1;
        let head = Head { name: "tiny", vocab: 2500, features: 16 };
        let w = bench.matrix(&head)?;
        bench.learn(&head, &w, 5)?;
        bench.sample(&head, &w, 3)?;
        bench.diverge(1100, 2)?;
        bench.route(9, 8, 24, 16)?;
        return Ok(());
    }
    let len = 128 << 20;
    let (mut y, x) = (bench.b.zeros(len)?, bench.b.zeros(len)?);
    bench.copy = (8 * len) as f64 / bench.seconds(|| bench.b.copy(&mut y, &x, len))?;
    drop((x, y));
    println!("copy {:.0} GB/s, read and written", bench.copy / 1e9);
    for head in [
        Head { name: "SmolLM2", vocab: 49_152, features: 576 },
        Head { name: "Qwen3", vocab: 151_936, features: 1024 },
    ] {
        let w = bench.matrix(&head)?;
        [1, 64, 512].into_iter().try_for_each(|n| bench.sample(&head, &w, n))?;
        [512, 4096, 8192, 16_384].into_iter().try_for_each(|n| bench.learn(&head, &w, n))?;
    }
    bench.diverge(49_152, 1024)?;
    bench.route(64, 64, 1024, 512)?;
    bench.route(8192, 64, 1024, 512)?;
    bench.route(8192, 256, 1024, 512)?;
    Ok(())
}
