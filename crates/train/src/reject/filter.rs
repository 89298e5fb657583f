//! Which completions are refused, and by what: each filter in its turn, the cheapest first.

use std::collections::HashSet;

use koan_reward::{
    Outcome,
    form::{
        format::{self, Shape},
        language::{self, PROBLEM},
        reasoning, repetition,
    },
};
use serde::{Deserialize, Serialize};

use super::{
    config::{FilterConfig, FormatFilter},
    sample::{Answer, Group},
};

/// What becomes of a completion. Those between [`Self::Cut`] and [`Self::PassRate`] are refused, by the first filter that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It was cut at the longest length.
    Cut,
    /// It has no text. Such a completion is never kept.
    Empty,
    /// It is not of the shape that is asked for.
    Format,
    /// Its reasoning is in several languages, or in another one.
    Language,
    /// Its reasoning has a long paragraph.
    Paragraph,
    /// Its thinking has a block of code.
    Code,
    /// It repeats itself.
    Repetition,
    /// It is too short or too long.
    Length,
    /// Whether it is right, or what it earned, is not decided.
    Undecided,
    /// It is not correct.
    Wrong,
    /// It earned too little.
    Reward,
    /// An earlier completion of the problem has the same text.
    Duplicate,
    /// The problem is too easy or too hard.
    PassRate,
    /// No filter refused it, and it was not chosen.
    Surplus,
    /// It is in the data.
    Kept,
}

/// Counts of completions: how many have each [`Fate`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each is a fate")]
pub struct Fates {
    pub cut: u64,
    pub empty: u64,
    pub format: u64,
    pub language: u64,
    pub paragraph: u64,
    pub code: u64,
    pub repetition: u64,
    pub length: u64,
    pub undecided: u64,
    pub wrong: u64,
    pub reward: u64,
    pub duplicate: u64,
    pub pass_rate: u64,
    pub surplus: u64,
    pub kept: u64,
}

impl Fates {
    /// Counts a completion.
    pub fn add(&mut self, fate: Fate) {
        *match fate {
            Fate::Cut => &mut self.cut,
            Fate::Empty => &mut self.empty,
            Fate::Format => &mut self.format,
            Fate::Language => &mut self.language,
            Fate::Paragraph => &mut self.paragraph,
            Fate::Code => &mut self.code,
            Fate::Repetition => &mut self.repetition,
            Fate::Length => &mut self.length,
            Fate::Undecided => &mut self.undecided,
            Fate::Wrong => &mut self.wrong,
            Fate::Reward => &mut self.reward,
            Fate::Duplicate => &mut self.duplicate,
            Fate::PassRate => &mut self.pass_rate,
            Fate::Surplus => &mut self.surplus,
            Fate::Kept => &mut self.kept,
        } += 1;
    }

    /// Each count with what it counts, in the order in which filters are asked.
    pub fn named(&self) -> [(&'static str, u64); 15] {
        [
            ("cut", self.cut),
            ("empty", self.empty),
            ("format", self.format),
            ("language", self.language),
            ("paragraph", self.paragraph),
            ("code", self.code),
            ("repetition", self.repetition),
            ("length", self.length),
            ("undecided", self.undecided),
            ("wrong", self.wrong),
            ("reward", self.reward),
            ("duplicate", self.duplicate),
            ("pass rate", self.pass_rate),
            ("surplus", self.surplus),
            ("kept", self.kept),
        ]
    }

    /// All completions.
    pub fn all(&self) -> u64 {
        self.named().iter().map(|(_, n)| n).sum()
    }
}

impl FilterConfig {
    /// What refuses each completion of `group`, if anything does. Where completions are compared by their rewards, a wrong one may be
    /// the worse one, so that `wrong` and `min_reward` are asked of the better one alone, later.
    pub(super) fn refusals(&self, group: &Group, by_reward: bool) -> Vec<Option<Fate>> {
        let mut seen = HashSet::new();
        let refusal = |sample: &Answer| {
            let refused = self.refusal(sample, group, by_reward);
            // Only what would be kept has a text that others repeat.
            let is_new = refused.is_some() || !self.duplicates || seen.insert(sample.text.trim().to_owned());
            refused.or_else(|| (!is_new).then_some(Fate::Duplicate))
        };
        group.samples.iter().map(refusal).collect()
    }

