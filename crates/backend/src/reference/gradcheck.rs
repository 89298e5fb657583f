//! Holds every backward of the reference to central differences of its forward.
//!
//! The loss of each test is `Σ dy · y`, so that `dy` is its gradient by the output `y`. A gradient that is
//! written starts as NaN, so that whatever is not written shows. A gradient that is added to starts at ones,
//! and the loss has `Σ x` beside.

use super::{Reference, Routes, dot};
use crate::{
    Attention, Backend, Columns, Divergence, DivergenceForm, Forms, GroupScore, Heads, Keep, Layout, Matrix,
    Pairs, ProductPrecision, Rotation, Routing, Scoring, Sequence, Store, Support,
};

/// `len` values within ±1, different for each `seed`.
fn numbers(seed: u32, len: usize) -> Vec<f64> {
    (0..len).map(|i| (7.3 * f64::from(seed) + 1.7 * i as f64).sin()).collect()
}

/// `len` values that are not written yet.
fn unwritten(len: usize) -> Vec<f64> {
    vec![f64::NAN; len]
}

/// A matrix of these values; it is not packed, so that they are read as they are.
fn matrix(values: &[f64], shape: [usize; 2]) -> Matrix<Reference> {
    let forms = Forms { values: true, packed: false };
    let mut matrix =
        Matrix::new(&Reference, &vec![0.0; values.len()], shape, forms).expect("a little memory");
    matrix.values = values.to_vec();
    matrix
}

/// A layout of rows that are these tokens.
fn layout(ids: &[u32]) -> Layout {
    Layout { ids: ids.to_vec(), ..Layout::default() }
}

/// Requires that `gradient` is the gradient of `loss` at `x`, and that it is not all zero.
fn assert_gradient(what: &str, gradient: &[f64], x: &[f64], loss: impl Fn(&Vec<f64>) -> f64) {
    const STEP: f64 = 1e-5; // truncation errs by about STEP² = 1e-10, rounding by 2⁻⁵³ / STEP = 1e-11
    let largest = gradient.iter().fold(0.0, |max: f64, g| max.max(g.abs()));
    assert!(largest > 1e-3, "{what}: the gradient is all but zero, which checks nothing");
    assert_eq!(gradient.len(), x.len(), "{what}");
    for i in 0..x.len() {
        let loss_at = |offset| {
            let mut x = x.to_vec();
            x[i] += offset;
            loss(&x)
        };
        let want = (loss_at(STEP) - loss_at(-STEP)) / (2.0 * STEP);
        let error = (gradient[i] - want).abs();
        assert!(error <= 1e-8 * largest, "{what}[{i}] is {}, want {want} (off {error:e})", gradient[i]);
    }
}

#[test]
fn linear() {
    let (n, o, i) = (3, 5, 4);
    let (x, w, dy) = (numbers(1, n * i), numbers(2, o * i), numbers(3, n * o));
    let loss = |x: &Vec<f64>, w: &Vec<f64>, store| {
        let mut y = vec![if store == Store::Write { f64::NAN } else { 1.0 }; n * o];
        Reference.linear_forward(&mut y, x, &matrix(w, [o, i]), n, store);
        dot(&y, &dy)
    };
    let mut dx = unwritten(n * i);
    Reference.linear_backward_input(&mut dx, &dy, &matrix(&w, [o, i]), n, Store::Write);
    assert_gradient("dx", &dx, &x, |x| loss(x, &w, Store::Write));

    let mut dx = vec![1.0; n * i];
    Reference.linear_backward_input(&mut dx, &dy, &matrix(&w, [o, i]), n, Store::Add);
    assert_gradient("dx, added", &dx, &x, |x| loss(x, &w, Store::Add) + x.iter().sum::<f64>());

    let mut dw = vec![1.0; o * i];
    Reference.linear_backward_weight(&mut dw, &dy, &x, n, [o, i], ProductPrecision::Device);
    assert_gradient("dw", &dw, &w, |w| loss(&x, w, Store::Write) + w.iter().sum::<f64>());
}

