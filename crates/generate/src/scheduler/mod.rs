//! Which rows each pass holds.
//!
//! All tokens of a prompt but the last are computed once and their keys stored once. A sequence starts by feeding the
//! prompt's last token; from then on each pass feeds the token that was sampled before. Prompts and sequences share passes.
//! Where memory runs out, the request that was submitted last gives its pages back and waits: later its tokens are computed
//! again, as a prompt is, and it goes on. Where there are drafts, a pass feeds them after the token that was sampled; those that
//! are wrong are taken back. None of this changes a bit of what is sampled, since a row's result depends on no neighbour and a
//! random number on no pass.

mod ahead;
mod rows;

use std::{collections::VecDeque, sync::Arc};

use koan_backend::Layout;
use koan_model::{Config, Flops};

use self::ahead::Origin;
use crate::{
    Completion, FinishReason, Finished, Listener, MemoryPlan, Request, RequestId, Sampled, Standing, Step,
    drafts::{self, Drafter, Expected, Text},
    pages::{PAGE, PageId, Pages, pages_of},
};

/// A request that is not over, and what was sampled for it.
struct Unfinished {
    id: RequestId,
    request: Request,
    token_ids: Vec<u32>,
    log_probs: Vec<f32>,
    full_log_probs: Vec<f32>,
    /// What its drafts are made of.
    drafting: drafts::State,
    /// Tokens of its prompt that were there when it began.
    cached: Option<usize>,
}

impl Unfinished {
    /// Why it is over with its last token, if it is.
    fn finish_reason(&self) -> Option<FinishReason> {
        let sampling = &self.request.sampling;
        if self.token_ids.last().is_some_and(|id| sampling.stop_ids.contains(id)) {
            Some(FinishReason::Stop)
        } else {
            (self.token_ids.len() == sampling.max_new_tokens).then_some(FinishReason::Length)
        }
    }

    /// The prompt and what was sampled.
    fn tokens(&self) -> Arc<[u32]> {
        self.request.prompt.iter().chain(&self.token_ids).copied().collect()
    }

    fn finish(self, finish_reason: FinishReason) -> Finished {
        let Self { id, request, token_ids, log_probs, full_log_probs, cached, .. } = self;
        Finished {
            id,
            request,
            completion: Completion { token_ids, log_probs, full_log_probs, finish_reason },
            cached_tokens: cached.unwrap_or(0),
        }
    }
}

/// A request whose tokens lie in pages.
struct Running {
    unfinished: Unfinished,
    /// The page that takes its next token.
    end: PageId,
}

/// A pass to compute, and what is sampled after it.
#[derive(Default)]
pub(crate) struct Pass {
    /// Its rows. Each running request that is ready has a head row and a draw for its last token, and for each of its draft.
    pub(crate) layout: Layout,
    /// The requests that are ready, in the order of their rows.
    pub(crate) ready: Vec<Ready>,
    /// The token that follows each row, where it is known.
    pub(crate) following: Vec<u32>,
    /// Rows of tokens that were wrong, ascending.
    unused: Vec<u32>,
}

/// A running request that samples after a pass.
pub(crate) struct Ready {
    /// Its place among those that run.
    at: usize,
    /// Guesses of the next tokens, which the pass checks.
    draft: Vec<u32>,
}

/// The state between passes.
pub(crate) struct Scheduler {
    pages: Pages,
    /// Requests that run at once, at most.
    sequences: usize,
    /// Rows of a pass besides one a running request.
    prefill_rows: usize,
    /// Rows of drafts in a pass, at most.
    draft_rows: usize,
    /// What a pass costs besides its rows, in rows.
    overhead: f64,
    /// What a module's pass costs, by what one of the model does.
    module_share: f64,
    drafter: Drafter,
    /// Whether the keys of finished requests can be found by later ones.
    keep: bool,
    next_id: u64,
    /// Requests without pages, in the order of their submission: later ones than all that run.
    waiting: VecDeque<Unfinished>,
    /// In the order of their submission.
    running: Vec<Running>,
    /// Pages whose keys are to be computed, parents before children.
    pending: VecDeque<PageId>,
    /// The tokens of requests that finished last, where keys are kept: as many as there are keys, at most.
    finished: VecDeque<(RequestId, Arc<[u32]>)>,
    /// The token that follows each page, of the first sequence that went on from it.
    after: Vec<u32>,
    /// The requests that a module is to draft for.
    origins: Vec<Origin>,
    preemptions: usize,
    drafted: usize,
    kept: usize,
}

