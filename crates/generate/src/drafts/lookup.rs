//! Drafts from the text itself: after the same tokens, it is likely to go on as it did before.
//!
//! Tables of hashes, as those of branch predictors: by the last 1, 2 and 4 tokens what followed them in this text, its prompt
//! and what was sampled; by the last 2 and 4 tokens what followed them in all that was sampled for other requests of the same
//! run. Constant time and bounded memory a token. Two contexts of one slot displace each other: at worst a guess is lost, or a
//! poor one made.

use super::{
    Text,
    schedule::{Expected, GRADES, Guess, Schedule},
};

/// Tokens of the contexts of a text's own tables.
const OWN: [usize; 3] = [1, 2, 4];
/// Tokens of the contexts of the tables that all texts share.
const SHARED: [usize; 2] = [2, 4];
/// Tokens of the longest context.
const LONGEST: usize = 4;

/// Slots of an own table, at most.
const MAX_SLOTS: usize = 1 << 15;
/// Slots of a shared table.
const SHARED_SLOTS: usize = 1 << 13;

/// Classes of guesses.
pub(crate) const CLASSES: usize = (OWN.len() + SHARED.len()) * GRADES;

/// What followed a context.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    token: u32,
    /// Of the context's hash, what the slot's number does not say.
    tag: u16,
    /// How often the token followed, of `all` times lately; none: an empty slot.
    right: u8,
    all: u8,
}

impl Slot {
    /// Times that are remembered: older ones count half.
    const REMEMBERED: u8 = 32;

    /// How certain it is, from 0.
    fn grade(self) -> usize {
        let Self { right, all, .. } = self;
        match (all, all - right) {
            (1, _) => 0,
            (2, 0) => 5,
            (3..8, 0) => 6,
            (_, 0) => 7,
            _ if 2 * right <= all => 1,
            _ if 4 * u16::from(right) < 3 * u16::from(all) => 2,
            _ if 10 * u16::from(right) < 9 * u16::from(all) => 3,
            _ => 4,
        }
    }

    /// Takes note of what followed.
    fn follow(&mut self, tag: u16, token: u32) {
        if self.all == 0 || self.tag != tag {
            *self = Self { token, tag, right: 1, all: 1 };
            return;
        }
        self.all += 1;
        if self.token == token {
            self.right += 1;
        } else if 2 * self.right <= self.all {
            *self = Self { token, tag, right: 1, all: 2 };
        }
        if self.all == Self::REMEMBERED {
            (self.right, self.all) = (self.right / 2, self.all / 2);
        }
    }
}

/// What followed contexts of so many tokens.
#[derive(Clone, Debug)]
struct Table {
    context: usize,
    slots: Vec<Slot>,
}

impl Table {
    /// With `slots` slots, a power of two.
    fn new(context: usize, slots: usize) -> Self {
        Self { context, slots: vec![Slot::default(); slots] }
    }

    /// The slot and tag of the context at the end of `recent`, if that has as many tokens.
    fn place(&self, recent: &[u32]) -> Option<(usize, u16)> {
        let context = &recent[recent.len().checked_sub(self.context)?..];
        let hash = hash(context);
        Some((hash as usize & (self.slots.len() - 1), (hash >> 48) as u16))
    }

    fn find(&self, recent: &[u32]) -> Option<Slot> {
        let (slot, tag) = self.place(recent)?;
        Some(self.slots[slot]).filter(|slot| slot.all > 0 && slot.tag == tag)
    }

    fn follow(&mut self, recent: &[u32], token: u32) {
        if let Some((slot, tag)) = self.place(recent) {
            self.slots[slot].follow(tag, token);
        }
    }
}

/// What followed contexts in the texts of all requests.
#[derive(Clone, Debug)]
pub(crate) struct Shared([Table; SHARED.len()]);

impl Shared {
    pub(crate) const BYTES: usize = SHARED.len() * SHARED_SLOTS * size_of::<Slot>();

    pub(crate) fn new() -> Self {
        Self(SHARED.map(|context| Table::new(context, SHARED_SLOTS)))
    }
}

/// What followed contexts in one text.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    own: [Table; OWN.len()],
    /// Tokens that were read.
    read: usize,
}

impl Lookup {
    /// For a sequence of up to `tokens` tokens.
    pub(crate) fn new(tokens: usize) -> Self {
        Self { own: OWN.map(|context| Table::new(context, slots(tokens))), read: 0 }
    }