    /// What refuses a completion of `group` by itself.
    fn refusal(&self, sample: &Answer, group: &Group, by_reward: bool) -> Option<Fate> {
        let (text, tokens) = (&*sample.text, sample.tokens);
        if self.cut && sample.truncated {
            return Some(Fate::Cut);
        }
        if text.trim().is_empty() {
            return Some(Fate::Empty);
        }
        if !self.has_format(text, group.opened.is_some()) {
            return Some(Fate::Format);
        }
        if !self.has_language(text, group.language) {
            return Some(Fate::Language);
        }
        if self.max_paragraph > 0
            && reasoning(text).lines().any(|line| line.chars().count() > self.max_paragraph)
        {
            return Some(Fate::Paragraph);
        }
        let thinking = text.rsplit_once("</think>").map(|(thinking, _)| thinking);
        if self.code && thinking.is_some_and(|thinking| thinking.contains("```")) {
            return Some(Fate::Code);
        }
        if self.repeats_itself(text) {
            return Some(Fate::Repetition);
        }
        if tokens < self.min_tokens || (self.max_tokens > 0 && tokens > self.max_tokens) {
            return Some(Fate::Length);
        }
        if by_reward {
            return sample.judgement.reward.is_none().then_some(Fate::Undecided);
        }
        self.by_outcome(sample)
    }

    /// What refuses a completion by what it earned.
    pub(super) fn by_outcome(&self, sample: &Answer) -> Option<Fate> {
        let outcome = outcome(sample);
        let reward = sample.judgement.reward.map(f64::from);
        let undecided = (self.wrong
            && matches!(outcome, None | Some(Outcome::Undecided | Outcome::BadReference)))
            || (self.min_reward.is_some() && reward.is_none());
        if self.asks_for_outcome() && undecided {
            return Some(Fate::Undecided);
        }
        if self.wrong && outcome != Some(Outcome::Correct) {
            return Some(Fate::Wrong);
        }
        (self.min_reward > reward).then_some(Fate::Reward)
    }

    fn has_format(&self, text: &str, opened: bool) -> bool {
        let has_tag = opened || text.contains("<think>") || text.contains("</think>");
        let shape = match self.format {
            FormatFilter::Off => return true,
            FormatFilter::Any if !has_tag => return true,
            FormatFilter::Any | FormatFilter::Think => Shape::Think,
            FormatFilter::ThinkAnswer => Shape::ThinkAnswer,
        };
        let options = format::Options { shape, opened, ..format::Options::default() };
        format::judge(text, &options).outcome == Outcome::Correct
    }

    /// Whether the reasoning is in the language that is asked for, which may be `of_problem`; where that has none, in any one.
    fn has_language(&self, text: &str, of_problem: Option<&str>) -> bool {
        let language = match &*self.language {
            "off" => return true,
            "unmixed" => None,
            PROBLEM => of_problem,
            code => Some(code),
        };
        language::share(text, language) >= self.language_share
    }

    fn repeats_itself(&self, text: &str) -> bool {
        if self.max_repetition >= 1.0 {
            return false;
        }
        let score = repetition::judge(text, &repetition::Options { ngram: self.ngram }).score;
        f64::from(-score.unwrap_or(0.0)) > self.max_repetition
    }
}

/// The outcome of the first reward, if there is one.
pub(super) fn outcome(sample: &Answer) -> Option<Outcome> {
    sample.judgement.terms.first().map(|term| term.outcome)
}
