//! Drafts: guesses of the tokens that follow, which the model checks in one pass (arXiv:2211.17192).
//!
//! A sequence feeds the token that it sampled last, and after it the tokens of a draft. The row of each gives what the model
//! samples after it; a draft's token is right exactly if it is the token that was sampled at its place, and everything after
//! the first that is wrong is thrown away. Since a row's bits depend on no neighbour, and a random number on the place of its
//! token alone ([`uniform`](crate::uniform)), what is sampled has the same bits as without drafts, whatever the guesses:
//! nothing is accepted with a probability, and drafts decide about speed alone.
//!
//! - `lookup.rs`: drafts from the text itself,
//! - `schedule.rs`: how many tokens are drafted, and whether a module is asked.
//!
//! A source of drafts is a variant of [`Source`], which [`Drafter::draft`] asks before each pass. What it keeps of a
//! request is in [`State`].

mod lookup;
mod schedule;
#[cfg(test)]
mod tests;

use self::{
    lookup::{Lookup, Shared},
    schedule::{Guess, Schedule},
};

pub(crate) use self::schedule::{Expected, overhead};

/// Passes that a module has to show what it is worth.
const TRIAL: usize = 32;

/// Passes of a module that are remembered, about: older ones count half, a quarter, and so on.
const REMEMBERED: usize = 128;

/// Tokens that a module drafts for a sequence, at most.
pub(crate) const MOST_OF_MODULE: usize = 8;

/// Tokens drafted for a sequence in one pass, at most.
pub(crate) const MOST: usize = 15;

/// Where drafts come from: guesses of the next tokens, which the model checks in one pass. What is sampled is the same bits
/// with any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drafts {
    /// There are none.
    #[default]
    Off,
    /// From the prompt and what was sampled: where the last tokens stood before, what followed them there.
    Text,
    /// From the model's first module that predicts further tokens (DeepSeek-V3's), and from the text where that is likelier.
    MultiToken,
}

impl Drafts {
    /// Bytes of the host that the drafts of a sequence of up to `tokens` tokens take.
    pub(crate) fn bytes(self, tokens: usize) -> usize {
        match self {
            Self::Off => 0,
            Self::Text | Self::MultiToken => Lookup::bytes(tokens),
        }
    }

    /// Bytes of the host that all sequences share.
    pub(crate) fn shared_bytes(self) -> usize {
        match self {
            Self::Off => 0,
            Self::Text | Self::MultiToken => Shared::BYTES,
        }
    }
}

/// The tokens of a sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a> {
    /// Those it was given.
    pub(crate) prompt: &'a [u32],
    /// Those it sampled.
    pub(crate) completion: &'a [u32],
}

impl Text<'_> {
    fn len(&self) -> usize {
        self.prompt.len() + self.completion.len()
    }

    fn token(&self, i: usize) -> u32 {
        self.prompt.get(i).copied().unwrap_or_else(|| self.completion[i - self.prompt.len()])
    }
}

/// What a source keeps of a request.
#[derive(Debug, Default)]
pub(crate) struct State {
    lookup: Option<Lookup>,
    /// What a module guesses of the next tokens.
    guesses: Vec<Guess>,
    /// The chance that all of them are right.
    chance: f64,
}

impl State {
    /// How many tokens a module guessed.
    pub(crate) fn guessed(&self) -> usize {
        self.guesses.len()
    }

    /// The last token that a module guessed, or else the last that was sampled.
    fn last(&self, text: Text<'_>) -> u32 {
        self.guesses.last().map_or_else(|| text.token(text.len() - 1), |guess| guess.token)
    }
}

/// Makes the drafts of all requests.
pub(crate) struct Drafter {
    source: Source,
    schedule: Schedule,
    shared: Option<Shared>,
    worth: Worth,
}

/// What a module is worth: what is expected of passes with its guesses, which cost its passes, and of the same without them.
#[derive(Clone, Copy, Default)]
struct Worth {
    passes: usize,
    with: Expected,
    without: Expected,
    /// Whether it was found to be worth nothing.
    stopped: bool,
}

pub(crate) enum Source {
    Off,
    Text,
    MultiToken,
    /// What a test says, as many tokens as it likes.
    #[cfg(test)]
    Script(Script),
}

