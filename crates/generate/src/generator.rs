//! The generator: a model's passes and samples, as the scheduler lays them out.

use koan_backend::{Backend, OutOfMemory};
use koan_model::{Activations, Config, Drafting, Head, KvCache, LogitRows, Model, Purpose, count_drawn};

use crate::{
    Finished, Limits, Listener, MemoryPlan, Request, RequestError, RequestId, Sampled, Sampling, Step,
    listener::Ends,
    pages::{PAGE, pages_of},
    scheduler::{Pass, Scheduler},
};

/// Samples completions; its memory is planned once and reused.
///
/// Requests are [submitted](Self::submit), [forked](Self::fork) and [cancelled](Self::cancel) at any time between
/// [steps](Self::step); each step computes one pass. All steps from the first submission until nothing
/// [is left](Self::is_busy) take the same model with the same weights.
pub struct Generator<B: Backend> {
    plan: MemoryPlan,
    activations: Activations<B>,
    head: Head<B>,
    cache: KvCache<B>,
    /// What the model's module drafts in.
    drafting: Option<Drafting<B>>,
    /// What logits are made in, where requests may show them.
    logits: Option<LogitRows<B>>,
    scheduler: Scheduler,
    counters: Counters,
}

/// What a generator computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Forward passes.
    pub passes: usize,
    /// Rows of all passes: tokens computed.
    pub rows: usize,
    /// Tokens sampled.
    pub tokens: usize,
    /// Tokens of [drafts](crate::Drafts) that were checked.
    pub drafted: usize,
    /// Those of them that were right: tokens that took no pass of their own.
    pub kept: usize,
    /// How often a sequence gave its pages back to make room, and was taken up again later.
    pub preemptions: usize,
}

impl Counters {
    /// What was computed since the counters stood at `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            passes: self.passes - before.passes,
            rows: self.rows - before.rows,
            tokens: self.tokens - before.tokens,
            drafted: self.drafted - before.drafted,
            kept: self.kept - before.kept,
            preemptions: self.preemptions - before.preemptions,
        }
    }
}

impl Counters {
    /// The share of drafted tokens that were right; `None` without drafts.
    pub fn draft_acceptance(self) -> Option<f64> {
        (self.drafted > 0).then(|| self.kept as f64 / self.drafted as f64)
    }

    /// Tokens that a sequence gets of a pass: 1 without drafts; `None` without tokens.
    pub fn tokens_per_pass(self) -> Option<f64> {
        (self.tokens > 0).then(|| self.tokens as f64 / (self.tokens - self.kept) as f64)
    }
}

