//! The memory of a pass, planned before it runs and reused by every pass after.

use std::convert::Infallible;

use koan_backend::{Backend, OutOfMemory};

use crate::{
    Config,
    trunk::{TrunkActivations, TrunkGradients},
};

/// What a pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Forward alone.
    Inference,
    /// Forward and backward.
    Training,
    /// Forward and backward; of each layer only its input is kept, and the backward computes the rest again. The same
    /// gradient, to the bit, for a third more work and a fraction of the memory (arXiv:1604.06174).
    Recomputing,
}

/// What the trunk works in, in a pass of up to `rows` tokens, and what its backward reads of it.
pub struct Activations<B: Backend> {
    rows: usize,
    pub(crate) trunk: TrunkActivations<B::Buf>,
}

impl<B: Backend> Activations<B> {
    /// For passes of up to `rows` tokens.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn new(b: &B, config: &Config, rows: usize, purpose: Purpose) -> Result<Self, OutOfMemory> {
        let mut make = |features: usize| b.zeros(rows * features);
        Ok(Self { rows, trunk: TrunkActivations::build(config, purpose, &mut make)? })
    }

    /// How many tokens a pass may have.
    pub fn rows(&self) -> usize {
        self.rows
    }
}

impl Purpose {
    /// Elements that [`Activations`], and the gradients that a backward pass works in, hold a row.
    pub fn numbers_per_row(self, config: &Config) -> usize {
        self.sum(config, |features| features)
    }

    /// Bytes that they hold for passes of up to `rows` tokens: for the plan of a run's memory.
    pub fn bytes<B: Backend>(self, b: &B, config: &Config, rows: usize) -> usize {
        self.sum(config, |features| b.bytes(rows * features))
    }

    /// The sum over all buffers of what `of` says of their features.
    fn sum(self, config: &Config, of: impl Fn(usize) -> usize) -> usize {
        let mut sum = 0;
        let mut count = |features| {
            sum += of(features);
            Ok::<_, Infallible>(())
        };
        let Ok(_) = TrunkActivations::build(config, self, &mut count);
        if self != Self::Inference {
            let Ok(()) = count(config.hidden_size); // of the normed rows
            let Ok(_) = TrunkGradients::build(config, &mut count);
        }
        sum
    }
}
