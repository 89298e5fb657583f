//! Cases of heads as attention reads them, and of their gradients: operations made of others, held to the bits of their parts.

use super::{
    Case, Output, Precision, ROUNDOFF, assert_same_bits,
    values::{
        Numbers, by_row, exactly, input, on, operand_by_row, output, output_operand, pick, summed, unwritten,
        values_by_row, whole,
    },
};
use crate::{
    Attention, Backend, HeadNormBackward, HeadNorms, Heads as Sizes, Keep, Layout, Reference, Sequence,
    composite,
};

/// Positions of which the tables hold the angles.
const POSITIONS: usize = 131;
const EPS: f32 = 1e-5;

/// `q`, `dy` are (N, query · dim); `k`, `v` are (N, `key_value` · dim); `w` are (dim); `cos`, `sin` are (positions, dim/2).
#[derive(Clone)]
pub(super) struct Heads {
    sizes: Sizes,
    /// Whether heads have a norm.
    normed: bool,
    positions: Vec<u32>,
    cache_rows: Vec<u32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    dy: Vec<f32>,
    w: [Vec<f32>; 2],
    dw: Vec<f32>,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

/// Heads that a few threads hold, a warp, several packs a thread, and those that none holds; with norms and without, in a cache and
/// in the pass.
pub(super) fn cases() -> impl Iterator<Item = Heads> {
    let sizes = [
        (1, 1, 1, 2),
        (2, 3, 1, 6),
        (17, 2, 2, 16),
        (5, 9, 3, 30),
        (3, 2, 1, 12),
        (35, 4, 2, 64),
        (7, 2, 1, 66),
        (9, 4, 2, 128),
        (2, 2, 1, 130),
        (2, 2, 1, 256),
    ];
    sizes.into_iter().flat_map(|size| [(size, false), (size, true)]).map(
        |((n, query, key_value, dim), normed)| {
            let mut numbers = Numbers::new(n * 1000 + dim);
            let angles: Vec<f32> = numbers.vec(POSITIONS * dim / 2).iter().map(|a| 3.0 * a).collect();
            let (cos, sin) =
                (angles.iter().map(|a| a.cos()).collect(), angles.iter().map(|a| a.sin()).collect());
            let cached = n % 2 == 1;
            Heads {
                sizes: Sizes { query, key_value, dim, value_dim: dim },
                normed,
                positions: numbers.ids(n, POSITIONS),
                cache_rows: if cached {
                    (0..n as u32).map(|i| 3 * i + 1).rev().collect()
                } else {
                    Vec::new()
                },
                q: numbers.vec(n * query * dim),
                k: numbers.vec(n * key_value * dim),
                v: numbers.vec(n * key_value * dim),
                dy: numbers.vec(n * query * dim),
                w: [numbers.vec(dim), numbers.vec(dim)],
                dw: numbers.vec(dim),
                cos,
                sin,
            }
        },
    )
}

/// What the forward leaves: queries, the keys and values as attention with one key a row reads them, and both `rstd`.
struct Read {
    outputs: Vec<Output>,
    rstd: Vec<f32>,
}

impl Heads {
    fn n(&self) -> usize {
        self.positions.len()
    }

    fn layout<B: Backend>(&self, b: &B) -> B::Layout {
        let (ids, positions, cache_rows) =
            (vec![0; self.n()], self.positions.clone(), self.cache_rows.clone());
        on(b, Layout { ids, positions, cache_rows, ..Layout::default() })
    }

    /// The rows of keys that the pass stores.
    fn places(&self) -> Vec<u32> {
        if self.cache_rows.is_empty() { (0..self.n() as u32).collect() } else { self.cache_rows.clone() }
    }

