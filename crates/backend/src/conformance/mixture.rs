//! The MLPs of experts as a whole give the bits of their parts.

use super::{
    Output,
    values::{Numbers, by_row, operand, output, output_operand, summed, unwritten},
};
use crate::{
    Backend, Forms, GroupScore, Keep, Matrix, MixtureGradients, ProductPrecision, Routing, Scoring, composite,
};

/// Rows, experts, experts of a row, features of rows, features between.
const SIZES: [[usize; 5]; 9] = [
    [1, 1, 1, 1, 1],
    [7, 5, 2, 64, 33],
    [33, 16, 4, 17, 7],
    [65, 21, 5, 33, 16],
    [5, 16, 2, 3, 130],
    [300, 2, 1, 65, 34],
    [700, 2, 1, 8, 5],
    [400, 9, 3, 40, 20],
    [3000, 9, 1, 5, 3],
];

/// Inputs: `x`, `dy` are (N, H), `w`, `dw` (E, F, H) twice and (E, H, F).
struct Mixture {
    n: usize,
    of: Routing,
    hidden: usize,
    features: usize,
    logits: Vec<f32>,
    x: Vec<f32>,
    dy: Vec<f32>,
    w: Vec<f32>,
    dw: Vec<f32>,
    /// Which of the matrices is not trained.
    frozen: Option<usize>,
}

impl Mixture {
    fn new(i: usize, [n, experts, per_token, hidden, features]: [usize; 5]) -> Self {
        let mut numbers = Numbers::new(n * 100 + hidden);
        let of = Routing {
            experts,
            per_token,
            groups: 1,
            groups_kept: 1,
            scoring: Scoring::Sigmoid,
            group_score: GroupScore::SumOfTopTwo,
            normalized: true,
            scale: 2.5,
        };
        let [x, dy] = [(); 2].map(|()| numbers.vec(n * hidden));
        let [w, dw] = [(); 2].map(|()| numbers.vec(experts * features * hidden));
        let frozen = Some(i % 4).filter(|&i| i < 3);
        Self { n, of, hidden, features, logits: numbers.vec(n * experts), x, dy, w, dw, frozen }
    }

    /// All that is written, by the operations as a whole or by their parts.
    fn run<B: Backend>(&self, b: &B, whole: bool) -> Vec<Output> {
        let Self { n, of, hidden, features, .. } = *self;
        let copies = n * of.per_token;
        let mut routes = b.routes(n, of).expect("a little memory");
        b.route_forward(&mut routes, &mut output(b, &self.logits), None, of, n);
        let matrices = [[features, hidden], [features, hidden], [hidden, features]].map(|[out, inp]| {
            let (shape, forms) = ([of.experts, out, inp], Forms { values: true, packed: false });
            Matrix::several(b, &self.w, shape, forms, ProductPrecision::Device).expect("a little memory")
        });
        let w = matrices.each_ref();
        let (x, dy) = (operand(b, &self.x), operand(b, &self.dy));
        let room = |features: usize| output_operand(b, &unwritten(copies * features), Keep::Values);
        let [mut gate, mut up, mut swiglu] = [(); 3].map(|()| room(features));
        let [mut rows, mut d_out] = [(); 2].map(|()| room(hidden));
        let mut out = output(b, &unwritten(copies * hidden));

        let (kept, of_forward) = ([&mut gate, &mut up], [&mut rows, &mut swiglu]);
        if whole {
            b.mixture_forward(&mut out, kept, &x, w, &routes, of_forward);
        } else {
            composite::mixture_forward(b, &mut out, kept, &x, w, &routes, of_forward);
        }
        let mut outputs = vec![by_row("out", b, &out)];
        outputs.extend([("gate", &gate), ("up", &up)].map(|(name, y)| by_row(name, b, b.values(y))));

        let mut dw = [(); 3].map(|()| output(b, &self.dw));
        let mut d_copies = output(b, &unwritten(copies * hidden));
        let mut d_weights = output(b, &unwritten(copies));
        let mut trained = (0..).zip(dw.iter_mut()).map(|(i, dw)| (self.frozen != Some(i)).then_some(dw));
        let d = MixtureGradients {
            copies: &mut d_copies,
            weights: &mut d_weights,
            matrices: [(); 3].map(|()| trained.next().expect("three matrices")),
        };
        let (kept, of_backward) = ([&mut gate, &mut up], [&mut d_out, &mut rows, &mut swiglu]);
        if whole {
            b.mixture_backward(d, &dy, &x, kept, w, &routes, of_backward);
        } else {
            composite::mixture_backward(b, d, &dy, &x, kept, w, &routes, of_backward);
        }
        outputs.extend([by_row("d_copies", b, &d_copies), by_row("d_weights", b, &d_weights)]);
        outputs.extend(dw.each_ref().map(|dw| summed("dw", b, dw)));
        outputs
    }
}

/// Of one in `every` case.
pub(super) fn check<B: Backend>(b: &B, every: usize) {
    for (i, size) in SIZES.into_iter().enumerate().step_by(every) {
        let case = Mixture::new(i, size);
        for (got, want) in case.run(b, true).iter().zip(case.run(b, false)) {
            let bits = |output: &Output| output.values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            let is_same = bits(got) == bits(&want);
            assert!(is_same, "a mixture of {size:?}: {} has other bits than by its parts", got.name);
        }
    }
}
