//! Operations made of others, one after another: what a backend computes that has no kernel of its own for them, and to whose
//! bits one that has is held.

use crate::{Backend, Heads, Keep, Matrix, Rotation, Store};

/// The norm of each head of queries and of keys, and what it leaves for its backward.
pub struct HeadNorms<'a, B: Backend> {
    /// Queries and keys before the norm: `[rows, heads · dim]`.
    pub x: [&'a B::Buf; 2],
    /// Their scales: `[dim]`.
    pub w: [&'a B::Buf; 2],
    /// Written: `[rows · heads]`.
    pub rstd: [&'a mut B::Buf; 2],
    /// Added to the mean of squares.
    pub eps: f32,
}

/// The backward of the norm of each head of queries, or of keys.
pub struct HeadNormBackward<'a, B: Backend> {
    /// Where the gradient of the scales is added, unless they are frozen.
    pub dw: Option<&'a mut B::Buf>,
    /// The heads before the norm.
    pub x: &'a B::Buf,
    /// The scales.
    pub w: &'a B::Buf,
    /// Saved by the forward.
    pub rstd: &'a B::Buf,
    /// Room for as many elements as `x` has.
    pub room: &'a mut B::Buf,
}

/// [`Backend::heads_forward`] by its parts.
pub fn heads_forward<B: Backend>(
    b: &B,
    q: &mut B::Buf,
    [keys, values]: [&mut B::Keys; 2],
    [k, v]: [&mut B::Buf; 2],
    norms: Option<HeadNorms<'_, B>>,
    [cos, sin]: [&B::Buf; 2],
    heads: Heads,
    layout: &B::Layout,
) {
    let counts = [heads.query, heads.key_value];
    if let Some(HeadNorms { x, w, rstd, eps }) = norms {
        let of = x.into_iter().zip(w).zip(rstd).zip(counts);
        for ((((x, w), rstd), count), y) in of.zip([&mut *q, &mut *k]) {
            b.head_norm_forward(y, rstd, x, w, eps, b.rows(layout) * count);
        }
    }
    for (x, count) in [q, &mut *k].into_iter().zip(counts) {
        b.rope_forward(x, cos, sin, Rotation::whole(count, heads.dim), layout);
    }
    b.store_keys(keys, k, heads.key_features(), layout);
    b.store_keys(values, v, heads.value_features(), layout);
}

/// [`Backend::heads_backward`] by its parts.
pub fn heads_backward<B: Backend>(
    b: &B,
    dy: &mut B::Operand,
    norm: Option<HeadNormBackward<'_, B>>,
    [cos, sin]: [&B::Buf; 2],
    [heads, dim]: [usize; 2],
    layout: &B::Layout,
) {
    let (rows, values) = (b.rows(layout) * heads, b.values_mut(dy));
    b.rope_backward(values, cos, sin, Rotation::whole(heads, dim), layout);
    if let Some(HeadNormBackward { dw, x, w, rstd, room }) = norm {
        b.clear(room);
        b.rms_norm_backward(room, dw, values, x, w, rstd, rows);
        b.copy(values, room, rows * dim);
    }
    b.round(dy, rows * dim);
}

/// [`Backend::stream_norm_forward`] by its parts.
pub fn stream_norm_forward<B: Backend>(
    b: &B,
    y: &mut B::Operand,
    saved: &mut B::Buf,
    rstd: &mut B::Buf,
    x: &B::Buf,
    w: &B::Buf,
    eps: f32,
    n: usize,
) {
    b.copy(saved, x, n * b.len(w));
    b.rms_norm_forward(y, rstd, x, w, eps, n);
}

/// [`Backend::stream_norm_backward`] by its parts.
pub fn stream_norm_backward<B: Backend>(
    b: &B,
    dx: &mut B::Operand,
    dw: Option<&mut B::Buf>,
    dy: &B::Buf,
    x: &B::Buf,
    w: &B::Buf,
    rstd: &B::Buf,
    n: usize,
) {
    b.rms_norm_backward(b.values_mut(dx), dw, dy, x, w, rstd, n);
    b.round(dx, n * b.len(w));
}

/// [`Backend::mixture_forward`] by its parts.
pub fn mixture_forward<B: Backend>(
    b: &B,
    out: &mut B::Buf,
    [gate, up]: [&mut B::Operand; 2],
    x: &B::Operand,
    w: [&Matrix<B>; 3],
    routes: &B::Routes,
    [copies, swiglu]: [&mut B::Operand; 2],
) {
    let [features, hidden] = w[0].shape();
    b.copies_forward(copies, x, routes, hidden);
    for (y, w) in [&mut *gate, &mut *up].into_iter().zip(w) {
        b.experts_forward(b.values_mut(y), copies, w, routes, Store::Write);
    }
    b.weighted_swiglu_forward(swiglu, b.values(gate), b.values(up), routes, features);
    b.experts_forward(out, swiglu, w[2], routes, Store::Write);
}

/// What [`Backend::mixture_backward`] writes and adds to.
pub struct MixtureGradients<'a, B: Backend> {
    /// Written: of the copies of the rows `[copies, hidden]`.
    pub copies: &'a mut B::Buf,
    /// Written: of the weights of the copies `[copies]`.
    pub weights: &'a mut B::Buf,
    /// Added to: of the three matrices of each expert, unless they are frozen.
    pub matrices: [Option<&'a mut B::Buf>; 3],
}

/// [`Backend::mixture_backward`] by its parts.
pub fn mixture_backward<B: Backend>(
    b: &B,
    d: MixtureGradients<'_, B>,
    dy: &B::Operand,
    x: &B::Operand,
    [gate, up]: [&mut B::Operand; 2],
    w: [&Matrix<B>; 3],
    routes: &B::Routes,
    [d_out, copies, swiglu]: [&mut B::Operand; 3],
) {
    let ([features, hidden], [d_gate, d_up, d_down]) = (w[0].shape(), d.matrices);
    let add = |dw: Option<&mut B::Buf>, dy: &B::Operand, x: &B::Operand, w: &Matrix<B>| {
        if let Some(dw) = dw {
            b.experts_backward_weight(dw, dy, x, routes, w.shape(), w.precision());
        }
    };
    b.copies_forward(d_out, dy, routes, hidden);
    b.experts_backward_input(b.values_mut(swiglu), d_out, w[2], routes, Store::Write);
    b.weighted_swiglu_backward(d.weights, swiglu, gate, up, Keep::Operand, routes, features);
    add(d_down, d_out, swiglu, w[2]);

    b.copies_forward(copies, x, routes, hidden);
    b.experts_backward_input(d.copies, gate, w[0], routes, Store::Write);
    b.experts_backward_input(d.copies, up, w[1], routes, Store::Add);
    add(d_gate, gate, copies, w[0]);
    add(d_up, up, copies, w[1]);
}