    fn forward<B: Backend>(&self, b: &B, fused: bool) -> Read {
        let (n, Sizes { query, key_value, dim, .. }) = (self.n(), self.sizes);
        let rows = self.places().iter().max().map_or(0, |&row| row as usize + 1);
        let [mut keys, mut values] =
            [(); 2].map(|()| b.keys(rows * key_value * dim + 7).expect("a little memory"));
        let x = [input(b, &self.q), input(b, &self.k)];
        let w = [&self.w[0], &self.w[1]].map(|w| exactly(b, w));
        let [mut q_rstd, mut k_rstd] = [query, key_value].map(|heads| output(b, &unwritten(n * heads)));
        let held = |x: &[f32]| output(b, &if self.normed { unwritten(x.len()) } else { x.to_vec() });
        let (mut q, mut k, mut v) = (held(&self.q), held(&self.k), input(b, &self.v));
        let norms = self.normed.then(|| HeadNorms {
            x: [&x[0], &x[1]],
            w: [&w[0], &w[1]],
            rstd: [&mut q_rstd, &mut k_rstd],
            eps: EPS,
        });
        let (angles, layout) = ([&exactly(b, &self.cos), &exactly(b, &self.sin)], self.layout(b));
        let stored = [&mut keys, &mut values];
        if fused {
            b.heads_forward(&mut q, stored, [&mut k, &mut v], norms, angles, self.sizes, &layout);
        } else {
            composite::heads_forward(b, &mut q, stored, [&mut k, &mut v], norms, angles, self.sizes, &layout);
        }
        let mut outputs = vec![by_row("queries", b, &q)];
        outputs
            .extend([("keys", &keys), ("values", &values)].map(|(name, stored)| self.read(name, b, stored)));
        let rstd = [&q_rstd, &k_rstd].map(|rstd| by_row("rstd", b, rstd).values);
        Read { outputs, rstd: rstd.concat() }
    }

    /// Stored rows, by attention of a row to its own key alone.
    fn read<B: Backend>(&self, name: &'static str, b: &B, stored: &B::Keys) -> Output {
        let (n, heads) = (self.n(), Sizes { query: self.sizes.key_value, ..self.sizes });
        let len = n * heads.query_features();
        let sequences = self.places().into_iter().enumerate().map(|(i, place)| {
            let place = place as usize;
            Sequence { rows: i..i + 1, prefix: Vec::new(), keys: place..place + 1 }
        });
        let layout = on(b, Layout { ids: vec![0; n], sequences: sequences.collect(), ..Layout::default() });
        let mut out = output_operand(b, &unwritten(len), Keep::Values);
        let mut log_sum_exp = output(b, &unwritten(n * heads.query));
        let q = input(b, &vec![0.0; len]);
        let inputs = Attention { q: &q, k: stored, v: Some(stored), layout: &layout, heads, scale: 1.0 };
        b.attention_forward(&mut out, &mut log_sum_exp, inputs);
        operand_by_row(name, b, &out, len)
    }

    /// `dx`, what products read of it if its values are not kept, and `dw`.
    fn backward<B: Backend>(&self, b: &B, rstd: &[f32], fused: bool, keep: Keep) -> [Output; 2] {
        let (len, sizes, layout) = (self.q.len(), [self.sizes.query, self.sizes.dim], self.layout(b));
        let mut dy = output_operand(b, &self.dy, Keep::Values);
        let (mut dw, mut room) = (output(b, &self.dw), output(b, &unwritten(len)));
        let (x, w, rstd) = (input(b, &self.q), exactly(b, &self.w[0]), input(b, rstd));
        let norm = self.normed.then_some(HeadNormBackward {
            dw: Some(&mut dw),
            x: &x,
            w: &w,
            rstd: &rstd,
            room: &mut room,
        });
        let angles = [&exactly(b, &self.cos), &exactly(b, &self.sin)];
        if fused {
            b.heads_backward(&mut dy, norm, angles, sizes, keep, &layout);
        } else {
            composite::heads_backward(b, &mut dy, norm, angles, sizes, &layout);
        }
        let dx = match keep {
            Keep::Values => values_by_row("dx", b, &dy, len),
            Keep::Operand => operand_by_row("dx", b, &dy, len),
        };
        [dx, summed("dw", b, &dw)]
    }

    /// `rstd` of queries.
    fn rstd(&self) -> Vec<f32> {
        let (heads, dim) = (self.n() * self.sizes.query, self.sizes.dim);
        let (y, mut rstd) = (&mut vec![0.0; self.q.len()], vec![0.0; heads]);
        let [x, w] = [&self.q, &self.w[0]].map(|x| exactly(&Reference, &x[..]));
        assert_eq!(w.len(), dim);
        Reference.head_norm_forward(y, &mut rstd, &x, &w, EPS, heads);
        whole(&Reference, &rstd)
    }
}

impl Case for Heads {
    fn name(&self) -> String {
        let norms = if self.normed { "normed" } else { "plain" };
        format!("{norms} heads, {} rows, {:?}", self.n(), self.sizes)
    }

