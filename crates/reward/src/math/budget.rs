//! The work one verdict may take, counted in steps rather than seconds, so that every machine stops at the
//! same point.

use std::cell::Cell;

/// Steps of one verdict. A step is about as much as a token read or a 64-bit word multiplied: the whole
/// budget is a few tens of milliseconds.
const STEPS: u64 = 1_500_000;

/// What is left of a verdict's steps.
#[derive(Debug)]
pub(crate) struct Budget(Cell<u64>);

impl Budget {
    /// A full budget.
    pub(crate) fn new() -> Self {
        Self(Cell::new(STEPS))
    }

    /// An eighth of a full budget, to look into what a full one did not decide.
    pub(crate) fn small() -> Self {
        Self(Cell::new(STEPS / 8))
    }

    /// Takes `steps`; once they do not suffice, nothing is left for anything.
    pub(crate) fn spend(&self, steps: u64) -> Result<(), Trouble> {
        let left = self.0.get().checked_sub(steps);
        self.0.set(left.unwrap_or(0));
        left.map(|_| ()).ok_or(Trouble::Spent)
    }
}

/// Why an expression could not be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The budget is spent, or a number would exceed its bound.
    Spent,
    /// It has no value here: a division by zero, a logarithm of zero, a function off its domain.
    Undefined,
    /// The precision at hand cannot tell on which side of a branch it lies.
    Imprecise,
    /// It is not the kind of thing that has a value: a set, a text, a sum that is not expanded.
    NoValue,
}
