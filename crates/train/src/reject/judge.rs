//! Pairs that a language model compares, as DeepSeek-R1 made its helpful pairs (arXiv:2501.12948): each is judged several times, with
//! either answer first as often as the other, the judgements are averaged, and only clear differences are kept.

use koan_data::Problem;
use koan_reward::{
    Context, Models, ModelsError, Options, Part, RewardConfig, RewardError,
    judge::{self, LanguageJudge, Pair as Asked},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    choose::{Choice, Comparisons, Open},
    config::RejectConfig,
    pairs::{Pair, neighbours},
    sample::Group,
};
use crate::{TrainError, config::check};

/// `[judge]`: the options of the reward `judge` that say who judges and how, and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeConfig {
    /// Judgements of a pair, half of them with either answer first.
    #[serde(default = "four")]
    pub judgements: usize,
    /// Those options.
    #[serde(flatten)]
    pub options: Options,
}

fn four() -> usize {
    4
}

impl JudgeConfig {
    /// With all options.
    ///
    /// # Errors
    /// Options that do not fit, with what to do.
    pub(super) fn resolved(&self) -> Result<Self, TrainError> {
        let n = self.judgements;
        check(
            (2..=64).contains(&n) && n.is_multiple_of(2),
            "judge.judgements",
            &n,
            "an even number from 2 to 64: each answer stands first as often as the other",
        )?;
        let mut options = self.options.clone();
        let mode = options.insert("mode".to_owned(), "pairwise".into());
        let other = mode.filter(|mode| mode != "pairwise").map(|mode| mode.to_string());
        check(
            other.is_none(),
            "judge.mode",
            &other.unwrap_or_default(),
            "pairwise, the only one that compares",
        )?;
        let chance = if n > 2 { 0.7 } else { 0.0 };
        let temperature = options.entry("temperature").or_insert_with(|| chance.into()).as_f64();
        let expected = "above 0 where judge.judgements is more than 2: without chance a judge repeats itself";
        check(n == 2 || temperature != Some(0.0), "judge.temperature", &0, expected)?;
        let options = RewardConfig { options, ..RewardConfig::new("judge") }.resolved()?.options;
        Ok(Self { judgements: n, options })
    }

    /// Builds the judge. `resolved` before.
    ///
    /// # Errors
    /// Options that do not fit, with what to do.
    pub(super) fn build(&self, context: &Context) -> Result<Judge, TrainError> {
        let wrong = |reason: String| RewardError::Options { kind: "judge".to_owned(), reason };
        let options: judge::Options = serde_json::from_value(Value::Object(self.options.clone()))
            .map_err(|error| wrong(error.to_string()))?;
        let (part, opened) = (options.part, options.opened);
        let judge = LanguageJudge::new(options, context).map_err(wrong)?;
        Ok(Judge { model: judge, part, opened, repeats: self.judgements as u64 / 2 })
    }
}

/// A judge of pairs.
pub(super) struct Judge {
    pub(super) model: LanguageJudge,
    /// What of completions it is shown.
    part: Part,
    /// Whether all prompts end in `<think>`; those that are seen to do so anyway need not say it.
    opened: bool,
    /// How often it is asked about a pair, each time in both orders.
    repeats: u64,
}

impl Judge {
    /// What of a completion the judge is shown.
    fn shown<'g>(&self, group: &'g Group, i: usize) -> &'g str {
        self.part.of(&group.samples[i].text, self.opened || group.opened.is_some()).trim()
    }

    /// Chooses among the completions of `groups`, which answer `problems`: pairs of about equal length are judged, and those that
    /// differ clearly are kept.
    ///
    /// # Errors
    /// If the model can't be asked at all.
    pub(super) fn choose(
        &self,
        config: &RejectConfig,
        models: &dyn Models,
        problems: &[Problem],
        groups: &[Group],
    ) -> Result<Vec<Choice>, ModelsError> {
        let open: Vec<Open> = groups.iter().map(|group| Open::of(config, group)).collect();
        let pairs: Vec<Vec<[usize; 2]>> = groups
            .iter()
            .zip(&open)
            .map(|(group, open)| neighbours(config, group, &open.left, open.at_most))
            .collect();
        let questions: Vec<_> = groups.iter().map(|group| problems[group.problem].messages()).collect();
        let asked: Vec<Asked> = (groups.iter().zip(&questions).zip(&pairs))
            .flat_map(|((group, question), pairs)| {
                pairs.iter().map(move |pair| Asked { question, answers: pair.map(|i| self.shown(group, i)) })
            })
            .collect();
        let mut judged: Vec<Vec<_>> = vec![Vec::new(); asked.len()];
        for repeat in 0..self.repeats {
            let compared = self.model.compare(models, &asked, repeat)?;
            judged.iter_mut().zip(compared).for_each(|(all, compared)| all.push(compared));
        }
        let mut judged = judged.into_iter();
        let mut choices = Vec::with_capacity(groups.len());
        for (open, pairs) in open.into_iter().zip(pairs) {
            let (mut kept, mut comparisons, mut silent) = (Vec::new(), Comparisons::default(), None);
            for ([a, b], judgements) in pairs.into_iter().zip(judged.by_ref()) {
                comparisons.judged += 1;
                let decided: Vec<_> = judgements.iter().flatten().collect();
                comparisons.flipped += u64::from(decided.iter().any(|compared| compared.is_flipped()));
                if let Some(reason) = judgements.iter().find_map(|judgement| judgement.as_ref().err()) {
                    comparisons.undecided += 1;
                    silent.get_or_insert_with(|| reason.clone());
                    continue;
                }
                let mean = decided.iter().map(|compared| compared.mean()).sum::<f64>() / decided.len() as f64;
                if mean.abs() <= config.min_margin() {
                    comparisons.unclear += 1;
                    continue;
                }
                let (chosen, rejected) = if mean > 0.0 { (a, b) } else { (b, a) };
                kept.push(Pair { chosen, rejected, margin: mean.abs() });
            }
            let tied = kept.is_empty() && comparisons.judged > comparisons.undecided;
            choices.push(Choice { tied, comparisons, silent, ..open.paired(&kept) });
        }
        Ok(choices)
    }
}
