//! `--precision`: in what precision the products of linear layers are computed; `--weights`: by weights of how many bits.

use koan_backend::ProductPrecision;

/// The precision of products.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct PrecisionArg {
    /// In what the products of linear layers are computed; fp8-emulated: operands in E4M3 with a scale for each block, as
    /// DeepSeek-V3 was trained
    #[arg(long, value_enum, default_value_t = Precision::Native, value_name = "PRECISION")]
    precision: Precision,
}

/// The precision of products, and of weights that are not trained.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct InferencePrecisionArg {
    #[command(flatten)]
    products: PrecisionArg,
    /// How weights are held; int8: in 8 bits with a scale for every 32, as GGUF's Q8_0, a quarter of the memory and of what one
    /// sequence reads for a token
    #[arg(long, value_enum, default_value_t = Weights::Native, value_name = "FORM", conflicts_with = "precision")]
    weights: Weights,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Weights {
    Native,
    Int8,
}

impl InferencePrecisionArg {
    pub(crate) fn get(self) -> ProductPrecision {
        match self.weights {
            Weights::Native => self.products.get(),
            Weights::Int8 => ProductPrecision::Int8,
        }
    }
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
        ProductPrecision::Int8 => Some("int8"),
    }
}
