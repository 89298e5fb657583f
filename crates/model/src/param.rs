//! A weight on a backend: its values, and the form that products read.

use std::sync::Arc;

use koan_backend::{Backend, Forms, Matrix, OutOfMemory, ProductPrecision};

use crate::{Config, Role, TensorInfo};

/// What a model lives on a backend for, which decides in which forms its weights are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residency {
    /// Training: every tensor's values, and the packed output head. See [`Model::new`](crate::Model::new).
    Training,
    /// Training, while it samples rollouts: all that products read is packed too. See [`Model::pack`](crate::Model::pack).
    Rollout,
    /// Forward passes alone. See [`Model::for_inference`](crate::Model::for_inference).
    Inference,
}

impl Residency {
    /// In which forms a tensor is there. One that is frozen is never changed: products read it packed, forward and backward. So is
    /// what is trained on devices that keep it packed.
    fn forms<B: Backend>(self, b: &B, info: &TensorInfo) -> Forms {
        let role = info.role;
        let forms = match self {
            _ if !info.trained && !info.kept => Self::Inference.of_role(role),
            Self::Training if b.trains_packed() => Self::Rollout.of_role(role),
            _ => self.of_role(role),
        };
        // A product from the other side reads the values.
        Forms { values: forms.values || info.heads > 1, ..forms }
    }

    fn of_role(self, role: Role) -> Forms {
        match self {
            Self::Training => Forms { values: true, packed: role.is_head() },
            Self::Rollout => Forms { values: true, packed: role.is_product() },
            Self::Inference => Forms {
                values: !role.is_product() || matches!(role, Role::Embedding { .. }),
                packed: role.is_product(),
            },
        }
    }
}

impl TensorInfo {
    /// In what precision its products are computed, in a model of `config`.
    pub fn precision(&self, config: &Config) -> ProductPrecision {
        let precision = config.precision;
        let of_it = match precision {
            // The head's weights are read like all others. An adapter is too small to gain, and a router decides.
            ProductPrecision::Int8 => {
                self.role.is_product() && self.role != Role::Router && !self.role.is_adapter()
            }
            ProductPrecision::Device | ProductPrecision::Fp8 => self.low_precision,
        };
        if of_it { precision } else { ProductPrecision::Device }
    }
}

/// A weight tensor: a matrix, a vector as a matrix of one row, or a matrix of each expert.
pub struct Param<B: Backend> {
    /// A frozen one may be that of several models.
    matrix: Arc<Matrix<B>>,
    info: TensorInfo,
}

impl<B: Backend> Param<B> {
    pub(crate) fn new(
        b: &B,
        info: TensorInfo,
        values: &[f32],
        residency: Residency,
        precision: ProductPrecision,
    ) -> Result<Self, OutOfMemory> {
        let (shape, forms) = (info.matrices(), residency.forms(b, &info));
        let changes = residency != Residency::Inference && (info.trained || info.kept);
        let new = if changes { Matrix::several } else { Matrix::fixed };
        Ok(Self { matrix: Arc::new(new(b, values, shape, forms, precision)?), info })
    }

    /// The same tensor, if it is frozen: another model reads it too.
    pub(crate) fn shared(&self) -> Option<Self> {
        (!self.changes()).then(|| Self { matrix: self.matrix.clone(), info: self.info.clone() })
    }

    /// Whether it has its values, and its packed form comes and goes.
    fn changes(&self) -> bool {
        self.info.trained || self.info.kept
    }

    /// Where its gradient is added, unless it is frozen.
    pub(crate) fn gradient<'a>(&self, grad: &'a mut B::Buf) -> Option<&'a mut B::Buf> {
        self.info.trained.then_some(grad)
    }

    /// Name, shape and role.
    pub fn info(&self) -> &TensorInfo {
        &self.info
    }

    /// The values, row-major. None are kept of a matrix that only products read, where it is frozen or the model is one
    /// [`for_inference`](crate::Model::for_inference).
    pub fn value(&self) -> &B::Buf {
        &self.matrix.values
    }

    /// The values, to be changed; [`repack`](Self::repack) follows.
    ///
    /// # Panics
    /// If several models share it.
    pub fn value_mut(&mut self) -> &mut B::Buf {
        &mut self.matrix_mut().values
    }

    fn matrix_mut(&mut self) -> &mut Matrix<B> {
        Arc::get_mut(&mut self.matrix).expect("only what is frozen is shared, and it is not changed")
    }

    /// Bytes of what products read; 0 where that is not held.
    pub fn packed_bytes(&self, b: &B) -> usize {
        self.matrix.packed_bytes(b)
    }

    /// What products read.
    pub(crate) fn matrix(&self) -> &Matrix<B> {
        &self.matrix
    }

    /// Makes the packed form, if there is none and products read the tensor.
    pub(crate) fn pack(&mut self, b: &B) -> Result<(), OutOfMemory> {
        if self.changes() && Residency::Rollout.forms(b, &self.info).packed {
            self.matrix_mut().pack(b)?;
        }
        Ok(())
    }

    /// Drops the packed form, except the output head's, and of what is frozen.
    pub(crate) fn unpack(&mut self, b: &B) {
        if self.changes() && !Residency::Training.forms(b, &self.info).packed {
            self.matrix_mut().unpack();
        }
    }

    /// Brings the packed form, if there is one, up to date after the values changed.
    pub fn repack(&mut self, b: &B) {
        if self.info.trained {
            self.matrix_mut().repack(b);
        }
    }
}

impl Config {
    /// Bytes that a [`Model`](crate::Model) holds on `b`, at most.
    pub fn model_bytes<B: Backend>(&self, b: &B, residency: Residency) -> usize {
        let bytes = |info: &TensorInfo| self.bytes_of(b, info, residency);
        self.tensors().iter().map(bytes).sum()
    }

    fn bytes_of<B: Backend>(&self, b: &B, info: &TensorInfo, residency: Residency) -> usize {
        Matrix::bytes(b, info.matrices(), residency.forms(b, info), info.precision(self))
    }

    /// The most bytes that are held while a [`Model`](crate::Model) is put on `b`: what is there already, and a tensor's values
    /// as they are read; rounded too, where weights are in 8 bits.
    pub fn loading_bytes<B: Backend>(&self, b: &B, residency: Residency) -> usize {
        let (mut there, mut most) = (0, 0);
        for info in self.tensors() {
            there += self.bytes_of(b, &info, residency);
            let is_rounded = info.precision(self) == ProductPrecision::Int8;
            most = most.max(there + if is_rounded { 8 } else { 4 } * info.len());
        }
        most
    }

    /// Bytes of the gradient of all tensors.
    pub fn gradient_bytes<B: Backend>(&self, b: &B) -> usize {
        self.tensors().iter().map(|info| b.bytes(info.gradient_len())).sum()
    }
}
