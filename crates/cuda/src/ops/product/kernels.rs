//! The kernels of products, and how fast each is on an H200 (`examples/products.rs` measures them): by this the choice goes.

use crate::device::Device;

/// How the operands of a product lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `y = x wᵀ`
    Forward,
    /// `dx = dy w`
    BackwardInput,
    /// `dw += dyᵀ x`
    BackwardWeight,
}

/// A kernel of products.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) name: &'static str,
    /// Rows and columns of a block's tile.
    pub(crate) tile: [usize; 2],
    pub(crate) threads: usize,
    pub(crate) shared: usize,
    /// Blocks that run on a multiprocessor at a time.
    pub(super) resident: usize,
    /// Operations per second of a full GPU, in 10¹².
    pub(super) rate: f64,
    pub(super) form: Form,
}

/// How a kernel multiplies, and has its operands brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// By mma.sync and asynchronous copies.
    Any,
    /// By wgmma and the copy engine, in blocks that stay: on Hopper alone.
    Staged,
}

/// A kernel of tiles of `m` x `n`, in `stages` of `k`.
pub(crate) const fn kernel(name: &'static str, [m, n, k]: [usize; 3], stages: usize, warps: usize) -> Kernel {
    let (threads, shared) = (32 * warps, stages * (m + n) * k * 2);
    Kernel { name, tile: [m, n], threads, shared, resident: 1, rate: 1.0, form: Form::Any }
}

impl Kernel {
    /// What the choice between kernels goes by.
    const fn at(self, resident: usize, rate: f64) -> Self {
        Self { resident, rate, ..self }
    }

    /// A kernel of wgmma and the copy engine, with two barriers for each of its `stages`.
    const fn staged(self, stages: usize) -> Self {
        Self { form: Form::Staged, shared: self.shared + 16 * stages, ..self }
    }

    /// Whether a device can run it.
    pub(crate) fn runs_on(&self, device: &dyn Device) -> bool {
        self.shared <= device.shared() && (self.form == Form::Any || device.is_hopper())
    }
}

pub(super) const FORWARD: &[Kernel] = &[
    kernel("forward_16x16x128", [16, 16, 128], 6, 1).at(4, 100.0),
    kernel("forward_16x32x128", [16, 32, 128], 5, 2).at(3, 100.0),
    kernel("forward_16x64x128", [16, 64, 128], 4, 4).at(2, 150.0),
    kernel("forward_32x32x128", [32, 32, 128], 5, 4).at(2, 150.0),
    kernel("forward_64x32x64", [64, 32, 64], 6, 4).at(3, 200.0),
    kernel("forward_64x64x64", [64, 64, 64], 4, 4).at(3, 265.0),
    kernel("forward_64x128x64", [64, 128, 64], 4, 4).at(2, 310.0),
    kernel("forward_128x128x64", [128, 128, 64], 3, 4).at(2, 365.0),
    kernel("forward_128x256x64", [128, 256, 64], 3, 8).at(1, 380.0),
    kernel("staged_forward_128x128", [128, 128, 64], 3, 8).at(2, 520.0).staged(3),
    kernel("staged_forward_128x192", [128, 192, 64], 5, 8).at(1, 490.0).staged(5),
    kernel("staged_forward_128x256", [128, 256, 64], 4, 8).at(1, 480.0).staged(4),
    kernel("staged_forward_192x192", [192, 192, 64], 4, 12).at(1, 520.0).staged(4),
];

pub(super) const BACKWARD_INPUT: &[Kernel] = &[
    kernel("backward_input_64x64x64", [64, 64, 64], 4, 4).at(3, 260.0),
    kernel("backward_input_64x128x64", [64, 128, 64], 4, 4).at(2, 315.0),
    kernel("backward_input_128x128x64", [128, 128, 64], 3, 4).at(2, 380.0),
    kernel("backward_input_128x256x64", [128, 256, 64], 3, 8).at(1, 390.0),
    kernel("staged_backward_input_128x128", [128, 128, 64], 3, 8).at(2, 520.0).staged(3),
    kernel("staged_backward_input_128x192", [128, 192, 64], 5, 8).at(1, 490.0).staged(5),
    kernel("staged_backward_input_128x256", [128, 256, 64], 4, 8).at(1, 480.0).staged(4),
    kernel("staged_backward_input_192x192", [192, 192, 64], 4, 12).at(1, 520.0).staged(4),
];

pub(super) const BACKWARD_WEIGHT: &[Kernel] = &[
    kernel("backward_weight_64x64x64", [64, 64, 64], 4, 4).at(3, 250.0),
    kernel("backward_weight_64x128x64", [64, 128, 64], 4, 4).at(2, 310.0),
    kernel("backward_weight_128x128x64", [128, 128, 64], 3, 4).at(2, 360.0),
    kernel("backward_weight_128x256x64", [128, 256, 64], 3, 8).at(1, 375.0),
    kernel("staged_backward_weight_128x128", [128, 128, 64], 3, 8).at(2, 600.0).staged(3),
    kernel("staged_backward_weight_128x192", [128, 192, 64], 5, 8).at(1, 520.0).staged(5),
    kernel("staged_backward_weight_128x256", [128, 256, 64], 4, 8).at(1, 600.0).staged(4),
];

/// The kernels for rows that do not begin at multiples of 16 bytes.
pub(super) const ELEMENTS: [Kernel; 3] = [
    kernel("forward_elements", [64, 64, 32], 1, 4),
    kernel("backward_input_elements", [64, 64, 32], 1, 4),
    kernel("backward_weight_elements", [64, 64, 32], 1, 4),
];

impl Layout {
    /// The kernels to choose from.
    pub(crate) fn kernels(self) -> &'static [Kernel] {
        match self {
            Self::Forward => FORWARD,
            Self::BackwardInput => BACKWARD_INPUT,
            Self::BackwardWeight => BACKWARD_WEIGHT,
        }
    }

    /// The kernel for any rows.
    pub(crate) fn of_elements(self) -> &'static Kernel {
        &ELEMENTS[self as usize]
    }
}
