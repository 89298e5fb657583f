//! A weight matrix, or one of each expert: its values, and the form that products read.

use std::borrow::Cow;

use crate::{Backend, OutOfMemory, int8};

/// A weight matrix `[out_features, in_features]` on a device, or several of one shape.
pub struct Matrix<B: Backend> {
    /// The values, row-major, one matrix after the other: what is trained and saved. Empty where only products read the matrix and nobody
    /// trains it.
    pub values: B::Buf,
    packed: Option<B::Packed>,
    /// `[matrices, out_features, in_features]`
    shape: [usize; 3],
    precision: ProductPrecision,
}

/// In what precision the products of a matrix read it and what they multiply it by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProductPrecision {
    /// The device's own.
    #[default]
    Device,
    /// FP8, emulated: both are rounded to E4M3 with scales, and what is accumulated of 128 products is scaled and added in
    /// f32. See [`fp8`](crate::fp8).
    Fp8,
    /// The device's own, by weights that were rounded to 8 bits, which a device may hold as such. See [`int8`](crate::int8). For
    /// inference.
    Int8,
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
    pub fn new(b: &B, values: &[f32], [out, inp]: [usize; 2], forms: Forms) -> Result<Self, OutOfMemory> {
        Self::several(b, values, [1, out, inp], forms, ProductPrecision::Device)
    }

    /// Matrices of `shape` `[matrices, out_features, in_features]`, whose products are of `precision`. Weights in 8 bits are rounded
    /// here, in all forms.
    ///
    /// # Errors
    /// If the device refuses the memory.
    ///
    /// # Panics
    /// If there are more or fewer values than the shape has.
    pub fn several(
        b: &B,
        values: &[f32],
        shape: [usize; 3],
        forms: Forms,
        precision: ProductPrecision,
    ) -> Result<Self, OutOfMemory> {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "matrices of shape {shape:?}");
        let uploaded = b.upload(&rounded(values, shape, precision))?;
        let packed = forms.packed.then(|| b.pack(&uploaded, shape, precision)).transpose()?;
        let values = if forms.values { uploaded } else { b.zeros(0)? };
        Ok(Self { values, packed, shape, precision })
    }

    /// As [`several`](Self::several), of values that are never changed: it is not to be [repacked](Self::repack). Takes less memory where
    /// a smaller form gives products the same bits.
    ///
    /// # Errors
    /// If the device refuses the memory.
    ///
    /// # Panics
    /// If there are more or fewer values than the shape has.
    pub fn fixed(
        b: &B,
        values: &[f32],
        shape: [usize; 3],
        forms: Forms,
        precision: ProductPrecision,
    ) -> Result<Self, OutOfMemory> {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "matrices of shape {shape:?}");
        let values = rounded(values, shape, precision);
        let packed = forms.packed.then(|| b.upload_packed(&values, shape, precision)).transpose()?;
        let values = if forms.values { b.upload(&values) } else { b.zeros(0) }?;
        Ok(Self { values, packed, shape, precision })
    }

    /// Bytes of matrices of `shape` `[matrices, out_features, in_features]` in `forms`, at most.
    pub fn bytes(b: &B, shape: [usize; 3], forms: Forms, precision: ProductPrecision) -> usize {
        let packed = if forms.packed { b.packed_bytes(shape, precision) } else { 0 };
        let len = shape.iter().fold(1, |len: usize, n| len.saturating_mul(*n));
        packed + if forms.values { b.bytes(len) } else { 0 }
    }

    /// `[out_features, in_features]`
    pub fn shape(&self) -> [usize; 2] {
        let [_, out, inp] = self.shape;
        [out, inp]
    }

    /// In what precision its products are computed.
    pub fn precision(&self) -> ProductPrecision {
        self.precision
    }

    /// How many matrices there are.
    pub fn matrices(&self) -> usize {
        self.shape[0]
    }

    /// The form that products read, if it is held.
    pub fn packed(&self) -> Option<&B::Packed> {
        self.packed.as_ref()
    }

    #[cfg(feature = "testkit")]
    pub(crate) fn packed_mut(&mut self) -> Option<&mut B::Packed> {
        self.packed.as_mut()
    }

    /// Bytes of the form that products read; 0 if it is not held.
    pub fn packed_bytes(&self, b: &B) -> usize {
        self.packed.as_ref().map_or(0, |packed| b.held_bytes(packed, self.shape, self.precision))
    }

    /// Makes the form that products read, if it is not held.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn pack(&mut self, b: &B) -> Result<(), OutOfMemory> {
        if self.packed.is_none() {
            self.packed = Some(b.pack(&self.values, self.shape, self.precision)?);
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

/// The values that products of `precision` read.
fn rounded(values: &[f32], shape: [usize; 3], precision: ProductPrecision) -> Cow<'_, [f32]> {
    if precision != ProductPrecision::Int8 {
        return values.into();
    }
    let mut rounded = values.to_vec();
    int8::round(&mut rounded, shape[2]);
    rounded.into()
}