/// How full a generator is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Requests that run.
    pub running: usize,
    /// Requests that wait for room.
    pub waiting: usize,
    /// Pages of keys that running requests hold.
    pub pages: usize,
    /// All pages.
    pub all_pages: usize,
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
            head: Head::new(b, config, plan.head_rows())?,
            cache: KvCache::new(b, config, plan.pages() * PAGE)?,
            drafting: plan
                .has_module(config)
                .then(|| Drafting::new(b, config, plan.drafting_rows()))
                .transpose()?,
            logits: None,
            scheduler: Scheduler::new(plan, config),
            counters: Counters::default(),
        })
    }

    /// What it was planned for.
    pub fn plan(&self) -> MemoryPlan {
        self.plan
    }

    /// From now on requests may [show](Request::shows_logits) their logits. That takes [`LogitRows::bytes`] more.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn show_logits(&mut self, b: &B, config: &Config) -> Result<(), OutOfMemory> {
        self.logits = Some(LogitRows::new(b, config)?);
        Ok(())
    }

    /// How full it is.
    pub fn standing(&self) -> Standing {
        self.scheduler.standing()
    }

    /// What was computed so far.
    pub fn counters(&self) -> Counters {
        let [drafted, kept] = self.scheduler.drafts();
        Counters { drafted, kept, preemptions: self.scheduler.preemptions(), ..self.counters }
    }

    /// Keeps the keys of what was computed when all requests are over, as far as there is room: a conversation that goes on
    /// then costs its new tokens only. Otherwise the next request starts anew. To be asked for only while the model's
    /// weights stay the same.
    pub fn keep_keys(&mut self, keep: bool) {
        self.scheduler.keep_keys(keep);
    }

    /// Asks for a completion. It is sampled by the steps that follow, as soon as those submitted before leave room. Where its
    /// prompt begins like one whose keys are there or on their way, they are shared.
    ///
    /// # Errors
    /// A request without a prompt, for no tokens, or for more than there is room for.
    pub fn submit(&mut self, request: Request) -> Result<RequestId, RequestError> {
        self.check(request.prompt.len(), request.sampling.max_new_tokens)?;
        Ok(self.scheduler.submit(request))
    }

    /// Asks for a completion that goes on from the tokens that request `id` has so far, its prompt's and those sampled, with
    /// random numbers of its own. The fork's prompt is these tokens. It shares the keys of what was computed; of
    /// the last page, which is not full yet, they are computed again.
    ///
    /// A finished request can be forked as long as its keys are [kept](Self::keep_keys).
    ///
    /// # Errors
    /// If there is no such request, or the fork would be refused by [`submit`](Self::submit).
    pub fn fork(
        &mut self,
        id: RequestId,
        sampling: Sampling,
        problem: u64,
        sample: u64,
    ) -> Result<RequestId, RequestError> {
        let prompt = self.scheduler.fork(id).ok_or(RequestError::Unknown)?;
        self.submit(Request { prompt, sampling, problem, sample, shows_logits: false })
    }

    /// Ends request `id` with what it has sampled, as if by a stop token; its pages are free at once. `None` if it was over.
    pub fn cancel(&mut self, id: RequestId) -> Option<Finished> {
        self.scheduler.cancel(id)
    }

    /// Ends all requests.
    pub fn cancel_all(&mut self) {
        self.scheduler.cancel_all();
    }

    /// Whether there are requests that are not over.
    pub fn is_busy(&self) -> bool {
        self.scheduler.is_busy()
    }

    /// Computes one pass, if any request is left: prompts that are not computed yet, some hundred tokens at a time, and the
    /// next token of each sequence that runs, with [drafts](crate::Drafts) often some more.
    ///
    /// # Errors
    /// If the device refuses memory for the pass's layout. The generator is then of no more use.
    ///
    /// # Panics
    /// If a sequence exceeds the positions of `model`, or `model` has other sizes than the one planned for.
    pub fn step(&mut self, b: &B, model: &Model<B>) -> Result<Step, OutOfMemory> {
        self.step_until(b, model, |_, _| false)
    }

    /// As [`step`](Self::step). Each token is shown to `ends` as it is taken; a request is over with the first for which that
    /// is true, as if by a stop token.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    ///
    /// # Panics
    /// As [`step`](Self::step).
    pub fn step_until(
        &mut self,
        b: &B,
        model: &Model<B>,
        ends: impl FnMut(RequestId, u32) -> bool,
    ) -> Result<Step, OutOfMemory> {
        self.step_with(b, model, &mut Ends(ends))
    }

    /// As [`step`](Self::step), heard by `listener`.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    ///
    /// # Panics
    /// As [`step`](Self::step), or if a request shows its logits and [`show_logits`](Self::show_logits) was not called.
    pub fn step_with(
        &mut self,
        b: &B,
        model: &Model<B>,
        listener: &mut impl Listener,
    ) -> Result<Step, OutOfMemory> {
        let mut pass = self.scheduler.pass();
        if pass.layout.is_empty() {
            return Ok(Step::default());
        }
        self.counters.passes += 1;
        self.counters.rows += pass.layout.len();
        let layout = model.upload(b, pass.layout.clone())?;
        model.forward(b, &layout, &mut self.activations, Some(&mut self.cache));
        let (mut step, mut tokens) = (Step::default(), Vec::new());
        if !pass.ready.is_empty() {
            let mut log_probs;
            (tokens, log_probs) = model.sample(b, &self.activations, &layout, &mut self.head);
            self.choose(b, model, &pass, &mut tokens, &mut log_probs, listener)?;
            step = self.scheduler.record(&mut pass, &tokens, &log_probs, listener);
        }
        self.draft(b, model, pass, &tokens)?;
        self.counters.tokens += step.tokens.len();
        count_drawn(step.tokens.len());
        Ok(step)
    }

    /// Shows the logits of requests that show them, and puts what the listener takes in the place of what was sampled.
    fn choose(
        &mut self,
        b: &B,
        model: &Model<B>,
        pass: &Pass,
        tokens: &mut [u32],
        [log_probs, full_log_probs]: &mut [Vec<f32>; 2],
        listener: &mut impl Listener,
    ) -> Result<(), OutOfMemory> {
        let shown = self.scheduler.shown(pass);
        if shown.is_empty() {
            return Ok(());
        }
        let head_rows: Vec<u32> = shown.iter().map(|&(_, at)| pass.layout.head_rows[at]).collect();
        let rows = self.logits.as_mut().expect("room for logits, where requests show them");
        model.logits(b, &self.activations, &head_rows, rows, |i, logits| {
            let (id, at) = shown[i];
            let drawn =
                Sampled { token: tokens[at], log_prob: log_probs[at], full_log_prob: full_log_probs[at] };
            let Sampled { token, log_prob, full_log_prob } =
                listener.logits(id, logits, &pass.layout.draws[at], drawn);
            (tokens[at], log_probs[at], full_log_probs[at]) = (token, log_prob, full_log_prob);
        })
    }

    /// Asks the model's module, if it drafts, for the tokens that follow those of a pass.
    fn draft(&mut self, b: &B, model: &Model<B>, pass: Pass, tokens: &[u32]) -> Result<(), OutOfMemory> {
        let Some(drafting) = self.drafting.as_mut().filter(|_| self.scheduler.asks_module()) else {
            return Ok(());
        };
        let (ahead, from) = self.scheduler.ahead(pass, tokens);
        if ahead.is_empty() {
            return Ok(());
        }
        let mut guesses = model.draft(b, ahead, from, &self.activations, drafting)?;
        while let Some((next, from)) = self.scheduler.draft_on(&guesses) {
            guesses = model.draft_on(b, next, from, drafting)?;
        }
        Ok(())
    }

    /// What lays its passes out.
    #[cfg(test)]
    pub(crate) fn scheduler_mut(&mut self) -> &mut Scheduler {
        &mut self.scheduler
    }

    /// Refuses what could not run even alone.
    pub(crate) fn check(&self, prompt_tokens: usize, new_tokens: usize) -> Result<(), RequestError> {
        if prompt_tokens == 0 {
            return Err(RequestError::EmptyPrompt);
        }
        if new_tokens == 0 {
            return Err(RequestError::NoNewTokens);
        }
        let (longest, cache_tokens) = (self.plan.longest_sequence(), self.plan.cache_tokens());
        let pages = pages_of(prompt_tokens - 1).saturating_add(pages_of(new_tokens));
        if prompt_tokens.saturating_add(new_tokens) > longest || pages > self.plan.pages() {
            return Err(RequestError::TooLong { prompt_tokens, new_tokens, longest, cache_tokens });
        }
        Ok(())
    }
}
