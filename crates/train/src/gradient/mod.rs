//! The gradient of a loss over texts, in packed passes: the inner loop of every stage.
//!
//! ```text
//! for each pass that the texts are cut into               (micro_batch.rs)
//!     log-probabilities of the tokens that are scored     forward
//!     the loss's derivative by each of them               a Loss
//!     added to the gradient of the weights                backward
//! ```
//!
//! The losses lie with their stages: [`rl::learner`](crate::rl::learner), [`supervised::next_token`](crate::supervised).

mod micro_batch;

use koan_backend::{Backend, OutOfMemory};
use koan_model::{Activations, Config, Gradient, Head, Model, Purpose};

pub use micro_batch::{Group, MicroBatch, cut};

/// A loss of the log-probabilities of scored tokens. It sums up what it finds out on the way.
pub trait Loss {
    /// How many completions of a group, one after another, it looks at together: a pass holds all of them. 1 where each
    /// completion has a loss of its own, 2 for a chosen and a rejected reply.
    fn unit(&self) -> usize {
        1
    }

    /// The derivative of the loss by each log-probability of a pass over these `completions`, given by the numbers that
    /// their [`Group`]s have for them, in the same order.
    fn derivative(&mut self, completions: &[usize], scores: &Scores) -> Vec<f32>;
}

/// What models say of the tokens of a pass's completions, completion after completion.
#[derive(Clone, Copy, Debug)]
pub struct Scores<'a> {
    /// Their log-probabilities under the model that is trained.
    pub log_probs: &'a [f32],
    /// The entropies of its distributions, nats.
    pub entropies: &'a [f32],
    /// Their log-probabilities under the reference model, if there is one.
    pub reference: Option<&'a [f32]>,
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
    head: Head<B>,
    gradient: Gradient<B>,
}

impl<B: Backend> Passes<B> {
    /// Bytes of a pass of `rows` tokens; of one by a model that is not trained, for [`Purpose::Inference`].
    pub fn bytes(b: &B, config: &Config, rows: usize, purpose: Purpose) -> usize {
        purpose.bytes(b, config, rows) + Head::bytes(b, config, rows)
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
        let activations = Activations::new(b, config, rows, purpose)?;
        let of_reference = reference.then(|| Activations::new(b, config, rows, Purpose::Inference));
        Ok(Self {
            rows,
            temperature,
            activations,
            of_reference: of_reference.transpose()?,
            head: Head::new(b, config, rows)?,
            gradient: Gradient::new(b, config, rows)?,
        })
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

    /// Adds the gradient of `loss` over `groups` by the weights of the model that is trained.
    ///
    /// # Errors
    /// If the device refuses memory.
    ///
    /// # Panics
    /// If a unit of completions with its prompt exceeds the planned rows, or a reference model was not planned for.
    pub fn accumulate(
        &mut self,
        b: &B,
        models: Models<B>,
        groups: &[Group],
        loss: &mut impl Loss,
    ) -> Result<(), OutOfMemory> {
        for MicroBatch { layout, completions } in cut(groups, self.rows, loss.unit()) {
            let layout = models.trained.upload(b, layout)?;
            let d_log_probs = self.forward(b, &models, &layout, &completions, loss);
            models.trained.backward(
                b,
                &layout,
                &mut self.activations,
                &d_log_probs,
                self.temperature,
                &mut self.head,
                &mut self.gradient,
            );
        }
        Ok(())
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
    ) -> Result<(), OutOfMemory> {
        for MicroBatch { layout, completions } in cut(groups, self.rows, loss.unit()) {
            let layout = models.trained.upload(b, layout)?;
            self.forward(b, &models, &layout, &completions, loss);
        }
        Ok(())
    }

    /// A pass forward, and the loss's derivative by each of its log-probabilities.
    fn forward(
        &mut self,
        b: &B,
        models: &Models<B>,
        layout: &B::Layout,
        completions: &[usize],
        loss: &mut impl Loss,
    ) -> Vec<f32> {
        let temperature = self.temperature;
        // The reference goes first: the backward reads what the model's own pass left in the head.
        let reference = models.reference.map(|model| {
            let activations = self.of_reference.as_mut().expect("planned with a reference model");
            model.forward(b, layout, activations, None);
            let [log_probs, _] = model.log_probs(b, activations, layout, temperature, &mut self.head);
            log_probs
        });
        models.trained.forward(b, layout, &mut self.activations, None);
        let [log_probs, entropies] =
            models.trained.log_probs(b, &self.activations, layout, temperature, &mut self.head);
        let reference = reference.as_deref();
        loss.derivative(completions, &Scores { log_probs: &log_probs, entropies: &entropies, reference })
    }
}
