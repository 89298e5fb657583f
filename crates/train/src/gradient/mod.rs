//! The gradient of a loss over texts, in packed passes: the inner loop of every stage.
//!
//! ```text
//! for each shard that the texts are dealt to                  (shards.rs)
//!     for each pass that its texts are cut into               (micro_batch.rs)
//!         log-probabilities of the tokens that are scored,    forward
//!         or a reward model's score of each text
//!         the loss's derivative by each of them               a Loss
//!         added to the gradient of the weights                backward
//! the gradients of the shards are added as a binary tree, over all ranks
//! ```
//!
//! The losses lie with their stages: [`rl::learner`](crate::rl::learner), [`supervised::next_token`](crate::supervised).

mod micro_batch;
mod shards;

use koan_backend::{Backend, Layout, OutOfMemory};
use koan_model::{Activations, Config, Gradient, Head, HeadKind, Model, MultiTokenRows, Purpose, ScalarRows};

use crate::comm::{CommError, Ranks, Shards};

pub use micro_batch::{Group, MicroBatch, cut};
pub(crate) use shards::Tree;
pub use shards::deal;

/// Why passes could not be made.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum PassError {
    /// The device refused memory.
    OutOfMemory(#[from] OutOfMemory),
    /// Another rank has ended, or can't be reached.
    Ranks(#[from] CommError),
}

/// A loss of the log-probabilities of scored tokens, or of the scores of texts. It sums up what it finds out on the way.
pub trait Loss {
    /// How many completions of a group, one after another, it looks at together: a pass holds all of them. 1 where each
    /// completion has a loss of its own, 2 for a chosen and a rejected reply.
    fn unit(&self) -> usize {
        1
    }

    /// The derivative of the loss by each log-probability, or by each score, of a pass over these `completions`, given by the
    /// numbers that their [`Group`]s have for them, in the same order.
    fn derivative(&mut self, completions: &[usize], scores: &Scores) -> Vec<f64>;

    /// Takes what it has found out since the last call, as numbers.
    fn take(&mut self) -> Vec<f64>;

    /// Adds what was taken of a shard. Those of all shards are added in their order.
    fn add(&mut self, found: &[f64]);

    /// The derivative of the loss by each log-probability of modules that predict further tokens.
    fn further(&self) -> f64 {
        0.0
    }

    /// Takes what such modules say of a pass.
    fn add_further(&mut self, _: Further) {}
}

/// What modules that predict further tokens say of a pass's tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Further {
    /// The sum of all log-probabilities.
    pub log_prob: f64,
    /// How many they are.
    pub tokens: usize,
}

/// What models say of a pass's completions, one after another. A model that predicts tokens says something of each token; a
/// reward model scores each completion.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scores<'a> {
    /// Log-probabilities of the tokens under the model that is trained.
    pub log_probs: &'a [f64],
    /// The entropies of its distributions, nats.
    pub entropies: &'a [f64],
    /// The log-probabilities under the reference model, if there is one.
    pub reference: Option<&'a [f64]>,
    /// A reward model's score of each completion.
    pub scores: &'a [f64],
}

/// The models that a pass runs through.
pub struct Models<'a, B: Backend> {
    /// The one that is trained.
    pub trained: &'a Model<B>,
    /// Another one, which the loss compares it with.
    pub reference: Option<&'a Model<B>>,
}

/// The memory that passes of up to so many tokens work in, and the gradient that they add to.
pub struct Passes<B: Backend> {
    rows: usize,
    temperature: f32,
    activations: Activations<B>,
    /// Those of the reference model, if there is one.
    of_reference: Option<Activations<B>>,
    head: HeadRows<B>,
    /// Of modules that predict further tokens, if they are trained.
    further: Option<MultiTokenRows<B>>,
    gradient: Gradient<B>,
    tree: Tree<B>,
    balance: f32,
}

/// Whether passes for `purpose` train modules that predict further tokens.
fn trains_further(config: &Config, purpose: Purpose) -> bool {
    config.trains_multi_token && config.multi_token_layers > 0 && purpose != Purpose::Inference
}

/// What modules with these passes and these sums of log-probabilities say.
fn of_modules<B: Backend>(b: &B, ahead: &[B::Layout], sums: &[f64]) -> Further {
    Further { log_prob: sums.iter().sum(), tokens: ahead.iter().map(|layout| b.head_rows(layout)).sum() }
}

/// What the head of the models works in.
enum HeadRows<B: Backend> {
    Language(Head<B>),
    Scalar(ScalarRows<B>),
}

/// The share of each row in the balance loss of an update of these passes of each shard: `α / N Σ T Σᵢ fᵢ Pᵢ` over the sequences of `T` rows,
/// `N` in all. So it does not depend on the cut, and is the mean over sequences where all are as long.
pub(crate) fn share_balance(
    balance: f32,
    passes: &[Vec<MicroBatch>],
    ranks: &Ranks,
) -> Result<f32, CommError> {
    if balance == 0.0 {
        return Ok(0.0);
    }
    let [rows] = ranks.count([passes.iter().flatten().map(|pass| pass.layout.len()).sum()])?;
    Ok(balance / rows.max(1) as f32)
}

