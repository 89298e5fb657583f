//! Cases of experts: which are chosen, the copies of rows that go to them, their products.

use super::{
    Case, EXP_ROUNDINGS, Output, Precision, ROUNDOFF, sum_of_products,
    values::{
        Numbers, assert_same_operand, by_row, exactly, input, magnitudes, on, operand, operand_by_row,
        output, output_operand, pick, summed, unwritten, values_by_row, whole, wide,
    },
};
use crate::{
    Backend, ExpertRows, Forms, GroupScore, Keep, Layout, Matrix, ProductPrecision, Reference, Routing,
    Scoring, Sequence, Store, fp8, int8,
};

/// Rows, experts, experts of a row, groups, groups kept.
const SIZES: [[usize; 5]; 12] = [
    [1, 1, 1, 1, 1],
    [7, 1, 1, 1, 1],
    [6, 4, 4, 1, 1],
    [33, 16, 4, 1, 1],
    [17, 8, 2, 4, 2],
    [16, 9, 3, 3, 1],
    [5, 6, 2, 6, 3],
    [65, 21, 5, 7, 4],
    [3, 64, 6, 8, 3],
    [200, 5, 2, 1, 1],
    [130, 40, 8, 8, 4],
    [400, 3, 1, 1, 1],
];

/// Rows that choose experts: `logits` are (N, E), `bias` is (E).
#[derive(Clone)]
struct Choice {
    n: usize,
    of: Routing,
    logits: Vec<f32>,
    bias: Option<Vec<f32>>,
}

/// Scores of every kind. Logits are whole sixteenths, so that some are equal.
fn choices() -> impl Iterator<Item = Choice> {
    let kinds = [
        (Scoring::Sigmoid, GroupScore::SumOfTopTwo, true, true),
        (Scoring::Softmax, GroupScore::Max, false, false),
        (Scoring::Sigmoid, GroupScore::Max, false, true),
        (Scoring::Softmax, GroupScore::SumOfTopTwo, true, false),
    ];
    SIZES.iter().flat_map(move |&size| kinds.map(|kind| (size, kind))).map(|(size, kind)| {
        let [n, experts, per_token, groups, groups_kept] = size;
        let (scoring, group_score, normalized, biased) = kind;
        let mut numbers = Numbers::new(n * 1000 + experts);
        let logits = numbers.vec(n * experts).iter().map(|x| (64.0 * x).round() / 16.0).collect();
        let bias = biased.then(|| numbers.vec(experts).iter().map(|x| 0.25 * x).collect());
        let scale = 2.5;
        let of = Routing { experts, per_token, groups, groups_kept, scoring, group_score, normalized, scale };
        Choice { n, of, logits, bias }
    })
}

/// What was chosen, on a backend and as the host sorts it.
struct Chosen<B: Backend> {
    routes: B::Routes,
    copies: ExpertRows,
    experts: Vec<u32>,
    weights: Vec<f64>,
    scores: B::Buf,
}

impl Choice {
    fn on<B: Backend>(&self, b: &B) -> Chosen<B> {
        let mut routes = b.routes(self.n, self.of).expect("a little memory");
        let mut scores = output(b, &self.logits);
        let bias = self.bias.as_ref().map(|bias| exactly(b, bias));
        b.route_forward(&mut routes, &mut scores, bias.as_ref(), self.of, self.n);
        let (experts, weights) = b.read_routes(&routes);
        let mut copies = ExpertRows::new(self.n, self.of).expect("a little memory");
        copies.sort(&experts);
        Chosen { routes, copies, experts, weights, scores }
    }

    fn name(&self) -> String {
        let Self { n, of, .. } = self;
        format!("{n} rows, {of:?}")
    }

    fn chosen(&self, rows: &[usize]) -> Self {
        Self { n: rows.len(), logits: pick(&self.logits, self.n, rows), ..self.clone() }
    }

