//! Cases of the output head: log-probabilities of given tokens, and sampling.

use super::{
    Case, EDGES, EXP_ROUNDINGS, Output, Precision, ROUNDOFF, assert_same_bits, sum_of_products,
    values::{
        Numbers, by_row, exact, input, magnitudes, matrix, on, operand, output, pick, summed, unwritten,
    },
};
use crate::{
    Backend, Draw, Forms, Layout, Matrix, ProductPrecision, Reference, Store,
    reference::{dot, log_sum_exp},
};

/// `x` is (N, C), `w` is (V, C).
#[derive(Clone)]
struct Head {
    n: usize,
    c: usize,
    short: bool,
    temperature: f32,
    x: Vec<f32>,
    w: Vec<f32>,
}

impl Head {
    fn new(n: usize, vocab: usize, c: usize, temperature: f32, short: bool) -> Self {
        let mut numbers = Numbers::new(n * 10_000 + vocab * 100 + c);
        let (x, w) = (numbers.operands(n * c, short), numbers.operands(vocab * c, short));
        Self { n, c, short, temperature, x, w }
    }

    fn vocab(&self) -> usize {
        self.w.len() / self.c
    }

    fn name(&self) -> String {
        let Self { n, c, short, temperature, .. } = self;
        let vocab = self.vocab();
        format!(
            "{n} rows, {vocab} tokens from {c} features, temperature {temperature}, short operands {short}"
        )
    }

    fn matrix<B: Backend>(&self, b: &B) -> Matrix<B> {
        matrix(b, &self.w, [self.vocab(), self.c], true)
    }

    /// The same matrix, of which only the packed form is held.
    fn frozen<B: Backend>(&self, b: &B) -> Matrix<B> {
        let (forms, shape) = (Forms { values: false, packed: true }, [1, self.vocab(), self.c]);
        Matrix::fixed(b, &self.w, shape, forms, ProductPrecision::Device).expect("a little memory")
    }

    /// Each row is a head row, with its target or draw, if there is one.
    fn layout<B: Backend>(&self, b: &B, targets: &[u32], draws: &[Draw]) -> B::Layout {
        let (ids, head_rows) = (vec![0; self.n], (0..self.n as u32).collect());
        let (targets, draws) = (targets.to_vec(), draws.to_vec());
        on(b, Layout { ids, head_rows, targets, draws, ..Layout::default() })
    }

    fn select(&self, rows: &[usize]) -> Self {
        Self { n: rows.len(), x: pick(&self.x, self.n, rows), ..self.clone() }
    }

    /// The logits of each row, and how far they may err.
    fn logits(&self, precision: Precision) -> impl Iterator<Item = Logits> {
        let (x, w) = (exact(&self.x), exact(&self.w));
        let temperature = f64::from(if self.temperature == 0.0 { 1.0 } else { self.temperature });
        let (c, of_sum) = (self.c, sum_of_products(self.c, precision.operand(self.short)));
        (0..self.n).map(move |n| {
            let x = &x[n * c..][..c];
            let l: Vec<f64> = w.chunks_exact(c).map(|w| dot(x, w) / temperature).collect();
            let sums = w.chunks_exact(c).map(|w| x.iter().zip(w).map(|(x, w)| (x * w).abs()).sum::<f64>());
            let log_sum_exp = log_sum_exp(&l);
            let largest = l.iter().fold(log_sum_exp.abs(), |max, l| max.max(l.abs()));
            let delta = sums.fold(0.0, f64::max) * of_sum / temperature + 8.0 * ROUNDOFF * largest;
            Logits { l, log_sum_exp, largest, delta }
        })
    }
}

/// The logits of a row, the largest magnitude among them and `log_sum_exp`, and the largest error of a logit.
struct Logits {
    l: Vec<f64>,
    log_sum_exp: f64,
    largest: f64,
    delta: f64,
}

impl Logits {
    fn of_sum(&self) -> f64 {
        ((2 * self.l.len()) as f64 + EXP_ROUNDINGS) * ROUNDOFF
    }

    fn of_log_sum_exp(&self) -> f64 {
        self.delta.exp_m1() + self.of_sum() + 4.0 * ROUNDOFF * self.largest
    }

    fn of_log_prob(&self) -> f64 {
        self.delta + self.of_log_sum_exp() + 2.0 * ROUNDOFF * self.largest
    }