/// Adds to a loss what was found out about each shard, this rank's and others', in their order.
fn add_found(loss: &mut impl Loss, own: &[Vec<f64>], ranks: &Ranks) -> Result<(), CommError> {
    if !ranks.are_several() {
        for found in own {
            loss.add(found);
        }
        return Ok(());
    }
    // As bits: JSON has no numbers that are not finite.
    let bits = |found: &Vec<f64>| found.iter().map(|x| x.to_bits()).collect::<Vec<u64>>();
    let own: Vec<Vec<u64>> = own.iter().map(bits).collect();
    let all: Vec<Vec<Vec<u64>>> = ranks.all_gather(&own)?;
    for found in all.into_iter().flatten() {
        loss.add(&found.into_iter().map(f64::from_bits).collect::<Vec<f64>>());
    }
    Ok(())
}

/// The passes of each of this rank's shards.
///
/// # Panics
/// As [`cut`], and if a group has a shard that there is not.
pub(crate) fn cut_shards(
    groups: &[Group],
    shards: &Shards,
    rows: usize,
    unit: usize,
) -> Vec<Vec<MicroBatch>> {
    let n = shards.count();
    assert!(groups.iter().all(|group| group.shard < n), "a shard beyond the {n} there are");
    shards.own().map(|shard| cut(groups.iter().filter(|group| group.shard == shard), rows, unit)).collect()
}

impl<B: Backend> Passes<B> {
    /// Bytes of a pass of `rows` tokens; of one by a model that is not trained, for [`Purpose::Inference`].
    pub fn bytes(b: &B, config: &Config, rows: usize, purpose: Purpose) -> usize {
        let head = match config.head {
            HeadKind::Language => Head::bytes(b, config, rows),
            HeadKind::Scalar => ScalarRows::bytes(b, config, rows),
        };
        let further =
            if trains_further(config, purpose) { MultiTokenRows::bytes(b, config, rows) } else { 0 };
        purpose.bytes(b, config, rows) + head + further
    }