    /// Relative error of a score.
    fn of_score(&self) -> f64 {
        let experts = if self.of.scoring == Scoring::Softmax { self.of.experts as f64 + 16.0 } else { 0.0 };
        (EXP_ROUNDINGS + 8.0 + experts) * ROUNDOFF
    }

    /// Relative error of a weight.
    fn of_weight(&self) -> f64 {
        2.0 * self.of_score() + (self.of.per_token as f64 + 6.0) * ROUNDOFF
    }
}

impl<B: Backend> Chosen<B> {
    /// Values of each row's copies `[n, per_token, features]` in the order of copies.
    fn sorted(&self, values: &[f32], features: usize) -> Vec<f32> {
        let mut sorted = vec![0.0; values.len()];
        for (values, &i) in values.chunks_exact(features).zip(self.copies.places()) {
            sorted[i as usize * features..][..features].copy_from_slice(values);
        }
        sorted
    }

    /// The reverse, of an output.
    fn by_row(&self, output: Output, features: usize) -> Output {
        let row = |&i: &u32| &output.values[i as usize * features..][..features];
        let values = self.copies.places().iter().flat_map(row).copied().collect();
        Output { values, ..output }
    }
}

/// The choice itself: `d_weights` is (N, per token).
#[derive(Clone)]
pub(super) struct Route {
    choice: Choice,
    d_weights: Vec<f32>,
    load: Vec<f32>,
}

const BALANCE: f32 = 0.125;

pub(super) fn route_cases() -> impl Iterator<Item = Route> {
    choices().map(|choice| {
        let mut numbers = Numbers::new(choice.n);
        let load = numbers.ids(choice.of.experts, 100).iter().map(|&x| x as f32).collect();
        Route { d_weights: numbers.vec(choice.n * choice.of.per_token), load, choice }
    })
}

impl Route {
    /// Two sequences, if there are rows enough; the last row is in none.
    fn layout(&self) -> Layout {
        let n = self.choice.n;
        let sequence = |rows: std::ops::Range<usize>| Sequence { keys: rows.clone(), prefix: vec![], rows };
        let sequences = [0..n / 3, n / 3..n.saturating_sub(1)].into_iter().filter(|rows| !rows.is_empty());
        Layout { ids: vec![0; n], sequences: sequences.map(sequence).collect(), ..Layout::default() }
    }
}

impl Case for Route {
    fn name(&self) -> String {
        format!("route, {}", self.choice.name())
    }

    fn run<B: Backend>(&self, b: &B) -> Vec<Output> {
        let (of, n, layout) = (self.choice.of, self.choice.n, on(b, self.layout()));
        let chosen = self.choice.on(b);
        let d_weights = input(b, &chosen.sorted(&self.d_weights, 1));
        let mut load = output(b, &self.load);
        let len = n * of.experts;
        let [mut d_logits, mut balanced] =
            [(); 2].map(|()| output_operand(b, &unwritten(len), Keep::Operand));
        let (scores, routes) = (&chosen.scores, &chosen.routes);
        b.route_backward(&mut d_logits, Some(&mut load), &d_weights, scores, routes, of, 0.0, &layout);
        b.route_backward(&mut balanced, None, &d_weights, scores, routes, of, BALANCE, &layout);
        let of_rows = |name, values| Output { name, by_row: true, rounded: false, values };
        vec![
            of_rows("experts", chosen.experts.iter().map(|&e| e as f32).collect()),
            of_rows("weights", chosen.weights.iter().map(|&w| w as f32).collect()),
            by_row("scores", b, scores),
            operand_by_row("d_logits", b, &d_logits, len),
            Output { by_row: false, ..operand_by_row("d_logits, balanced", b, &balanced, len) },
            summed("load", b, &load),
        ]
    }

