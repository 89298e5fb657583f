//! `--precision`: in what precision the products of linear layers are computed.

use koan_backend::ProductPrecision;

/// The precision of products.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct PrecisionArg {
    /// In what the products of linear layers are computed; fp8-emulated: operands in E4M3 with a scale for each block, as
    /// DeepSeek-V3 was trained
    #[arg(long, value_enum, default_value_t = Precision::Native, value_name = "PRECISION")]
    precision: Precision,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Precision {
    Native,
    Fp8Emulated,
}

impl PrecisionArg {
    pub(crate) fn get(self) -> ProductPrecision {
        match self.precision {
            Precision::Native => ProductPrecision::Device,
            Precision::Fp8Emulated => ProductPrecision::Fp8,
        }
    }
}

/// What records say of a precision that is not the device's own.
pub(crate) fn name_of(precision: ProductPrecision) -> Option<&'static str> {
    match precision {
        ProductPrecision::Device => None,
        ProductPrecision::Fp8 => Some("fp8-emulated"),
    }
}
