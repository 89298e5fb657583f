//! What layers keep of tokens seen, so that those that follow need not compute them again.

use koan_backend::{Backend, OutOfMemory, Reference};

use crate::{Config, activations::RowMaker, attention::AttentionCache};

/// Keys and values of tokens seen, or what else a layer's attention keeps of them; a row per token, the same one in every
/// layer.
pub struct KvCache<B: Backend> {
    pub(crate) layers: Vec<AttentionCache<B>>,
}

impl<B: Backend> KvCache<B> {
    /// Room for `rows` tokens.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn new(b: &B, config: &Config, rows: usize) -> Result<Self, OutOfMemory> {
        Ok(Self { layers: layers(config, &mut RowMaker::new(b, rows))? })
    }

    /// Bytes that it holds for `rows` tokens.
    pub fn bytes(b: &B, config: &Config, rows: usize) -> usize {
        RowMaker::count(b, rows, |make| layers(config, make))[1]
    }
}

impl Config {
    /// Elements per token of a [`KvCache`].
    pub fn cache_elements_per_row(&self) -> usize {
        RowMaker::count(&Reference, 1, |make| layers(self, make))[0]
    }
}

/// The cache of each layer.
fn layers<B: Backend>(
    config: &Config,
    make: &mut RowMaker<'_, B>,
) -> Result<Vec<AttentionCache<B>>, OutOfMemory> {
    config.layer_kinds().map(|kind| AttentionCache::build(kind.attention, config, make)).collect()
}