    fn allowed(&self, _: Precision) -> Vec<Vec<f64>> {
        let Choice { n, of, .. } = self.choice;
        let (chosen, of_score) = (self.choice.on(&Reference), self.choice.of_score());
        let s = whole(&Reference, &chosen.scores);
        let scores: Vec<f64> = s[..n * of.experts].iter().map(|&s| of_score * f64::from(s)).collect();
        let weights = chosen.weights.iter().map(|w| self.choice.of_weight() * w).collect();
        // What is added is of the size of the terms of the balance at most.
        let roundings = 8.0 * (self.choice.of_weight() + of.experts as f64 * ROUNDOFF);
        let mut d = vec![0.0; n * of.experts];
        for row in 0..n {
            let s: Vec<f64> = s[row * of.experts..][..of.experts].iter().copied().map(f64::from).collect();
            let choice = row * of.per_token..(row + 1) * of.per_token;
            let (experts, dw) = (&chosen.experts[choice.clone()], &self.d_weights[choice]);
            let of_chosen: f64 = experts.iter().map(|&e| s[e as usize]).sum();
            let factor = f64::from(of.scale) / if of.normalized { of_chosen } else { 1.0 };
            let most = dw.iter().fold(0.0, |most: f64, dw| most.max(f64::from(dw.abs())));
            let all: f64 = s.iter().sum();
            let of_balance = f64::from(BALANCE) * 2.0 * of.experts as f64 / all;
            for (e, &s) in s.iter().enumerate() {
                d[row * of.experts + e] = roundings * s * (4.0 * factor * most + 2.0 * of_balance);
            }
        }
        vec![vec![0.0; n * of.per_token], weights, scores, d.clone(), d, vec![0.0; of.experts]]
    }

    fn rows(&self) -> usize {
        self.choice.n
    }

    fn select(&self, rows: &[usize]) -> Self {
        let d_weights = pick(&self.d_weights, self.choice.n, rows);
        Self { choice: self.choice.chosen(rows), d_weights, ..self.clone() }
    }
}

/// The copies of rows, and the products of experts: `x` is (N, I), `w`, `dw` are (E, O, I), the others (N, per token, ·).
#[derive(Clone)]
pub(super) struct Experts {
    choice: Choice,
    o: usize,
    i: usize,
    store: Store,
    short: bool,
    precision: ProductPrecision,
    x: Vec<f32>,
    w: Vec<f32>,
    dy: Vec<f32>,
    y: Vec<f32>,
    dx: Vec<f32>,
    dw: Vec<f32>,
    terms: Vec<f32>,
    sum: Vec<f32>,
}

pub(super) fn experts_cases() -> impl Iterator<Item = Experts> {
    let shapes = [(17, 7), (5, 31), (33, 16), (1, 1), (64, 65), (6, 130)].into_iter().cycle();
    let variants = [(Store::Write, true), (Store::Add, false), (Store::Write, false), (Store::Add, true)];
    let cases = choices().zip(shapes).zip(variants.into_iter().cycle());
    let cases = cases.map(|((choice, (o, i)), (store, short))| {
        let (n, experts, copies) = (choice.n, choice.of.experts, choice.n * choice.of.per_token);
        let mut numbers = Numbers::new(n * 10_000 + o * 100 + i);
        let before =
            |len| if store == Store::Write { unwritten(len) } else { Numbers::new(n + o + i).vec(len) };
        let (y, dx, sum) = (before(copies * o), before(copies * i), before(n * i));
        let (x, dy) = (numbers.operands(n * i, short), numbers.operands(copies * o, short));
        let w = numbers.operands(experts * o * i, short);
        let (dw, terms) = (numbers.vec(experts * o * i), numbers.vec(copies * i));
        let precision = ProductPrecision::Device;
        Experts { choice, o, i, store, short, precision, x, w, dy, y, dx, dw, terms, sum }
    });
    cases
        .flat_map(|case| {
            // Short operands, which no device rounds before they become FP8.
            let in_fp8 = Experts { precision: ProductPrecision::Fp8, ..case.clone() };
            let mut in_int8 = Experts { precision: ProductPrecision::Int8, ..case.clone() };
            int8::round(&mut in_int8.w, in_int8.i);
            [Some(in_fp8).filter(|case| case.short), Some(in_int8).filter(|case| !case.short), Some(case)]
        })
        .flatten()
}

