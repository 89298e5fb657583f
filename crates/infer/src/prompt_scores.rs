//! Log-probabilities of the tokens of prompts, by the forward pass of training: beside a generator, which computes no such thing of
//! what it is given.

use koan_backend::{Backend, Layout, OutOfMemory};
use koan_model::{Activations, Config, Head, LogitRows, Model, Purpose};

use crate::likeliest;

/// What prompts are scored in.
pub struct PromptScores<B: Backend> {
    rows: usize,
    activations: Activations<B>,
    head: Head<B>,
    logits: LogitRows<B>,
}

/// What is said of a prompt's tokens, from the second on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PromptScore {
    /// The log-probability of each.
    pub log_probs: Vec<f64>,
    /// The likeliest tokens in the place of each, with their log-probabilities.
    pub likeliest: Vec<Vec<(u32, f32)>>,
}

impl<B: Backend> PromptScores<B> {
    /// For passes of up to `rows` tokens.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn new(b: &B, config: &Config, rows: usize) -> Result<Self, OutOfMemory> {
        Ok(Self {
            rows,
            activations: Activations::new(b, config, rows, Purpose::Inference)?,
            head: Head::new(b, config, rows)?,
            logits: LogitRows::new(b, config)?,
        })
    }

    /// Bytes of it.
    pub fn bytes(b: &B, config: &Config, rows: usize) -> usize {
        let parts = [
            Purpose::Inference.bytes(b, config, rows),
            Head::bytes(b, config, rows),
            LogitRows::bytes(b, config),
        ];
        parts.into_iter().fold(0, usize::saturating_add)
    }

    /// Tokens of a pass, at most.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Scores `prompts` in one pass, at `temperature` (1 where that is 0), with the `top` likeliest tokens in each place.
    ///
    /// # Errors
    /// If the device refuses memory for the pass's layout.
    ///
    /// # Panics
    /// If the prompts have more tokens than [`rows`](Self::rows), or one has none.
    pub fn score(
        &mut self,
        b: &B,
        model: &Model<B>,
        prompts: &[&[u32]],
        temperature: f32,
        top: usize,
    ) -> Result<Vec<PromptScore>, OutOfMemory> {
        let mut layout = Layout::default();
        let scored = prompts.iter().filter(|prompt| prompt.len() > 1);
        for prompt in scored {
            layout.push_group(&prompt[..1], [&prompt[1..]]);
        }
        let head_rows = layout.head_rows.clone();
        let (mut log_probs, mut tops) = (Vec::new(), vec![Vec::new(); head_rows.len()]);
        if !layout.is_empty() {
            let layout = model.upload(b, layout)?;
            model.forward(b, &layout, &mut self.activations, None);
            let temperature_of = if temperature == 0.0 { 1.0 } else { temperature };
            [log_probs, _] = model.log_probs(b, &self.activations, &layout, temperature_of, &mut self.head);
            if top > 0 {
                let logits = &mut self.logits;
                model.logits(b, &self.activations, &head_rows, logits, |i, row| {
                    tops[i] = likeliest(row, temperature, top);
                })?;
            }
        }
        let (mut log_probs, mut tops) = (log_probs.into_iter(), tops.into_iter());
        let score = |prompt: &&[u32]| {
            let n = prompt.len() - 1;
            PromptScore {
                log_probs: log_probs.by_ref().take(n).collect(),
                likeliest: tops.by_ref().take(n).collect(),
            }
        };
        Ok(prompts.iter().map(score).collect())
    }
}
