//! `--adapter`, `--precision`, `--weights` and `--cache`: a model with an adapter on it, wherever a model is used.

use std::path::{Path, PathBuf};

use koan_model::checkpoint::Place;

use crate::{
    cache::{self, CacheArg},
    precision::{InferencePrecisionArg, name_of},
};

/// The adapter on the model, the precision of its products, and what its attention caches.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct AdapterArg {
    /// An adapter (LoRA) on the model, PEFT's directory of one; `--model` may be such a directory too, whose base model is
    /// then found where it says
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    #[command(flatten)]
    precision: InferencePrecisionArg,
    #[command(flatten)]
    cache: CacheArg,
}

impl AdapterArg {
    /// The precision of products, for records: None if it is the device's own.
    pub(crate) fn precision(&self) -> Option<&'static str> {
        name_of(self.precision.get())
    }

    /// What its attention caches, for records: None if it is as usual.
    pub(crate) fn cache(&self) -> Option<&'static str> {
        cache::name_of(self.cache.get())
    }

    /// Where the model of directory `model` lies, with this adapter.
    pub(crate) fn on(&self, model: &Path) -> anyhow::Result<Place> {
        let place = Place::find(model, self.adapter.as_deref())?;
        Ok(place.in_precision(self.precision.get()).caching(self.cache.get()))
    }
}
