//! Which rows each pass holds.
//!
//! All tokens of a prompt but the last are computed once and their keys stored once. A sample starts by feeding the prompt's
//! last token; from then on each pass feeds the token that was drawn before. Prompts and samples share passes. Where memory
//! runs out, the sample that was asked for last gives its pages back and waits: later its tokens are computed again, as a
//! prompt is, and it goes on. None of this changes a bit of what is drawn, since a row's result depends on no neighbour and
//! a random number on no pass.

use std::collections::VecDeque;

use koan_backend::{Draw, Sequence};
use koan_model::Batch;

use crate::{
    Completion, FinishReason, Prompt, Sampling,
    pages::{PAGE, PageId, Pages, pages_of},
};

/// A sample that is not finished.
struct Sample {
    prompt: usize,
    number: usize,
    token_ids: Vec<u32>,
    log_probs: Vec<f32>,
    full_log_probs: Vec<f32>,
}

impl Sample {
    /// What decides who is served first: the place among all that was asked for.
    fn rank(&self) -> (usize, usize) {
        (self.prompt, self.number)
    }
}

/// A sample whose tokens lie in pages.
struct Running {
    sample: Sample,
    /// The last page of its prompt, less the last token.
    prompt_end: Option<PageId>,
    /// The page that takes its next token.
    end: PageId,
}

/// A pass to compute, and what is drawn after it.
pub(crate) struct Pass {
    pub(crate) batch: Batch,
    /// The rows that a token is drawn from, of the running samples that are ready.
    pub(crate) rows: Vec<u32>,
    pub(crate) draws: Vec<Draw>,
    ready: Vec<usize>,
}

/// The state between passes.
pub(crate) struct Scheduler<'a> {
    prompts: &'a [Prompt],
    sampling: &'a Sampling,
    pages: &'a mut Pages,
    /// Samples that run at once, at most.
    sequences: usize,
    /// Rows of a pass besides one a running sample.
    prefill_rows: usize,
    /// Whether finished sequences can be found by later ones.
    keep: bool,
    /// Samples that gave their pages back, by rank; they come before those that never ran.
    waiting: VecDeque<Sample>,
    /// The next prompt and sample that never ran.
    next: (usize, usize),
    /// By rank.
    running: Vec<Running>,
    /// Pages whose keys are to be computed, parents before children.
    pending: VecDeque<PageId>,
    /// How often a sample had to give its pages back.
    pub(crate) preemptions: usize,
}

impl<'a> Scheduler<'a> {
    pub(crate) fn new(
        prompts: &'a [Prompt],
        sampling: &'a Sampling,
        pages: &'a mut Pages,
        sequences: usize,
        prefill_rows: usize,
        keep: bool,
    ) -> Self {
        Self {
            prompts,
            sampling,
            pages,
            sequences,
            prefill_rows,
            keep,
            waiting: VecDeque::new(),
            next: (0, 0),
            running: Vec::new(),
            pending: VecDeque::new(),
            preemptions: 0,
        }
    }

    /// The next pass; empty when all is done.
    pub(crate) fn pass(&mut self) -> Pass {
        self.grow();
        self.admit();
        let mut batch = Batch::default();
        self.prefill(&mut batch);
        let mut pass = Pass { batch, rows: Vec::new(), draws: Vec::new(), ready: Vec::new() };
        for i in 0..self.running.len() {
            self.decode(i, &mut pass);
        }
        pass
    }

    /// Takes what was drawn after a pass: token and log-probabilities a ready sample. `ends` says whether a token ends its
    /// completion; `finished` takes completions.
    pub(crate) fn drawn(
        &mut self,
        pass: &Pass,
        tokens: &[u32],
        [log_probs, full_log_probs]: &[Vec<f32>; 2],
        mut ends: impl FnMut(usize, usize, u32) -> bool,
        mut finished: impl FnMut(usize, usize, Completion),
    ) {
        let mut over = Vec::new();
        for (i, &at) in pass.ready.iter().enumerate() {
            let sample = &mut self.running[at].sample;
            sample.token_ids.push(tokens[i]);
            sample.log_probs.push(log_probs[i]);
            sample.full_log_probs.push(full_log_probs[i]);
            let stop = ends(sample.prompt, sample.number, tokens[i]);
            if stop || sample.token_ids.len() == self.sampling.max_new_tokens {
                over.push((at, if stop { FinishReason::Stop } else { FinishReason::Length }));
            }
        }
        let mut ended: Vec<(Running, FinishReason)> =
            over.into_iter().rev().map(|(at, reason)| (self.running.remove(at), reason)).collect();
        ended.reverse();
        for (Running { sample, prompt_end, end }, finish_reason) in ended {
            if self.keep {
                self.pages.publish(prompt_end, end);
            }
            self.release(end);
            let Sample { prompt, number, token_ids, log_probs, full_log_probs } = sample;
            finished(prompt, number, Completion { token_ids, log_probs, full_log_probs, finish_reason });
        }
    }

    /// Gives every running sample whose last page is full another, the first asked for first; the last asked for makes
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

    /// Sends the running sample that was asked for last back to wait.
    fn preempt(&mut self) {
        let Running { sample, end, .. } = self.running.pop().expect("a running sample that needs a page");
        self.release(end);
        self.waiting.push_front(sample);
        self.preemptions += 1;
    }