impl Scheduler {
    /// For the requests of `plan`, for a model of `config`.
    pub(crate) fn new(plan: MemoryPlan, config: &Config) -> Self {
        Self {
            pages: Pages::new(plan.pages()),
            sequences: plan.limits.sequences,
            prefill_rows: plan.prefill_rows(),
            draft_rows: plan.draft_rows(),
            overhead: drafts::overhead(plan.prefill_rows(), Flops::common(config)),
            module_share: Flops::of(config).module_share(),
            drafter: Drafter::new(plan.limits.drafts),
            keep: false,
            next_id: 0,
            waiting: VecDeque::new(),
            running: Vec::new(),
            pending: VecDeque::new(),
            finished: VecDeque::new(),
            after: vec![0; plan.pages()],
            origins: Vec::new(),
            preemptions: 0,
            drafted: 0,
            kept: 0,
        }
    }

    /// Takes its drafts from `source`.
    #[cfg(test)]
    pub(crate) fn draft_from(&mut self, source: drafts::Source) {
        self.drafter = Drafter::of(source);
    }

    pub(crate) fn keep_keys(&mut self, keep: bool) {
        self.keep = keep;
    }

    /// How often a request had to give its pages back.
    pub(crate) fn preemptions(&self) -> usize {
        self.preemptions
    }

    /// Tokens of drafts that were checked so far, and how many of them were right.
    pub(crate) fn drafts(&self) -> [usize; 2] {
        [self.drafted, self.kept]
    }

    /// How full it is.
    pub(crate) fn standing(&self) -> Standing {
        let all_pages = self.pages.count();
        let pages = all_pages - self.pages.available();
        Standing { running: self.running.len(), waiting: self.waiting.len(), pages, all_pages }
    }

    /// The requests of `pass` that show their logits, each with its place among the head rows.
    pub(crate) fn shown(&self, pass: &Pass) -> Vec<(RequestId, usize)> {
        let mut row = 0;
        let place = |Ready { at, draft }: &Ready| {
            let place = row;
            row += 1 + draft.len();
            let Unfinished { id, request, .. } = &self.running[*at].unfinished;
            request.shows_logits.then_some((*id, place))
        };
        pass.ready.iter().filter_map(place).collect()
    }

    pub(crate) fn is_busy(&self) -> bool {
        !(self.running.is_empty() && self.waiting.is_empty())
    }

    /// Takes a request, which fits when it runs alone.
    pub(crate) fn submit(&mut self, request: Request) -> RequestId {
        if !self.keep && !self.is_busy() {
            self.pages.clear();
            self.finished.clear();
            self.drafter.forget();
        }
        let id = RequestId(self.next_id);
        self.next_id += 1;
        let (token_ids, log_probs, full_log_probs, drafting, cached) = Default::default();
        self.waiting.push_back(Unfinished {
            id,
            request,
            token_ids,
            log_probs,
            full_log_probs,
            drafting,
            cached,
        });
        id
    }

    /// The tokens of request `id` so far; those of its pages that are full can be found from now on.
    pub(crate) fn fork(&mut self, id: RequestId) -> Option<Arc<[u32]>> {
        if let Ok(at) = self.running.binary_search_by_key(&id, |running| running.unfinished.id) {
            let Running { unfinished, end } = &self.running[at];
            let is_full = self.pages.tokens(*end).len() == PAGE;
            self.pages.publish(if is_full { Some(*end) } else { self.pages.parent(*end) });
            return Some(unfinished.tokens());
        }
        let waiting = self.waiting.iter().find(|unfinished| unfinished.id == id).map(Unfinished::tokens);
        let finished = || self.finished.iter().find(|(finished, _)| *finished == id);
        waiting.or_else(|| finished().map(|(_, tokens)| Arc::clone(tokens)))
    }