#[test]
fn bias() {
    let (n, c) = (3, 5);
    let (y, bias, dy) = (numbers(1, n * c), numbers(2, c), numbers(3, n * c));
    let mut d_bias = vec![1.0; c];
    Reference.bias_backward(&mut d_bias, &dy, c, n);
    assert_gradient("d_bias", &d_bias, &bias, |bias| {
        let mut y = y.clone();
        Reference.bias_forward(&mut y, bias, c, n);
        dot(&y, &dy) + bias.iter().sum::<f64>()
    });
}

#[test]
fn scale() {
    let (x, dy, factor) = (numbers(1, 6), numbers(2, 6), -0.75);
    let scaled = |x: &Vec<f64>| {
        let mut x = x.clone();
        Reference.scale(&mut x, factor, 6);
        x
    };
    assert_gradient("dx", &scaled(&dy), &x, |x| dot(&scaled(x), &dy));
}

#[test]
fn rms_norm() {
    let (n, c, eps) = (3, 5, 0.125);
    let (x, w, dy) = (numbers(1, n * c), numbers(2, c), numbers(3, n * c));
    let forward = |x: &Vec<f64>, w: &Vec<f64>| {
        let (mut y, mut rstd) = (unwritten(n * c), unwritten(n));
        Reference.rms_norm_forward(&mut y, &mut rstd, x, w, eps, n);
        (dot(&y, &dy), rstd)
    };
    let (mut dx, mut dw) = (vec![1.0; n * c], vec![1.0; c]);
    Reference.rms_norm_backward(&mut dx, Some(&mut dw), &dy, &x, &w, &forward(&x, &w).1, n);
    assert_gradient("dx", &dx, &x, |x| forward(x, &w).0 + x.iter().sum::<f64>());
    assert_gradient("dw", &dw, &w, |w| forward(&x, w).0 + w.iter().sum::<f64>());
}

#[test]
fn rope() {
    rope_of(Rotation::whole(3, 6));
    rope_of(Rotation { heads: 2, head_features: 7, start: 1, dim: 4, pairs: Pairs::Neighbours });
}

fn rope_of(rotation: Rotation) {
    let positions = [4, 0, 2];
    let len = positions.len() * rotation.features();
    let (x, dy, angles) = (numbers(1, len), numbers(2, len), numbers(3, 5 * rotation.dim / 2));
    let (cos, sin) = (angles.iter().map(|a| a.cos()).collect(), angles.iter().map(|a| a.sin()).collect());
    let layout = Layout { positions: positions.to_vec(), ..layout(&[0; 3]) };
    let mut dx = dy.clone();
    Reference.rope_backward(&mut dx, &cos, &sin, rotation, &layout);
    assert_gradient("dx", &dx, &x, |x| {
        let mut y = x.clone();
        Reference.rope_forward(&mut y, &cos, &sin, rotation, &layout);
        dot(&y, &dy)
    });
}

#[test]
fn columns() {
    // What all heads have, and parts of heads.
    let of = |features, start, stride| Columns { features, start, stride };
    for [to, from] in [[of(9, 1, 3), of(5, 2, 0)], [of(9, 1, 3), of(10, 0, 4)]] {
        let (n, sizes) = (2, [3, 2]);
        let (x, dy) = (numbers(1, n * from.features), numbers(2, n * to.features));
        let mut dx = vec![1.0; x.len()];
        Reference.columns(&mut dx, &dy, [from, to], sizes, n, Store::Add);
        assert_gradient("dx", &dx, &x, |x| {
            let mut y = vec![0.5; dy.len()];
            Reference.columns(&mut y, x, [to, from], sizes, n, Store::Write);
            dot(&y, &dy) + x.iter().sum::<f64>()
        });
    }
}

