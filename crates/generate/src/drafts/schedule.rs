//! How many tokens are drafted: as many as a pass is likely to gain by.
//!
//! A pass brings a token for every sequence, and one more for every token of a draft that is right. It costs its rows, and
//! something of its own: reading all weights. So a token of a draft pays where
//!
//! ```text
//! chance / 1 row  >  tokens expected of the pass / its cost in rows
//! cost = overhead + 1.25 · sequences + rows of drafts
//! ```
//!
//! One sequence drafts wherever a guess is any good, and a large batch only what is very likely. The chance is measured: of
//! the guesses of each class so far, and of those after the same token, the share that was right. Nothing depends on a clock:
//! a run that is repeated drafts the same tokens.
//!
//! A module's pass costs its share of the model's weights in such passes. It is asked while what is expected of passes with it,
//! tokens by cost, is no less than of the same passes without it.

use super::lookup;

/// How certain a source can be of a guess, from 0 up; each source has a class for each of them.
pub(crate) const GRADES: usize = 8;

/// Classes of guesses: the tables' of the text, and a module's.
const CLASSES: usize = lookup::CLASSES + GRADES;

/// Guesses of a class after some token that are told apart, at most: a power of two.
const AFTER: usize = 1 << 12;

/// As how many guesses of its own the chance of a class counts, for its guesses after one token.
const PRIOR: f64 = 2.0;

/// Guesses of a class that are remembered, about: older ones count half, a quarter, and so on.
const REMEMBERED: u32 = 128;

/// What a pass costs besides its rows, as a share of the rows that keep a device busy
/// ([`Backend::pass_rows`](koan_backend::Backend::pass_rows)): 8 rows of a processor. Measured there on two cores with AVX-512:
/// 5 with a model of 300,000 parameters, 10 to 15 with 5, 28 and 135 million.
const OVERHEAD: f64 = 1.0 / 32.0;

/// What a pass costs besides its rows, in rows, on a device that `pass_rows` rows keep busy. All rows of the pass read the share
/// `common` of the weights: a row that chooses experts reads its own, whatever else is there.
pub(crate) fn overhead(pass_rows: usize, common: f64) -> f64 {
    OVERHEAD * common * pass_rows as f64
}

/// What a sequence's own row costs, in rows of its draft, which find its keys at hand. Measured there with 64 sequences: 1.7
/// with 5 million parameters, 3 with 300,000; the larger a model, the less.
const SEQUENCE: f64 = 1.25;

/// A guess of a token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guess {
    pub(crate) token: u32,
    pub(crate) class: usize,
    /// The token before it.
    pub(crate) after: u32,
}

impl Guess {
    /// A module's, which it gave the probability whose logarithm is `log_prob`.
    pub(crate) fn of_module(token: u32, log_prob: f32, after: u32) -> Self {
        /// Least probabilities of the grades from 1 on.
        const LEAST: [f32; GRADES - 1] = [0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.997];
        let grade = LEAST.iter().take_while(|&&least| log_prob.exp() >= least).count();
        Self { token, class: lookup::CLASSES + grade, after }
    }
}

/// How often guesses were right.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    classes: [Share; CLASSES],
    /// Of a class and a token, by their hash.
    after: Vec<Share>,
    /// Of a module, all.
    module: Share,
}

impl Default for Schedule {
    fn default() -> Self {
        let none = Share::default();
        Self { classes: [none; CLASSES], after: vec![none; AFTER], module: none }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Share {
    right: u32,
    all: u32,
}

impl Share {
    fn observe(&mut self, right: bool) {
        self.right += u32::from(right);
        self.all += 1;
        if self.all == REMEMBERED {
            *self = Self { right: self.right / 2, all: self.all / 2 };
        }
    }

    /// The chance that a guess is right (Laplace's rule of succession: a half before there are any).
    fn chance(self) -> f64 {
        f64::from(self.right + 1) / f64::from(self.all + 2)
    }

    /// The same where guesses like these had the chance `prior`.
    fn chance_of(self, prior: f64) -> f64 {
        (f64::from(self.right) + PRIOR * prior) / (f64::from(self.all) + PRIOR)
    }
}

/// Where the guesses of a class after a token are counted.
fn slot(Guess { class, after, .. }: Guess) -> usize {
    const ODD: usize = 0x9e37_79b9; // 2³² over the golden ratio
    (after as usize * CLASSES + class).wrapping_mul(ODD) >> 12 & (AFTER - 1)
}

impl Schedule {
    /// Takes note of a guess.
    pub(crate) fn observe(&mut self, guess: Guess, right: bool) {
        self.classes[guess.class].observe(right);
        self.after[slot(guess)].observe(right);
        if guess.class >= lookup::CLASSES {
            self.module.observe(right);
        }
    }

    /// The chance that a guess is right.
    pub(crate) fn chance(&self, guess: Guess) -> f64 {
        self.after[slot(guess)].chance_of(self.classes[guess.class].chance())
    }

    /// The chance that a module's next guess is right.
    pub(crate) fn chance_of_module(&self) -> f64 {
        self.module.chance()
    }
}

/// What is expected of a pass, or of several.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Expected {
    tokens: f64,
    /// In rows.
    cost: f64,
}

impl Expected {
    /// Of a pass for so many sequences without drafts, which costs as much as `overhead` rows besides its own.
    pub(crate) fn new(sequences: usize, overhead: f64) -> Self {
        let tokens = sequences as f64;
        Self { tokens, cost: overhead + SEQUENCE * tokens }
    }

