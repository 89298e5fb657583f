//! The generator: a model's passes and draws, as the scheduler lays them out.

use koan_backend::{Backend, OutOfMemory};
use koan_model::{Activations, Config, Head, KvCache, Model, Purpose};

use crate::{
    Completion, Limits, Listener, MemoryPlan, Prompt, Sampling,
    pages::{PAGE, Pages},
    sampling::Finished,
    scheduler::Scheduler,
};

/// Draws completions; its memory is planned once and reused.
pub struct Generator<B: Backend> {
    plan: MemoryPlan,
    activations: Activations<B>,
    head: Head<B>,
    cache: KvCache<B>,
    pages: Pages,
    keep: bool,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunSummary {
    /// Forward passes.
    pub passes: usize,
    /// Rows of all passes: tokens computed.
    pub rows: usize,
    /// How often a sequence gave its pages back to make room, and was taken up again later.
    pub preemptions: usize,
}

impl<B: Backend> Generator<B> {
    /// Room for all sequences of `limits` at their longest.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn new(b: &B, config: &Config, limits: Limits) -> Result<Self, OutOfMemory> {
        Self::planned(b, config, MemoryPlan::whole(b, limits))
    }

    /// Plans the memory as `plan` says.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn planned(b: &B, config: &Config, plan: MemoryPlan) -> Result<Self, OutOfMemory> {
        Ok(Self {
            plan,
            activations: Activations::new(b, config, plan.pass_rows(), Purpose::Inference)?,
            head: Head::new(b, config, plan.limits.sequences)?,
            cache: KvCache::new(b, config, plan.pages() * PAGE)?,
            pages: Pages::new(plan.pages()),
            keep: false,
        })
    }

    /// What it was planned for.
    pub fn limits(&self) -> Limits {
        self.plan.limits
    }

    /// Keeps the keys of what was computed for the next run, as far as there is room: a conversation that goes on then costs
    /// its new tokens only. To be asked for only while the model's weights stay the same.
    pub fn keep_keys(&mut self, keep: bool) {
        self.keep = keep;
    }

    /// Draws every completion that `prompts` want, and hands each over as it finishes, with the numbers of its prompt and
    /// sample.
    ///
    /// # Panics
    /// If a prompt or `max_new_tokens` exceeds the limits, or a prompt is empty.
    pub fn run(
        &mut self,
        b: &B,
        model: &Model<B>,
        prompts: &[Prompt],
        sampling: &Sampling,
        finished: impl FnMut(usize, usize, Completion),
    ) -> RunSummary {
        self.run_heard(b, model, prompts, sampling, &mut Finished(finished))
    }

    /// As [`run`](Self::run), with a listener that hears of every token and may end a completion.
    ///
    /// # Panics
    /// As [`run`](Self::run).
    pub fn run_heard(
        &mut self,
        b: &B,
        model: &Model<B>,
        prompts: &[Prompt],
        sampling: &Sampling,
        listener: &mut impl Listener,
    ) -> RunSummary {
        let limits = self.plan.limits;
        assert!(sampling.max_new_tokens <= limits.new_tokens, "more new tokens than planned");
        assert!(
            prompts.iter().all(|p| (1..=limits.prompt_tokens).contains(&p.ids.len())),
            "a prompt's length"
        );
        if !self.keep {
            self.pages.clear();
        }
        let mut summary = RunSummary::default();
        if sampling.max_new_tokens == 0 {
            return summary;
        }
        let pages = &mut self.pages;
        let mut scheduler =
            Scheduler::new(prompts, sampling, pages, limits.sequences, self.plan.prefill_rows(), self.keep);
        loop {
            let pass = scheduler.pass();
            if pass.batch.is_empty() {
                summary.preemptions = scheduler.preemptions;
                return summary;
            }
            summary.passes += 1;
            summary.rows += pass.batch.len();
            model.forward(b, &pass.batch, &mut self.activations, Some(&mut self.cache));
            if pass.rows.is_empty() {
                continue;
            }
            let (tokens, log_probs) =
                model.sample(b, &self.activations, &pass.rows, &pass.draws, &mut self.head);
            let mut ended = Vec::new();
            let ends = |prompt, sample, id| {
                listener.token(prompt, sample, id).is_break() || sampling.stop_ids.contains(&id)
            };
            scheduler
                .drawn(&pass, &tokens, &log_probs, ends, |prompt, sample, c| ended.push((prompt, sample, c)));
            for (prompt, sample, completion) in ended {
                listener.finished(prompt, sample, completion);
            }
        }
    }
}