fn attention_on<'a>(
    [q, k, v]: [&'a Vec<f64>; 3],
    layout: &'a Layout,
    heads: Heads,
    scale: f64,
) -> Attention<'a, Reference> {
    Attention { q, k, v: Some(v), layout, heads, scale }
}

#[test]
fn attention() {
    for value_dim in [3, 2, 5] {
        attention_of(Heads { query: 4, key_value: 2, dim: 3, value_dim });
    }
}

fn attention_of(heads: Heads) {
    let sequence = |rows, prefix: std::ops::Range<usize>, keys| {
        let prefix = if prefix.is_empty() { vec![] } else { vec![prefix] };
        Sequence { rows, prefix, keys }
    };
    let sequences = vec![
        sequence(0..3, 0..0, 0..3), // a prompt,
        sequence(3..5, 0..3, 3..5), // a completion of it,
        sequence(5..6, 0..3, 5..6), // another,
        sequence(6..8, 0..0, 6..9), // and a sequence that goes on
    ];
    let (n, m, scale) = (8, 9, 0.75);
    let (q, dout) = (numbers(1, n * heads.query_features()), numbers(2, n * heads.output_features()));
    let (k, v) = (numbers(3, m * heads.key_features()), numbers(4, m * heads.value_features()));
    let layout = Layout { sequences, ..layout(&[0; 8]) };
    let forward = |q: &Vec<f64>, k: &Vec<f64>, v: &Vec<f64>| {
        let (mut out, mut log_sum_exp) = (unwritten(dout.len()), unwritten(n * heads.query));
        Reference.attention_forward(
            &mut out,
            &mut log_sum_exp,
            attention_on([q, k, v], &layout, heads, scale),
        );
        (out, log_sum_exp)
    };
    let loss = |q: &Vec<f64>, k: &Vec<f64>, v: &Vec<f64>| dot(&forward(q, k, v).0, &dout);

    let (out, log_sum_exp) = forward(&q, &k, &v);
    let (mut dq, mut dk, mut dv) = (unwritten(q.len()), unwritten(k.len()), unwritten(v.len()));
    let d = [&mut dq, &mut dk, &mut dv];
    Reference.attention_backward(
        d,
        &dout,
        attention_on([&q, &k, &v], &layout, heads, scale),
        &out,
        &log_sum_exp,
    );
    assert_gradient("dq", &dq, &q, |q| loss(q, &k, &v));
    assert_gradient("dk", &dk, &k, |k| loss(&q, k, &v));
    assert_gradient("dv", &dv, &v, |v| loss(&q, &k, v));
    if heads.value_dim > heads.dim {
        return;
    }

    // Values that are the first features of keys: both gradients are the key's.
    let forward = |k: &Vec<f64>| {
        let (mut out, mut log_sum_exp) = (unwritten(dout.len()), unwritten(n * heads.query));
        let inputs = Attention { v: None, ..attention_on([&q, k, &v], &layout, heads, scale) };
        Reference.attention_forward(&mut out, &mut log_sum_exp, inputs);
        (out, log_sum_exp)
    };
    let (out, log_sum_exp) = forward(&k);
    let inputs = Attention { v: None, ..attention_on([&q, &k, &v], &layout, heads, scale) };
    let d = [&mut dq, &mut dk, &mut dv];
    Reference.attention_backward(d, &dout, inputs, &out, &log_sum_exp);
    for (dk, dv) in dk.chunks_exact_mut(heads.dim).zip(dv.chunks_exact(heads.value_dim)) {
        dk.iter_mut().zip(dv).for_each(|(dk, dv)| *dk += dv);
    }
    assert_gradient("dk of keys and values", &dk, &k, |k| dot(&forward(k).0, &dout));
}

