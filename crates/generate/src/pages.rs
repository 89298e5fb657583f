//! Where keys and values lie: pages of [`PAGE`] tokens, each knowing the page before it.
//!
//! A sequence is a chain of pages. Chains that begin with the same tokens share the pages of that beginning: of a group's
//! prompt, of a system message that many prompts begin with, of a conversation's history. Pages in use are held; a page that
//! can be found again stays when it is let go, until its room is needed.

use std::{collections::BTreeSet, ops::Range};

/// Tokens of a page.
pub(crate) const PAGE: usize = 16;

/// How many pages `tokens` tokens take.
pub(crate) fn pages_of(tokens: usize) -> usize {
    tokens.div_ceil(PAGE)
}

/// A page by its place; its first row in the cache is [`PAGE`] times that.
pub(crate) type PageId = usize;

#[derive(Debug, Default)]
struct Page {
    parent: Option<PageId>,
    /// The tokens whose keys are there, or on their way.
    tokens: Vec<u32>,
    /// Tokens before the first.
    start: usize,
    /// Chains in use that go through the page.
    holds: usize,
    /// Pages that go on from this one and can be found.
    children: Vec<PageId>,
    /// Whether a sequence with the same tokens may share it.
    shared: bool,
    /// Whether its keys were computed, or are in the pass that is being laid out.
    computed: bool,
    /// When it was let go.
    last_use: u64,
}

/// All pages.
#[derive(Debug)]
pub(crate) struct Pages {
    all: Vec<Page>,
    free: BTreeSet<PageId>,
    /// Pages that can be found and begin a sequence.
    roots: Vec<PageId>,
    /// Pages that nothing holds but that can still be found.
    idle: usize,
    clock: u64,
}

impl Pages {
    /// `count` empty pages.
    pub(crate) fn new(count: usize) -> Self {
        let all = (0..count).map(|_| Page::default()).collect();
        Self { all, free: (0..count).collect(), roots: Vec::new(), idle: 0, clock: 0 }
    }

