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
//! the guesses of each class so far, the share that was right. Nothing depends on a clock: a run that is repeated drafts the
//! same tokens.

/// Classes of guesses, from the least to the most certain; each source has its own.
pub(crate) const CLASSES: usize = 8;

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

/// How often guesses were right.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schedule {
    classes: [Guesses; CLASSES],
}

#[derive(Clone, Copy, Debug, Default)]
struct Guesses {
    right: u32,
    all: u32,
}

impl Schedule {
    /// Takes note of a guess of class `class`; classes beyond the last are the last.
    pub(crate) fn observe(&mut self, class: usize, right: bool) {
        let guesses = &mut self.classes[class.min(CLASSES - 1)];
        guesses.right += u32::from(right);
        guesses.all += 1;
        if guesses.all == REMEMBERED {
            *guesses = Guesses { right: guesses.right / 2, all: guesses.all / 2 };
        }
    }

    /// The chance that a guess is right (Laplace's rule of succession: a half before there are any).
    fn chance(&self, class: usize) -> f64 {
        let Guesses { right, all } = self.classes[class.min(CLASSES - 1)];
        f64::from(right + 1) / f64::from(all + 2)
    }

    /// How many tokens of a draft pay, of up to `most`, where the first is a guess of class `class`, and each that
    /// follows of the next; they become a part of `pass`.
    pub(crate) fn length(&self, class: usize, most: usize, pass: &mut Expected) -> usize {
        let mut chance = 1.0;
        for n in 0..most {
            chance *= self.chance(class + n);
            if chance * pass.cost <= pass.tokens {
                return n;
            }
            pass.tokens += chance;
            pass.cost += 1.0;
        }
        most
    }
}

/// What is expected of a pass.
#[derive(Clone, Copy, Debug)]
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(right: u32, all: u32) -> Schedule {
        Schedule { classes: [Guesses { right, all }; CLASSES] }
    }

    #[test]
    fn one_sequence_drafts_more_than_many_do() {
        let length = |schedule: &Schedule, sequences| {
            schedule.length(0, 8, &mut Expected::new(sequences, overhead(256, 1.0)))
        };
        // A guess is added while its chance exceeds the tokens of the pass over its rows: 1/2 > 1/9.25, 1/4 > 1.5/10.25, but
        // 1/8 < 1.75/11.25.
        assert_eq!(length(&Schedule::default(), 1), 2);
        assert_eq!(length(&Schedule::default(), 64), 0, "64 / 88 of a token a row");
        let certain = schedule(98, 98);
        assert_eq!([1, 8, 64, 512].map(|n| length(&certain, n)), [8, 8, 8, 8]);
        let likely = schedule(78, 98);
        assert_eq!([1, 8, 64, 512].map(|n| length(&likely, n)), [5, 3, 1, 0]);
        assert_eq!(length(&schedule(0, 30), 1), 0, "guesses that were wrong");
    }

    #[test]
    fn what_others_drafted_is_a_part_of_the_pass() {
        let (schedule, mut pass) = (schedule(78, 98), Expected::new(8, 8.0));
        let lengths = [(); 8].map(|()| schedule.length(0, 8, &mut pass));
        assert!(lengths.is_sorted_by(|a, b| a >= b) && lengths[0] > lengths[7], "{lengths:?}");
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut schedule = Schedule::default();
        (0..10_000).for_each(|_| schedule.observe(3, true));
        assert!(schedule.chance(3) > 0.98);
        (0..200).for_each(|_| schedule.observe(3, false));
        assert!(schedule.chance(3) < 0.2, "{}", schedule.chance(3));
        assert_eq!(schedule.chance(2), 0.5);
    }
}