#[test]
fn swiglu() {
    let n = 9;
    let gate: Vec<f64> = numbers(1, n).iter().map(|g| 4.0 * g).collect();
    let (up, dy) = (numbers(2, n), numbers(3, n));
    let loss = |gate: &Vec<f64>, up: &Vec<f64>| {
        let mut y = unwritten(n);
        Reference.swiglu_forward(&mut y, gate, up, n);
        dot(&y, &dy)
    };
    let (mut y, mut dgate, mut dup) = (dy.clone(), gate.clone(), up.clone());
    Reference.swiglu_backward(&mut y, &mut dgate, &mut dup, Keep::Values, n);
    assert_eq!(dot(&y, &dy), loss(&gate, &up));
    assert_gradient("dgate", &dgate, &gate, |gate| loss(gate, &up));
    assert_gradient("dup", &dup, &up, |up| loss(&gate, up));
}

#[test]
fn log_prob() {
    let (targets, vocab, c, temperature) = ([6, 0, 3], 7, 5, 0.75);
    let n = targets.len();
    let (x, w, d_log_probs) = (numbers(1, n * c), numbers(2, vocab * c), numbers(3, n));
    let head_rows = (0..n as u32).collect();
    let layout = Layout { head_rows, targets: targets.to_vec(), ..layout(&[0; 3]) };
    let forward = |x: &Vec<f64>, w: &Vec<f64>| {
        let [mut log_probs, mut entropy, mut log_sum_exp] = [(); 3].map(|()| unwritten(n));
        let (w, saved) = (matrix(w, [vocab, c]), &mut log_sum_exp);
        Reference.log_prob_forward(&mut log_probs, &mut entropy, saved, x, &w, temperature, &layout);
        (dot(&log_probs, &d_log_probs), log_sum_exp)
    };
    let (mut dx, mut dw) = (unwritten(n * c), vec![1.0; vocab * c]);
    let (head, saved) = (matrix(&w, [vocab, c]), forward(&x, &w).1);
    Reference.log_prob_backward(
        &mut dx,
        Some(&mut dw),
        &d_log_probs,
        &x,
        &head,
        &saved,
        temperature,
        &layout,
    );
    assert_gradient("dx", &dx, &x, |x| forward(x, &w).0);
    assert_gradient("dw", &dw, &w, |w| forward(&x, w).0 + w.iter().sum::<f64>());
}

#[test]
fn divergence() {
    let (n, own, of_teacher, weight) = (2, 7, 9, 0.5);
    let logits = |seed, len| numbers(seed, len).iter().map(|z| 3.0 * z).collect::<Vec<_>>();
    let (student, teacher) = (logits(1, n * own), logits(2, n * of_teacher));
    let forms =
        [DivergenceForm::Forward, DivergenceForm::Reverse, DivergenceForm::JensenShannon { beta: 0.3 }];
    let supports = [
        Support::Whole,
        Support::WithRest(3),
        Support::Renormalised(3),
        Support::WithRest(1),
        Support::WithRest(20),
    ];
    for (form, support) in forms.into_iter().flat_map(|form| supports.map(|support| (form, support))) {
        if form == DivergenceForm::Reverse && support == Support::Renormalised(3) {
            continue; // infinite
        }
        for (own, of_teacher) in [(own, of_teacher), (of_teacher, own)] {
            let (student, teacher) = if own == 7 { (&student, &teacher) } else { (&teacher, &student) };
            let of = Divergence { form, temperature: 1.5, support };
            let run = |student: &Vec<f64>| {
                let (mut d, mut gradient, mut teacher) = (unwritten(n), student.clone(), teacher.clone());
                Reference.divergence(&mut d, &mut gradient, &mut teacher, of, weight, [n, own, of_teacher]);
                (d.iter().sum::<f64>() * weight, gradient)
            };
            let what = format!("{of:?}, {own} tokens of {of_teacher}");
            assert_gradient(&what, &run(student).1, student, |student| run(student).0);
        }
    }
}

