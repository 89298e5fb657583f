//! What layers keep of tokens seen, so that those that follow need not compute them again.

use std::convert::Infallible;

use koan_backend::{Backend, OutOfMemory};

use crate::{Config, attention::AttentionCache};

/// Keys and values of tokens seen, or what else a layer's attention keeps of them; a row a token, the same one in every
/// layer.
pub struct KvCache<B: Backend> {
    pub(crate) layers: Vec<AttentionCache<B::Buf>>,
}

impl<B: Backend> KvCache<B> {
    /// Room for `rows` tokens.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn new(b: &B, config: &Config, rows: usize) -> Result<Self, OutOfMemory> {
        Ok(Self { layers: layers(config, &mut |features| b.zeros(rows * features))? })
    }

    /// Bytes that it holds for `rows` tokens.
    pub fn bytes(b: &B, config: &Config, rows: usize) -> usize {
        sum(config, |features| b.bytes(rows * features))
    }

    /// Elements held a token.
    pub fn numbers_per_row(config: &Config) -> usize {
        sum(config, |features| features)
    }
}

/// The cache of each layer; `make` gives a buffer of so many elements a row.
fn layers<T, E>(
    config: &Config,
    make: &mut impl FnMut(usize) -> Result<T, E>,
) -> Result<Vec<AttentionCache<T>>, E> {
    config.layer_kinds().map(|kind| AttentionCache::build(kind.attention, config, make)).collect()
}

/// The sum over all buffers of what `of` says of their features.
fn sum(config: &Config, of: impl Fn(usize) -> usize) -> usize {
    let mut sum = 0;
    let Ok(_) = layers(config, &mut |features| {
        sum += of(features);
        Ok::<_, Infallible>(())
    });
    sum
}
