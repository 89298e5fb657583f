//! A weight on a backend: its values, and the form that products read.

use koan_backend::{Backend, Forms, Matrix, OutOfMemory};

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
    /// In which forms a tensor of this role is there.
    fn forms(self, role: Role) -> Forms {
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

/// A weight tensor: a matrix, or a vector as a matrix of one row.
pub struct Param<B: Backend> {
    matrix: Matrix<B>,
    info: TensorInfo,
}

impl<B: Backend> Param<B> {
    pub(crate) fn new(
        b: &B,
        info: TensorInfo,
        values: &[f32],
        residency: Residency,
    ) -> Result<Self, OutOfMemory> {
        let matrix = Matrix::new(b, values, info.matrix(), residency.forms(info.role))?;
        Ok(Self { matrix, info })
    }

    /// Name, shape and role.
    pub fn info(&self) -> &TensorInfo {
        &self.info
    }

    /// The values, row-major. None are kept of a matrix that only products read in a model
    /// [`for_inference`](crate::Model::for_inference).
    pub fn value(&self) -> &B::Buf {
        &self.matrix.values
    }

    /// The values, to be changed; [`repack`](Self::repack) follows.
    pub fn value_mut(&mut self) -> &mut B::Buf {
        &mut self.matrix.values
    }

    /// What products read.
    pub(crate) fn matrix(&self) -> &Matrix<B> {
        &self.matrix
    }

    /// Makes the packed form, if there is none and products read the tensor.
    pub(crate) fn pack(&mut self, b: &B) -> Result<(), OutOfMemory> {
        if Residency::Rollout.forms(self.info.role).packed { self.matrix.pack(b) } else { Ok(()) }
    }

    /// Drops the packed form, except the output head's.
    pub(crate) fn unpack(&mut self) {
        if !Residency::Training.forms(self.info.role).packed {
            self.matrix.unpack();
        }
    }

    /// Brings the packed form, if there is one, up to date after the values changed.
    pub fn repack(&mut self, b: &B) {
        self.matrix.repack(b);
    }
}

impl Config {
    /// Bytes that a [`Model`](crate::Model) holds on `b`, at most.
    pub fn model_bytes<B: Backend>(&self, b: &B, residency: Residency) -> usize {
        let bytes = |info: &TensorInfo| Matrix::bytes(b, info.matrix(), residency.forms(info.role));
        self.tensors().iter().map(bytes).sum()
    }

    /// The most bytes that are held while a [`Model`](crate::Model) is put on `b`: what is there already, and a tensor's values
    /// as they are read.
    pub fn loading_bytes<B: Backend>(&self, b: &B, residency: Residency) -> usize {
        let (mut there, mut most) = (0, 0);
        for info in self.tensors() {
            there += Matrix::bytes(b, info.matrix(), residency.forms(info.role));
            most = most.max(there + 4 * info.len());
        }
        most
    }

    /// Bytes of a buffer for each tensor: of a gradient, or of a moment in f32.
    pub fn gradient_bytes<B: Backend>(&self, b: &B) -> usize {
        self.tensors().iter().map(|info| b.bytes(info.len())).sum()
    }
}
