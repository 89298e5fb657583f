//! NVIDIA's driver, and the GPUs that it knows.

use std::{fmt, fs};

use cudarc::driver::{
    DriverError, result,
    sys::{self, CUdevice_attribute, CUresult},
};

use crate::error::CudaError;

/// The oldest CUDA whose drivers are used, `[major, minor]`: the first that knows Hopper.
const OLDEST_CUDA: [u32; 2] = [12, 0];

/// NVIDIA's driver, ready for use.
#[derive(Clone, Debug)]
pub struct System {
    /// The newest CUDA that it runs programs of, `[major, minor]`.
    pub cuda: [u32; 2],
    /// Its own version, such as 580.95.05, where the system says.
    pub version: Option<String>,
    /// Its GPUs, by ordinal.
    pub cards: Vec<Card>,
}

/// A GPU.
#[derive(Clone, Debug)]
pub struct Card {
    /// Its name.
    pub name: String,
    /// Its compute capability, `[major, minor]`.
    pub capability: [u32; 2],
    /// Its memory, bytes.
    pub memory: u64,
    /// Its multiprocessors.
    pub multiprocessors: u32,
    /// The most shared memory that a block may have, bytes.
    pub(crate) shared: usize,
    pub(crate) device: sys::CUdevice,
}

impl System {
    /// Loads the driver and asks it for its GPUs.
    ///
    /// # Errors
    /// If there is no driver, it is too old, or does not start; a machine without GPUs is one with a driver and no `cards`.
    pub fn find() -> Result<Self, CudaError> {
        // SAFETY: loads libcuda, whose initialisers any program may run.
        if !unsafe { sys::is_culib_present() } {
            return Err(CudaError::NoDriver);
        }
        match result::init() {
            Err(DriverError(CUresult::CUDA_ERROR_NO_DEVICE)) => return Err(CudaError::NoCard),
            started => driver("starting NVIDIA's driver", started)?,
        }
        let mut number = 0;
        // SAFETY: writes one int.
        let answer = unsafe { sys::cuDriverGetVersion(&raw mut number) };
        driver("asking the driver for its version", answer.result())?;
        let cuda = [(number / 1000) as u32, (number % 1000 / 10) as u32];
        if cuda < OLDEST_CUDA {
            return Err(CudaError::OldDriver { cuda: cuda_name(cuda), needed: cuda_name(OLDEST_CUDA) });
        }
        let n = driver("counting GPUs", result::device::get_count())?;
        let cards = (0..n).map(Card::ask).collect::<Result<_, _>>()?;
        let version = fs::read_to_string("/sys/module/nvidia/version").ok();
        Ok(Self { cuda, version: version.map(|text| text.trim().to_owned()), cards })
    }

    /// GPU number `ordinal`.
    pub(crate) fn card(&self, ordinal: usize) -> Result<&Card, CudaError> {
        let there = self.cards.len();
        match self.cards.get(ordinal) {
            Some(card) => Ok(card),
            None if there == 0 => Err(CudaError::NoCard),
            None => Err(CudaError::NoSuchCard { ordinal, there }),
        }
    }
}

impl Card {
    fn ask(ordinal: i32) -> Result<Self, CudaError> {
        let what = || format!("asking for GPU {ordinal}");
        let device = driver(what(), result::device::get(ordinal))?;
        let attribute = |of| {
            // SAFETY: the driver gave the device.
            let value = driver(what(), unsafe { result::device::get_attribute(device, of) })?;
            Ok(u32::try_from(value).unwrap_or(0))
        };
        Ok(Self {
            name: driver(what(), result::device::get_name(device))?,
            capability: [
                attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            ],
            // SAFETY: the driver gave the device.
            memory: driver(what(), unsafe { result::device::total_mem(device) })? as u64,
            multiprocessors: attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            shared: attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?
                as usize,
            device,
        })
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "driver {version} (CUDA {})", cuda_name(self.cuda)),
            None => write!(f, "driver of CUDA {}", cuda_name(self.cuda)),
        }
    }
}

/// A version of CUDA, for people.
pub(crate) fn cuda_name([major, minor]: [u32; 2]) -> String {
    format!("{major}.{minor}")
}

/// An answer of the driver, with what it was asked for.
pub(crate) fn driver<T>(what: impl Into<String>, answer: Result<T, DriverError>) -> Result<T, CudaError> {
    answer.map_err(|error| CudaError::Driver { what: what.into(), says: words(error) })
}

/// What the driver calls an error.
pub(crate) fn words(error: DriverError) -> String {
    let name = error.error_name().map(|name| name.to_string_lossy().into_owned());
    let text = error.error_string().map(|text| text.to_string_lossy().into_owned());
    match (name, text) {
        (Ok(name), Ok(text)) => format!("{name} ({text})"),
        _ => format!("error {}", error.0 as u32),
    }
}
