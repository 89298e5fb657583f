//! Tiny models judge: scores and answers that depend on nothing but what is asked, whatever the tokenizer.

use std::{path::PathBuf, slice};

use koan_backend::Backend;
use koan_cpu::{Cpu, Isa};
use koan_data::Message;
use koan_infer::{InferError, JudgeModels, ScoredText, Scorer};
use koan_model::testkit;
use koan_reward::{
    Context, RewardConfig, Rewards, Sample, Unsettled,
    models::{Models, Needed, Question, Reply, Role, Speech},
};
use proptest::prelude::*;

/// The characters of the policies of tests, in another order, and others.
const CHARACTERS: &str = "ab9876543210+. ";

/// A folder with a reward model of a tokenizer of its own, and a language model.
struct Bench {
    folder: tempfile::TempDir,
    cpu: Cpu,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        testkit::write_reward_model(&folder.path().join("rm"), 5, CHARACTERS).expect("written");
        testkit::write_model(&folder.path().join("lm"), 4).expect("written");
        Self { folder, cpu: Cpu::new(Isa::best(), 2).expect("a processor") }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn scorer(&self) -> Scorer<'_, Cpu> {
        Scorer::load(&self.cpu, &self.at("rm"), 100).expect("loaded")
    }

    fn need(&self, name: &str, role: Role) -> Needed {
        Needed { model: self.at(name), role, max_tokens: 60, reward: "mine".into() }
    }
}