    /// `Σ p l`, shifted or not, adds magnitudes of at most `2 · largest`.
    fn of_entropy(&self) -> f64 {
        let of_p = (2.0 * self.delta).exp_m1() + 2.0 * self.of_sum();
        self.of_log_prob() + of_p * 2.0 * self.largest
    }

    /// Relative error of a probability in the backward, where `log_sum_exp` is given.
    fn of_p_given(&self) -> f64 {
        self.delta.exp_m1() + EXP_ROUNDINGS * ROUNDOFF
    }
}

/// `dx` is (N, C), `dw` is (V, C), what the output holds before; the others are (N).
#[derive(Clone)]
pub(super) struct LogProb {
    head: Head,
    targets: Vec<u32>,
    d_log_probs: Vec<f32>,
    log_sum_exp: Vec<f32>,
    dw: Vec<f32>,
}

/// Rows, tokens and features at their edges, and a vocabulary that exceeds a block; flat and sharp.
pub(super) fn log_prob_cases() -> impl Iterator<Item = LogProb> {
    let sizes = EDGES.iter().flat_map(|&e| [(e, 31, 7), (6, e, 17), (5, 33, e)]).chain([(70, 1030, 33)]);
    let variants = [(1.0, true), (0.7, false), (1.0 / 32.0, true), (1.0, false)].into_iter().cycle();
    sizes.zip(variants).map(|((n, vocab, c), (temperature, short))| {
        let head = Head::new(n, vocab, c, temperature, short);
        let mut numbers = Numbers::new(n + vocab + c);
        let (targets, d_log_probs) = (numbers.ids(n, vocab), numbers.vec(n));
        let log_sum_exp = head.logits(Precision::F32).map(|l| l.log_sum_exp as f32).collect();
        LogProb { head, targets, d_log_probs, log_sum_exp, dw: numbers.vec(vocab * c) }
    })
}

impl Case for LogProb {
    fn name(&self) -> String {
        format!("log_prob, {}", self.head.name())
    }

    fn run<B: Backend>(&self, b: &B) -> Vec<Output> {
        let Head { n, c, temperature, .. } = self.head;
        let (x, w) = (operand(b, &self.head.x), self.head.matrix(b));
        let layout = self.head.layout(b, &self.targets, &[]);
        let [mut log_probs, mut entropy, mut log_sum_exp] = [(); 3].map(|()| output(b, &unwritten(n)));
        let saved = &mut log_sum_exp;
        b.log_prob_forward(&mut log_probs, &mut entropy, saved, &x, &w, temperature, &layout);
        let (mut dx, mut dw) = (output(b, &unwritten(n * c)), output(b, &self.dw));
        let (d_log_probs, saved) = (input(b, &self.d_log_probs), input(b, &self.log_sum_exp));
        b.log_prob_backward(&mut dx, Some(&mut dw), &d_log_probs, &x, &w, &saved, temperature, &layout);
        let (mut dx_frozen, frozen) = (output(b, &unwritten(n * c)), self.head.frozen(b));
        b.log_prob_backward(&mut dx_frozen, None, &d_log_probs, &x, &frozen, &saved, temperature, &layout);
        let [dx, dx_frozen] = [&dx, &dx_frozen].map(|dx| by_row("dx", b, dx));
        assert_same_bits(&self.name(), "dx of a frozen matrix", &dx_frozen.values, &dx.values);
        vec![
            by_row("log_probs", b, &log_probs),
            by_row("entropy", b, &entropy),
            by_row("log_sum_exp", b, &log_sum_exp),
            dx,
            summed("dw", b, &dw),
        ]
    }

    fn allowed(&self, precision: Precision) -> Vec<Vec<f64>> {
        let Head { n, c, temperature, .. } = self.head;
        let vocab = self.head.vocab();
        let (of_dx, of_dw) = (
            sum_of_products(vocab + 4, precision.operand(false)),
            sum_of_products(n + 4, precision.operand(false)),
        );
        let (mut dl_of_dx, mut dl_of_dw) = (Vec::new(), Vec::new());
        let [mut log_probs, mut entropy, mut log_sum_exp] = [(); 3].map(|()| Vec::new());
        for (row, logits) in self.head.logits(precision).enumerate() {
            log_probs.push(logits.of_log_prob());
            entropy.push(logits.of_entropy());
            log_sum_exp.push(logits.of_log_sum_exp());
            for (v, l) in logits.l.iter().enumerate() {
                let hit = f64::from(v == self.targets[row] as usize);
                let p = (l - f64::from(self.log_sum_exp[row])).exp();
                let d = f64::from(self.d_log_probs[row].abs() / temperature);
                dl_of_dx.push(d * (hit + p) * (logits.of_p_given() + of_dx));
                dl_of_dw.push(d * (hit + p) * (logits.of_p_given() + of_dw));
            }
        }
        let mut dx = vec![0.0; n * c];
        let [x, dw] = [&self.head.x, &self.dw].map(|x| exact(&magnitudes(x)));
        let w = matrix(&Reference, &magnitudes(&self.head.w), [vocab, c], false);
        let mut dw: Vec<f64> = dw.iter().map(|dw| dw * (n + 1) as f64 * ROUNDOFF).collect();
        Reference.linear_backward_input(&mut dx, &dl_of_dx, &w, n, Store::Write);
        Reference.linear_backward_weight(&mut dw, &dl_of_dw, &x, n, [vocab, c], ProductPrecision::Device);
        vec![log_probs, entropy, log_sum_exp, dx, dw]
    }

