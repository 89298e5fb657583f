//! A GPU, by NVIDIA's driver.
use crate::{
    device::{Address, Device},
    error::CudaError,
};
use koan_backend::OutOfMemory;
pub(crate) struct Driver;
impl Driver {
    pub(crate) fn open(_ordinal: usize) -> Result<Self, CudaError> {
        panic!("not written yet")
    }
}
impl Device for Driver {
    fn name(&self) -> &str {
        panic!("not written yet")
    }
    fn multiprocessors(&self) -> u32 {
        panic!("not written yet")
    }
    fn alloc(&self, _bytes: usize) -> Result<Address, OutOfMemory> {
        panic!("not written yet")
    }
    fn free(&self, _address: Address) {
        panic!("not written yet")
    }
    fn free_memory(&self) -> Option<u64> {
        panic!("not written yet")
    }
    fn zero(&self, _at: Address, _bytes: usize) {
        panic!("not written yet")
    }
    fn upload(&self, _to: Address, _bytes: &[u8]) {
        panic!("not written yet")
    }
    fn download(&self, _to: &mut [u8], _from: Address) {
        panic!("not written yet")
    }
    fn copy(&self, _to: Address, _from: Address, _bytes: usize) {
        panic!("not written yet")
    }
    fn launch(&self, _kernel: &'static str, _grid: [u32; 3], _threads: u32, _shared: usize, _params: &[u8]) {
        panic!("not written yet")
    }
}
