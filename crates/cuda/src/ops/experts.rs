//! Products of experts: each copy by the matrix of its expert.

use koan_backend::{Matrix, ProductPrecision, Store};

use crate::{
    cuda::Cuda,
    device::Address,
    launch::params,
    memory::Memory,
    ops::{
        fp8,
        operand::Operand,
        product::{CHUNK, Kernel, Rounded, kernel, word},
        route::Routes,
    },
};

params! {
    /// Products of copies, as `kernels/experts.cu` has them.
    struct Experts {
        a: Address, b: Address, c: Address, starts: Address,
        experts: u32, n: u32, k: u32, add: u32, paired: u32, unused: u32,
    }
}

params! {
    /// Gradients of the experts' matrices.
    struct ExpertsWeight {
        a: Address, b: Address, c: Address, starts: Address,
        m: u32, n: u32, chunk: u32, paired: u32,
    }
}

/// By the copies of an expert on average, at most.
const FORWARD: [(usize, Kernel); 3] = [
    (16, kernel("experts_forward_16x64x128", [16, 64, 128], 4, 4)),
    (96, kernel("experts_forward_64x64x64", [64, 64, 64], 4, 4)),
    (usize::MAX, kernel("experts_forward_128x128x64", [128, 128, 64], 3, 4)),
];
const BACKWARD_INPUT: [(usize, Kernel); 2] = [
    (96, kernel("experts_backward_input_64x64x64", [64, 64, 64], 4, 4)),
    (usize::MAX, kernel("experts_backward_input_128x128x64", [128, 128, 64], 3, 4)),
];
/// By the smaller side of a matrix.
const BACKWARD_WEIGHT: [(usize, Kernel); 2] = [
    (96, kernel("experts_backward_weight_64x64x64", [64, 64, 64], 4, 4)),
    (usize::MAX, kernel("experts_backward_weight_128x128x64", [128, 128, 64], 3, 4)),
];
/// The kernels for rows that do not begin at multiples of 16 bytes.
const ELEMENTS: [Kernel; 3] = [
    kernel("experts_forward_elements", [64, 64, 32], 1, 4),
    kernel("experts_backward_input_elements", [64, 64, 32], 1, 4),
    kernel("experts_backward_weight_elements", [64, 64, 32], 1, 4),
];

fn of_size(kernels: &[(usize, Kernel)], size: usize) -> &Kernel {
    let (_, kernel) = kernels.iter().find(|(most, _)| size <= *most).expect("the last takes any");
    kernel
}

/// Launches products of all copies.
fn run(cuda: &Cuda, kernel: &Kernel, product: Experts, copies: usize) {
    let [rows, columns] = kernel.tile;
    // Each expert's last tile may be of fewer rows.
    let tiles = (copies.div_ceil(rows) + product.experts as usize).min(copies);
    let blocks = tiles * (product.n as usize).div_ceil(columns);
    cuda.launch(kernel.name, [blocks, 1, 1], kernel.threads, kernel.shared, product);
}

pub(crate) fn forward(
    cuda: &Cuda,
    y: &mut Memory<f32>,
    x: &Operand,
    w: &Matrix<Cuda>,
    routes: &Routes,
    store: Store,
) {
    let ([out, inp], experts, copies) = (w.shape(), w.matrices(), routes.copies());
    assert_eq!(experts, routes.experts, "a matrix for each expert");
    let (y, x) = (y.first(copies * out, "y"), x.rounded.first(copies * inp, "x"));
    if w.precision() == ProductPrecision::Fp8 {
        return fp8::forward(cuda, y, x, w, copies, Some(routes), store);
    }
    let weights = Rounded::of(cuda, w);
    let aligned = inp.is_multiple_of(8);
    let kernel = if aligned { of_size(&FORWARD, copies / experts) } else { &ELEMENTS[0] };
    let product = Experts {
        a: x,
        b: weights.first(experts * out * inp),
        c: y,
        starts: routes.starts.first(experts + 1, "starts"),
        experts: word(experts),
        n: word(out),
        k: word(inp),
        add: (store == Store::Add).into(),
        paired: out.is_multiple_of(2).into(),
        unused: 0,
    };
    run(cuda, kernel, product, copies);
}

pub(crate) fn backward_input(
    cuda: &Cuda,
    dx: &mut Memory<f32>,
    dy: &Operand,
    w: &Matrix<Cuda>,
    routes: &Routes,
    store: Store,
) {
    let ([out, inp], experts, copies) = (w.shape(), w.matrices(), routes.copies());
    assert_eq!(experts, routes.experts, "a matrix for each expert");
    let (dx, dy) = (dx.first(copies * inp, "dx"), dy.rounded.first(copies * out, "dy"));
    if w.precision() == ProductPrecision::Fp8 {
        return fp8::backward_input(cuda, dx, dy, w, copies, Some(routes), store);
    }
    let weights = Rounded::of(cuda, w);
    let aligned = out.is_multiple_of(8) && inp.is_multiple_of(8);
    let kernel = if aligned { of_size(&BACKWARD_INPUT, copies / experts) } else { &ELEMENTS[1] };
    let product = Experts {
        a: dy,
        b: weights.first(experts * out * inp),
        c: dx,
        starts: routes.starts.first(experts + 1, "starts"),
        experts: word(experts),
        n: word(inp),
        k: word(out),
        add: (store == Store::Add).into(),
        paired: inp.is_multiple_of(2).into(),
        unused: 0,
    };
    run(cuda, kernel, product, copies);
}