    fn rows(&self) -> usize {
        self.head.n
    }

    fn select(&self, rows: &[usize]) -> Self {
        let n = self.head.n;
        let [d_log_probs, log_sum_exp] = [&self.d_log_probs, &self.log_sum_exp].map(|x| pick(x, n, rows));
        Self {
            head: self.head.select(rows),
            targets: pick(&self.targets, n, rows),
            d_log_probs,
            log_sum_exp,
            dw: self.dw.clone(),
        }
    }
}

/// Draws of which the outcome is known: `tokens`.
#[derive(Clone)]
pub(super) struct Sample {
    head: Head,
    draws: Vec<Draw>,
    tokens: Vec<u32>,
}

/// How far from an edge of its token's interval of the cumulative distribution a draw lies at least.
const MARGIN: f64 = 1e-4;

/// Every row with one distribution, its draws a grid over [0, 1); rows of their own; and temperature 0, with
/// ties.
pub(super) fn sample_cases() -> impl Iterator<Item = Sample> {
    let sizes = EDGES.into_iter().flat_map(|e| [(400, e, 5), (e, 130, 17)]).chain([(300, 1030, 33)]);
    let cases = sizes.zip([1.0, 0.0, 0.25].into_iter().cycle());
    cases.map(|((n, vocab, c), temperature)| {
        let mut head = Head::new(n, vocab, c, temperature, true);
        if n == 400 {
            head.x = head.x[..c].repeat(n);
        }
        if temperature == 0.0 {
            let half = vocab.div_ceil(2) * c;
            head.w.copy_within(..vocab * c - half, half);
        }
        let rules = TRUNCATIONS.into_iter().cycle();
        let wanted = (0..n).zip(rules).map(|(i, (top_k, top_p, min_p))| {
            let uniform = (i as f64 + 0.5) / n as f64;
            Draw { uniform, temperature, top_k, top_p, min_p }
        });
        let (draws, tokens) =
            wanted.zip(head.logits(Precision::F32)).map(|(draw, l)| known_draw(&l, draw)).unzip();
        Sample { head, draws, tokens }
    })
}

/// Top-k, top-p, min-p of the rows in turn.
const TRUNCATIONS: [(usize, f32, f32); 7] = [
    (0, 1.0, 0.0),
    (3, 1.0, 0.0),
    (0, 0.7, 0.0),
    (0, 1.0, 0.2),
    (9, 0.8, 0.1),
    (0, 0.999, 0.0),
    (5000, 0.2, 0.9),
];

/// The tokens that `draw` keeps, each with its weight, in the order of their numbers; none where roundoff may decide.
fn kept(Logits { l, log_sum_exp, delta, .. }: &Logits, draw: &Draw) -> Option<Vec<(usize, f64)>> {
    let mut ranked: Vec<(usize, f64)> =
        l.iter().enumerate().map(|(v, l)| (v, (l - log_sum_exp).exp())).collect();
    if !draw.truncates() {
        return Some(ranked);
    }
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let least_gap = 1.0 + MARGIN + 4.0 * delta;
    let clear = |ranked: &[(usize, f64)], n: usize| ranked[n - 1].1 > least_gap * ranked[n].1;
    if (1..ranked.len()).contains(&draw.top_k) {
        if !clear(&ranked, draw.top_k) {
            return None;
        }
        ranked.truncate(draw.top_k);
    }
    let total: f64 = ranked.iter().map(|(_, p)| p).sum();
    let mut above = 0.0;
    for n in 0..ranked.len() {
        let share = above / total - f64::from(draw.top_p);
        if share.abs() < MARGIN && draw.top_p < 1.0 {
            return None;
        }
        if share >= 0.0 && n > 0 {
            if !clear(&ranked, n) {
                return None;
            }
            ranked.truncate(n);
            break;
        }
        above += ranked[n].1;
    }
    let least = f64::from(draw.min_p) * ranked[0].1;
    if draw.min_p > 0.0 && ranked.iter().any(|(_, p)| (p / least - 1.0).abs() < MARGIN + 4.0 * delta) {
        return None;
    }
    ranked.retain(|(_, p)| *p >= least);
    ranked.sort_by_key(|(v, _)| *v);
    Some(ranked)
}