impl Experts {
    fn forms<B: Backend>(&self, b: &B, values: bool, packed: bool) -> Matrix<B> {
        let shape = [self.choice.of.experts, self.o, self.i];
        let new = if values { Matrix::several } else { Matrix::fixed };
        new(b, &self.w, shape, Forms { values, packed }, self.precision).expect("a little memory")
    }
}

impl Case for Experts {
    fn name(&self) -> String {
        let Self { choice, o, i, store, short, precision, .. } = self;
        format!(
            "{o} from {i} features, {store:?}, short operands {short}, {precision:?}, experts of {}",
            choice.name()
        )
    }

    fn run<B: Backend>(&self, b: &B) -> Vec<Output> {
        let Self { o, i, store, .. } = *self;
        let chosen = self.choice.on(b);
        let (routes, len) = (&chosen.routes, chosen.copies.len());
        let mut x = output_operand(b, &unwritten(len * i), Keep::Operand);
        b.copies_forward(&mut x, &operand(b, &self.x), routes, i);
        let copied = Output { rounded: false, ..operand_by_row("copies", b, &x, len * i) };
        let x = operand(b, &copied.values);

        let mut packed = self.forms(b, true, true);
        let zeros = vec![0.0; self.w.len()];
        packed.values = exactly(b, &zeros);
        packed.repack(b);
        packed.values = exactly(b, &self.w);
        packed.repack(b);
        let mut unpacked = self.forms(b, true, false);
        let forward = |w: &Matrix<B>| {
            let mut y = output(b, &chosen.sorted(&self.y, o));
            b.experts_forward(&mut y, &x, w, routes, store);
            by_row("y", b, &y)
        };
        let dy = operand(b, &chosen.sorted(&self.dy, o));
        let backward = |w: &Matrix<B>| {
            let mut dx = output(b, &chosen.sorted(&self.dx, i));
            b.experts_backward_input(&mut dx, &dy, w, routes, store);
            by_row("dx", b, &dx)
        };
        let (y, y_unpacked) = (forward(&packed), forward(&unpacked));
        let (dx, dx_packed) = (backward(&unpacked), backward(&self.forms(b, false, true)));
        unpacked.pack(b).expect("a little memory");
        let y_packed = forward(&unpacked);
        let bits = |y: &Output| y.values.iter().map(|y| y.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&y_unpacked), bits(&y), "{}: unpacked weights give other bits", self.name());
        assert_eq!(bits(&y_packed), bits(&y), "{}: weights packed later give other bits", self.name());
        assert_eq!(bits(&dx_packed), bits(&dx), "{}: a packed form alone gives other bits", self.name());

        let mut dw = output(b, &self.dw);
        b.experts_backward_weight(&mut dw, &dy, &x, routes, [o, i], self.precision);
        let (mut sum, terms) = (output(b, &self.sum), input(b, &chosen.sorted(&self.terms, i)));
        b.sum_copies(&mut sum, &terms, routes, i, store);
        vec![
            chosen.by_row(copied, i),
            chosen.by_row(y, o),
            chosen.by_row(dx, i),
            summed("dw", b, &dw),
            by_row("sum of copies", b, &sum),
        ]
    }

    /// `k · u · Σ |aᵢ bᵢ|`: the sum is the case itself on magnitudes.
    fn allowed(&self, precision: Precision) -> Vec<Vec<f64>> {
        let [x, w, dy, y, dx] = [&self.x, &self.w, &self.dy, &self.y, &self.dx].map(|x| magnitudes(x));
        let [dw, terms, sum] = [&self.dw, &self.terms, &self.sum].map(|x| magnitudes(x));
        let sums = Self { x, w, dy, y, dx, dw, terms, sum, ..self.clone() }.run(&Reference);
        let operand = precision.operand(self.short);
        let of_blocks = |k: usize| match self.precision {
            ProductPrecision::Device | ProductPrecision::Int8 => 0,
            ProductPrecision::Fp8 => 3 + k.div_ceil(fp8::BLOCK),
        };
        let products = |k| sum_of_products(k + 1 + of_blocks(k), operand);
        let added = self.choice.of.per_token as f64 * ROUNDOFF;
        let factors = [operand, products(self.i), products(self.o), products(self.choice.n), added];
        sums.iter().zip(factors).map(|(s, f)| s.values.iter().map(|&x| f * f64::from(x)).collect()).collect()
    }

    fn rows(&self) -> usize {
        self.choice.n
    }

    fn select(&self, rows: &[usize]) -> Self {
        let picked = |x: &Vec<f32>| pick(x, self.choice.n, rows);
        let [x, dy, y, dx, terms, sum] =
            [&self.x, &self.dy, &self.y, &self.dx, &self.terms, &self.sum].map(picked);
        Self { choice: self.choice.chosen(rows), x, dy, y, dx, terms, sum, ..self.clone() }
    }
}

