//! The passes of a module that drafts: over the rows that the model computed, and then over what it drafted itself.
//!
//! The module reads the token that follows each row. Of a prompt's rows it is known when they are laid out; of those after which a
//! token was sampled, it is that token. So the keys of the module lie where the model's do, and rows whose tokens were wrong are
//! computed again, as the model's are. Where a page that several sequences share ends, the token is that of the first of them:
//! a guess may be worse for it, and nothing else.

use koan_backend::{Layout, Sequence};

use super::{Pass, Scheduler};
use crate::{
    RequestId,
    drafts::{self, Expected},
    pages::{PAGE, PageId},
};

/// A request that the module drafts for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    id: RequestId,
    /// The row that its draft begins from.
    row: u32,
    /// Tokens that pay.
    wanted: usize,
}

impl Scheduler {
    /// Takes note that running request `id` may be drafted for, from `row` on.
    pub(super) fn begin_from(&mut self, id: RequestId, row: u32) {
        if self.drafter.is_of_module() {
            self.origins.push(Origin { id, row, wanted: 1 });
        }
    }

    /// Whether a module drafts, and is worth its passes.
    pub(crate) fn asks_module(&self) -> bool {
        self.drafter.asks_module()
    }

    /// After [`record`](Self::record): the module's pass over the rows of `pass`, after which `tokens` were sampled.
    pub(crate) fn ahead(&mut self, pass: Pass, tokens: &[u32]) -> Layout {
        let Pass { mut layout, following, .. } = pass;
        layout.ids = following;
        for (&row, &token) in layout.head_rows.iter().zip(tokens) {
            layout.ids[row as usize] = token;
        }
        let mut expected = Expected::new(self.origins.len(), self.overhead);
        for i in 0..self.origins.len() {
            let at = self.at(self.origins[i].id);
            let most = self.room(at).min(drafts::MOST_OF_MODULE);
            self.origins[i].wanted = self.drafter.length_of_module(most, &mut expected).max(1);
        }
        layout.head_rows = self.origins.iter().map(|origin| origin.row).collect();
        layout.draws = self.origins.iter().map(|origin| self.draw(origin.id, 0)).collect();
        layout.targets.clear();
        layout
    }

    /// Takes what the module drafted for each origin, and lays out its next pass, of those that want more; with the number of the
    /// head row, and so of the row in what follows, that each goes on from. `None`: no more is wanted.
    pub(crate) fn draft_on(&mut self, tokens: &[u32]) -> Option<(Layout, Vec<u32>)> {
        let (mut layout, mut from, mut left) = (Layout::default(), Vec::new(), Vec::new());
        for (i, (origin, &token)) in std::mem::take(&mut self.origins).into_iter().zip(tokens).enumerate() {
            let at = self.at(origin.id);
            let guesses = &mut self.running[at].unfinished.drafting.guesses;
            guesses.push(token);
            let n = guesses.len();
            let end = self.running[at].end;
            let place = self.pages.tokens(end).len() + n - 1;
            if n < origin.wanted && place < PAGE {
                self.feed_draft(end, place, token, &mut layout);
                layout.draws.push(self.draw(origin.id, n));
                from.push(if origin.is_first() { origin.row } else { i as u32 });
                left.push(Origin { row: Origin::LATER, ..origin });
            }
        }
        self.origins = left;
        layout.head_rows = (0..layout.len() as u32).collect();
        (!layout.is_empty()).then_some((layout, from))
    }

    /// Adds the row of a drafted token, whose key goes to place `place` of page `end`.
    fn feed_draft(&self, end: PageId, place: usize, token: u32, layout: &mut Layout) {
        let row = layout.len();
        let before = self.pages.len(Some(end)) - self.pages.tokens(end).len();
        layout.ids.push(token);
        layout.positions.push((before + place) as u32);
        layout.cache_rows.push((end * PAGE + place) as u32);
        let prefix = self.pages.parent(end).map_or(Vec::new(), |parent| self.pages.ranges(Some(parent)));
        layout.sequences.push(Sequence {
            rows: row..row + 1,
            prefix,
            keys: end * PAGE..end * PAGE + place + 1,
        });
    }

    /// How the token `n` after the next is sampled, if it comes to that: as the model will.
    fn draw(&self, id: RequestId, n: usize) -> koan_backend::Draw {
        let unfinished = &self.running[self.at(id)].unfinished;
        unfinished.request.draw(unfinished.token_ids.len() + n)
    }

    /// Tokens that may be drafted for running request `at`: those that it may still sample, less the last.
    fn room(&self, at: usize) -> usize {
        let unfinished = &self.running[at].unfinished;
        unfinished.request.sampling.max_new_tokens.saturating_sub(unfinished.token_ids.len() + 1)
    }

    /// The place of a running request.
    fn at(&self, id: RequestId) -> usize {
        let found = self.running.binary_search_by_key(&id, |running| running.unfinished.id);
        found.expect("it was running when the pass was recorded")
    }
}

impl Origin {
    /// In the place of a row: it goes on from its own draft.
    const LATER: u32 = u32::MAX;

    /// Whether it begins from a row of the model's pass.
    fn is_first(&self) -> bool {
        self.row != Self::LATER
    }
}