    /// Ends request `id` with what it has sampled; its pages are free.
    pub(crate) fn cancel(&mut self, id: RequestId) -> Option<Finished> {
        if let Ok(at) = self.running.binary_search_by_key(&id, |running| running.unfinished.id) {
            return Some(self.finish(at, FinishReason::Stop));
        }
        let at = self.waiting.iter().position(|unfinished| unfinished.id == id)?;
        Some(self.waiting.remove(at)?.finish(FinishReason::Stop))
    }

    /// Ends all requests.
    pub(crate) fn cancel_all(&mut self) {
        self.waiting.clear();
        while let Some(last) = self.running.len().checked_sub(1) {
            self.finish(last, FinishReason::Stop);
        }
    }

    /// The next pass; empty when no request is left.
    pub(crate) fn pass(&mut self) -> Pass {
        self.grow();
        self.admit();
        let mut pass = Pass::default();
        self.origins.clear();
        self.prefill(&mut pass);
        let ready: Vec<usize> = (0..self.running.len()).filter(|&at| self.is_ready(at)).collect();
        let mut expected = Expected::new(ready.len(), self.overhead);
        let mut without = expected;
        let mut rows = self.draft_rows.min(self.prefill_rows - pass.layout.len());
        for at in ready {
            let draft = self.draft(at, rows, [&mut expected, &mut without]);
            rows -= draft.len();
            self.decode(at, draft, &mut pass);
        }
        if !pass.ready.is_empty() {
            self.drafter.count_pass(expected, without);
        }
        pass
    }

    /// Takes what was sampled after a pass: a token and its log-probabilities for each head row. A request is over with the
    /// first token for which `listener` says so, too.
    pub(crate) fn record(
        &mut self,
        Pass { ready, layout: Layout { head_rows, .. }, unused, .. }: &mut Pass,
        tokens: &[u32],
        [log_probs, full_log_probs]: &[Vec<f32>; 2],
        listener: &mut impl Listener,
    ) -> Step {
        let mut step = Step { tokens: Vec::with_capacity(ready.len()), finished: Vec::new() };
        let mut first = 0;
        for Ready { at, draft } in &*ready {
            let at = at - step.finished.len();
            let Running { unfinished, end } = &mut self.running[at];
            let mut reason;
            let mut kept = 0;
            loop {
                let (row, id) = (first + kept, unfinished.id);
                let (token, log_prob, full_log_prob) = (tokens[row], log_probs[row], full_log_probs[row]);
                unfinished.token_ids.push(token);
                unfinished.log_probs.push(log_prob);
                unfinished.full_log_probs.push(full_log_prob);
                step.tokens.push((id, token));
                let is_over = listener.token(id, Sampled { token, log_prob, full_log_prob });
                reason = if is_over { Some(FinishReason::Stop) } else { unfinished.finish_reason() };
                // The next row is of this token, if the draft has it.
                if reason.is_some() || draft.get(kept) != Some(&tokens[row]) {
                    break;
                }
                kept += 1;
            }
            *end = self.pages.take_back(*end, draft.len() - kept);
            let Unfinished { id, request, token_ids, drafting, .. } = unfinished;
            let text = Text { prompt: &request.prompt, completion: token_ids };
            self.drafter.compare(text, request.longest(), drafting, kept + 1);
            let (id, row) = (*id, head_rows[first + kept]);
            unused.extend(&head_rows[first + kept + 1..][..draft.len() - kept]);
            self.drafted += draft.len();
            self.kept += kept;
            first += 1 + draft.len();
            match reason {
                Some(reason) => {
                    let finished = self.finish(at, reason);
                    step.finished.push(finished);
                }
                None => self.begin_from(id, row),
            }
        }
        step
    }

    /// Ends the running request number `at`.
    fn finish(&mut self, at: usize, reason: FinishReason) -> Finished {
        let Running { unfinished, end } = self.running.remove(at);
        if self.keep {
            self.pages.publish(Some(end));
            self.finished.push_back((unfinished.id, unfinished.tokens()));
            while self.finished.iter().map(|(_, tokens)| tokens.len()).sum::<usize>()
                > self.pages.count() * PAGE
            {
                self.finished.pop_front();
            }
        }
        self.release(end);
        unfinished.finish(reason)
    }

