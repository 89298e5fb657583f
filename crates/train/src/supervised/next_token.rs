//! Learning to predict the next token: the loss of pretraining, and of fine-tuning on completions.
//!
//! ```text
//! L = − 1/T Σₜ log p(xₜ | x₍<ₜ₎) − λ/(D T) Σₖ Σₜ log pᵏ(xₜ | x₍<ₜ₋ₖ₎)    over the T scored tokens of an update
//! ```
//!
//! The second sum is that of the D modules that predict further tokens, if the model has any and they are trained
//! (arXiv:2412.19437, section 2.2).
//!
//! One denominator for the whole update: loss and gradient do not depend on how it is cut into passes.

use koan_backend::{Backend, OutOfMemory, Scored};
use koan_model::Model;

use crate::{
    TrainError,
    comm::Shards,
    gradient::{Further, Group, Loss, Models, PassError, Passes, Scores, deal},
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
    /// The same of what modules predict further ahead, if they are trained.
    pub further_loss: Option<f64>,
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
    /// λ/(D T)
    further_weight: f64,
    further: Further,
}

impl Loss for NextTokenLoss {
    fn derivative(&mut self, _: &[usize], scores: &Scores) -> Vec<f64> {
        self.log_prob += scores.log_probs.iter().sum::<f64>();
        vec![-self.weight; scores.log_probs.len()]
    }

    fn take(&mut self) -> Vec<f64> {
        let Further { log_prob, tokens } = std::mem::take(&mut self.further);
        vec![std::mem::take(&mut self.log_prob), log_prob, tokens as f64]
    }

    fn add(&mut self, found: &[f64]) {
        let [log_prob, further, tokens] = found else { return };
        self.log_prob += log_prob;
        self.add_further(Further { log_prob: *further, tokens: *tokens as usize });
    }

    fn further(&self) -> f64 {
        -self.further_weight
    }

    fn add_further(&mut self, found: Further) {
        self.further.log_prob += found.log_prob;
        self.further.tokens += found.tokens;
    }
}

impl NextTokenLoss {
    /// Over so many tokens, with λ/D for further ones.
    fn over(tokens: usize, of_module: f64) -> Self {
        let weight = 1.0 / tokens.max(1) as f64;
        Self { weight, log_prob: 0.0, further_weight: of_module * weight, further: Further::default() }
    }
}

/// A model that learns from text, and all that learning works with.
pub struct NextToken<B: Backend> {
    /// The model.
    pub model: Model<B>,
    /// Its optimizer.
    pub optimizer: Optimizer<B>,
    /// λ, the weight of what modules predict further ahead; read if they are trained.
    pub further_weight: f64,
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
        let passes = passes.balanced(optimizer.balance.loss);
        Ok(Self { model, optimizer, further_weight: 0.0, passes })
    }

    /// With updates whose gradient is the sum of those of `shards`.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn sharded(self, b: &B, shards: Shards) -> Result<Self, OutOfMemory> {
        let passes = self.passes.sharded(b, self.model.config(), shards)?;
        Ok(Self { passes, ..self })
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
        let modules = self.model.config().multi_token_layers.max(1);
        let mut loss = NextTokenLoss::over(tokens, self.further_weight / modules as f64);
        self.passes.clear(b);
        let models = Models { trained: &self.model, reference: None };
        let mut groups = groups(texts);
        deal(&mut groups, self.passes.shards().count());
        self.passes.accumulate(b, models, &groups, &mut loss)?;
        let grad_norm = self.optimizer.update(b, &mut self.model, self.passes.gradient(), optim, lr)?;
        let Further { log_prob, tokens: further } = loss.further;
        let further_loss = (further > 0).then(|| -log_prob / further as f64);
        Ok(Update { loss: -loss.log_prob * loss.weight, further_loss, tokens, grad_norm })
    }

    /// The loss on `texts`; nothing is learned.
    ///
    /// # Errors
    /// If the device refuses memory.
    ///
    /// # Panics
    /// As [`NextToken::update`].
    pub fn loss(&mut self, b: &B, texts: &[Text]) -> Result<f64, PassError> {
        let tokens = count(texts).max(1);
        let mut loss = NextTokenLoss::over(tokens, 0.0);
        let models = Models { trained: &self.model, reference: None };
        let mut groups = groups(texts);
        deal(&mut groups, self.passes.shards().count());
        self.passes.measure(b, models, &groups, &mut loss)?;
        Ok(-loss.log_prob / tokens as f64)
    }
}

fn groups<'a>(texts: &[Text<'a>]) -> Vec<Group<'a>> {
    texts
        .iter()
        .map(|text| Group {
            prompt: text.context,
            scored: Scored::Completions,
            shard: 0,
            completions: vec![(0, text.tokens)],
        })
        .collect()
}

fn count(texts: &[Text]) -> usize {
    texts.iter().map(|text| text.tokens.len()).sum()
}
