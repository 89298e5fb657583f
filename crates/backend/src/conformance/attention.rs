//! Cases of attention.

use super::{
    Case, EXP_ROUNDINGS, Output, Precision, ROUNDOFF, assert_same_bits, sum_of_products,
    values::{
        Numbers, by_row, exact, input, keys, on, operand_by_row, operand_with_values, output, output_operand,
        pick, summed,
    },
};
use crate::{
    Attention as Inputs, Backend, Heads, Keep, Layout, Reference, Sequence,
    reference::{Query, dot, log_sum_exp, queries},
};
use std::ops::Range;

/// Key rows of NaN around those of a sequence, which nobody attends to.
const GAP: usize = 3;

/// `q` is (N, H · D), `dout`, `out` are (N, H · V); `k`, `dk` are (key rows, K · D), `v`, `dv` (key rows, K · V);
/// `log_sum_exp` is (N, H).
/// `dk`, `dv` are what the outputs hold before.
#[derive(Clone)]
pub(super) struct Attention {
    n: usize,
    heads: Heads,
    /// Whether the values are the first features of the keys, and not stored.
    within_keys: bool,
    short: bool,
    scale: f64,
    sequences: Vec<Sequence>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    dout: Vec<f32>,
    out: Vec<f32>,
    log_sum_exp: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
}

/// A run of `rows` after `past` tokens that have keys but no rows, with as many sequences that share its keys
/// as there are `completions`, of so many rows each.
struct Run {
    past: usize,
    rows: usize,
    completions: &'static [usize],
}

const RUNS: [&[Run]; 7] = [
    &[Run { past: 0, rows: 1, completions: &[] }],
    &[Run { past: 64, rows: 1, completions: &[] }, Run { past: 5, rows: 1, completions: &[] }],
    &[Run { past: 0, rows: 17, completions: &[1, 2, 33] }, Run { past: 0, rows: 5, completions: &[7] }],
    &[Run { past: 31, rows: 2, completions: &[16, 1] }, Run { past: 0, rows: 15, completions: &[] }],
    &[Run { past: 0, rows: 65, completions: &[63, 6] }],
    &[Run { past: 1, rows: 130, completions: &[] }],
    &[Run { past: 7, rows: 16, completions: &[] }, Run { past: 0, rows: 31, completions: &[65, 15, 15] }],
];

/// Where everything lies: sequences, number of rows, and the key rows that are in use. A row in no sequence
/// stands between the runs, a gap between their keys.
fn lay_out(runs: &[Run]) -> (Vec<Sequence>, usize, usize) {
    let (mut sequences, mut n, mut keys) = (Vec::new(), 1, GAP);
    for run in runs {
        let owner = keys..keys + run.past + run.rows;
        sequences.push(Sequence { rows: n..n + run.rows, prefix: vec![], keys: owner.clone() });
        (n, keys) = (n + run.rows, owner.end);
        for &rows in run.completions {
            let prefix = vec![owner.clone()];
            sequences.push(Sequence { rows: n..n + rows, prefix, keys: keys..keys + rows });
            (n, keys) = (n + rows, keys + rows);
        }
        (n, keys) = (n + 1, keys + GAP);
    }
    (sequences, n, keys)
}

/// Each layout with each kind of heads, the scores flat and sharp.
pub(super) fn cases() -> impl Iterator<Item = Attention> {
    let heads = [
        (1, 1, 2, 2, false),
        (4, 2, 16, 16, false),
        (6, 2, 6, 6, false),
        (3, 3, 33, 33, false),
        (9, 3, 64, 64, false),
        (2, 1, 65, 65, false),
        (4, 4, 48, 32, false),
        (5, 1, 40, 7, false),
        (2, 2, 3, 70, false),
        (6, 1, 72, 64, true),
        (4, 2, 21, 13, true),
        (2, 2, 64, 64, true),
    ];
    let heads = heads.map(|(query, key_value, dim, value_dim, within_keys)| {
        (Heads { query, key_value, dim, value_dim }, within_keys)
    });
    let variants = [(1.0, true), (1.0, false), (24.0, true), (1.0, false), (4.0, true)];
    let cases = RUNS.iter().flat_map(move |runs| heads.map(|heads| (*runs, heads)));
    cases.zip(variants.into_iter().cycle()).map(|((runs, (heads, within_keys)), (sharpness, short))| {
        let (sequences, n, key_rows) = lay_out(runs);
        let mut numbers = Numbers::new(n * 1000 + heads.query_features());
        let attended =
            |row: usize| sequences.iter().any(|s| s.prefix.iter().chain([&s.keys]).any(|r| r.contains(&row)));
        let mut keys = |features: usize| {
            let mut x = numbers.operands(key_rows * features, short);
            for (row, x) in x.chunks_exact_mut(features).enumerate() {
                if !attended(row) {
                    x.fill(f32::NAN);
                }
            }
            x
        };
        let (of_k, of_v) = (heads.key_features(), heads.value_features());
        let (k, mut v) = (keys(of_k), keys(of_v));
        if within_keys {
            v = k.chunks_exact(heads.dim).flat_map(|key| &key[..heads.value_dim]).copied().collect();
        }
        // Those of keys that are attended to must be written, and no others.
        let before = |keys: &[f32]| keys.iter().map(|x| if x.is_nan() { 0.5 } else { f32::NAN }).collect();
        let (dk, dv) = (before(&k), before(&v));
        let mut queries = |features: usize| numbers.operands(n * features, short);
        let (q, dout) = (queries(heads.query_features()), queries(heads.output_features()));
        let scale = sharpness / (heads.dim as f64).sqrt();
        let (out, log_sum_exp) = (Vec::new(), Vec::new());
        let mut case = Attention {
            n,
            heads,
            within_keys,
            short,
            scale,
            sequences,
            q,
            k,
            v,
            dout,
            out,
            log_sum_exp,
            dk,
            dv,
        };
        let [out, log_sum_exp] = case.forward(&Reference);
        (case.out, case.log_sum_exp) = (out.values, log_sum_exp.values);
        case
    })
}

