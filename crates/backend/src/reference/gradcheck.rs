//! Holds every backward of the reference to central differences of its forward.
//!
//! The loss of each test is `Σ dy · y`, so that `dy` is its gradient by the output `y`. A gradient that is
//! written starts as NaN, so that whatever is not written shows. A gradient that is added to starts at ones,
//! and the loss has `Σ x` beside.

use super::{Reference, dot};
use crate::{Backend, Heads, Sequence, Store};

/// `len` numbers within ±1, different for each `seed`.
fn numbers(seed: u32, len: usize) -> Vec<f64> {
    (0..len).map(|i| (7.3 * f64::from(seed) + 1.7 * i as f64).sin()).collect()
}

/// `len` numbers that are not written yet.
fn unwritten(len: usize) -> Vec<f64> {
    vec![f64::NAN; len]
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
        Reference.linear_forward(&mut y, x, &Reference.pack(w, o, i).expect("a little memory"), n, store);
        dot(&y, &dy)
    };
    let mut dx = unwritten(n * i);
    Reference.linear_backward_input(&mut dx, &dy, &w, n, o, i, Store::Write);
    assert_gradient("dx", &dx, &x, |x| loss(x, &w, Store::Write));

    let mut dx = vec![1.0; n * i];
    Reference.linear_backward_input(&mut dx, &dy, &w, n, o, i, Store::Add);
    assert_gradient("dx, added", &dx, &x, |x| loss(x, &w, Store::Add) + x.iter().sum::<f64>());

    let mut dw = vec![1.0; o * i];
    Reference.linear_backward_weight(&mut dw, &dy, &x, n, o, i);
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
fn rms_norm() {
    let (n, c, eps) = (3, 5, 0.125);
    let (x, w, dy) = (numbers(1, n * c), numbers(2, c), numbers(3, n * c));
    let forward = |x: &Vec<f64>, w: &Vec<f64>| {
        let (mut y, mut rstd) = (unwritten(n * c), unwritten(n));
        Reference.rms_norm_forward(&mut y, &mut rstd, x, w, eps, n);
        (dot(&y, &dy), rstd)
    };
    let (mut dx, mut dw) = (vec![1.0; n * c], vec![1.0; c]);
    Reference.rms_norm_backward(&mut dx, &mut dw, &dy, &x, &w, &forward(&x, &w).1, n);
    assert_gradient("dx", &dx, &x, |x| forward(x, &w).0 + x.iter().sum::<f64>());
    assert_gradient("dw", &dw, &w, |w| forward(&x, w).0 + w.iter().sum::<f64>());
}

#[test]
fn rope() {
    let (positions, heads, dim) = ([4, 0, 2], 3, 6);
    let len = positions.len() * heads * dim;
    let (x, dy, angles) = (numbers(1, len), numbers(2, len), numbers(3, 5 * dim / 2));
    let (cos, sin) = (angles.iter().map(|a| a.cos()).collect(), angles.iter().map(|a| a.sin()).collect());
    let mut dx = dy.clone();
    Reference.rope_backward(&mut dx, &cos, &sin, &positions, heads, dim);
    assert_gradient("dx", &dx, &x, |x| {
        let mut y = x.clone();
        Reference.rope_forward(&mut y, &cos, &sin, &positions, heads, dim);
        dot(&y, &dy)
    });
}

