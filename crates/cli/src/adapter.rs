//! `--adapter`, `--precision` and `--weights`: a model with an adapter on it, wherever a model is used.

use std::path::{Path, PathBuf};

use koan_model::checkpoint::Place;

use crate::precision::{InferencePrecisionArg, name_of};

/// The adapter on the model, and the precision of its products.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct AdapterArg {
    /// An adapter (LoRA) on the model, PEFT's directory of one; `--model` may be such a directory too, whose base model is
    /// then found where it says
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    #[command(flatten)]
    precision: InferencePrecisionArg,
}

impl AdapterArg {
    /// The precision of products, for records: None if it is the device's own.
    pub(crate) fn precision(&self) -> Option<&'static str> {
        name_of(self.precision.get())
    }

    /// Where the model of directory `model` lies, with this adapter.
    pub(crate) fn on(&self, model: &Path) -> anyhow::Result<Place> {
        Ok(Place::find(model, self.adapter.as_deref())?.in_precision(self.precision.get()))
    }
}
