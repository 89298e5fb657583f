//! The memory of a pass, planned before it runs and reused by every pass after.

use koan_backend::{Backend, Keep, OutOfMemory, Reference, Routing};

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

/// Makes the memory of a pass, or only counts what it would take.
pub(crate) struct RowMaker<'a, B: Backend> {
    b: &'a B,
    rows: usize,
    /// Whether buffers are made in their size, or empty.
    allocates: bool,
    /// Elements of a row of all that was made.
    elements: usize,
    /// Bytes of all that was made.
    bytes: usize,
}

impl<'a, B: Backend> RowMaker<'a, B> {
    pub(crate) fn new(b: &'a B, rows: usize) -> Self {
        Self { b, rows, allocates: true, elements: 0, bytes: 0 }
    }

    /// The elements of a row, and the bytes of `rows` rows, of what `build` makes; nothing is allocated.
    pub(crate) fn count<T>(
        b: &'a B,
        rows: usize,
        build: impl FnOnce(&mut Self) -> Result<T, OutOfMemory>,
    ) -> [usize; 2] {
        let mut make = Self { allocates: false, ..Self::new(b, rows) };
        build(&mut make).map_or([usize::MAX; 2], |_| [make.elements, make.bytes])
    }

    /// `[rows, features]` that any operation reads and writes; undefined until one wrote it, as all that is made here.
    pub(crate) fn buf(&mut self, features: usize) -> Result<B::Buf, OutOfMemory> {
        let len = self.len(features, B::bytes);
        self.b.undefined(len)
    }

    /// `[rows, features]` that products read, with its values if other operations read or change them.
    pub(crate) fn operand(&mut self, features: usize, keep: Keep) -> Result<B::Operand, OutOfMemory> {
        let len = self.len(features, |b, len| b.operand_bytes(len, keep));
        self.b.operand(len, keep)
    }

    /// As [`operand`](Self::operand), with its values, which are 0 until they are written.
    pub(crate) fn zeros(&mut self, features: usize) -> Result<B::Operand, OutOfMemory> {
        let mut zeros = self.operand(features, Keep::Values)?;
        self.b.clear(self.b.values_mut(&mut zeros));
        Ok(zeros)
    }

    /// `[rows, features]` of keys or of values.
    pub(crate) fn keys(&mut self, features: usize) -> Result<B::Keys, OutOfMemory> {
        let len = self.len(features, B::keys_bytes);
        self.b.keys(len)
    }

    /// What the rows choose of experts.
    pub(crate) fn routes(&mut self, of: Routing) -> Result<B::Routes, OutOfMemory> {
        self.elements += of.per_token;
        self.bytes = self.bytes.saturating_add(self.b.routes_bytes(self.rows, of));
        self.b.routes(if self.allocates { self.rows } else { 0 }, of)
    }

    /// Where the heads of the rows go: to a matrix of each head.
    pub(crate) fn routes_of_heads(&mut self, heads: usize) -> Result<B::Routes, OutOfMemory> {
        let (rows, of) = (self.rows.saturating_mul(heads), Routing::in_turn(heads));
        self.elements += heads;
        self.bytes = self.bytes.saturating_add(self.b.routes_bytes(rows, of));
        self.b.routes(if self.allocates { rows } else { 0 }, of)
    }

    fn len(&mut self, features: usize, bytes: impl FnOnce(&B, usize) -> usize) -> usize {
        // A plan for more rows than there can be is a plan that does not fit: no overflow.
        let len = self.rows.saturating_mul(features);
        self.elements += features;
        self.bytes = self.bytes.saturating_add(bytes(self.b, len));
        if self.allocates { len } else { 0 }
    }
}

/// What the trunk works in, in a pass of up to `rows` tokens, and what its backward reads of it.
pub struct Activations<B: Backend> {
    rows: usize,
    pub(crate) trunk: TrunkActivations<B>,
}

impl<B: Backend> Activations<B> {
    /// For passes of up to `rows` tokens.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn new(b: &B, config: &Config, rows: usize, purpose: Purpose) -> Result<Self, OutOfMemory> {
        Ok(Self { rows, trunk: TrunkActivations::build(config, purpose, &mut RowMaker::new(b, rows))? })
    }

    /// How many tokens a pass may have.
    pub fn rows(&self) -> usize {
        self.rows
    }
}

impl Purpose {
    /// Whether a value that only a backward reads besides products is kept.
    pub(crate) fn keep(self) -> Keep {
        if self == Self::Inference { Keep::Operand } else { Keep::Values }
    }

    /// Elements per row of [`Activations`], and of the gradients that a backward pass works in.
    pub fn elements_per_row(self, config: &Config) -> usize {
        self.count(&Reference, config, 1)[0]
    }

    /// Bytes that they hold for passes of up to `rows` tokens: for the plan of a run's memory.
    pub fn bytes<B: Backend>(self, b: &B, config: &Config, rows: usize) -> usize {
        self.count(b, config, rows)[1]
    }

    fn count<B: Backend>(self, b: &B, config: &Config, rows: usize) -> [usize; 2] {
        RowMaker::count(b, rows, |make| {
            TrunkActivations::build(config, self, make)?;
            if self != Self::Inference {
                make.buf(config.hidden_size)?; // of the normed rows
                TrunkGradients::build(config, make)?;
            }
            Ok(())
        })
    }
}