    /// Forgets all pages.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.all.len());
    }

    /// How many pages there are.
    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// How many pages are free, or would be if room were needed.
    pub(crate) fn available(&self) -> usize {
        self.free.len() + self.idle
    }

    /// Whether a page is free without another being given up.
    pub(crate) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// The longest chain that `tokens` begin with.
    pub(crate) fn find(&self, tokens: &[u32]) -> Option<PageId> {
        let mut end = None;
        let mut rest = tokens;
        loop {
            let children = end.map_or(&self.roots, |page: PageId| &self.all[page].children);
            let next = children.iter().filter(|&&page| rest.starts_with(&self.all[page].tokens));
            let Some(&page) = next.max_by_key(|&&page| self.all[page].tokens.len()) else { return end };
            rest = &rest[self.all[page].tokens.len()..];
            end = Some(page);
        }
    }

    /// Tokens of the chain that ends with `end`.
    pub(crate) fn len(&self, end: Option<PageId>) -> usize {
        end.map_or(0, |page| self.all[page].start + self.all[page].tokens.len())
    }

    /// Pages of the chain that ends with `end`.
    pub(crate) fn depth(&self, end: Option<PageId>) -> usize {
        std::iter::successors(end, |&page| self.all[page].parent).count()
    }

    /// Tokens of a page.
    pub(crate) fn tokens(&self, page: PageId) -> &[u32] {
        &self.all[page].tokens
    }

    /// Whether a page's keys are there, or in the pass that is being laid out.
    pub(crate) fn is_computed(&self, page: PageId) -> bool {
        self.all[page].computed
    }

    /// Says that a page's keys are in the pass that is being laid out.
    pub(crate) fn set_computed(&mut self, page: PageId) {
        self.all[page].computed = true;
    }

    /// Adds a token to a page, which has room.
    pub(crate) fn push(&mut self, page: PageId, token: u32) {
        let tokens = &mut self.all[page].tokens;
        assert!(tokens.len() < PAGE, "a full page");
        tokens.push(token);
    }

    /// Takes the last `n` tokens from the chain that ends with `end`, and gives its new end. Pages that they leave empty are
    /// gone; nothing else holds them.
    pub(crate) fn take_back(&mut self, mut end: PageId, n: usize) -> PageId {
        if n == 0 {
            return end;
        }
        let keep = self.len(Some(end)).checked_sub(n).expect("no more tokens than there are");
        while self.all[end].start >= keep {
            let Page { parent, holds, shared, .. } = self.all[end];
            let Some(parent) = parent else { break };
            assert!(holds == 1 && !shared, "a page of the chain's own");
            self.idle += 1;
            self.remove(end);
            end = parent;
        }
        let Page { tokens, start, .. } = &mut self.all[end];
        tokens.truncate(keep - *start);
        end
    }

    /// Holds every page of the chain that ends with `end`.
    pub(crate) fn hold(&mut self, end: Option<PageId>) {
        let mut next = end;
        while let Some(page) = next {
            let page = &mut self.all[page];
            self.idle -= usize::from(page.holds == 0);
            page.holds += 1;
            next = page.parent;
        }
    }

    /// Lets go of every page of the chain that ends with `end`. Pages that can't be found, or whose keys were never
    /// computed, are gone if nothing else holds them; `gone` hears of them.
    pub(crate) fn release(&mut self, end: Option<PageId>, mut gone: impl FnMut(PageId)) {
        self.clock += 1;
        let mut next = end;
        while let Some(id) = next {
            let page = &mut self.all[id];
            next = page.parent;
            page.holds -= 1;
            page.last_use = self.clock;
            if page.holds == 0 {
                self.idle += 1;
                if !(page.shared && page.computed) {
                    self.remove(id);
                    gone(id);
                }
            }
        }
    }

    /// A page after `parent`, whose chain the caller holds, with `tokens`; held. None if every page is held.
    pub(crate) fn allocate(
        &mut self,
        parent: Option<PageId>,
        tokens: Vec<u32>,
        shared: bool,
    ) -> Option<PageId> {
        assert!(tokens.len() <= PAGE, "more tokens than a page holds");
        if self.free.is_empty() {
            self.evict()?;
        }
        // Neighbours in a sequence lie side by side where they can: their keys are then one range.
        let beside = parent.map(|page| page + 1).filter(|page| self.free.contains(page));
        let id = beside.or(self.free.first().copied())?;
        self.free.remove(&id);
        let start = self.len(parent);
        self.all[id] = Page { parent, tokens, start, holds: 1, shared, ..Page::default() };
        if shared {
            self.siblings(parent).push(id);
        }
        Some(id)
    }

    /// Lets the pages up to `end` be found from now on.
    pub(crate) fn publish(&mut self, end: Option<PageId>) {
        // Whatever comes before a page that can be found can be found.
        let mut chain = Vec::new();
        let mut next = end;
        while let Some(page) = next.filter(|&page| !self.all[page].shared) {
            chain.push(page);
            next = self.all[page].parent;
        }
        for id in chain.into_iter().rev() {
            let Page { parent, ref tokens, .. } = self.all[id];
            let children = parent.map_or(&self.roots, |page| &self.all[page].children);
            if tokens.is_empty() || children.iter().any(|&other| self.all[other].tokens == *tokens) {
                return;
            }
            self.siblings(parent).push(id);
            self.all[id].shared = true;
        }
    }

    /// Where the keys of the chain that ends with `end` lie, in order; neighbours are one range.
    pub(crate) fn ranges(&self, end: Option<PageId>) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        let mut next = end;
        while let Some(id) = next {
            let page = &self.all[id];
            let rows = id * PAGE..id * PAGE + page.tokens.len();
            match ranges.last_mut() {
                Some(later) if later.start == rows.end => later.start = rows.start,
                _ if rows.is_empty() => {}
                _ => ranges.push(rows),
            }
            next = page.parent;
        }
        ranges.reverse();
        ranges
    }

    /// The page before `page`.
    pub(crate) fn parent(&self, page: PageId) -> Option<PageId> {
        self.all[page].parent
    }

    fn siblings(&mut self, parent: Option<PageId>) -> &mut Vec<PageId> {
        match parent {
            Some(page) => &mut self.all[page].children,
            None => &mut self.roots,
        }
    }

    /// Makes room: the idle page that was let go longest ago and that nothing goes on from.
    fn evict(&mut self) -> Option<()> {
        let idle = self
            .all
            .iter()
            .enumerate()
            .filter(|(id, page)| page.holds == 0 && page.children.is_empty() && !self.free.contains(id));
        let (oldest, _) = idle.min_by_key(|(_, page)| page.last_use)?;
        self.remove(oldest);
        Some(())
    }

    /// Empties an idle page.
    fn remove(&mut self, id: PageId) {
        let page = std::mem::take(&mut self.all[id]);
        if page.shared {
            self.siblings(page.parent).retain(|&child| child != id);
        }
        self.idle -= 1;
        self.free.insert(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(pages: &mut Pages, tokens: &[u32], shared: bool) -> PageId {
        let mut end = None;
        for tokens in tokens.chunks(PAGE) {
            end = pages.allocate(end, tokens.to_vec(), shared);
            pages.set_computed(end.expect("room"));
        }
        end.expect("a token")
    }

    #[test]
    fn a_beginning_is_found_and_stays_until_its_room_is_needed() {
        let mut pages = Pages::new(4);
        let tokens: Vec<u32> = (0..40).collect();
        let end = chain(&mut pages, &tokens, true);
        assert_eq!((pages.find(&tokens), pages.len(Some(end))), (Some(end), 40));
        let second = pages.parent(end);
        assert_eq!(pages.find(&tokens[..39]), second, "a page is found whole or not at all");
        assert_eq!(pages.ranges(Some(end)), vec![0..40; 1], "neighbours are one range");
        pages.release(Some(end), |_| panic!("can be found"));
        assert_eq!((pages.available(), pages.find(&tokens)), (4, Some(end)));
        chain(&mut pages, &[9; 20], false);
        assert_eq!(pages.find(&tokens), second, "the last page made room");
        assert_eq!(pages.available(), 2);
    }

    #[test]
    fn a_private_chain_goes_when_it_is_let_go() {
        let mut pages = Pages::new(3);
        let prompt = chain(&mut pages, &[1, 2], true);
        pages.hold(Some(prompt));
        let own = pages.allocate(Some(prompt), vec![3], false).expect("room");
        pages.set_computed(own);
        pages.push(own, 4);
        assert_eq!(pages.ranges(Some(own)), [0..2, 16..18]);
        assert_eq!(pages.find(&[1, 2, 3, 4]), Some(prompt));
        pages.publish(Some(own));
        assert_eq!(pages.find(&[1, 2, 3, 4, 5]), Some(own));
        let mut gone = Vec::new();
        let other = pages.allocate(Some(prompt), vec![3], false);
        pages.hold(Some(prompt));
        pages.release(other, |page| gone.push(page));
        assert_eq!(gone, [2]);
        pages.release(Some(own), |page| gone.push(page));
        pages.release(Some(prompt), |page| gone.push(page));
        assert_eq!((gone, pages.available()), (vec![2], 3));
    }

    #[test]
    fn tokens_that_are_taken_back_leave_no_page_behind() {
        let mut pages = Pages::new(3);
        let end = chain(&mut pages, &(0..35).collect::<Vec<_>>(), false);
        assert_eq!((pages.take_back(end, 0), pages.has_free()), (end, false));
        assert_eq!((pages.take_back(end, 2), pages.len(Some(end))), (end, 33));
        let end = pages.take_back(end, 1);
        assert_eq!((pages.len(Some(end)), pages.tokens(end).len(), pages.has_free()), (32, PAGE, true));
        let end = pages.take_back(end, 20);
        assert_eq!((pages.tokens(end), pages.available()), (&(0..12).collect::<Vec<_>>()[..], 2));
        pages.release(Some(end), |_| {});
        assert_eq!(pages.available(), 3);
    }
}
