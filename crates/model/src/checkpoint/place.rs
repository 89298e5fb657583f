//! Where a model lies: in a directory, with an adapter of another directory or without.

use std::path::{Path, PathBuf};

use koan_backend::ProductPrecision;

use super::CheckpointError;
use crate::{
    CacheForm, Config,
    adapter::{self, AdapterError},
};

/// Where a model lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    model: PathBuf,
    adapter: Option<PathBuf>,
    precision: ProductPrecision,
    cache: CacheForm,
}

impl Place {
    /// The model in directory `model`, with the adapter in directory `adapter`, if one is given. Where `model` is an adapter's
    /// directory, it is its base model with that adapter.
    ///
    /// # Errors
    /// An adapter whose base model is not here, or with another adapter.
    pub fn find(model: &Path, adapter: Option<&Path>) -> Result<Self, AdapterError> {
        match adapter {
            None if adapter::is_adapter(model) => {
                let base = adapter::base_name(model)?.unwrap_or_default();
                let candidates = [PathBuf::from(&base), model.join(&base)];
                let found = candidates.into_iter().find(|dir| !base.is_empty() && dir.is_dir());
                let found = found.ok_or_else(|| AdapterError::NoBase { base, path: model.into() })?;
                Ok(Self { adapter: Some(model.into()), ..found.as_path().into() })
            }
            Some(_) if adapter::is_adapter(model) => Err(AdapterError::OnAnAdapter { path: model.into() }),
            _ => Ok(Self { adapter: adapter.map(Path::to_owned), ..model.into() }),
        }
    }

    /// The same model, the products of whose linear layers are computed in `precision`.
    #[must_use]
    pub fn in_precision(self, precision: ProductPrecision) -> Self {
        Self { precision, ..self }
    }

    /// In what precision the products of its linear layers are computed.
    pub fn precision(&self) -> ProductPrecision {
        self.precision
    }

    /// The same model, its latent attention computed by the form that caches `cache`.
    #[must_use]
    pub fn caching(self, cache: CacheForm) -> Self {
        Self { cache, ..self }
    }

    /// What its latent attention caches.
    pub fn cache(&self) -> CacheForm {
        self.cache
    }

    /// The directory of the model, without its adapter.
    pub fn model(&self) -> &Path {
        &self.model
    }

    /// The directory of the adapter.
    pub fn adapter(&self) -> Option<&Path> {
        self.adapter.as_deref()
    }

    /// The directory whose tokenizer and chat template the model has: those that came with its adapter, or the base model's.
    pub fn texts(&self) -> &Path {
        self.adapter().filter(|dir| dir.join("tokenizer.json").exists()).unwrap_or(&self.model)
    }

    /// The sizes of the model, and what its adapter adds.
    ///
    /// # Errors
    /// A config that is refused, of either.
    pub fn config(&self) -> Result<Config, CheckpointError> {
        let base = Config { precision: self.precision, ..Config::load(&self.model)? };
        let base = base.caching(self.cache, &self.model)?;
        Ok(match &self.adapter {
            Some(dir) => adapter::read(dir, &base)?,
            None => base,
        })
    }
}

/// A model without an adapter.
impl From<&Path> for Place {
    fn from(model: &Path) -> Self {
        Self {
            model: model.into(),
            adapter: None,
            precision: ProductPrecision::Device,
            cache: CacheForm::default(),
        }
    }
}

/// A model without an adapter.
impl From<&PathBuf> for Place {
    fn from(model: &PathBuf) -> Self {
        model.as_path().into()
    }
}

impl From<&Place> for Place {
    fn from(place: &Place) -> Self {
        place.clone()
    }
}