impl Attention {
    /// Runs `operation` on the case's inputs.
    fn with_inputs<B: Backend, T>(&self, b: &B, operation: impl FnOnce(Inputs<'_, B>) -> T) -> T {
        let q = input(b, &self.q);
        let (k, v) =
            (keys(b, &self.k, self.heads.key_features()), keys(b, &self.v, self.heads.value_features()));
        let (ids, sequences) = (vec![0; self.n], self.sequences.clone());
        let layout = on(b, Layout { ids, sequences, ..Layout::default() });
        let (heads, scale) = (self.heads, self.scale);
        let v = (!self.within_keys).then_some(&v);
        operation(Inputs { q: &q, k: &k, v, layout: &layout, heads, scale })
    }

    fn forward<B: Backend>(&self, b: &B) -> [Output; 2] {
        let before = self.before(self.heads.output_features());
        let mut out = output_operand(b, &before, Keep::Operand);
        let mut log_sum_exp = output(b, &self.before(self.heads.query));
        self.with_inputs(b, |inputs| b.attention_forward(&mut out, &mut log_sum_exp, inputs));
        let mut kept = output_operand(b, &before, Keep::Values);
        self.with_inputs(b, |inputs| b.attention_forward(&mut kept, &mut log_sum_exp, inputs));
        let out = operand_by_row("out", b, &out, before.len());
        let kept = operand_by_row("out", b, &kept, before.len());
        assert_same_bits(&self.name(), "out with its values", &kept.values, &out.values);
        [out, by_row("log_sum_exp", b, &log_sum_exp)]
    }

    fn backward<B: Backend>(&self, b: &B) -> [Output; 3] {
        let (out, [dout, log_sum_exp]) =
            (operand_with_values(b, &self.out), [&self.dout, &self.log_sum_exp].map(|x| input(b, x)));
        let mut dq = output(b, &self.before(self.heads.query_features()));
        let [mut dk, mut dv] = [&self.dk, &self.dv].map(|x| output(b, x));
        self.with_inputs(b, |inputs| {
            b.attention_backward([&mut dq, &mut dk, &mut dv], &dout, inputs, &out, &log_sum_exp);
        });
        [by_row("dq", b, &dq), summed("dk", b, &dk), summed("dv", b, &dv)]
    }

    /// What an output holds before, of which the rows of the sequences must be written, and no others.
    fn before(&self, features: usize) -> Vec<f32> {
        let before = |row| if self.place(row).is_some() { f32::NAN } else { 0.5 };
        let rows = (0..self.n).flat_map(|row| std::iter::repeat_n(before(row), features));
        rows.collect()
    }

    /// The run that row `row` is of, and its number within.
    fn place(&self, row: usize) -> Option<(&Sequence, usize)> {
        let sequence = self.sequences.iter().find(|s| s.rows.contains(&row))?;
        Some((sequence, row - sequence.rows.start))
    }
}

impl Case for Attention {
    fn name(&self) -> String {
        let Self { n, heads, within_keys, short, scale, sequences, .. } = self;
        format!(
            "attention, {n} rows, {heads:?}, values within keys {within_keys}, scale {scale}, short operands {short}, {sequences:?}"
        )
    }

    fn run<B: Backend>(&self, b: &B) -> Vec<Output> {
        self.forward(b).into_iter().chain(self.backward(b)).collect()
    }