#[test]
fn embedding() {
    let (ids, vocab, c) = ([4, 1, 4], 6, 5);
    let (w, dy) = (numbers(1, vocab * c), numbers(2, ids.len() * c));
    let mut dw = vec![1.0; vocab * c];
    Reference.embedding_backward(&mut dw, &dy, c, &layout(&ids));
    assert_gradient("dw", &dw, &w, |w| {
        let mut y = unwritten(ids.len() * c);
        Reference.embedding_forward(&mut y, w, c, &layout(&ids));
        dot(&y, &dy) + w.iter().sum::<f64>()
    });
}

#[test]
fn head_rows() {
    let (n, c) = (6, 5);
    let layout = Layout { head_rows: vec![5, 0, 3], ..layout(&[0; 6]) };
    let (x, dy) = (numbers(1, n * c), numbers(2, 3 * c));
    let mut dx = unwritten(n * c);
    Reference.head_rows_backward(&mut dx, &dy, c, &layout);
    assert_gradient("dx", &dx, &x, |x| {
        let mut y = unwritten(3 * c);
        Reference.head_rows_forward(&mut y, x, c, &layout);
        dot(&y, &dy)
    });
}

/// Four rows that choose two of six experts, in three groups of which two are kept.
fn routing(scoring: Scoring, normalized: bool) -> Routing {
    let group_score = GroupScore::SumOfTopTwo;
    let (experts, per_token, groups, groups_kept, scale) = (6, 2, 3, 2, 2.5);
    Routing { experts, per_token, groups, groups_kept, scoring, group_score, normalized, scale }
}

/// The routes of rows with these logits, and their scores.
fn routed(logits: &[f64], of: Routing) -> (Routes, Vec<f64>) {
    let (mut scores, n) = (logits.to_vec(), logits.len() / of.experts);
    let mut routes = Reference.routes(n, of).expect("a little memory");
    let bias = vec![0.1, 0.0, -0.1, 0.2, 0.0, -0.2];
    Reference.route_forward(&mut routes, &mut scores, Some(&bias), of, n);
    (routes, scores)
}

#[test]
fn route() {
    let (n, balance) = (4, 0.25);
    for (scoring, normalized) in
        [Scoring::Sigmoid, Scoring::Softmax].into_iter().flat_map(|s| [(s, true), (s, false)])
    {
        let of = routing(scoring, normalized);
        let (logits, d_weights) = (numbers(1, n * of.experts), numbers(2, n * of.per_token));
        let run = |rows: std::ops::Range<usize>| Sequence { keys: rows.clone(), prefix: vec![], rows };
        let layout = Layout { sequences: vec![run(0..1), run(1..4)], ..layout(&[0; 4]) };
        let loss = |logits: &Vec<f64>| {
            let (routes, scores) = routed(logits, of);
            let mut loss = dot(&routes.weights_of_copies(), &d_weights);
            for Sequence { rows, .. } in &layout.sequences {
                for e in 0..of.experts {
                    let chose = routes.chosen[2 * rows.start..2 * rows.end].iter();
                    let f = 6.0 / 2.0 * chose.filter(|&&chosen| chosen as usize == e).count() as f64;
                    let row = |row: usize| &scores[row * of.experts..][..of.experts];
                    let p: f64 = rows.clone().map(|i| row(i)[e] / row(i).iter().sum::<f64>()).sum();
                    loss += f64::from(balance) * f / rows.len() as f64 * p;
                }
            }
            loss
        };
        let (routes, scores) = routed(&logits, of);
        let (mut d_logits, mut load) = (unwritten(logits.len()), vec![1.0; of.experts]);
        let loads = Some(&mut load);
        Reference.route_backward(&mut d_logits, loads, &d_weights, &scores, &routes, of, balance, &layout);
        assert_gradient(&format!("d_logits, {of:?}"), &d_logits, &logits, loss);
        assert_eq!(load.iter().sum::<f64>(), 6.0 + 8.0);
    }
}

