//! Times every kernel of products at shapes of small models, and checks that all give the bits of the generic one:
//!
//! ```text
//! cargo run --release -p koan-cuda --example products [GPU]
//! ```
//!
//! A line for each: microseconds (median of 30), TFLOP/s, GB/s of what must be read and written, and `*` beside the kernel that
//! the backend takes. The table in `ops/product.rs` is made of these.

use std::time::Instant;

use koan_cuda::{
    Cuda,
    trial::{Layout, Trial},
};

/// Rows, outputs, inputs: of a whole pass, of a few sequences, odd ones.
const LARGE: [[usize; 3]; 7] = [
    [16384, 3072, 1024],
    [16384, 1024, 3072],
    [8192, 1024, 1024],
    [16384, 576, 576],
    [16384, 1536, 576],
    [16384, 576, 1536],
    [4096, 4096, 4096],
];
const SMALL: [[usize; 3]; 12] = [
    [1, 1024, 1024],
    [16, 3072, 1024],
    [16, 1024, 3072],
    [16, 49152, 576],
    [64, 576, 576],
    [64, 3072, 1024],
    [64, 1024, 3072],
    [64, 151_936, 1024],
    [256, 3072, 1024],
    [256, 1024, 3072],
    [512, 576, 1536],
    [1024, 3072, 1024],
];
const CHECKED: [[usize; 3]; 5] =
    [[1, 64, 64], [77, 520, 1048], [1000, 1040, 520], [5000, 264, 520], [130, 8, 16]];

const LAYOUTS: [Layout; 3] = [Layout::Forward, Layout::BackwardInput, Layout::BackwardWeight];

fn main() {
    let ordinal = std::env::args().nth(1).map_or(0, |n| n.parse().expect("the number of a GPU"));
    let cuda = match Cuda::open(ordinal) {
        Ok(cuda) => cuda,
        Err(error) => return eprintln!("{error}"),
    };
    println!("{}", cuda.name());
    let wrong: usize =
        LAYOUTS.iter().flat_map(|&layout| CHECKED.map(|sizes| check(&cuda, layout, sizes))).sum();
    println!("{wrong} kernels with other bits than the generic one");
    for layout in LAYOUTS {
        for sizes in LARGE {
            measure(&cuda, layout, sizes);
        }
    }
    for sizes in SMALL {
        measure(&cuda, Layout::Forward, sizes);
    }
}

/// How many kernels give other bits than the generic one.
fn check(cuda: &Cuda, layout: Layout, sizes: [usize; 3]) -> usize {
    let trial = Trial::new(cuda, layout, sizes, 1);
    let bits = |kernel| trial.result(kernel).iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let want = bits(None);
    let mut wrong = 0;
    for (i, (name, parts)) in trial.kernels().into_iter().enumerate() {
        let got = bits(Some(i));
        if let Some(at) = got.iter().zip(&want).position(|(got, want)| got != want) {
            println!("{name} in {parts} parts at {sizes:?}: other bits from element {at} on");
            wrong += 1;
        }
    }
    wrong
}

fn measure(cuda: &Cuda, layout: Layout, sizes: [usize; 3]) {
    let [rows, out, inp] = sizes;
    let operations = 2.0 * (rows * out * inp) as f64;
    let operands = match layout {
        Layout::Forward => rows * inp + out * inp,
        Layout::BackwardInput => rows * out + out * inp,
        Layout::BackwardWeight => rows * (out + inp),
    };
    let sums = [rows * out, rows * inp, 2 * out * inp][layout as usize];
    let bytes = (2 * operands + 4 * sums) as f64;
    // Past twice the L2 of an H100.
    let sets = (100 << 20) / (2 * operands) + 1;
    let trial = Trial::new(cuda, layout, sizes, sets);
    println!("{layout:?} {rows} rows, {out} from {inp}");
    for (i, (name, parts)) in trial.kernels().into_iter().enumerate() {
        let seconds = seconds(&trial, i);
        let chosen = if trial.chosen() == Some(i) { "*" } else { " " };
        println!(
            "  {chosen} {name:<30} {parts:>2} parts {:>9.2} µs {:>7.1} TFLOP/s {:>7.0} GB/s",
            seconds * 1e6,
            operations / seconds / 1e12,
            bytes / seconds / 1e9
        );
    }
}

/// Seconds of one run, the median of 30 measurements of several.
fn seconds(trial: &Trial<'_>, kernel: usize) -> f64 {
    let time = |runs: usize| {
        trial.wait();
        let start = Instant::now();
        (0..runs).for_each(|i| trial.run(kernel, i));
        trial.wait();
        start.elapsed().as_secs_f64() / runs as f64
    };
    time(3);
    let runs = (1.5e-3 / time(3)).clamp(3.0, 200.0) as usize;
    let mut times: Vec<f64> = (0..30).map(|_| time(runs)).collect();
    times.sort_by(f64::total_cmp);
    times[15]
}
