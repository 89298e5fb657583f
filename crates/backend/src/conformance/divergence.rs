//! Cases of a student's divergence from a teacher.

use super::{
    Case, EDGES, EXP_ROUNDINGS, Output, Precision, ROUNDOFF,
    values::{Numbers, by_row, exact, input, output, output_operand, pick, unwritten, values_by_row},
};
use crate::{Backend, Divergence, DivergenceForm, Keep, Support, reference::log_sum_exp};

/// `student` and `teacher` are logits, (N, V) of their own V.
#[derive(Clone)]
pub(super) struct Diverging {
    n: usize,
    of: Divergence,
    weight: f64,
    student: Vec<f32>,
    teacher: Vec<f32>,
}

/// Vocabularies at the edges of vectors and of chunks, of two sizes; every form, whole and by the likeliest tokens; flat, and
/// so sharp that probabilities underflow.
pub(super) fn cases() -> impl Iterator<Item = Diverging> {
    let forms = [
        DivergenceForm::Forward,
        DivergenceForm::Reverse,
        DivergenceForm::JensenShannon { beta: 0.1 },
        DivergenceForm::JensenShannon { beta: 0.5 },
        DivergenceForm::JensenShannon { beta: 0.9 },
    ];
    let supports = [Support::Whole, Support::WithRest(5), Support::Renormalised(3), Support::WithRest(4000)];
    let sizes = EDGES.into_iter().map(|v| (5, v, v + v % 3)).chain([(9, 4099, 4096), (3, 8200, 8300)]);
    let spreads = [(1.0, 1.0), (8.0, 0.7), (2.0, 2.0), (150.0, 1.0)].into_iter().cycle();
    let kinds = forms.into_iter().flat_map(move |form| supports.map(|support| (form, support)));
    let all = sizes.flat_map(move |sizes| kinds.clone().map(move |kind| (sizes, kind)));
    let finite = |((_, (form, support)), _): &(((usize, usize, usize), _), _)| {
        !(*form == DivergenceForm::Reverse && matches!(support, Support::Renormalised(_)))
    };
    all.zip(spreads).filter(finite).map(|(((n, own, other), (form, support)), (spread, temperature))| {
        let mut numbers = Numbers::new(n + 10 * own + 7 * other);
        let mut logits = |len| numbers.vec(len).iter().map(|z| spread * z).collect::<Vec<f32>>();
        let (student, mut teacher) = (logits(n * own), logits(n * other));
        // A row in which both agree, and one of equals: the likeliest are then those with the lower numbers.
        let both = own.min(other);
        teacher[..both].copy_from_slice(&student[..both]);
        teacher[other..2 * other].fill(0.5);
        Diverging { n, of: Divergence { form, temperature, support }, weight: 0.37, student, teacher }
    })
}

impl Diverging {
    fn sizes(&self) -> [usize; 3] {
        let vocab = |logits: &[f32]| logits.len().checked_div(self.n).unwrap_or(1);
        [self.n, vocab(&self.student), vocab(&self.teacher)]
    }
}

impl Case for Diverging {
    fn name(&self) -> String {
        format!("divergence, {:?} of {:?}", self.of, self.sizes())
    }

    fn run<B: Backend>(&self, b: &B) -> Vec<Output> {
        let mut d = output(b, &unwritten(self.n));
        let mut student = output_operand(b, &self.student, Keep::Values);
        let mut teacher = input(b, &self.teacher);
        b.divergence(&mut d, &mut student, &mut teacher, self.of, self.weight, self.sizes());
        vec![by_row("d", b, &d), values_by_row("dz", b, &student, self.student.len())]
    }

    /// A logarithm of a probability errs by its roundings and by those of its row's sum; a probability relatively by as much. A
    /// value sums products of the two, a gradient is one.
    fn allowed(&self, _: Precision) -> Vec<Vec<f64>> {
        let [n, own, other] = self.sizes();
        let (vocab, t) = (own.min(other), f64::from(self.of.temperature));
        let (mut values, mut gradients) = (Vec::new(), Vec::new());
        for row in 0..n {
            let ln = |logits: &[f32], stride: usize| {
                let l: Vec<f64> = exact(&logits[row * stride..][..vocab]).iter().map(|z| z / t).collect();
                let total = log_sum_exp(&l);
                let largest = l.iter().fold(total.abs(), |max, l| max.max(l.abs()));
                (l.iter().map(|l| l - total).collect::<Vec<_>>(), largest)
            };
            let ((ln_p, in_p), (ln_q, in_q)) = (ln(&self.teacher, other), ln(&self.student, own));
            let of_ln = ROUNDOFF * (6.0 * in_p.max(in_q) + vocab as f64 / 8.0 + EXP_ROUNDINGS);
            let widest = ln_p.iter().zip(&ln_q).map(|(p, q)| (p - q).abs()).fold(1.0, f64::max);
            // Σ p and Σ q are 1, and no logarithm of a ratio exceeds the widest.
            let of_value = 2.0 * of_ln * (1.0 + 2.0 * widest) + ROUNDOFF * vocab as f64 / 8.0 * widest;
            values.push(of_value);
            let scale = self.weight / t;
            let top = self.of.support.tokens(vocab) as f64 / vocab as f64;
            gradients.extend((0..own).map(|v| {
                let Some(ln_q) = ln_q.get(v) else { return 0.0 };
                // By the likeliest tokens alone, p is larger by as much as the others are left out.
                let p = if top < 1.0 { 1.0 } else { ln_p[v].exp() };
                let slope = (ln_q.exp() * (1.0 + 2.0 * widest) + p) * 2.0 * of_ln;
                scale * (slope + ln_q.exp() * of_value + p * EXP_ROUNDINGS * ROUNDOFF)
            }));
        }
        vec![values, gradients]
    }

    fn rows(&self) -> usize {
        self.n
    }

    fn select(&self, rows: &[usize]) -> Self {
        let [student, teacher] = [&self.student, &self.teacher].map(|x| pick(x, self.n, rows));
        Self { n: rows.len(), student, teacher, ..self.clone() }
    }
}
