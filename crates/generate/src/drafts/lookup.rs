//! Drafts from the text itself (prompt lookup): where a sequence's last tokens stood before, it is likely to go on as it did.
//!
//! The last 4, 3 and 2 tokens are looked up, the longest first, the latest place first; a place that was right is followed on.
//! Tables of hashes give the latest place, as those of LZ77 do: constant time and bounded memory a token. Two beginnings
//! of one hash may displace each other, so tokens are compared: at worst, a place is not found.

use std::ops::Range;

use super::{Text, schedule::Schedule};

/// Lengths of the beginnings that are looked up, the longest first.
const LENGTHS: [usize; 3] = [4, 3, 2];

/// Entries of a table, at most.
const MAX_SLOTS: usize = 1 << 15;

/// Where the tokens of a sequence stood before.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    /// A table for each of [`LENGTHS`]: by the hash of so many tokens, the place after where they stood last; 0: nowhere.
    places: [Vec<u32>; LENGTHS.len()],
    /// Tokens that were read.
    read: usize,
    found: Option<Place>,
}

/// A place before the end after which the text goes on as it may go on at its end.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: usize,
    /// Tokens before it that stand at the end too.
    length: usize,
}

impl Lookup {
    /// For a sequence of up to `tokens` tokens.
    pub(crate) fn new(tokens: usize) -> Self {
        Self { places: std::array::from_fn(|_| vec![0; slots(tokens)]), read: 0, found: None }
    }

    /// Bytes for a sequence of up to `tokens` tokens.
    pub(crate) fn bytes(tokens: usize) -> usize {
        LENGTHS.len() * slots(tokens) * size_of::<u32>()
    }

    /// Reads the tokens of `text` that are new. What would have been guessed of those that were sampled is noted in
    /// `schedule`: so it is measured at no cost, whether drafts were made or not.
    pub(crate) fn read(&mut self, text: Text<'_>, schedule: &mut Schedule) {
        for end in self.read..text.len() {
            if let Some(Place { at, length }) = self.found.take() {
                let right = text.token(at) == text.token(end);
                if end >= text.prompt.len() {
                    schedule.observe(class(length), right);
                }
                self.found = right.then_some(Place { at: at + 1, length: length + 1 });
            }
            self.enter(text, end + 1);
        }
        self.read = text.len();
    }

    /// Enters the last tokens before `end` into the tables, and finds where they stood before.
    fn enter(&mut self, text: Text<'_>, end: usize) {
        for (length, places) in LENGTHS.into_iter().zip(&mut self.places) {
            let Some(start) = end.checked_sub(length) else { continue };
            let slot = hash(text, start..end) & (places.len() - 1);
            let at = std::mem::replace(&mut places[slot], end as u32) as usize;
            let is_longer = self.found.is_none_or(|found| found.length < length);
            let same = || (1..=length).all(|i| text.token(at - i) == text.token(end - i));
            if is_longer && at >= length && same() {
                self.found = Some(Place { at, length });
            }
        }
    }

    /// The class of a guess of the next token; `None`: there is none.
    pub(crate) fn class(&self) -> Option<usize> {
        self.found.map(|place| class(place.length))
    }

    /// How `text`, which was read, may go on: `n` tokens, if there is a guess. Where what stands at the place reaches the end,
    /// it repeats itself.
    pub(crate) fn draft(&self, text: Text<'_>, n: usize) -> Vec<u32> {
        let mut draft = Vec::with_capacity(n);
        let Some(Place { at, .. }) = self.found else { return draft };
        for i in at..at + n {
            draft.push(if i < text.len() { text.token(i) } else { draft[i - text.len()] });
        }
        draft
    }
}

/// The class of guesses that rest on `length` tokens.
fn class(length: usize) -> usize {
    length - LENGTHS[LENGTHS.len() - 1]
}

fn slots(tokens: usize) -> usize {
    tokens.next_power_of_two().min(MAX_SLOTS)
}

/// A hash of some tokens of `text`.
fn hash(text: Text<'_>, of: Range<usize>) -> usize {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15; // 2⁶⁴ over the golden ratio (Knuth, volume 3, section 6.4)
    let mix = |hash: u64, token: u32| (hash ^ u64::from(token)).wrapping_mul(ODD).rotate_left(29);
    (of.map(|i| text.token(i)).fold(0, mix).wrapping_mul(ODD) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is drafted after the whole of `tokens`, the last `sampled` of which are no prompt's.
    fn draft(tokens: &[u32], sampled: usize, n: usize) -> (Vec<u32>, Schedule) {
        let (prompt, completion) = tokens.split_at(tokens.len() - sampled);
        let (mut lookup, mut schedule) = (Lookup::new(64), Schedule::default());
        // However often it reads, it finds the same.
        for end in 0..=completion.len() {
            lookup.read(Text { prompt, completion: &completion[..end] }, &mut schedule);
        }
        let text = Text { prompt, completion };
        let mut at_once = Lookup::new(64);
        at_once.read(text, &mut Schedule::default());
        assert_eq!(lookup.draft(text, n), at_once.draft(text, n));
        (lookup.draft(text, n), schedule)
    }

    #[test]
    fn the_longest_match_comes_first_then_the_latest() {
        assert!(draft(&[1, 2, 3, 4], 0, 3).0.is_empty(), "nothing stood before");
        assert_eq!(draft(&[7, 1, 2, 8, 5, 1, 2, 9, 1, 2], 0, 2).0, [9, 1], "the latest");
        assert_eq!(draft(&[7, 1, 2, 8, 5, 1, 2, 9, 7, 1, 2], 0, 2).0, [8, 5], "the longest");
        assert!(draft(&[3, 9, 3], 0, 1).0.is_empty(), "one token is no match");
    }

    #[test]
    fn what_reaches_the_end_repeats_itself() {
        assert_eq!(draft(&[5, 1, 2, 3, 1, 2], 0, 7).0, [3, 1, 2, 3, 1, 2, 3]);
        assert_eq!(draft(&[4, 4, 4], 0, 4).0, [4, 4, 4, 4]);
    }

    #[test]
    fn a_place_that_was_right_is_followed() {
        // After 1 2 stood 3, after 2 3 last 9: the match of three tokens is the first one's.
        assert_eq!(draft(&[1, 2, 3, 4, 5, 2, 3, 9, 1, 2, 3], 1, 2).0, [4, 5]);
    }

    #[test]
    fn guesses_of_sampled_tokens_are_observed() {
        let (_, schedule) = draft(&[1, 2, 3, 4, 1, 2, 3, 9], 2, 1);
        let mut expected = Schedule::default();
        expected.observe(0, true);
        expected.observe(1, false);
        assert_eq!(format!("{schedule:?}"), format!("{expected:?}"));
    }

    #[test]
    fn few_slots_lose_places_and_never_find_wrong_ones() {
        let tokens: Vec<u32> = (0..5000).map(|i| (i * i / 7) % 13).collect();
        let (mut small, mut schedule) = (Lookup::new(8), Schedule::default());
        for end in 1..tokens.len() {
            let text = Text { prompt: &tokens[..end], completion: &[] };
            small.read(text, &mut schedule);
            if let Some(Place { at, length }) = small.found {
                assert_eq!(tokens[at - length..at], tokens[end - length..end]);
            }
        }
        assert_eq!(Lookup::bytes(8), 3 * 8 * 4);
        assert_eq!(Lookup::bytes(1 << 30), 3 * 4 * MAX_SLOTS);
    }
}