#[test]
fn experts() {
    let of = routing(Scoring::Sigmoid, true);
    let (n, k, o, i) = (4, of.per_token, 3, 5);
    let (routes, _) = routed(&numbers(1, n * of.experts), of);
    let (x, w, dy) = (numbers(2, n * i), numbers(3, of.experts * o * i), numbers(4, n * k * o));
    let copies = |x: &Vec<f64>| {
        let mut copies = unwritten(n * k * i);
        Reference.copies_forward(&mut copies, x, &routes, i);
        copies
    };
    let stack = |w: &Vec<f64>| {
        let forms = Forms { values: true, packed: false };
        let zeros = vec![0.0; w.len()];
        let mut stack =
            Matrix::several(&Reference, &zeros, [of.experts, o, i], forms, ProductPrecision::Device)
                .expect("memory");
        stack.values.clone_from(w);
        stack
    };
    let loss = |x: &Vec<f64>, w: &Vec<f64>| {
        let mut y = unwritten(n * k * o);
        Reference.experts_forward(&mut y, &copies(x), &stack(w), &routes, Store::Write);
        dot(&y, &dy)
    };
    let (mut d_copies, mut dx) = (unwritten(n * k * i), unwritten(n * i));
    Reference.experts_backward_input(&mut d_copies, &dy, &stack(&w), &routes, Store::Write);
    Reference.sum_copies(&mut dx, &d_copies, &routes, i, Store::Write);
    assert_gradient("dx", &dx, &x, |x| loss(x, &w));
    let mut dw = vec![1.0; w.len()];
    let precision = ProductPrecision::Device;
    Reference.experts_backward_weight(&mut dw, &dy, &copies(&x), &routes, [o, i], precision);
    assert_gradient("dw", &dw, &w, |w| loss(&x, w) + w.iter().sum::<f64>());

    // Summing is the transpose of copying.
    let (terms, d_sum) = (numbers(5, n * k * i), numbers(6, n * i));
    assert_gradient("d_terms", &copies(&d_sum), &terms, |terms| {
        let mut sum = vec![1.0; n * i];
        Reference.sum_copies(&mut sum, terms, &routes, i, Store::Add);
        dot(&sum, &d_sum)
    });
}

#[test]
fn weighted_swiglu() {
    let of = routing(Scoring::Softmax, false);
    let (n, features) = (4, 3);
    let (mut routes, _) = routed(&numbers(1, n * of.experts), of);
    let len = n * of.per_token * features;
    let gate: Vec<f64> = numbers(2, len).iter().map(|g| 4.0 * g).collect();
    let (up, dy) = (numbers(3, len), numbers(4, len));
    let loss = |routes: &Routes, gate: &Vec<f64>, up: &Vec<f64>| {
        let mut y = unwritten(len);
        Reference.weighted_swiglu_forward(&mut y, gate, up, routes, features);
        dot(&y, &dy)
    };
    let (mut y, mut dgate, mut dup) = (dy.clone(), gate.clone(), up.clone());
    let mut d_weights = unwritten(n * of.per_token);
    let d = &mut d_weights;
    Reference.weighted_swiglu_backward(d, &mut y, &mut dgate, &mut dup, Keep::Values, &routes, features);
    assert_gradient("dgate", &dgate, &gate, |gate| loss(&routes, gate, &up));
    assert_gradient("dup", &dup, &up, |up| loss(&routes, &gate, up));
    // By the weights as they lie by rows.
    let of_rows: Vec<f64> = routes.copies.places().iter().map(|&i| d_weights[i as usize]).collect();
    let weights = routes.weights.clone();
    for (i, want) in of_rows.into_iter().enumerate() {
        let mut at = |shift: f64| {
            routes.weights.clone_from(&weights);
            routes.weights[i] += shift;
            loss(&routes, &gate, &up)
        };
        let difference = (at(1e-4) - at(-1e-4)) / 2e-4;
        assert!((difference - want).abs() < 1e-9, "d_weights[{i}] is {want}, not {difference}");
    }
}
