//! The rows of a pass: of pages whose keys are not there yet, and of the last tokens of requests that run.

use koan_backend::Sequence;

use super::{Pass, Ready, Running, Scheduler, Unfinished};
use crate::{
    Request,
    drafts::{self, Expected, Text},
    pages::{PAGE, PageId},
};

impl Scheduler {
    /// Adds rows of pages whose keys are not there yet.
    pub(super) fn prefill(&mut self, pass: &mut Pass) {
        while let Some(&page) = self.pending.front()
            && pass.layout.len() + self.pages.tokens(page).len() <= self.prefill_rows
        {
            self.pending.pop_front();
            self.pages.set_computed(page);
            self.feed(page, self.pages.tokens(page).len(), pass);
        }
    }

    /// Adds rows of the last `n` tokens of a page.
    fn feed(&self, page: PageId, n: usize, Pass { layout, following, .. }: &mut Pass) {
        let tokens = self.pages.tokens(page);
        let first = tokens.len() - n;
        let (row, position, key) = (layout.len(), self.pages.len(Some(page)) - n, page * PAGE + first);
        layout.ids.extend(&tokens[first..]);
        following.extend(&tokens[first + 1..]);
        following.push(self.after[page]);
        layout.positions.extend((position..position + n).map(|p| p as u32));
        layout.cache_rows.extend((key..key + n).map(|r| r as u32));
        let mut prefix = self.pages.ranges(Some(page));
        let keys = prefix.pop().expect("the rows' own keys");
        layout.sequences.push(Sequence { rows: row..row + n, prefix, keys });
    }

    /// Whether the keys before the next token of running request `at` are there, or in the pass that is being laid out.
    pub(super) fn is_ready(&self, at: usize) -> bool {
        let mut before = Some(self.running[at].end).filter(|_| !self.pending.is_empty());
        while let Some(page) = before {
            if !self.pages.is_computed(page) {
                return false;
            }
            before = self.pages.parent(page);
        }
        true
    }

    /// A draft for running request `at`, of up to `rows` tokens: no more than there is room for in its last page and a free
    /// one, and never its last token, after which nothing is sampled.
    pub(super) fn draft(&mut self, at: usize, rows: usize, expected: [&mut Expected; 2]) -> Vec<u32> {
        let Running { unfinished: Unfinished { request, token_ids, drafting, .. }, end } =
            &mut self.running[at];
        let room = PAGE - self.pages.tokens(*end).len() + if self.pages.has_free() { PAGE } else { 0 };
        let Request { prompt, sampling, shows_logits, .. } = &*request;
        let rows = if *shows_logits { 0 } else { rows };
        let left = sampling.max_new_tokens - token_ids.len();
        let most = rows.min(room - 1).min(left - 1).min(drafts::MOST);
        let text = Text { prompt, completion: token_ids };
        self.drafter.draft(text, request.longest(), drafting, most, expected)
    }

    /// Adds the rows of running request `at`: of its last token, or of its prompt's if it sampled none yet, and of `draft`.
    pub(super) fn decode(&mut self, at: usize, draft: Vec<u32>, pass: &mut Pass) {
        let Running { unfinished: Unfinished { request, token_ids, .. }, end } = &self.running[at];
        let mut end = *end;
        let last = token_ids.last().or(request.prompt.last()).expect("a prompt has a token");
        let fed: Vec<u32> = std::iter::once(last).chain(&draft).copied().collect();
        pass.layout.head_rows.extend((pass.layout.len()..).take(fed.len()).map(|row| row as u32));
        pass.layout.draws.extend((token_ids.len()..).take(fed.len()).map(|token| request.draw(token)));
        let mut rest = &fed[..];
        loop {
            let room = PAGE - self.pages.tokens(end).len();
            let (now, later) = rest.split_at(room.min(rest.len()));
            for &token in now {
                self.pages.push(end, token);
            }
            self.feed(end, now.len(), pass);
            rest = later;
            if rest.is_empty() {
                break;
            }
            end = self.pages.allocate(Some(end), Vec::new(), false).expect("a free page was counted");
            self.pages.set_computed(end);
        }
        self.running[at].end = end;
        pass.ready.push(Ready { at, draft });
    }
}
