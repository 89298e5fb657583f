//! A weight matrix: its values, and the form that products read.

use crate::{Backend, OutOfMemory};

/// A weight matrix `[out_features, in_features]` on a device.
pub struct Matrix<B: Backend> {
    /// The values, row-major: what is trained and saved. Empty where only products read the matrix and nobody
    /// trains it.
    pub values: B::Buf,
    packed: Option<B::Packed>,
    shape: [usize; 2],
}

/// Which forms of a matrix are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forms {
    /// Its values.
    pub values: bool,
    /// The form that products read. Without it a product packs the values as it goes, to the same bits.
    pub packed: bool,
}

impl<B: Backend> Matrix<B> {
    /// A matrix of `shape` `[out_features, in_features]` that holds `values` in `forms`.
    ///
    /// # Errors
    /// If the device refuses the memory.
    ///
    /// # Panics
    /// If there are more or fewer values than the shape has.
    pub fn new(b: &B, values: &[f32], shape: [usize; 2], forms: Forms) -> Result<Self, OutOfMemory> {
        let [out, inp] = shape;
        assert_eq!(values.len(), out * inp, "a matrix of {out} by {inp}");
        let packed = forms.packed.then(|| b.upload_packed(values, out, inp)).transpose()?;
        let values = if forms.values { b.upload(values) } else { b.zeros(0) }?;
        Ok(Self { values, packed, shape })
    }

    /// Bytes of a matrix of `shape` in `forms`, at most.
    pub fn bytes(b: &B, [out, inp]: [usize; 2], forms: Forms) -> usize {
        let packed = if forms.packed { b.packed_bytes(out, inp) } else { 0 };
        packed + if forms.values { b.bytes(out.saturating_mul(inp)) } else { 0 }
    }

    /// `[out_features, in_features]`
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The form that products read, if it is held.
    pub fn packed(&self) -> Option<&B::Packed> {
        self.packed.as_ref()
    }

    #[cfg(feature = "testkit")]
    pub(crate) fn packed_mut(&mut self) -> Option<&mut B::Packed> {
        self.packed.as_mut()
    }

    /// Makes the form that products read, if it is not held.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn pack(&mut self, b: &B) -> Result<(), OutOfMemory> {
        if self.packed.is_none() {
            let [out, inp] = self.shape;
            self.packed = Some(b.pack(&self.values, out, inp)?);
        }
        Ok(())
    }

    /// Drops the form that products read.
    pub fn unpack(&mut self) {
        self.packed = None;
    }

    /// Brings the form that products read, if it is held, up to date after the values changed.
    pub fn repack(&mut self, b: &B) {
        if let Some(packed) = &mut self.packed {
            b.repack(packed, &self.values);
        }
    }
}