    /// Whether a token pays that comes with this chance, for a row; if so it becomes a part of the pass.
    pub(crate) fn take(&mut self, chance: f64) -> bool {
        self.take_for(chance, 0.0)
    }

    /// The same of one that costs something besides its row.
    pub(crate) fn take_for(&mut self, chance: f64, cost: f64) -> bool {
        let pays = chance * self.cost > self.tokens * (1.0 + cost);
        if pays {
            self.tokens += chance;
            self.cost += 1.0 + cost;
        }
        pays
    }

    /// Adds a cost that brings nothing.
    pub(crate) fn add_cost(&mut self, rows: f64) {
        self.cost += rows;
    }

    /// Adds what is expected of another pass.
    pub(crate) fn add(&mut self, other: Self) {
        self.tokens += other.tokens;
        self.cost += other.cost;
    }

    /// Counts half.
    pub(crate) fn halve(&mut self) {
        (self.tokens, self.cost) = (self.tokens / 2.0, self.cost / 2.0);
    }

    /// Whether it brings less for its cost than `other`.
    pub(crate) fn is_worse_than(self, other: Self) -> bool {
        self.tokens * other.cost < other.tokens * self.cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUESS: Guess = Guess { token: 1, class: 3, after: 2 };

    fn schedule(right: usize, all: usize) -> Schedule {
        let mut schedule = Schedule::default();
        (0..all).for_each(|i| schedule.observe(GUESS, i < right));
        schedule
    }

    /// How many guesses pay, of up to 8.
    fn length(schedule: &Schedule, pass: &mut Expected) -> usize {
        let chance = schedule.chance(GUESS);
        (1..=8).take_while(|&n| pass.take(chance.powi(n))).count()
    }

    #[test]
    fn one_sequence_drafts_more_than_many_do() {
        let length = |schedule: &Schedule, sequences| {
            length(schedule, &mut Expected::new(sequences, overhead(256, 1.0)))
        };
        // A guess is added while its chance exceeds the tokens of the pass over its rows: 1/2 > 1/9.25, 1/4 > 1.5/10.25, but
        // 1/8 < 1.75/11.25.
        assert_eq!(length(&Schedule::default(), 1), 2);
        assert_eq!(length(&Schedule::default(), 64), 0, "64 / 88 of a token a row");
        let certain = schedule(98, 98);
        assert_eq!([1, 8, 64, 512].map(|n| length(&certain, n)), [8, 8, 8, 8]);
        let likely = schedule(77, 98);
        assert_eq!([1, 8, 64, 512].map(|n| length(&likely, n)), [5, 3, 1, 0]);
        assert_eq!(length(&schedule(0, 30), 1), 0, "guesses that were wrong");
    }

    #[test]
    fn what_others_drafted_is_a_part_of_the_pass() {
        let (schedule, mut pass) = (schedule(78, 98), Expected::new(8, 8.0));
        let lengths = [(); 8].map(|()| length(&schedule, &mut pass));
        assert!(lengths.is_sorted_by(|a, b| a >= b) && lengths[0] > lengths[7], "{lengths:?}");
    }

    #[test]
    fn what_costs_a_modules_pass_must_be_likelier() {
        let one = Expected::new(1, 8.0); // 1 token for 9.25 rows
        assert!(
            one.clone().take(0.11) && !one.clone().take_for(0.11, 2.0) && one.clone().take_for(0.33, 2.0)
        );
        let mut both = one;
        both.take_for(0.33, 2.0);
        assert!(one.is_worse_than(both) && !both.is_worse_than(one));
        both.add_cost(1.0);
        assert!(both.is_worse_than(one));
    }

    #[test]
    fn a_token_before_it_tells_guesses_of_a_class_apart() {
        let mut schedule = Schedule::default();
        for _ in 0..50 {
            schedule.observe(Guess { after: 1, ..GUESS }, true);
            schedule.observe(Guess { after: 2, ..GUESS }, false);
        }
        let chance = |after| schedule.chance(Guess { after, ..GUESS });
        assert!(chance(1) > 0.95 && chance(2) < 0.05 && chance(3) == 0.5);
    }

    #[test]
    fn a_module_is_as_certain_as_it_says() {
        let class = |p: f32| Guess::of_module(1, p.ln(), 2).class - lookup::CLASSES;
        assert_eq!([0.1, 0.6, 0.8, 0.92, 0.97, 0.985, 0.995, 0.999].map(class), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut schedule = schedule(10_000, 10_000);
        assert!(schedule.chance(GUESS) > 0.98);
        (0..200).for_each(|_| schedule.observe(GUESS, false));
        assert!(schedule.chance(GUESS) < 0.2, "{}", schedule.chance(GUESS));
        assert_eq!(schedule.chance(Guess { class: 2, ..GUESS }), 0.5);
    }
}
