//! A model on a device, with a generator in the memory there is.

use koan_backend::Backend;
use koan_generate::{Drafts, Generator, Limits};
use koan_model::Model;

use crate::{
    Codec, InferError,
    plan::{budget, plan_generator},
};

/// A model that samples completions of text.
pub struct Engine<'b, B: Backend> {
    /// The device.
    pub b: &'b B,
    /// How the model reads and writes text.
    pub codec: Codec,
    /// The model, for forward passes alone.
    pub model: Model<B>,
    /// What samples its completions.
    pub generator: Generator<B>,
}

impl<'b, B: Backend> Engine<'b, B> {
    /// Loads the model of `codec` for sequences of up to `positions` tokens. The sequences of `limits` run at once, or as many
    /// of them as fit into `memory` bytes, or without such a budget into most of the memory that is free.
    ///
    /// # Errors
    /// More positions than the model reaches, no room for the weights and one sequence: before weights are read; or weights
    /// that are refused.
    pub fn load(
        b: &'b B,
        codec: Codec,
        positions: usize,
        limits: Limits,
        memory: Option<usize>,
    ) -> Result<Self, InferError> {
        let plan = plan_generator(b, codec.dir(), codec.config(), positions, limits, memory)?;
        let model = match limits.drafts {
            Drafts::MultiToken => codec.load_with_modules(b, positions)?,
            Drafts::Off | Drafts::Text => codec.load(b, Some(positions))?,
        };
        let generator = Generator::planned(b, codec.config(), plan)?;
        Ok(Self { b, codec, model, generator })
    }

    /// The same, beside other work that takes `reserved` bytes now and then: they are left free where there is no budget.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_beside(
        b: &'b B,
        codec: Codec,
        positions: usize,
        limits: Limits,
        memory: Option<usize>,
        reserved: usize,
    ) -> Result<Self, InferError> {
        let memory = memory.or_else(|| (reserved > 0).then(|| budget(b, codec.config(), reserved)).flatten());
        Self::load(b, codec, positions, limits, memory)
    }

    /// Bytes that the generator holds.
    pub fn bytes(&self) -> usize {
        self.generator.plan().bytes(self.b, self.codec.config())
    }
}
