//! Many completions at once: a user of [`Generator::submit`] and [`Generator::step`].

use koan_backend::Backend;
use koan_model::Model;

use crate::{Counters, Finished, Generator, Request, RequestError, Sampling};

/// A prompt and how many completions are wanted of it.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Its tokens; at least one.
    pub ids: Vec<u32>,
    /// The number that keys its random numbers: its place in the data set.
    pub problem: u64,
    /// Completions wanted.
    pub samples: usize,
}

impl<B: Backend> Generator<B> {
    /// Submits a request for every completion that `prompts` want, in their order; all or none.
    ///
    /// # Errors
    /// If a request would be refused: see [`Generator::submit`].
    pub fn submit_all(&mut self, prompts: &[Prompt], sampling: &Sampling) -> Result<(), RequestError> {
        for prompt in prompts {
            self.check(prompt.ids.len(), sampling.max_new_tokens)?;
        }
        for &Prompt { ref ids, problem, samples } in prompts {
            let (prompt, sampling) = (ids.as_slice().into(), sampling.clone());
            let request = Request { prompt, sampling, problem, sample: 0, shows_logits: false };
            for sample in 0..samples as u64 {
                self.submit(Request { sample, ..request.clone() })?;
            }
        }
        Ok(())
    }

    /// Samples every completion that `prompts` want, and hands each over as it finishes; says what was computed for it. If
    /// other requests were submitted before, they are sampled and handed over too.
    ///
    /// # Errors
    /// If a request would be refused: see [`Generator::submit`]. Then nothing is sampled. Or if the device refuses memory.
    pub fn run(
        &mut self,
        b: &B,
        model: &Model<B>,
        prompts: &[Prompt],
        sampling: &Sampling,
        mut finished: impl FnMut(Finished),
    ) -> Result<Counters, RequestError> {
        let before = self.counters();
        self.submit_all(prompts, sampling)?;
        while self.is_busy() {
            self.step(b, model)?.finished.into_iter().for_each(&mut finished);
        }
        Ok(self.counters().since(before))
    }
}