/// SwiGLU of copies `[N, per token, features]`.
#[derive(Clone)]
pub(super) struct WeightedSwiGlu {
    choice: Choice,
    features: usize,
    gate: Vec<f32>,
    up: Vec<f32>,
    dy: Vec<f32>,
}

pub(super) fn swiglu_cases() -> impl Iterator<Item = WeightedSwiGlu> {
    let features = [1, 7, 16, 33, 130].into_iter().cycle();
    choices().zip(features).map(|(choice, features)| {
        let mut numbers = Numbers::new(choice.n + features);
        let len = choice.n * choice.of.per_token * features;
        let gate = numbers.vec(len).iter().map(|g| 8.0 * g).collect();
        WeightedSwiGlu { choice, features, gate, up: numbers.vec(len), dy: numbers.vec(len) }
    })
}

impl Case for WeightedSwiGlu {
    fn name(&self) -> String {
        format!("swiglu of {} features, {}", self.features, self.choice.name())
    }

    fn run<B: Backend>(&self, b: &B) -> Vec<Output> {
        let (features, chosen) = (self.features, self.choice.on(b));
        let (routes, len) = (&chosen.routes, self.gate.len());
        let [gate, up, dy] = [&self.gate, &self.up, &self.dy].map(|x| chosen.sorted(x, features));
        let mut y = output_operand(b, &unwritten(len), Keep::Operand);
        b.weighted_swiglu_forward(&mut y, &input(b, &gate), &input(b, &up), routes, features);
        let mut d_weights = output(b, &unwritten(chosen.copies.len()));
        let mut backward = |keep| {
            let [mut dy, mut dgate, mut dup] = [&dy, &gate, &up].map(|x| output_operand(b, x, Keep::Values));
            b.weighted_swiglu_backward(&mut d_weights, &mut dy, &mut dgate, &mut dup, keep, routes, features);
            [dy, dgate, dup]
        };
        let rounded = backward(Keep::Operand);
        let [dy, dgate, dup] = backward(Keep::Values);
        for (rounded, kept) in rounded.iter().zip([&dy, &dgate, &dup]) {
            assert_same_operand(&self.name(), b, rounded, kept, len);
        }
        let (y, again) = (operand_by_row("y", b, &y, len), operand_by_row("y", b, &dy, len));
        let bits = |y: &Output| y.values.iter().map(|y| y.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&again), bits(&y), "{}: the backward gives y other bits", self.name());
        let [dgate, dup] = [("dgate", &dgate), ("dup", &dup)].map(|(name, x)| values_by_row(name, b, x, len));
        let outputs = [y, dgate, dup].map(|output| chosen.by_row(output, features));
        let d_weights = chosen.by_row(by_row("d_weights", b, &d_weights), 1);
        outputs.into_iter().chain([d_weights]).collect()
    }

    fn allowed(&self, _: Precision) -> Vec<Vec<f64>> {
        let (chosen, features) = (self.choice.on(&Reference), self.features);
        let u = (EXP_ROUNDINGS + 8.0) * ROUNDOFF;
        let numbers = || {
            self.gate.iter().zip(&self.up).zip(&self.dy).enumerate().map(|(i, ((&gate, &up), &dy))| {
                let sigma = 1.0 / (1.0 + f64::from(-gate).exp());
                let w = (u + self.choice.of_weight()) * chosen.weights[i / features];
                [f64::from(gate.abs()), f64::from(up.abs()), f64::from(dy.abs()), sigma, w]
            })
        };
        let d_weights: Vec<f64> = numbers().map(|[gate, up, dy, sigma, _]| dy * gate * sigma * up).collect();
        let sum = |x: &[f64]| (u + (features as f64 + 2.0) * ROUNDOFF) * x.iter().sum::<f64>();
        vec![
            numbers().map(|[gate, up, _, sigma, w]| w * gate * sigma * up).collect(),
            numbers().map(|[gate, up, dy, sigma, w]| w * dy * up * sigma * (1.0 + gate)).collect(),
            numbers().map(|[gate, _, dy, sigma, w]| w * dy * gate * sigma).collect(),
            d_weights.chunks_exact(features).map(sum).collect(),
        ]
    }

    fn rows(&self) -> usize {
        self.choice.n
    }

    fn select(&self, rows: &[usize]) -> Self {
        let [gate, up, dy] = [&self.gate, &self.up, &self.dy].map(|x| pick(x, self.choice.n, rows));
        Self { choice: self.choice.chosen(rows), gate, up, dy, ..self.clone() }
    }
}

