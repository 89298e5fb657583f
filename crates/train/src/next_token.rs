//! Learning to predict the next token: the loss of pretraining, and of fine-tuning on completions.
//!
//! ```text
//! L = − 1/T Σₜ log p(xₜ | x₍<ₜ₎)    over the T scored tokens of an update
//! ```
//!
//! One denominator for the whole update: loss and gradient do not depend on how it is cut into passes.

use koan_backend::{Backend, OutOfMemory};
use koan_model::{Activations, Gradient, Head, Model};

use crate::{
    OptimConfig, TrainError,
    micro_batch::{self, Group},
    optimizer::Optimizer,
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

/// A model that learns from text, and all that learning works with.
pub struct NextToken<B: Backend> {
    /// The model.
    pub model: Model<B>,
    /// Its optimizer.
    pub optimizer: Optimizer<B>,
    activations: Activations<B>,
    head: Head<B>,
    gradient: Gradient<B>,
}

impl<B: Backend> NextToken<B> {
    /// Plans passes of up to `rows` tokens, for updates by `optim`.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn new(b: &B, model: Model<B>, rows: usize, optim: &OptimConfig) -> Result<Self, OutOfMemory> {
        let config = model.config();
        Ok(Self {
            activations: Activations::new(b, config, rows, optim.purpose())?,
            head: Head::new(b, config, rows)?,
            gradient: Gradient::new(b, config, rows)?,
            optimizer: Optimizer::new(b, config, optim.moments)?,
            model,
        })
    }

    /// One update at learning rate `lr`.
    ///
    /// # Errors
    /// If the gradient is not finite; the model is then unchanged.
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
        let weight = 1.0 / tokens.max(1) as f32;
        let mut log_prob = 0.0;
        self.gradient.clear(b);
        for pass in micro_batch::cut(&groups(texts), self.activations.rows()) {
            let layout = self.model.upload(b, pass.layout)?;
            let log_probs = self.log_probs(b, &layout);
            log_prob += sum(&log_probs);
            let d_log_probs = vec![-weight; log_probs.len()];
            let (activations, head, gradient) = (&mut self.activations, &mut self.head, &mut self.gradient);
            self.model.backward(b, &layout, activations, &d_log_probs, 1.0, head, gradient);
        }
        let grad_norm = self.optimizer.update(b, &mut self.model, &self.gradient, optim, lr)?;
        Ok(Update { loss: -log_prob * f64::from(weight), tokens, grad_norm })
    }

    /// The loss on `texts`; nothing is learned.
    ///
    /// # Errors
    /// If the device refuses memory.
    ///
    /// # Panics
    /// As [`NextToken::update`].
    pub fn loss(&mut self, b: &B, texts: &[Text]) -> Result<f64, OutOfMemory> {
        let passes = micro_batch::cut(&groups(texts), self.activations.rows());
        let mut log_prob = 0.0;
        for pass in passes {
            let layout = self.model.upload(b, pass.layout)?;
            log_prob += sum(&self.log_probs(b, &layout));
        }
        Ok(-log_prob / count(texts).max(1) as f64)
    }

    fn log_probs(&mut self, b: &B, layout: &B::Layout) -> Vec<f32> {
        self.model.forward(b, layout, &mut self.activations, None);
        let [log_probs, _] = self.model.log_probs(b, &self.activations, layout, 1.0, &mut self.head);
        log_probs
    }
}

fn groups<'a>(texts: &[Text<'a>]) -> Vec<Group<'a>> {
    texts.iter().map(|text| Group { prompt: text.context, completions: vec![(0, text.tokens)] }).collect()
}

fn count(texts: &[Text]) -> usize {
    texts.iter().map(|text| text.tokens.len()).sum()
}

fn sum(log_probs: &[f32]) -> f64 {
    log_probs.iter().map(|&x| f64::from(x)).sum()
}