fn text(prompt: &[u32], reply: &[u32]) -> ScoredText {
    ScoredText { prompt: prompt.to_vec(), reply: reply.to_vec() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// A score depends on its text alone, to the bit: not on the others, their order, or what prompts are shared.
    #[test]
    fn scores_are_of_their_texts_alone(
        texts in prop::collection::vec((0u32..3, 1usize..9, prop::collection::vec(0u32..15, 0..9)), 1..9),
    ) {
        let bench = Bench::new();
        let scorer = bench.scorer();
        let texts: Vec<ScoredText> = texts
            .iter()
            .map(|(first, n, reply)| text(&vec![first + 1; *n], reply))
            .collect();
        let all = scorer.scores(&texts).expect("memory");
        let mut backwards = scorer.scores(texts.iter().rev()).expect("memory");
        backwards.reverse();
        prop_assert_eq!(&all, &backwards);
        for (one, score) in texts.iter().zip(&all) {
            prop_assert_eq!(scorer.scores([one]).expect("memory"), vec![*score]);
        }
    }
}

#[test]
fn passes_are_cut_where_they_are_full() {
    let bench = Bench::new();
    let scorer = bench.scorer();
    let texts: Vec<ScoredText> =
        (0..100).map(|i| text(&[1 + i / 50; 20], &vec![2 + i % 7; 20 + (i % 30) as usize])).collect();
    let alone: Vec<f64> = texts.iter().map(|one| scorer.scores([one]).expect("memory")[0]).collect();
    assert_eq!(scorer.scores(&texts).expect("memory"), alone);
    assert!(scorer.scores([]).expect("nothing to do").is_empty());
}

#[test]
fn a_reward_model_reads_with_its_own_tokenizer() {
    let bench = Bench::new();
    let scorer = bench.scorer();
    let prompt = [Message::user("1 + 1")];
    let read = scorer.encode(&prompt, &Message::assistant("2.")).expect("short");
    let id = |c: char| 1 + CHARACTERS.find(c).expect("known") as u32;
    let ids = |text: &str| text.chars().map(id).collect::<Vec<_>>();
    assert_eq!(read, text(&ids("1 + 1"), &[ids("2."), vec![0]].concat()), "as in its training, with the end");
    let empty = scorer.encode(&prompt, &Message::assistant("")).expect("nothing is a reply too");
    assert_eq!(empty.reply, [0]);
    let long = scorer.encode(&prompt, &Message::assistant("1".repeat(100))).expect_err("too long");
    assert!(long.contains("106 tokens") && long.contains("reads 100"), "{long}");
    assert!(scorer.encode(&[], &Message::assistant("1")).expect_err("no prompt").contains("no tokens"));
}

#[test]
fn what_is_no_reward_model_is_refused_by_name() {
    let bench = Bench::new();
    let load = |need: Needed| JudgeModels::load(&bench.cpu, &[need]).map(drop);
    let said = |result: Result<(), InferError>| {
        let error = result.expect_err("refused");
        format!("{error}: {}", std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default())
    };
    let scores = said(load(bench.need("lm", Role::Scores)));
    assert!(scores.contains("`mine`") && scores.contains("is no reward model"), "{scores}");
    let role = Role::Speaks { max_new_tokens: 8, sequences: 2 };
    let speaks = said(load(bench.need("rm", role)));
    assert!(speaks.contains("is a reward model"), "{speaks}");
    assert!(said(load(bench.need("none", Role::Scores))).contains("`mine`"));
    assert!(JudgeModels::<Cpu>::plan(&bench.cpu, &[bench.need("lm", Role::Scores)]).is_err());
}

#[test]
fn a_plan_counts_each_model_once() {
    let bench = Bench::new();
    let role = Role::Speaks { max_new_tokens: 8, sequences: 2 };
    let (rm, lm) = (bench.need("rm", Role::Scores), bench.need("lm", role));
    let plan = |needs: &[Needed]| JudgeModels::<Cpu>::plan(&bench.cpu, needs).expect("planned");
    let [one, other, both] =
        [plan(slice::from_ref(&rm)), plan(slice::from_ref(&lm)), plan(&[rm.clone(), lm.clone(), rm.clone()])];
    assert!(one.weights > 0 && one.working > 0);
    assert_eq!((both.weights, both.working), (one.weights + other.weights, one.working.max(other.working)));
    assert_eq!(plan(&[]), koan_infer::JudgePlan::default());
    let longer = plan(&[lm.clone(), Needed { max_tokens: 120, ..lm }]);
    assert!(longer.working > other.working && longer.weights == other.weights);
}

#[test]
fn a_judge_says_the_same_whatever_else_it_is_asked() {
    let bench = Bench::new();
    let role = Role::Speaks { max_new_tokens: 8, sequences: 2 };
    let models = JudgeModels::load(&bench.cpu, &[bench.need("lm", role)]).expect("loaded");
    let question = |i: u64| Question { messages: vec![Message::user(format!("{i} + {i}"))], key: i };
    let questions: Vec<Question> = (1..8).map(question).collect();
    for temperature in [0.0, 1.0] {
        let speech = Speech { temperature, max_new_tokens: 8, seed: 3 };
        let ask = |questions: &[Question]| models.speak(&bench.at("lm"), questions, speech).expect("asked");
        let all = ask(&questions);
        for (question, said) in questions.iter().zip(&all) {
            assert_eq!(ask(std::slice::from_ref(question)), std::slice::from_ref(said));
        }
    }
    let long = Question { messages: vec![Message::user("1".repeat(100))], key: 1 };
    let speech = Speech { temperature: 0.0, max_new_tokens: 8, seed: 3 };
    let said = models.speak(&bench.at("lm"), &[long, question(1)], speech).expect("asked");
    assert!(said[0].as_ref().expect_err("too long").contains("100 tokens") && said[1].is_ok(), "{said:?}");
}

/// The scores of completions by the reward `model` through the engine are those of the scorer, standardised.
#[test]
fn a_reward_asks_the_engine() {
    fn settled<B: Backend>(
        models: &JudgeModels<B>,
        rewards: &Rewards,
        completions: &[&str],
    ) -> Vec<Option<f32>> {
        let problem = koan_data::Problem { prompt: Some("1 + 1".into()), ..koan_data::Problem::default() };
        let mut judgements: Vec<_> =
            completions.iter().map(|c| rewards.judge(&Sample::new(&problem, c))).collect();
        let mut all: Vec<Unsettled> = completions
            .iter()
            .zip(&mut judgements)
            .map(|(c, judgement)| Unsettled { sample: Sample::new(&problem, c), group: 0, judgement })
            .collect();
        rewards.settle(models, &mut all, false).expect("asked");
        judgements.iter().map(|judgement| judgement.reward).collect()
    }
    let bench = Bench::new();
    let set = format!("model={}", bench.at("rm").display());
    let rewards = [RewardConfig::parse("model", &[set, "max_tokens=40".into()]).expect("a config")];
    let rewards = Rewards::build(&rewards, Context::default()).expect("builds");
    let models = JudgeModels::load(&bench.cpu, &rewards.needs()).expect("loaded");
    let long = "9".repeat(40);
    let found = settled(&models, &rewards, &["2.", "", &long, "<think>1</think>2."]);
    let direct = models
        .score(&bench.at("rm"), &[Reply { prompt: vec![Message::user("1 + 1")], text: "2.".into() }])
        .expect("asked")[0]
        .clone()
        .expect("scored") as f32;
    assert_eq!(found, [Some(direct), Some(-5.0), None, Some(direct)]);
}