    /// Bytes for a sequence of up to `tokens` tokens.
    pub(crate) fn bytes(tokens: usize) -> usize {
        OWN.len() * slots(tokens) * size_of::<Slot>()
    }

    /// Reads the tokens of `text` that are new. What would have been guessed of those that were sampled is noted in
    /// `schedule`: so it is measured at no cost, whether drafts were made or not.
    pub(crate) fn read(&mut self, text: Text<'_>, shared: &mut Shared, schedule: &mut Schedule) {
        for at in self.read.max(1)..text.len() {
            let (recent, token) = (Recent::before(text, at), text.token(at));
            let is_sampled = at >= text.prompt.len();
            if is_sampled {
                for guess in self.guesses(recent.tokens(), shared) {
                    schedule.observe(guess, guess.token == token);
                }
                shared.0.iter_mut().for_each(|table| table.follow(recent.tokens(), token));
            }
            self.own.iter_mut().for_each(|table| table.follow(recent.tokens(), token));
        }
        self.read = text.len();
    }

    /// What may follow `recent`, by each table that knows anything.
    fn guesses<'a>(&'a self, recent: &'a [u32], shared: &'a Shared) -> impl Iterator<Item = Guess> + 'a {
        let tables = self.own.iter().chain(&shared.0).enumerate();
        let after = recent.last().copied().unwrap_or(0);
        tables.filter_map(move |(i, table)| {
            let slot = table.find(recent)?;
            Some(Guess { token: slot.token, class: i * GRADES + slot.grade(), after })
        })
    }

    /// How `text`, which was read, may go on: the likeliest tokens one after another, of up to `most` as many as pay in
    /// `pass`. What another source has guessed of the first, it says in `known`.
    pub(crate) fn draft(
        &self,
        text: Text<'_>,
        known: &[Guess],
        shared: &Shared,
        schedule: &Schedule,
        most: usize,
        pass: &mut Expected,
    ) -> Vec<u32> {
        let (mut draft, mut recent, mut chance) = (Vec::new(), Recent::before(text, text.len()), 1.0);
        let mut known = known.iter().copied();
        while draft.len() < most {
            let of_other = known.next();
            let guesses = self.guesses(recent.tokens(), shared).chain(of_other);
            let best = guesses.map(|guess| (schedule.chance(guess), guess.token));
            let Some((of_best, token)) = best.max_by(|a, b| a.0.total_cmp(&b.0)) else { break };
            chance *= of_best;
            if !pass.take(chance) {
                break;
            }
            if of_other.is_some_and(|guess| guess.token != token) {
                known = [].iter().copied(); // what follows was guessed of another token
            }
            draft.push(token);
            recent.push(token);
        }
        draft
    }
}

/// The last tokens of a text.
struct Recent {
    tokens: [u32; LONGEST],
    count: usize,
}

impl Recent {
    /// Of `text` before `end`.
    fn before(text: Text<'_>, end: usize) -> Self {
        let mut recent = Self { tokens: [0; LONGEST], count: 0 };
        (end.saturating_sub(LONGEST)..end).for_each(|i| recent.push(text.token(i)));
        recent
    }

    fn push(&mut self, token: u32) {
        self.tokens.rotate_left(1);
        self.tokens[LONGEST - 1] = token;
        self.count = (self.count + 1).min(LONGEST);
    }

    fn tokens(&self) -> &[u32] {
        &self.tokens[LONGEST - self.count..]
    }
}

fn slots(tokens: usize) -> usize {
    tokens.next_power_of_two().min(MAX_SLOTS)
}