#[cfg(test)]
pub(crate) type Script = Box<dyn FnMut(Text<'_>, usize) -> Vec<u32>>;

impl Drafter {
    pub(crate) fn new(drafts: Drafts) -> Self {
        Self::of(match drafts {
            Drafts::Off => Source::Off,
            Drafts::Text => Source::Text,
            Drafts::MultiToken => Source::MultiToken,
        })
    }

    pub(crate) fn of(source: Source) -> Self {
        let reads = matches!(source, Source::Text | Source::MultiToken);
        let shared = reads.then(Shared::new);
        Self { source, schedule: Schedule::default(), shared, worth: Worth::default() }
    }

    /// Whether a module drafts, and is worth its passes.
    pub(crate) fn asks_module(&self) -> bool {
        matches!(self.source, Source::MultiToken) && !self.worth.stopped
    }

    /// Takes a module's guess of the next token after `text` and its guesses so far, to which it gave the probability whose
    /// logarithm is `log_prob`. Whether another guess, for which its pass costs `cost` rows, is likely to pay in `pass`.
    pub(crate) fn guess(
        &self,
        text: Text<'_>,
        state: &mut State,
        (token, log_prob): (u32, f32),
        cost: f64,
        pass: &mut Expected,
    ) -> bool {
        let guess = Guess::of_module(token, log_prob, state.last(text));
        let before = if state.guesses.is_empty() { 1.0 } else { state.chance };
        state.chance = before * self.schedule.chance(guess);
        state.guesses.push(guess);
        pass.take(state.chance) && pass.take_for(state.chance * self.schedule.chance_of_module(), cost)
    }

    /// Compares what was guessed with what was sampled, the last `sampled` tokens of `text`; a module's guesses are forgotten.
    pub(crate) fn compare(&mut self, text: Text<'_>, longest: usize, state: &mut State, sampled: usize) {
        for (guess, i) in state.guesses.drain(..).zip(text.len() - sampled..text.len()) {
            let right = guess.token == text.token(i);
            self.schedule.observe(guess, right);
            if !right {
                break;
            }
        }
        if let Some(shared) = &mut self.shared {
            let lookup = state.lookup.get_or_insert_with(|| Lookup::new(longest));
            lookup.read(text, shared, &mut self.schedule);
        }
    }

    /// Takes note of what is expected of a pass with a module's guesses, and of the same pass without them.
    pub(crate) fn count_pass(&mut self, with: Expected, without: Expected) {
        if self.asks_module() {
            let worth = &mut self.worth;
            worth.with.add(with);
            worth.without.add(without);
            worth.passes += 1;
            worth.stopped = worth.passes >= TRIAL && worth.with.is_worse_than(worth.without);
            if worth.passes == REMEMBERED {
                worth.passes /= 2;
                worth.with.halve();
                worth.without.halve();
            }
        }
    }

    /// Takes note of a module's pass, which costs as much as so many rows.
    pub(crate) fn count_module(&mut self, cost: f64) {
        self.worth.with.add_cost(cost);
    }

    /// Forgets what it read and how good its guesses were.
    pub(crate) fn forget(&mut self) {
        (self.schedule, self.worth) = (Schedule::default(), Worth::default());
        self.shared = self.shared.take().map(|_| Shared::new());
    }

    /// A draft of up to `most` tokens that follow `text`, which never has more than `longest`; none where none pays in a
    /// pass of which so much is `expected`, and would be `without` a module.
    pub(crate) fn draft(
        &mut self,
        text: Text<'_>,
        longest: usize,
        state: &mut State,
        most: usize,
        [expected, without]: [&mut Expected; 2],
    ) -> Vec<u32> {
        match (&mut self.source, &mut self.shared) {
            (Source::Text | Source::MultiToken, Some(shared)) => {
                let lookup = state.lookup.get_or_insert_with(|| Lookup::new(longest));
                lookup.read(text, shared, &mut self.schedule);
                let draft =
                    |known: &[Guess], pass| lookup.draft(text, known, shared, &self.schedule, most, pass);
                if !self.worth.stopped && matches!(self.source, Source::MultiToken) {
                    draft(&[], without);
                }
                draft(&state.guesses, expected)
            }
            #[cfg(test)]
            (Source::Script(script), _) => {
                let mut draft = script(text, most);
                draft.truncate(most);
                draft
            }
            _ => Vec::new(),
        }
    }
}