pub(crate) fn backward_weight(
    cuda: &Cuda,
    dw: &mut Memory<f32>,
    dy: &Operand,
    x: &Operand,
    routes: &Routes,
    [out, inp]: [usize; 2],
    precision: ProductPrecision,
) {
    let (experts, copies) = (routes.experts, routes.copies());
    let (dy, x) = (dy.rounded.first(copies * out, "dy"), x.rounded.first(copies * inp, "x"));
    let dw = dw.first(experts * out * inp, "dw");
    if precision == ProductPrecision::Fp8 {
        return fp8::backward_weight(cuda, dw, [dy, x], [copies, out, inp], Some(routes));
    }
    let aligned = out.is_multiple_of(8) && inp.is_multiple_of(8);
    let kernel = if aligned { of_size(&BACKWARD_WEIGHT, out.min(inp)) } else { &ELEMENTS[2] };
    let product = ExpertsWeight {
        a: dy,
        b: x,
        c: dw,
        starts: routes.starts.first(experts + 1, "starts"),
        m: word(out),
        n: word(inp),
        chunk: word(CHUNK),
        paired: inp.is_multiple_of(2).into(),
    };
    if copies > 0 {
        let tiles = out.div_ceil(kernel.tile[0]) * inp.div_ceil(kernel.tile[1]);
        cuda.launch(kernel.name, [tiles, experts, 1], kernel.threads, kernel.shared, product);
    }
}

#[cfg(test)]
mod tests {
    use koan_backend::{Backend, Forms, GroupScore, Keep, Routing, Scoring};

    use super::*;
    use crate::{CudaError, ops::product};

    /// The features are multiples of 8, so that the kernels that copy 16 bytes have their turn.
    #[test]
    fn each_expert_has_the_bits_of_a_plain_product() {
        let cuda = match Cuda::emulated(2) {
            Ok(cuda) => cuda,
            Err(CudaError::NoCppCompiler) => return eprintln!("skipped: no C++ compiler"),
            Err(error) => panic!("{error}"),
        };
        check(&cuda, &[0, 3, 3, 40, 41], [40, 24]);
        check(&cuda, &[0, 150, 300], [72, 136]);
        check(&cuda, &[0, 0, 1], [8, 16]);
        let many: Vec<u32> = (0..=70).map(|e| e * e % 3 + 2 * e).collect();
        check(&cuda, &many, [8, 8]);
    }

    fn check(cuda: &Cuda, starts: &[u32], [out, inp]: [usize; 2]) {
        let (experts, copies) = (starts.len() - 1, starts[starts.len() - 1] as usize);
        let of = Routing {
            experts,
            per_token: 1,
            groups: 1,
            groups_kept: 1,
            scoring: Scoring::Softmax,
            group_score: GroupScore::Max,
            normalized: false,
            scale: 1.0,
        };
        let mut routes = Routes::new(cuda, copies, of).expect("memory");
        routes.rows = copies;
        routes.starts.write(starts);
        let mut state = 1_u64;
        let mut numbers = |len: usize| -> Vec<f64> {
            let next = |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 40) as f64 / f64::from(1 << 23) - 1.0
            };
            (0..len).map(next).collect()
        };
        let mut operand = |len: usize| {
            let mut operand = cuda.operand(len, Keep::Operand).expect("memory");
            cuda.write_operand(&mut operand, &numbers(len));
            operand
        };
        let (x, dy) = (operand(copies * inp), operand(copies * out));
        let w: Vec<f32> = numbers(experts * out * inp).into_iter().map(|x| x as f32).collect();
        let forms = Forms { values: false, packed: true };
        let w =
            Matrix::several(cuda, &w, [experts, out, inp], forms, ProductPrecision::Device).expect("memory");
        let [mut y, mut dx, mut dw] = [copies * out, copies * inp, experts * out * inp]
            .map(|len| [(); 2].map(|()| cuda.zeros(len).expect("memory")));
        forward(cuda, &mut y[0], &x, &w, &routes, Store::Add);
        backward_input(cuda, &mut dx[0], &dy, &w, &routes, Store::Write);
        backward_weight(cuda, &mut dw[0], &dy, &x, &routes, [out, inp], ProductPrecision::Device);
        let packed = &w.packed().expect("packed").values;
        for (e, rows) in starts.windows(2).enumerate() {
            let (first, n, matrix) = (rows[0] as usize, (rows[1] - rows[0]) as usize, e * out * inp);
            let (sizes, w) = ([n, out, inp], packed.at(matrix));
            let (x, dy) = (x.rounded.at(first * inp), dy.rounded.at(first * out));
            product::forward(cuda, y[1].at(first * out), x, w, sizes, Store::Add);
            product::backward_input(cuda, dx[1].at(first * inp), dy, w, sizes, Store::Write);
            product::backward_weight(cuda, dw[1].at(matrix), dy, x, sizes);
        }
        for (name, [got, want]) in [("y", y), ("dx", dx), ("dw", dw)] {
            let [got, want] =
                [got, want].map(|x| x.read(x.len()).iter().map(|x| x.to_bits()).collect::<Vec<_>>());
            assert!(got == want, "{name} of experts {starts:?}, {out} from {inp} features");
        }
    }
}
