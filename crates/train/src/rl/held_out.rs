//! The policy on held-out problems.

use std::time::Instant;

use koan_backend::Backend;
use koan_eval::Score;
use koan_generate::{Generator, Sampling, Stream};
use koan_infer::Evaluation;

use super::metrics::HeldOutScore;
use super::{Event, Trainer};
use crate::TrainError;

impl<B: Backend> Trainer<'_, B> {
    /// Whether it is measured after step `step`: after every so many, and after the last.
    pub(super) fn is_measured_after(&self, step: u64) -> bool {
        self.config.eval.as_ref().is_some_and(|e| step.is_multiple_of(e.every) || step == self.config.steps)
    }

    /// Measures the policy on held-out problems, if there are any.
    pub(super) fn evaluate(
        &mut self,
        step: u64,
        on: &mut impl FnMut(Event),
    ) -> Result<Option<HeldOutScore>, TrainError> {
        let Some(eval) = &self.config.eval else { return Ok(None) };
        let sampling =
            Sampling { temperature: eval.temperature, stream: Stream::HeldOut, ..self.sampling.clone() };
        let evaluation = Evaluation {
            problems: &self.inputs.held_out,
            samples: eval.samples,
            codec: &self.inputs.codec,
            sampling: &sampling,
            rewards: &self.inputs.rewards,
            threads: self.threads,
            models: &self.models,
        };
        let start = Instant::now();
        let mut generator = Generator::new(self.b, self.inputs.codec.config(), self.inputs.plan.limits)?;
        let judged = evaluation.sample_all(self.b, self.learner.packed(self.b)?, &mut generator)?;
        let score = Score::of(&judged, &[], None);
        on(Event::HeldOut { step, score: &score, seconds: start.elapsed().as_secs_f64() });
        Ok(Some(HeldOutScore::from(&score)))
    }
}