    /// With `Δ` the largest error of a row's scores, a probability errs relatively by `exp(2Δ) − 1` in the
    /// forward and by `exp(Δ) − 1` in the backward, where `log_sum_exp` is given; what it is multiplied with
    /// adds the errors of its product.
    fn allowed(&self, precision: Precision) -> Vec<Vec<f64>> {
        let [q, k, v, dout, out] = [&self.q, &self.k, &self.v, &self.dout, &self.out].map(|x| exact(x));
        let [mut d_out, mut dq] = [dout.len(), q.len()].map(|len| vec![0.0; len]);
        let [mut dk, mut dv] = [k.len(), v.len()].map(|len| vec![0.0; len]);
        let mut d_log_sum_exp = vec![0.0; self.n * self.heads.query];
        let scale = self.scale;
        let (operand, rounded) = (precision.operand(self.short), precision.operand(false));
        let of_scores = sum_of_products(self.heads.dim, operand);
        let addends = (self.n + 1) * self.heads.group();
        let dims = self.heads.dim.max(self.heads.value_dim);
        for Query { index, place, output, keys } in queries(&self.sequences, self.heads) {
            let (q, dout, out) = (&q[place.clone()], &dout[output.clone()], &out[output.clone()]);
            let scores: Vec<f64> = keys.iter().map(|[j, _]| scale * dot(q, &k[j.clone()])).collect();
            let total = log_sum_exp(&scores);
            let largest = scores.iter().fold(total.abs(), |max, s| max.max(s.abs()));
            let error = |j: &Range<usize>| of_scores * scale * dot_of_magnitudes(q, &k[j.clone()]);
            let delta = keys.iter().map(|[j, _]| error(j)).fold(0.0, f64::max) + 8.0 * ROUNDOFF * largest;
            let of_sum = (2 * keys.len()) as f64 * ROUNDOFF + EXP_ROUNDINGS * ROUNDOFF;
            let of_p = (2.0 * delta).exp_m1() + 2.0 * of_sum + sum_of_products(keys.len(), rounded);
            let of_p_given = delta.exp_m1() + EXP_ROUNDINGS * ROUNDOFF;
            let of_ds = of_p_given + sum_of_products(dims + keys.len().max(addends), rounded);
            d_log_sum_exp[index] = delta.exp_m1() + of_sum + 4.0 * ROUNDOFF * largest;
            for (s, [key, value]) in scores.iter().zip(keys) {
                let p = (s - total).exp();
                let ds = dot_of_magnitudes(dout, &v[value.clone()]) + dot_of_magnitudes(dout, out);
                for (i, j) in value.enumerate() {
                    d_out[output.start + i] += of_p * p * v[j].abs();
                    dv[j] += of_ds * p * dout[i].abs();
                }
                for (i, j) in key.enumerate() {
                    dq[place.start + i] += of_ds * scale * p * ds * k[j].abs();
                    dk[j] += of_ds * scale * p * ds * q[i].abs();
                }
            }
        }
        vec![d_out, d_log_sum_exp, dq, dk, dv]
    }

    fn rows(&self) -> usize {
        self.n
    }

    /// Each of `rows` decoded as a run of its own, against a cache where its keys lie elsewhere: the shared
    /// ones in pages apart for one row, all in one piece for the next.
    fn select(&self, rows: &[usize]) -> Self {
        let of = [self.heads.key_features(), self.heads.value_features()];
        let mut sequences = Vec::new();
        let [mut k, mut v] = [(); 2].map(|()| Vec::new());
        for (i, &row) in rows.iter().enumerate() {
            let Some((s, place)) = self.place(row) else { continue };
            let mut append = |keys: Range<usize>, gap: usize| {
                for ((to, from), c) in [(&mut k, &self.k), (&mut v, &self.v)].into_iter().zip(of) {
                    to.extend(std::iter::repeat_n(f32::NAN, gap * c));
                    to.extend_from_slice(&from[keys.start * c..keys.end * c]);
                }
                k.len() / of[0] - keys.len()..k.len() / of[0]
            };
            let own = s.keys.start..s.keys.start + s.visible(place);
            let (prefix, keys) = if i % 2 == 0 {
                let page = 1 + i % 21;
                let pages =
                    s.prefix.iter().flat_map(|r| r.clone().step_by(page).map(|k| k..r.end.min(k + page)));
                (pages.map(|keys| append(keys, GAP + i % 5)).collect(), append(own, GAP))
            } else {
                let start = append(0..0, GAP + i % 5).start;
                for keys in &s.prefix {
                    append(keys.clone(), 0);
                }
                (vec![], start..append(own, 0).end)
            };
            sequences.push(Sequence { rows: i..i + 1, prefix, keys });
        }
        let (dk, dv) = (vec![0.0; k.len()], vec![0.0; v.len()]);
        let [q, dout, out, log_sum_exp] =
            [&self.q, &self.dout, &self.out, &self.log_sum_exp].map(|x| pick(x, self.n, rows));
        Self { n: rows.len(), sequences, q, k, v, dout, out, log_sum_exp, dk, dv, ..*self }
    }
}

/// Σᵢ |aᵢ bᵢ|
fn dot_of_magnitudes(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a * b).abs()).sum()
}