/// A hash of some tokens.
fn hash(tokens: &[u32]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15; // 2⁶⁴ over the golden ratio (Knuth, volume 3, section 6.4)
    let mix = |hash: u64, &token: &u32| (hash ^ u64::from(token)).wrapping_mul(ODD).rotate_left(29);
    let hash = tokens.iter().fold(0, mix);
    (hash ^ hash >> 32).wrapping_mul(ODD)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables that know `texts`, each with so many sampled tokens at its end, and the lookup of the last.
    fn after(texts: &[(&[u32], usize)]) -> (Lookup, Shared, Schedule) {
        let (mut shared, mut schedule) = (Shared::new(), Schedule::default());
        let mut last = Lookup::new(64);
        for (tokens, sampled) in texts {
            last = Lookup::new(64);
            let (prompt, completion) = tokens.split_at(tokens.len() - sampled);
            // However often it reads, it knows the same.
            for end in 0..=completion.len() {
                last.read(Text { prompt, completion: &completion[..end] }, &mut shared, &mut schedule);
            }
        }
        (last, shared, schedule)
    }

    /// What is drafted after the whole of `tokens`, the last `sampled` of which are no prompt's, where every guess pays.
    fn draft(tokens: &[u32], sampled: usize, most: usize) -> Vec<u32> {
        let (lookup, shared, schedule) = after(&[(tokens, sampled)]);
        let (text, pass) = (Text { prompt: tokens, completion: &[] }, &mut Expected::new(1, 1e12));
        lookup.draft(text, &[], &shared, &schedule, most, pass)
    }

    #[test]
    fn a_text_is_guessed_to_go_on_as_it_did() {
        assert!(draft(&[1, 2, 3, 4], 0, 3).is_empty(), "nothing stood before");
        assert_eq!(draft(&[7, 1, 2, 8, 5, 1, 2], 0, 3), [8, 5, 1]);
        assert_eq!(draft(&[3, 9, 3], 0, 1), [9], "one token is enough");
        assert_eq!(draft(&[5, 1, 2, 3, 1, 2], 0, 7), [3, 1, 2, 3, 1, 2, 3], "it repeats itself");
        assert_eq!(draft(&[4, 4, 4], 0, 4), [4, 4, 4, 4]);
    }

    #[test]
    fn what_other_texts_sampled_is_known_and_their_prompts_are_not() {
        let (lookup, shared, schedule) = after(&[(&[1, 2, 3, 4, 5], 2), (&[9, 2, 3], 0)]);
        let text = Text { prompt: &[9, 2, 3], completion: &[] };
        let pass = &mut Expected::new(1, 1e12);
        assert_eq!(lookup.draft(text, &[], &shared, &schedule, 4, pass), [4, 5]);
        let (lookup, shared, schedule) = after(&[(&[1, 2, 3, 4, 5], 1), (&[9, 2, 3], 0)]);
        assert!(lookup.draft(text, &[], &shared, &schedule, 4, pass).is_empty());
    }

    #[test]
    fn guesses_of_sampled_tokens_are_observed() {
        let (_, _, schedule) = after(&[(&[1, 2, 3, 1, 2], 2)]);
        // The first sampled token was unknown; after it 2 stood.
        let mut expected = Schedule::default();
        expected.observe(Guess { token: 2, class: 0, after: 1 }, true);
        assert_eq!(format!("{schedule:?}"), format!("{expected:?}"));
    }

    #[test]
    fn another_sources_guess_is_taken_where_it_is_likelier() {
        let (lookup, shared, mut schedule) = after(&[(&[1, 2, 3, 1], 0)]);
        let text = Text { prompt: &[1, 2, 3, 1], completion: &[] };
        let known = [7, 8].map(|token| Guess { token, class: CLASSES, after: 1 });
        for right in [true, false] {
            (0..9).for_each(|_| schedule.observe(known[0], right));
            let pass = &mut Expected::new(1, 1e12);
            let draft = lookup.draft(text, &known, &shared, &schedule, 2, pass);
            assert_eq!(draft, if right { [7, 8] } else { [2, 3] });
            (0..100).for_each(|_| schedule.observe(known[0], false));
        }
    }

    #[test]
    fn a_slot_is_as_certain_as_its_token_was_right() {
        let grades = |tokens: &[u32]| {
            let mut slot = Slot::default();
            for &token in tokens {
                slot.follow(1, token);
            }
            (slot.token, slot.grade())
        };
        assert_eq!(
            [&[5][..], &[5; 2], &[5; 7], &[5; 8], &[5; 500]].map(grades),
            [(5, 0), (5, 5), (5, 6), (5, 7), (5, 7)]
        );
        assert_eq!([&[5, 6][..], &[5, 5, 6], &[5, 5, 5, 6]].map(grades), [(6, 1), (5, 2), (5, 3)]);
        let mut often = vec![5; 30];
        often.push(6);
        assert_eq!(grades(&often), (5, 4));
    }

    #[test]
    fn memory_is_bounded() {
        assert_eq!(Lookup::bytes(8), 3 * 8 * 8);
        assert_eq!(Lookup::bytes(1 << 30), 3 * 8 * MAX_SLOTS);
        assert_eq!(Shared::BYTES, 1 << 17);
    }
}
