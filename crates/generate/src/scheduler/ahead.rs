//! The passes of a module that drafts: over the rows that the model computed, and then over what it drafted itself.
//!
//! The module reads the token that follows each row. Of a prompt's rows it is known when they are laid out; of those after which a
//! token was sampled, it is that token; rows of tokens that were wrong are left out. So the keys of the module lie where the
//! model's do. Where a page that several sequences share ends, the token is that of the first of them: a guess may be worse for
//! it, and nothing else.

use koan_backend::{Layout, Sequence};

use super::{Pass, Scheduler, Unfinished};
use crate::{
    RequestId,
    drafts::{self, Expected, Text},
    pages::{PAGE, PageId},
};

/// A request that the module drafts for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    id: RequestId,
    /// The row of the module's pass that its draft goes on from.
    row: u32,
}

impl Scheduler {
    /// Takes note that running request `id` may be drafted for, from row `row` of the model's pass on.
    pub(super) fn begin_from(&mut self, id: RequestId, row: u32) {
        if self.drafter.asks_module() {
            self.origins.push(Origin { id, row });
        }
    }

    /// Whether a module drafts, and is worth its passes.
    pub(crate) fn asks_module(&self) -> bool {
        self.drafter.asks_module()
    }

    /// After [`record`](Self::record): the module's pass over the rows of `pass`, after which `tokens` were sampled, but those
    /// of wrong tokens; and the number of each of its rows in `pass`.
    pub(crate) fn ahead(&mut self, pass: Pass, tokens: &[u32]) -> (Layout, Vec<u32>) {
        let Pass { layout: all, following: mut ids, unused, .. } = pass;
        for (&row, &token) in all.head_rows.iter().zip(tokens) {
            ids[row as usize] = token;
        }
        // Each run of rows loses some at its end.
        let (mut layout, mut rows) = (Layout::default(), Vec::with_capacity(all.len()));
        for Sequence { rows: run, prefix, keys } in all.sequences {
            let wrong = unused.iter().filter(|&&row| run.contains(&(row as usize))).count();
            let (first, count) = (rows.len(), run.len() - wrong);
            if count > 0 {
                rows.extend((run.start..run.start + count).map(|row| row as u32));
                let keys = keys.start..keys.end - wrong;
                layout.sequences.push(Sequence { rows: first..first + count, prefix, keys });
            }
        }
        let of_rows = |values: &[u32]| rows.iter().map(|&row| values[row as usize]).collect();
        (layout.ids, layout.positions) = (of_rows(&ids), of_rows(&all.positions));
        layout.cache_rows = of_rows(&all.cache_rows);
        for origin in &mut self.origins {
            origin.row = rows.binary_search(&origin.row).expect("its row is that of a right token") as u32;
        }
        layout.head_rows = self.origins.iter().map(|origin| origin.row).collect();
        layout.draws = self.origins.iter().map(|origin| self.draw(origin.id, 0)).collect();
        self.count_module(layout.len());
        (layout, rows)
    }

    /// Takes what the module drafted for each origin, with its log-probability, and lays out its next pass, for those that
    /// another guess is likely to pay for; with the number of the row in the pass before that each goes on from. `None`: no more
    /// is wanted.
    pub(crate) fn draft_on(&mut self, guesses: &[(u32, f32)]) -> Option<(Layout, Vec<u32>)> {
        let (mut layout, mut from) = (Layout::default(), Vec::new());
        let origins = std::mem::take(&mut self.origins);
        let mut expected = Expected::new(origins.len(), self.overhead);
        let cost = self.module_share * (1.0 + self.overhead / origins.len() as f64);
        for (origin, &guess) in origins.into_iter().zip(guesses) {
            let at = self.at(origin.id);
            let (room, end) = (self.room(at), self.running[at].end);
            let Unfinished { request, token_ids, drafting, .. } = &mut self.running[at].unfinished;
            let text = Text { prompt: &request.prompt, completion: token_ids };
            let pays = self.drafter.guess(text, drafting, guess, cost, &mut expected);
            let n = drafting.guessed();
            let place = self.pages.tokens(end).len() + n - 1;
            if pays && n < room.min(drafts::MOST_OF_MODULE) && place < PAGE {
                from.push(origin.row);
                layout.draws.push(self.draw(origin.id, n));
                self.origins.push(Origin { row: layout.len() as u32, ..origin });
                self.feed_draft(end, place, guess.0, &mut layout);
            }
        }
        layout.head_rows = (0..layout.len() as u32).collect();
        self.count_module(layout.len());
        (!layout.is_empty()).then_some((layout, from))
    }

    /// Takes note of what a module's pass of so many rows costs.
    fn count_module(&mut self, rows: usize) {
        if rows > 0 {
            self.drafter.count_module(self.module_share * (self.overhead + rows as f64));
        }
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