#[test]
fn attention() {
    let heads = Heads { query: 4, key_value: 2, dim: 3 };
    let sequence = |rows, prefix: std::ops::Range<usize>, keys| {
        let prefix = if prefix.is_empty() { vec![] } else { vec![prefix] };
        Sequence { rows, prefix, keys }
    };
    let sequences = [
        sequence(0..3, 0..0, 0..3), // a prompt,
        sequence(3..5, 0..3, 3..5), // a completion of it,
        sequence(5..6, 0..3, 5..6), // another,
        sequence(6..8, 0..0, 6..9), // and a sequence that goes on
    ];
    let (n, m, scale) = (8, 9, 0.75);
    let (q, dout) = (numbers(1, n * heads.query_features()), numbers(2, n * heads.query_features()));
    let (k, v) = (numbers(3, m * heads.key_features()), numbers(4, m * heads.key_features()));
    let forward = |q: &Vec<f64>, k: &Vec<f64>, v: &Vec<f64>| {
        let (mut out, mut log_sum_exp) = (unwritten(q.len()), unwritten(n * heads.query));
        Reference.attention_forward(&mut out, &mut log_sum_exp, q, k, v, &sequences, heads, scale);
        (out, log_sum_exp)
    };
    let loss = |q: &Vec<f64>, k: &Vec<f64>, v: &Vec<f64>| dot(&forward(q, k, v).0, &dout);

    let (out, log_sum_exp) = forward(&q, &k, &v);
    let (mut dq, mut dk, mut dv) = (unwritten(q.len()), vec![1.0; k.len()], vec![1.0; v.len()]);
    Reference.attention_backward(
        &mut dq,
        &mut dk,
        &mut dv,
        &dout,
        &q,
        &k,
        &v,
        &out,
        &log_sum_exp,
        &sequences,
        heads,
        scale,
    );
    assert_gradient("dq", &dq, &q, |q| loss(q, &k, &v));
    assert_gradient("dk", &dk, &k, |k| loss(&q, k, &v) + k.iter().sum::<f64>());
    assert_gradient("dv", &dv, &v, |v| loss(&q, &k, v) + v.iter().sum::<f64>());
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
    Reference.swiglu_backward(&mut y, &mut dgate, &mut dup, n);
    assert_eq!(dot(&y, &dy), loss(&gate, &up));
    assert_gradient("dgate", &dgate, &gate, |gate| loss(gate, &up));
    assert_gradient("dup", &dup, &up, |up| loss(&gate, up));
}

#[test]
fn log_prob() {
    let (targets, vocab, c, temperature) = ([6, 0, 3], 7, 5, 0.75);
    let n = targets.len();
    let (x, w, d_log_probs) = (numbers(1, n * c), numbers(2, vocab * c), numbers(3, n));
    let forward = |x: &Vec<f64>, w: &Vec<f64>| {
        let [mut log_probs, mut entropy, mut log_sum_exp] = [(); 3].map(|()| unwritten(n));
        let packed = Reference.pack(w, vocab, c).expect("a little memory");
        let saved = &mut log_sum_exp;
        Reference.log_prob_forward(&mut log_probs, &mut entropy, saved, x, &packed, &targets, temperature);
        (dot(&log_probs, &d_log_probs), log_sum_exp)
    };
    let (mut dx, mut dw) = (unwritten(n * c), vec![1.0; vocab * c]);
    let (packed, saved) = (Reference.pack(&w, vocab, c).expect("a little memory"), forward(&x, &w).1);
    Reference.log_prob_backward(
        &mut dx,
        &mut dw,
        &d_log_probs,
        &x,
        &w,
        &packed,
        &targets,
        &saved,
        temperature,
    );
    assert_gradient("dx", &dx, &x, |x| forward(x, &w).0);
    assert_gradient("dw", &dw, &w, |w| forward(&x, w).0 + w.iter().sum::<f64>());
}

#[test]
fn embedding() {
    let (ids, vocab, c) = ([4, 1, 4], 6, 5);
    let (w, dy) = (numbers(1, vocab * c), numbers(2, ids.len() * c));
    let mut dw = vec![1.0; vocab * c];
    Reference.embedding_backward(&mut dw, &ids, &dy, c);
    assert_gradient("dw", &dw, &w, |w| {
        let mut y = unwritten(ids.len() * c);
        Reference.embedding_forward(&mut y, &ids, w, c);
        dot(&y, &dy) + w.iter().sum::<f64>()
    });
}

#[test]
fn rows() {
    let (rows, n, c) = ([5, 0, 3], 6, 5);
    let (x, dy) = (numbers(1, n * c), numbers(2, rows.len() * c));
    let mut dx = vec![1.0; n * c];
    Reference.scatter_add_rows(&mut dx, &dy, &rows, c);
    assert_gradient("dx of a gather", &dx, &x, |x| {
        let mut y = unwritten(rows.len() * c);
        Reference.gather_rows(&mut y, x, &rows, c);
        dot(&y, &dy) + x.iter().sum::<f64>()
    });

    let (x, dy) = (numbers(3, rows.len() * c), numbers(4, n * c));
    let mut dx = unwritten(rows.len() * c);
    Reference.gather_rows(&mut dx, &dy, &rows, c);
    assert_gradient("dx of a scatter", &dx, &x, |x| {
        let mut y = vec![0.0; n * c];
        Reference.scatter_rows(&mut y, x, &rows, c);
        dot(&y, &dy)
    });
}
