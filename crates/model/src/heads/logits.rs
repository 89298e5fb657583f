//! The logits themselves, of some head rows: for whoever chooses tokens by rules of its own, or lists the likeliest.
//!
//! They take the whole vocabulary for each row, so they are made a chunk of rows at a time.

use koan_backend::{Backend, Keep, Layout, OutOfMemory};

use super::Side;
use crate::{Config, activations::RowMaker};

/// Rows whose logits are there at once.
const CHUNK_ROWS: usize = 64;

/// What logits are made in.
pub struct LogitRows<B: Backend> {
    /// The normed rows of a chunk.
    x: B::Operand,
    logits: B::Buf,
}

impl<B: Backend> LogitRows<B> {
    /// For a model of `config`.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn new(b: &B, config: &Config) -> Result<Self, OutOfMemory> {
        Self::build(config, &mut RowMaker::new(b, CHUNK_ROWS))
    }

    /// Bytes of it.
    pub fn bytes(b: &B, config: &Config) -> usize {
        RowMaker::count(b, CHUNK_ROWS, |make| Self::build(config, make))[1]
    }

    fn build(config: &Config, make: &mut RowMaker<'_, B>) -> Result<Self, OutOfMemory> {
        Ok(Self { x: make.operand(config.hidden_size, Keep::Operand)?, logits: make.buf(config.vocab_size)? })
    }
}

/// Hands the logits of each of `rows` of a pass to `each`, with the row's place among them.
///
/// # Errors
/// If the device refuses the memory of a layout.
pub(crate) fn logits<B: Backend>(
    b: &B,
    side: &Side<'_, B>,
    rows: &[u32],
    a: &mut LogitRows<B>,
    mut each: impl FnMut(usize, &[f32]),
) -> Result<(), OutOfMemory> {
    let end = rows.iter().max().map_or(0, |&row| row as usize + 1);
    let vocab = side.matrix().shape()[0];
    for (chunk, place) in rows.chunks(CHUNK_ROWS).zip((0..).step_by(CHUNK_ROWS)) {
        let gather = Layout { ids: vec![0; end], head_rows: chunk.to_vec(), ..Layout::default() };
        let gather = b.upload_layout(gather)?;
        side.logits(b, &mut a.logits, &mut a.x, &gather);
        let [logits] = b.read([(&a.logits, chunk.len() * vocab)]);
        for (i, row) in logits.chunks_exact(vocab).enumerate() {
            each(place + i, row);
        }
    }
    Ok(())
}
