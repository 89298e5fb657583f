//! Products kernel by kernel, for `examples/products.rs`, which measures them.

use crate::{
    cuda::Cuda,
    device::Address,
    memory::{Bf16, Memory, bytes_of},
    ops::product::{Call, Kernel},
};
use koan_backend::Store;

pub use crate::ops::product::Layout;

/// Random elements that operands repeat.
const RANDOM: usize = 1 << 20;

/// A product on several sets of operands, so that none is still in a cache when its turn comes.
pub struct Trial<'a> {
    cuda: &'a Cuda,
    layout: Layout,
    /// `[m, n, k]`: rows, columns, inner dimension.
    sizes: [usize; 3],
    operands: Vec<[Memory<Bf16>; 2]>,
    c: Memory<f32>,
    kernels: Vec<(&'static Kernel, usize)>,
}

impl<'a> Trial<'a> {
    /// Random operands of a product of `[rows, out_features, in_features]`, `sets` of them.
    ///
    /// # Panics
    /// If the device refuses the memory.
    pub fn new(cuda: &'a Cuda, layout: Layout, [rows, out, inp]: [usize; 3], sets: usize) -> Self {
        let sizes = match layout {
            Layout::Forward => [rows, out, inp],
            Layout::BackwardInput => [rows, inp, out],
            Layout::BackwardWeight => [out, inp, rows],
        };
        let [m, n, k] = sizes;
        let operands = (0..sets).map(|i| [m * k, n * k].map(|len| random(cuda, len, i as u64))).collect();
        let mut trial = Self { cuda, layout, sizes, operands, c: cuda.scratch(m * n), kernels: Vec::new() };
        let parts = trial.call(0).chunks();
        let parts = if parts > 1 { vec![1, parts] } else { vec![1] };
        let kernels = layout
            .kernels()
            .iter()
            .filter(|kernel| kernel.runs_on(&*cuda.device))
            .flat_map(|kernel| parts.iter().map(move |parts| (kernel, *parts)));
        trial.kernels = kernels.collect();
        trial
    }

    fn call(&self, i: usize) -> Call {
        let [a, b] = &self.operands[i % self.operands.len()];
        let at = |x: &Memory<Bf16>| -> Address { x.at(0) };
        let store = if self.layout == Layout::BackwardWeight { Store::Add } else { Store::Write };
        Call { layout: self.layout, c: self.c.at(0), a: at(a), b: at(b), sizes: self.sizes, store }
    }

    /// The kernels that can compute it, and in how many parts of the inner dimension.
    pub fn kernels(&self) -> Vec<(&'static str, usize)> {
        self.kernels.iter().map(|(kernel, parts)| (kernel.name, *parts)).collect()
    }

    /// The number of the kernel that the backend would take.
    pub fn chosen(&self) -> Option<usize> {
        let (kernel, parts) = self.call(0).choose(&*self.cuda.device);
        self.kernels.iter().position(|(k, p)| k.name == kernel.name && *p == parts)
    }

    /// Computes it by a kernel on set `i` of the operands.
    pub fn run(&self, kernel: usize, i: usize) {
        let (kernel, parts) = self.kernels[kernel];
        self.call(i).run_by(self.cuda, kernel, parts);
    }

    /// Waits for all work before.
    pub fn wait(&self) {
        self.c.read(1);
    }

    /// The first elements of the product by a kernel, or by that for any rows, from zeros.
    pub fn result(&self, kernel: Option<usize>) -> Vec<f32> {
        self.c.zero();
        match kernel {
            Some(kernel) => self.run(kernel, 0),
            None => self.call(0).run_by(self.cuda, self.layout.of_elements(), 1),
        }
        self.c.read(self.c.len().min(1 << 22))
    }
}

/// Random numbers within ±1.
fn random(cuda: &Cuda, len: usize, seed: u64) -> Memory<Bf16> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let value = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
        Bf16((value.to_bits() >> 16) as u16)
    };
    let values: Vec<Bf16> = (0..len.min(RANDOM)).map(|_| next()).collect();
    let memory = cuda.scratch(len);
    memory.write(&values);
    let mut done = values.len();
    while done < len {
        let more = done.min(len - done);
        let bytes = size_of_val(bytes_of(&values[..1])) * more;
        cuda.device.copy(memory.at(done), memory.at(0), bytes);
        done += more;
    }
    memory
}