    fn release(&mut self, end: PageId) {
        let pending = &mut self.pending;
        self.pages.release(Some(end), |gone| pending.retain(|&page| page != gone));
    }

    /// Starts samples while there are rows and pages for them.
    fn admit(&mut self) {
        while self.running.len() < self.sequences {
            let Some(sample) = self.waiting.pop_front().or_else(|| self.next_sample()) else { return };
            match self.start(sample) {
                Ok(running) => {
                    let rank = running.sample.rank();
                    let place = self.running.partition_point(|other| other.sample.rank() < rank);
                    self.running.insert(place, running);
                }
                Err(sample) => {
                    self.waiting.push_front(sample);
                    return;
                }
            }
        }
    }

    /// The first sample that never ran.
    fn next_sample(&mut self) -> Option<Sample> {
        while self.next.0 < self.prompts.len() {
            let (prompt, number) = self.next;
            if number < self.prompts[prompt].samples {
                self.next.1 += 1;
                let (token_ids, log_probs, full_log_probs) = Default::default();
                return Some(Sample { prompt, number, token_ids, log_probs, full_log_probs });
            }
            self.next = (prompt + 1, 0);
        }
        None
    }

    /// Lays a sample's pages out; gives it back if there is no room for it beside a page for each that runs already.
    fn start(&mut self, sample: Sample) -> Result<Running, Sample> {
        let (&last, shared) = self.prompts[sample.prompt].ids.split_last().expect("a prompt has a token");
        let found = self.pages.find(shared);
        self.pages.hold(found);
        let rest = &shared[self.pages.len(found)..];
        // Its own tokens that were fed before it had to wait: all but the last it drew.
        let own: Vec<u32> =
            [last].iter().chain(&sample.token_ids).copied().take(sample.token_ids.len()).collect();
        let needed = pages_of(rest.len()) + own.len() / PAGE + 1;
        if !self.running.is_empty() && self.pages.available() < needed + self.running.len() {
            let pending = &mut self.pending;
            self.pages.release(found, |gone| pending.retain(|&page| page != gone));
            return Err(sample);
        }
        let mut prompt_end = found;
        for tokens in rest.chunks(PAGE) {
            prompt_end = Some(self.allocate(prompt_end, tokens, true));
        }
        let mut end = prompt_end;
        for tokens in own.chunks(PAGE) {
            end = Some(self.allocate(end, tokens, false));
        }
        // A page for the next token: the last if it has room.
        let end = match end.filter(|_| !own.len().is_multiple_of(PAGE)) {
            Some(page) => page,
            None => self.allocate(end, &[], false),
        };
        Ok(Running { sample, prompt_end, end })
    }

    /// A page that is known to be had; its keys are to be computed.
    fn allocate(&mut self, parent: Option<PageId>, tokens: &[u32], shared: bool) -> PageId {
        let page =
            self.pages.allocate(parent, tokens.to_vec(), shared).expect("the plan has room for one sequence");
        if tokens.is_empty() {
            self.pages.set_computed(page);
        } else {
            self.pending.push_back(page);
        }
        page
    }

    /// Adds rows of pages whose keys are not there yet.
    fn prefill(&mut self, batch: &mut Batch) {
        while let Some(&page) = self.pending.front()
            && batch.len() + self.pages.tokens(page).len() <= self.prefill_rows
        {
            self.pending.pop_front();
            self.pages.set_computed(page);
            let tokens = self.pages.tokens(page);
            let (row, position, key) = (batch.len(), self.pages.len(self.pages.parent(page)), page * PAGE);
            let n = tokens.len();
            batch.ids.extend(tokens);
            batch.positions.extend((position..position + n).map(|p| p as u32));
            batch.cache_rows.extend((key..key + n).map(|r| r as u32));
            let prefix = self.pages.ranges(self.pages.parent(page));
            batch.sequences.push(Sequence { rows: row..row + n, prefix, keys: key..key + n });
        }
    }

    /// Adds the row of a running sample, if the keys before it are there: of its last token, or of its prompt's if it drew
    /// none yet.
    fn decode(&mut self, i: usize, pass: &mut Pass) {
        let Running { sample, end, .. } = &self.running[i];
        let end = *end;
        let mut before = Some(end).filter(|_| !self.pending.is_empty());
        while let Some(page) = before {
            if !self.pages.is_computed(page) {
                return;
            }
            before = self.pages.parent(page);
        }
        let prompt = &self.prompts[sample.prompt];
        let token = sample.token_ids.last().or(prompt.ids.last()).expect("a prompt has a token");
        let row = pass.batch.len();
        pass.batch.ids.push(*token);
        pass.batch.positions.push(self.pages.len(Some(end)) as u32);
        pass.batch.cache_rows.push((end * PAGE + self.pages.tokens(end).len()) as u32);
        self.pages.push(end, *token);
        let mut prefix = self.pages.ranges(Some(end));
        let keys = prefix.pop().expect("the row's own key");
        pass.batch.sequences.push(Sequence { rows: row..row + 1, prefix, keys });
        pass.rows.push(row as u32);
        pass.draws.push(self.sampling.draw(
            prompt.problem,
            sample.number as u64,
            sample.token_ids.len() as u64,
        ));
        pass.ready.push(i);
    }
}