    fn run<B: Backend>(&self, b: &B) -> Vec<Output> {
        let (fused, parts) = (self.forward(b, true), self.forward(b, false));
        assert_same_bits(&self.name(), "rstd", &fused.rstd, &parts.rstd);
        for (fused, parts) in fused.outputs.iter().zip(&parts.outputs) {
            assert_same_bits(&self.name(), fused.name, &fused.values, &parts.values);
        }
        let rstd = self.rstd();
        let mut outputs = fused.outputs;
        for keep in [Keep::Operand, Keep::Values] {
            let [fused, parts] = [true, false].map(|fused| self.backward(b, &rstd, fused, keep));
            for (fused, parts) in fused.iter().zip(parts) {
                assert_same_bits(&self.name(), fused.name, &fused.values, &parts.values);
            }
            outputs.extend(fused);
        }
        outputs
    }

    /// Their parts are held to the reference, and they to their parts: here only to what no rounding exceeds, a rotation of norms.
    fn allowed(&self, _: Precision) -> Vec<Vec<f64>> {
        let Sizes { query, key_value, dim, .. } = self.sizes;
        let error = (dim + 16) as f64 * ROUNDOFF;
        // Of each head, with its greatest feature: at most twice that after a rotation, times √dim after a norm.
        let forward = |x: &[f32], w: &[f32]| -> Vec<f64> {
            let of_head = |x: &[f32]| {
                let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
                let mean = x.iter().map(|x| x * x).sum::<f64>() / dim as f64;
                let rstd = if self.normed { 1.0 / (mean + f64::from(EPS)).sqrt() } else { 1.0 };
                let scaled = x.iter().zip(w).map(|(x, w)| if self.normed { x * f64::from(*w) } else { *x });
                let greatest = scaled.map(f64::abs).fold(0.0, f64::max) * rstd;
                vec![4.0 * error * greatest; dim]
            };
            x.chunks_exact(dim).flat_map(of_head).collect()
        };
        let rstd = self.rstd();
        let (mut dx, mut dw) = (Vec::new(), vec![0.0; dim]);
        for ((x, dy), rstd) in self.q.chunks_exact(dim).zip(self.dy.chunks_exact(dim)).zip(&rstd) {
            let greatest = 2.0 * dy.iter().fold(0.0, |most, dy| f64::max(most, f64::from(dy.abs())));
            let x_hat = x.iter().fold(0.0, |most, x| f64::max(most, f64::from(x.abs()))) * f64::from(*rstd);
            let of_norm = f64::from(*rstd) * (1.0 + x_hat * x_hat);
            dx.extend(vec![4.0 * error * greatest * if self.normed { of_norm } else { 1.0 }; dim]);
            for dw in &mut dw {
                *dw += greatest * x_hat;
            }
        }
        let dw: Vec<f64> = dw
            .iter()
            .zip(&self.dw)
            .map(|(sum, dw)| (self.n() * query + 16) as f64 * ROUNDOFF * (sum + f64::from(dw.abs())))
            .collect();
        debug_assert_eq!(self.k.len(), self.n() * key_value * dim);
        let keys = forward(&self.k, &self.w[1]);
        let values = vec![0.0; self.v.len()];
        vec![forward(&self.q, &self.w[0]), keys, values, dx.clone(), dw.clone(), dx, dw]
    }

    fn rows(&self) -> usize {
        self.n()
    }

    fn select(&self, rows: &[usize]) -> Self {
        let [q, k, v, dy] = [&self.q, &self.k, &self.v, &self.dy].map(|x| pick(x, self.n(), rows));
        let positions = pick(&self.positions, self.n(), rows);
        let cached = !self.cache_rows.is_empty();
        let cache_rows = if cached { (0..rows.len() as u32).map(|i| 2 * i).collect() } else { Vec::new() };
        Self { positions, cache_rows, q, k, v, dy, ..self.clone() }
    }
}
