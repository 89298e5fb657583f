//! Learning to predict the next token: the loss of pretraining, and of fine-tuning on completions.
//!
//! ```text
//! L = − 1/T Σₜ log p(xₜ | x₍<ₜ₎)    over the T scored tokens of an update
//! ```
//!
//! One denominator for the whole update: loss and gradient do not depend on how it is cut into passes.

use koan_backend::{Backend, OutOfMemory, Scored};
use koan_model::Model;

use crate::{
    TrainError,
    gradient::{Group, Loss, Models, Passes, Scores},
    optim::{OptimConfig, Optimizer},
    stage::Trained,
};

/// A text to learn: `tokens` are predicted, given `context` and those before them.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// What comes before; at least one token. It is read, not predicted.
    pub context: &'a [u32],
    /// What is predicted.
    pub tokens: &'a [u32],
}

/// What an update found out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// Mean negative log-probability of a token before the update, nats.
    pub loss: f64,
    /// Tokens predicted.
    pub tokens: usize,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
}

/// The loss: every token weighs the same.
struct NextTokenLoss {
    /// 1/T
    weight: f64,
    /// Σ log p(xₜ | x₍<ₜ₎)
    log_prob: f64,
}

impl Loss for NextTokenLoss {
    fn derivative(&mut self, _: &[usize], scores: &Scores) -> Vec<f64> {
        self.log_prob += scores.log_probs.iter().sum::<f64>();
        vec![-self.weight; scores.log_probs.len()]
    }
}

/// A model that learns from text, and all that learning works with.
pub struct NextToken<B: Backend> {
    /// The model.
    pub model: Model<B>,
    /// Its optimizer.
    pub optimizer: Optimizer<B>,
    passes: Passes<B>,
}

impl<B: Backend> NextToken<B> {
    /// A model that learns in passes of up to `rows` tokens, by updates of `optim`.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn new(
        b: &B,
        model: Model<B>,
        optimizer: Optimizer<B>,
        rows: usize,
        optim: &OptimConfig,
    ) -> Result<Self, OutOfMemory> {
        let passes = Passes::new(b, model.config(), rows, optim.purpose(), 1.0, false)?;
        Ok(Self { model, optimizer, passes })
    }

    /// What a checkpoint keeps.
    pub fn trained(&self) -> Trained<'_, B> {
        Trained { model: &self.model, reference: None, optimizer: &self.optimizer }
    }

    /// One update at learning rate `lr`.
    ///
    /// # Errors
    /// If the gradient is not finite, or the device refuses memory; the model is then unchanged.
    ///
    /// # Panics
    /// If a text has no context, or with it exceeds the planned rows.
    pub fn update(
        &mut self,
        b: &B,
        texts: &[Text],
        optim: &OptimConfig,
        lr: f32,
    ) -> Result<Update, TrainError> {
        let tokens = count(texts);
        let mut loss = NextTokenLoss { weight: 1.0 / tokens.max(1) as f64, log_prob: 0.0 };
        self.passes.clear(b);
        let models = Models { trained: &self.model, reference: None };
        self.passes.accumulate(b, models, &groups(texts), &mut loss)?;
        let grad_norm = self.optimizer.update(b, &mut self.model, self.passes.gradient(), optim, lr)?;
        Ok(Update { loss: -loss.log_prob * loss.weight, tokens, grad_norm })
    }

    /// The loss on `texts`; nothing is learned.
    ///
    /// # Errors
    /// If the device refuses memory.
    ///
    /// # Panics
    /// As [`NextToken::update`].
    pub fn loss(&mut self, b: &B, texts: &[Text]) -> Result<f64, OutOfMemory> {
        let tokens = count(texts).max(1);
        let mut loss = NextTokenLoss { weight: 1.0 / tokens as f64, log_prob: 0.0 };
        let models = Models { trained: &self.model, reference: None };
        self.passes.measure(b, models, &groups(texts), &mut loss)?;
        Ok(-loss.log_prob / tokens as f64)
    }
}

fn groups<'a>(texts: &[Text<'a>]) -> Vec<Group<'a>> {
    texts
        .iter()
        .map(|text| Group {
            prompt: text.context,
            scored: Scored::Completions,
            completions: vec![(0, text.tokens)],
        })
        .collect()
}

fn count(texts: &[Text]) -> usize {
    texts.iter().map(|text| text.tokens.len()).sum()
}