    /// For passes of up to `rows` tokens through a model of `config`, and if `reference` through another one, with a gradient
    /// of zero. `purpose` is [`Purpose::Training`] or [`Purpose::Recomputing`]; log-probabilities are those at `temperature`.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn new(
        b: &B,
        config: &Config,
        rows: usize,
        purpose: Purpose,
        temperature: f32,
        reference: bool,
    ) -> Result<Self, OutOfMemory> {
        let gradient = Gradient::new(b, config, rows)?;
        Self::with_gradient(b, config, rows, purpose, temperature, reference, gradient)
    }

    fn with_gradient(
        b: &B,
        config: &Config,
        rows: usize,
        purpose: Purpose,
        temperature: f32,
        reference: bool,
        gradient: Gradient<B>,
    ) -> Result<Self, OutOfMemory> {
        let activations = Activations::new(b, config, rows, purpose)?;
        let of_reference = reference.then(|| Activations::new(b, config, rows, Purpose::Inference));
        let head = match config.head {
            HeadKind::Language => HeadRows::Language(Head::new(b, config, rows)?),
            HeadKind::Scalar => HeadRows::Scalar(ScalarRows::new(b, config, rows)?),
        };
        let further =
            trains_further(config, purpose).then(|| MultiTokenRows::new(b, config, rows)).transpose()?;
        let of_reference = of_reference.transpose()?;
        let tree = Tree::new(b, config, Shards::of_one_rank(1))?;
        Ok(Self { rows, temperature, activations, of_reference, head, further, gradient, tree, balance: 0.0 })
    }

    /// For [`measure`](Self::measure) alone: without a gradient, and the model may be one
    /// [`for_inference`](Model::for_inference).
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn to_measure(b: &B, config: &Config, rows: usize) -> Result<Self, OutOfMemory> {
        let gradient = Gradient::none(b, config)?;
        Self::with_gradient(b, config, rows, Purpose::Inference, 1.0, false, gradient)
    }

    /// With the gradient of the balance loss of experts besides: `balance / N Σ T Σᵢ fᵢ Pᵢ` over the sequences of `T` rows of an
    /// update, `N` rows in all.
    #[must_use]
    pub fn balanced(self, balance: f32) -> Self {
        Self { balance, ..self }
    }

    /// With a gradient that is the sum of those of `shards`.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn sharded(self, b: &B, config: &Config, shards: Shards) -> Result<Self, OutOfMemory> {
        Ok(Self { tree: Tree::new(b, config, shards)?, ..self })
    }

    /// The shards that groups are dealt to.
    pub fn shards(&self) -> &Shards {
        self.tree.shards()
    }

    /// The gradient as it is.
    pub fn gradient(&self) -> &Gradient<B> {
        &self.gradient
    }

    /// The gradient; the rest of the memory is given back.
    pub fn into_gradient(self) -> Gradient<B> {
        self.gradient
    }

    /// Sets the gradient to zero.
    pub fn clear(&mut self, b: &B) {
        self.gradient.clear(b);
    }

    /// Adds the gradient of `loss` over `groups`, or over this rank's of them, by the weights of the model that is trained; where
    /// there are several shards, to one of zero.
    ///
    /// # Errors
    /// If the device refuses memory, or another rank has ended.
    ///
    /// # Panics
    /// If a group has a shard that there is not, a unit of completions with its prompt exceeds the planned rows, or a reference
    /// model was not planned for.
    pub fn accumulate(
        &mut self,
        b: &B,
        models: Models<B>,
        groups: &[Group],
        loss: &mut impl Loss,
    ) -> Result<(), PassError> {
        self.run(b, &models, groups, loss, true)
    }

    /// Sums `loss` up over `groups`; the gradient stays as it is.
    ///
    /// # Errors
    /// As [`Passes::accumulate`].
    ///
    /// # Panics
    /// As [`Passes::accumulate`].
    pub fn measure(
        &mut self,
        b: &B,
        models: Models<B>,
        groups: &[Group],
        loss: &mut impl Loss,
    ) -> Result<(), PassError> {
        self.run(b, &models, groups, loss, false)
    }

    fn run(
        &mut self,
        b: &B,
        models: &Models<B>,
        groups: &[Group],
        loss: &mut impl Loss,
        learns: bool,
    ) -> Result<(), PassError> {
        let shards = self.tree.shards().clone();
        let passes = cut_shards(groups, &shards, self.rows, loss.unit());
        if learns {
            self.gradient.balance = share_balance(self.balance, &passes, shards.ranks())?;
        }
        let mut found = Vec::new();
        for (shard, passes) in shards.own().zip(passes) {
            for pass in passes {
                self.pass(b, models, pass, loss, learns)?;
            }
            if learns {
                self.tree.add(b, shard, &mut self.gradient.weights);
            }
            found.push(loss.take());
        }
        if learns {
            self.tree.add_ranks(b, &mut self.gradient.weights)?;
        }
        Ok(add_found(loss, &found, shards.ranks())?)
    }

    /// A pass forward, and backward if it `learns`.
    fn pass(
        &mut self,
        b: &B,
        models: &Models<B>,
        MicroBatch { layout, completions }: MicroBatch,
        loss: &mut impl Loss,
        learns: bool,
    ) -> Result<(), OutOfMemory> {
        let model = models.trained;
        let ahead = self.ahead(b, model, &layout)?;
        let layout = model.upload(b, layout)?;
        let d = self.forward(b, models, &layout, &completions, loss);
        let (a, gradient, temperature) = (&mut self.activations, &mut self.gradient, self.temperature);
        match (&mut self.head, &mut self.further) {
            (HeadRows::Language(head), Some(rows)) => {
                let sums = if learns {
                    let d = (&d[..], loss.further());
                    model.backward_with_modules(b, &layout, &ahead, a, d, temperature, head, rows, gradient)
                } else {
                    model.modules_log_probs(b, &ahead, a, temperature, head, rows)
                };
                loss.add_further(of_modules(b, &ahead, &sums));
            }
            (HeadRows::Language(head), None) if learns => {
                model.backward(b, &layout, a, &d, temperature, head, gradient);
            }
            (HeadRows::Scalar(head), _) if learns => model.backward_scores(b, &layout, a, &d, head, gradient),
            _ => {}
        }
        Ok(())
    }

    /// The passes of the modules that predict further tokens, if they are trained.
    fn ahead(&self, b: &B, model: &Model<B>, layout: &Layout) -> Result<Vec<B::Layout>, OutOfMemory> {
        let modules = if self.further.is_some() { model.config().multi_token_layers } else { 0 };
        (1..=modules).map(|k| model.upload(b, layout.ahead(k))).collect()
    }

    /// A pass forward, and the loss's derivative by each of its log-probabilities or scores.
    fn forward(
        &mut self,
        b: &B,
        models: &Models<B>,
        layout: &B::Layout,
        completions: &[usize],
        loss: &mut impl Loss,
    ) -> Vec<f64> {
        let temperature = self.temperature;
        let head = match &mut self.head {
            HeadRows::Language(head) => head,
            HeadRows::Scalar(head) => {
                models.trained.forward(b, layout, &mut self.activations, None);
                let scores = &models.trained.scores(b, &self.activations, layout, head)[..];
                return loss.derivative(completions, &Scores { scores, ..Scores::default() });
            }
        };
        // The reference goes first: the backward reads what the model's own pass left in the head.
        let reference = models.reference.map(|model| {
            let activations = self.of_reference.as_mut().expect("planned with a reference model");
            model.forward(b, layout, activations, None);
            let [log_probs, _] = model.log_probs(b, activations, layout, temperature, head);
            log_probs
        });
        models.trained.forward(b, layout, &mut self.activations, None);
        let [log_probs, entropies] =
            models.trained.log_probs(b, &self.activations, layout, temperature, head);
        let reference = reference.as_deref();
        loss.derivative(
            completions,
            &Scores { log_probs: &log_probs, entropies: &entropies, reference, scores: &[] },
        )
    }
}