    /// Gives every running request whose last page is full another, the first submitted first; the last submitted makes
    /// room.
    fn grow(&mut self) {
        let mut i = 0;
        while i < self.running.len() {
            let end = self.running[i].end;
            if self.pages.tokens(end).len() < PAGE {
                i += 1;
            } else if let Some(page) = self.pages.allocate(Some(end), Vec::new(), false) {
                self.pages.set_computed(page);
                self.running[i].end = page;
                i += 1;
            } else {
                self.preempt();
            }
        }
    }

    /// Sends the running request that was submitted last back to wait.
    fn preempt(&mut self) {
        let Running { unfinished, end } = self.running.pop().expect("a running request that needs a page");
        self.release(end);
        self.waiting.push_front(unfinished);
        self.preemptions += 1;
    }

    fn release(&mut self, end: PageId) {
        let pending = &mut self.pending;
        self.pages.release(Some(end), |gone| pending.retain(|&page| page != gone));
    }

    /// Starts requests while there are rows and pages for them.
    fn admit(&mut self) {
        while self.running.len() < self.sequences
            && let Some(mut unfinished) = self.waiting.pop_front()
        {
            match self.lay_out(&mut unfinished) {
                Some(end) => self.running.push(Running { unfinished, end }),
                None => return self.waiting.push_front(unfinished),
            }
        }
    }

    /// Lays a request's pages out, and gives the one that takes its next token. `None`: there is no room for it beside a page
    /// for each request that runs already.
    fn lay_out(&mut self, unfinished: &mut Unfinished) -> Option<PageId> {
        let Request { prompt, sampling, .. } = &unfinished.request;
        let (&last, shared) = prompt.split_last().expect("a prompt has a token");
        let mut found = self.pages.find(shared);
        // Beginnings of other sequences may end within pages. Where so many rows are unused that this one would not fit at
        // its longest, less is shared.
        let longest = pages_of(sampling.max_new_tokens);
        while found.is_some()
            && self.pages.depth(found) + pages_of(shared.len() - self.pages.len(found)) + longest
                > self.pages.count()
        {
            found = found.and_then(|page| self.pages.parent(page));
        }
        self.pages.hold(found);
        let rest = &shared[self.pages.len(found)..];
        // Its own tokens that were fed before it had to wait: all but the last it sampled.
        let sampled = &unfinished.token_ids;
        let own: Vec<u32> = [last].iter().chain(sampled).copied().take(sampled.len()).collect();
        let needed = pages_of(rest.len()) + own.len() / PAGE + 1;
        if !self.running.is_empty() && self.pages.available() < needed + self.running.len() {
            let pending = &mut self.pending;
            self.pages.release(found, |gone| pending.retain(|&page| page != gone));
            return None;
        }
        unfinished.cached.get_or_insert(self.pages.len(found));
        if let (Some(page), Some(&next)) = (found, rest.first().or(own.first())) {
            self.after[page] = next;
        }
        let mut end = found;
        for tokens in rest.chunks(PAGE) {
            end = Some(self.allocate(end, tokens, true));
        }
        for tokens in own.chunks(PAGE) {
            end = Some(self.allocate(end, tokens, false));
        }
        // A page for the next token: the last if it has room.
        let has_room = end.filter(|_| !own.len().is_multiple_of(PAGE));
        Some(has_room.unwrap_or_else(|| self.allocate(end, &[], false)))
    }

    /// A page for which there is room; its keys are to be computed.
    fn allocate(&mut self, parent: Option<PageId>, tokens: &[u32], shared: bool) -> PageId {
        let page = self.pages.allocate(parent, tokens.to_vec(), shared).expect("room was counted before");
        if let (Some(parent), Some(&next)) = (parent, tokens.first()) {
            self.after[parent] = next;
        }
        if tokens.is_empty() {
            self.pages.set_computed(page);
        } else {
            self.pending.push_back(page);
        }
        page
    }
}
