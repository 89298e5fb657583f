//! How the weights of a directory are quantised, read from `quantization_config`.

use serde_json::{Map, Value};

use super::{ConfigError, reader::Reader};

/// That matrices are stored as E4M3 with a scale for every block of 128 × 128 elements (DeepSeek-V3's `fp8`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fp8Weights {
    /// Whether all scales are powers of two: `scale_fmt` is `ue8m0`.
    pub power_of_two_scales: bool,
}

/// What is read in place of another `quant_method`.
const METHODS: &str =
    "fp8, as DeepSeek-V3 has it; or weights in bf16, f16 or f32, without quantization_config";

impl Reader<'_> {
    pub(super) fn fp8(&self) -> Result<Option<Fp8Weights>, ConfigError> {
        let table = match self.raw.get("quantization_config") {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Object(table)) => table,
            Some(_) => return Err(self.unsupported("quantization_config", "an object")),
        };
        let text =
            |key, default| table.get(key).filter(|v| !v.is_null()).map_or(Some(default), Value::as_str);
        if text("quant_method", "absent") != Some("fp8") {
            return Err(self.wrong(table, "quant_method", METHODS));
        }
        if text("fmt", "e4m3") != Some("e4m3") {
            return Err(self.wrong(table, "fmt", "e4m3"));
        }
        if text("activation_scheme", "dynamic") != Some("dynamic") {
            return Err(self.wrong(table, "activation_scheme", "dynamic"));
        }
        let block = table.get("weight_block_size").and_then(Value::as_array);
        if !block.is_some_and(|sides| sides.len() == 2 && sides.iter().all(|side| side.as_u64() == Some(128)))
        {
            return Err(self.wrong(table, "weight_block_size", "[128, 128]"));
        }
        self.power_of_two_scales(table).map(|power_of_two_scales| Some(Fp8Weights { power_of_two_scales }))
    }

    fn power_of_two_scales(&self, table: &Map<String, Value>) -> Result<bool, ConfigError> {
        match table.get("scale_fmt").map(Value::as_str) {
            None => Ok(false),
            Some(Some("ue8m0")) => Ok(true),
            Some(None) if table["scale_fmt"].is_null() => Ok(false),
            Some(_) => Err(self.wrong(table, "scale_fmt", "ue8m0, or absent")),
        }
    }
}