/// Rows that choose by turns have the copies that the reference gives them.
pub(super) fn check_in_turn<B: Backend>(b: &B) {
    for (n, experts, features) in [(1, 1, 3), (35, 7, 8), (64, 16, 5), (600, 4, 64), (384, 128, 2)] {
        let of = Routing::in_turn(experts);
        let (mut routes, mut known) =
            (b.routes(n, of).expect("a little memory"), Reference.routes(n, of).expect("a little memory"));
        let x = Numbers::new(n).operands(n * features, true);
        // Fewer rows than there is room for, and all of them.
        for n in [n / experts / 2 * experts, n] {
            b.route_in_turn(&mut routes, n);
            Reference.route_in_turn(&mut known, n);
            assert_eq!(b.read_routes(&routes), Reference.read_routes(&known), "{n} rows, {experts} experts");
            let copied = |values: Vec<f32>| values[..n * features].to_vec();
            let mut y = output_operand(b, &unwritten(n * features), Keep::Operand);
            b.copies_forward(&mut y, &operand(b, &x), &routes, features);
            let copies = copied(operand_by_row("copies", b, &y, n * features).values);
            let mut want = wide(&unwritten(n * features));
            Reference.copies_forward(&mut want, &wide(&x), &known, features);
            assert_eq!(
                copies,
                want.iter().map(|&x| x as f32).collect::<Vec<_>>(),
                "{n} rows, {experts} experts"
            );
            let mut sum = output(b, &unwritten(n * features));
            b.sum_copies(&mut sum, &input(b, &copies), &routes, features, Store::Write);
            let back = copied(by_row("sum", b, &sum).values);
            assert_eq!(back, x[..n * features], "{n} rows, {experts} experts");
        }
    }
}

/// Rows with NaN and infinities choose the experts that the reference does.
pub(super) fn check_not_finite<B: Backend>(b: &B) {
    for mut choice in choices().filter(|choice| choice.of.scoring == Scoring::Sigmoid) {
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().cycle();
        choice.logits.iter_mut().step_by(3).zip(odd).for_each(|(logit, odd)| *logit = odd);
        choice.logits[..choice.of.experts].fill(f32::NAN);
        let [want, got] = [choice.on(&Reference).experts, choice.on(b).experts];
        assert_eq!(got, want, "logits that are not finite: {}", choice.name());
    }
}
