//! A weight on a backend: its values, and the form that products read.

use koan_backend::{Backend, OutOfMemory};

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
    /// Whether the packed form of a tensor of this role is there.
    fn packs(self, role: Role) -> bool {
        match self {
            Self::Training => role.is_head(),
            Self::Rollout | Self::Inference => role.is_product(),
        }
    }

    /// Whether its values are.
    fn keeps_values(self, role: Role) -> bool {
        match self {
            Self::Training | Self::Rollout => true,
            Self::Inference => !role.is_product() || matches!(role, Role::Embedding { .. }),
        }
    }
}

/// A weight tensor; of a matrix, also the form that products read, or none: a product then packs the matrix as it goes.
pub struct Param<B: Backend> {
    /// The values, row-major. None are kept of a matrix that only products read in a model
    /// [`for_inference`](crate::Model::for_inference).
    pub value: B::Buf,
    packed: Option<B::Packed>,
    info: TensorInfo,
}

impl<B: Backend> Param<B> {
    pub(crate) fn new(
        b: &B,
        info: TensorInfo,
        values: &[f32],
        residency: Residency,
    ) -> Result<Self, OutOfMemory> {
        let [out, inp] = info.matrix();
        let packed = residency.packs(info.role).then(|| b.upload_packed(values, out, inp)).transpose()?;
        let value = if residency.keeps_values(info.role) { b.upload(values) } else { b.zeros(0) }?;
        Ok(Self { value, packed, info })
    }

    /// Name, shape and role.
    pub fn info(&self) -> &TensorInfo {
        &self.info
    }

    pub(crate) fn packed(&self) -> Option<&B::Packed> {
        self.packed.as_ref()
    }

    /// Makes the packed form, if there is none and products read the tensor.
    pub(crate) fn pack(&mut self, b: &B) -> Result<(), OutOfMemory> {
        if self.packed.is_none() && Residency::Rollout.packs(self.info.role) {
            let [out, inp] = self.info.matrix();
            self.packed = Some(b.pack(&self.value, out, inp)?);
        }
        Ok(())
    }

    /// Drops the packed form, except the output head's.
    pub(crate) fn unpack(&mut self) {
        if !Residency::Training.packs(self.info.role) {
            self.packed = None;
        }
    }

    /// Brings the packed form, if there is one, up to date after the values changed.
    pub fn repack(&mut self, b: &B) {
        if let Some(packed) = &mut self.packed {
            b.repack(packed, &self.value);
        }
    }
}

impl Config {
    /// Bytes that a [`Model`](crate::Model) holds on `b`, at most.
    pub fn model_bytes<B: Backend>(&self, b: &B, residency: Residency) -> usize {
        let bytes = |info: &TensorInfo| {
            let [out, inp] = info.matrix();
            let packed = if residency.packs(info.role) { b.packed_bytes(out, inp) } else { 0 };
            packed + if residency.keeps_values(info.role) { b.bytes(info.len()) } else { 0 }
        };
        self.tensors().iter().map(bytes).sum()
    }

    /// Bytes of a buffer for each tensor: of a gradient, or of a moment in f32.
    pub fn gradient_bytes<B: Backend>(&self, b: &B) -> usize {
        self.tensors().iter().map(|info| b.bytes(info.len())).sum()
    }
}