/// The token that `draw` draws. The draw is moved to the middle of the token's interval if it lies too near an edge, and
/// takes from the whole distribution if roundoff could change what it keeps.
fn known_draw(logits: &Logits, draw: Draw) -> (Draw, u32) {
    let l = &logits.l;
    if draw.temperature == 0.0 {
        let largest = l.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        return (draw, l.iter().take_while(|&&l| l < largest).count() as u32);
    }
    let Some(kept) = kept(logits, &draw) else {
        return known_draw(logits, Draw::whole(draw.uniform, draw.temperature));
    };
    let total: f64 = kept.iter().map(|(_, p)| p).sum();
    let mut start = 0.0;
    let intervals = kept.iter().map(|(v, p)| {
        let end = start + p / total;
        (*v, std::mem::replace(&mut start, end)..end)
    });
    let wide = intervals.filter(|(_, i)| i.end - i.start > 2.0 * MARGIN);
    let distance = |i: &std::ops::Range<f64>| (i.start - draw.uniform).max(draw.uniform - i.end);
    let Some((token, interval)) = wide.min_by(|(_, a), (_, b)| distance(a).total_cmp(&distance(b))) else {
        unreachable!("one token of {} has at least their mean probability", l.len())
    };
    let inside = interval.start + MARGIN < draw.uniform && draw.uniform < interval.end - MARGIN;
    let uniform = if inside { draw.uniform } else { f64::midpoint(interval.start, interval.end) };
    (Draw { uniform, ..draw }, token as u32)
}

impl Case for Sample {
    fn name(&self) -> String {
        format!("sample, {}", self.head.name())
    }

    /// Checks the drawn tokens here, and that their log-probabilities are those of the forward, to the bit.
    fn run<B: Backend>(&self, b: &B) -> Vec<Output> {
        let Head { n, temperature, .. } = self.head;
        let (x, w) = (operand(b, &self.head.x), self.head.matrix(b));
        let [mut tokens, mut log_probs, mut full] = [(); 3].map(|()| output(b, &unwritten(n)));
        let layout = self.head.layout(b, &[], &self.draws);
        b.sample(&mut tokens, &mut log_probs, &mut full, &x, &w, &layout);
        let tokens: Vec<u32> =
            by_row("tokens", b, &tokens).values.iter().map(|&token| token as u32).collect();
        assert_eq!(tokens, self.tokens, "{}: drawn by {:?}", self.name(), self.draws);
        let (sampled, full) = (by_row("log_probs", b, &log_probs), by_row("full_log_probs", b, &full));

        let [mut log_probs, mut entropy, mut log_sum_exp] = [(); 3].map(|()| output(b, &unwritten(n)));
        let temperature = if temperature == 0.0 { 1.0 } else { temperature };
        let (layout, saved) = (self.head.layout(b, &tokens, &[]), &mut log_sum_exp);
        b.log_prob_forward(&mut log_probs, &mut entropy, saved, &x, &w, temperature, &layout);
        let of_forward = by_row("log_probs", b, &log_probs);
        assert_same_bits(&self.name(), "sampled against forward", &full.values, &of_forward.values);
        let mut whole = sampled.values.iter().zip(&full.values).zip(&self.draws);
        assert!(whole.all(|((p, full), draw)| draw.truncates() || p.to_bits() == full.to_bits()));
        vec![sampled, full]
    }

    fn allowed(&self, precision: Precision) -> Vec<Vec<f64>> {
        let bounds: Vec<f64> = self.head.logits(precision).map(|l| l.of_log_prob()).collect();
        vec![bounds.clone(), bounds]
    }

    fn rows(&self) -> usize {
        self.head.n
    }

    fn select(&self, rows: &[usize]) -> Self {
        let draws = pick(&self.draws, self.head.n, rows);
        Self { head: self.head.select(rows), draws, tokens: pick(&self.tokens, self.head.n, rows) }
    }
}
