//! Typed memory of a device.

use std::{fmt, marker::PhantomData, mem::size_of, sync::Arc};

use koan_backend::OutOfMemory;

use crate::device::{Address, Device};

/// A bf16: the upper half of an f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(pub(crate) u16);

/// What memory holds: any bytes are a value of it.
///
/// # Safety
/// Implementors have no padding and no invalid values.
pub unsafe trait Element: Copy + Default + Send + Sync {}

// SAFETY: plain numbers, of which any bytes are one.
unsafe impl Element for f32 {}
// SAFETY: as above.
unsafe impl Element for f64 {}
// SAFETY: as above.
unsafe impl Element for u32 {}
// SAFETY: as above.
unsafe impl Element for u64 {}
// SAFETY: as above.
unsafe impl Element for u8 {}
// SAFETY: a u16.
unsafe impl Element for Bf16 {}

/// The bytes of `values`.
pub(crate) fn bytes_of<T: Element>(values: &[T]) -> &[u8] {
    // SAFETY: elements have no padding, and bytes any alignment.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

fn bytes_of_mut<T: Element>(values: &mut [T]) -> &mut [u8] {
    // SAFETY: as above, and any bytes are elements.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}

/// `len` elements on a device, freed when dropped.
pub struct Memory<T> {
    device: Arc<dyn Device>,
    address: Address,
    len: usize,
    of: PhantomData<T>,
}

impl<T: Element> Memory<T> {
    /// Memory whose elements are not defined yet.
    pub(crate) fn new(device: &Arc<dyn Device>, len: usize) -> Result<Self, OutOfMemory> {
        let address = if len == 0 { 0 } else { device.alloc(Self::bytes(len))? };
        Ok(Self { device: Arc::clone(device), address, len, of: PhantomData })
    }

    /// Zeros.
    pub(crate) fn zeros(device: &Arc<dyn Device>, len: usize) -> Result<Self, OutOfMemory> {
        let memory = Self::new(device, len)?;
        memory.zero();
        Ok(memory)
    }

    /// `values`
    pub(crate) fn upload(device: &Arc<dyn Device>, values: &[T]) -> Result<Self, OutOfMemory> {
        let memory = Self::new(device, values.len())?;
        memory.write(values);
        Ok(memory)
    }

    /// Bytes that `len` elements take.
    pub(crate) fn bytes(len: usize) -> usize {
        len.saturating_mul(size_of::<T>())
    }

    /// Sets all elements to zero.
    pub(crate) fn zero(&self) {
        if self.len > 0 {
            self.device.zero(self.address, Self::bytes(self.len));
        }
    }

    /// Overwrites the first elements.
    pub(crate) fn write(&self, values: &[T]) {
        assert!(values.len() <= self.len, "{} elements into memory of {}", values.len(), self.len);
        if !values.is_empty() {
            self.device.upload(self.address, bytes_of(values));
        }
    }

    /// The first `n` elements. It waits.
    pub(crate) fn read(&self, n: usize) -> Vec<T> {
        assert!(n <= self.len, "{n} elements of memory of {}", self.len);
        let mut values = vec![T::default(); n];
        if n > 0 {
            self.device.download(bytes_of_mut(&mut values), self.address);
        }
        values
    }

    /// Elements.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Where the elements begin, of which the caller needs `len`.
    #[track_caller]
    pub(crate) fn first(&self, len: usize, name: &str) -> Address {
        assert!(self.len >= len, "{name} holds {} elements, the operation needs {len}", self.len);
        self.address
    }

    /// Where element `i` lies.
    pub(crate) fn at(&self, i: usize) -> Address {
        self.address + (i * size_of::<T>()) as u64
    }
}

impl<T> Drop for Memory<T> {
    fn drop(&mut self) {
        if self.len > 0 {
            self.device.free(self.address);
        }
    }
}

impl<T> fmt::Debug for Memory<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} elements at {:#x})", self.len, self.address)
    }
}
