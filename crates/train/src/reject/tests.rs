use koan_reward::{Judgement, Outcome, Term};
use proptest::prelude::*;

use super::{pairs::balanced, *};
use crate::stage::Settings as _;

const RIGHT: Outcome = Outcome::Correct;

fn config(set: &[&str]) -> RejectConfig {
    load("", set).expect("a config")
}

fn load(more: &str, set: &[&str]) -> Result<RejectConfig, TrainError> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let text = format!("run_dir = 'r'\nmodel = 'm'\ndata = 'd'\n{more}");
    std::fs::write(file.path(), text).expect("written");
    RejectConfig::load(file.path(), &set.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
}

/// A completion of `tokens` tokens, with a reward of 1 if it is right.
fn sample(text: &str, tokens: usize, outcome: Outcome) -> Answer {
    let decided = !matches!(outcome, Outcome::Undecided | Outcome::BadReference);
    let reward = decided.then(|| f32::from(u8::from(outcome == RIGHT)));
    let term = Term {
        name: "math".to_owned(),
        outcome,
        score: reward,
        weight: 1.0,
        parsed: None,
        reason: String::new(),
    };
    Answer {
        text: text.to_owned(),
        tokens,
        truncated: false,
        sampled: None,
        judgement: Judgement { terms: vec![term], reward },
    }
}

fn earning(reward: f32, tokens: usize) -> Answer {
    let mut sample = sample(&format!("{reward} {tokens}"), tokens, RIGHT);
    sample.judgement.reward = Some(reward);
    sample
}

fn group(samples: Vec<Answer>) -> Group {
    Group { problem: 3, language: None, opened: None, samples }
}

fn fates(config: &RejectConfig, samples: Vec<Answer>) -> Vec<Fate> {
    choose(config, &group(samples)).rejections.iter().map(|r| r.fate).collect()
}

/// What becomes of a right completion of this text alone.
fn fate(set: &[&str], text: &str) -> Fate {
    fates(&config(set), vec![sample(text, 10, RIGHT)])[0]
}

#[test]
fn each_filter_accepts_and_refuses_and_can_be_switched_off() {
    let english = "Let us look at the two numbers again, and then add them with care.";
    let german = "Wir müssen die beiden Zahlen noch einmal ansehen und dann zusammenzählen.";
    let chinese = "所以我们把两个数加起来，然后再检查一遍，得到的答案是七。";
    let long = "x".repeat(2001);
    let again = "one two three four five six seven eight nine ten eleven twelve ".repeat(4);
    let mixed = format!("<think>{english} {chinese}</think>7");
    let code = "<think>```python\n1\n```</think>7";
    for (set, text, want) in [
        (&[][..], "7", Fate::Kept),
        (&[], " \n", Fate::Empty),
        (&["filter.format=off"], "", Fate::Empty),
        (&[], "<think>a</think>7", Fate::Kept),
        (&[], "<think>a</think>b</think>7", Fate::Format),
        (&[], "<think>a</think> ", Fate::Format),
        (&[], "<think>a", Fate::Format),
        (&["filter.format=off"], "<think>a", Fate::Kept),
        (&["filter.format=think"], "7", Fate::Format),
        (&["filter.format=think"], "<think>a</think>7", Fate::Kept),
        (&["filter.format=think-answer"], "<think>a</think>7", Fate::Format),
        (&["filter.format=think-answer"], "<think>a</think><answer>7</answer>", Fate::Kept),
        (&[], english, Fate::Kept),
        (&[], german, Fate::Kept),
        (&[], &mixed, Fate::Language),
        (&["filter.language=off"], &mixed, Fate::Kept),
        (&["filter.language=en"], german, Fate::Language),
        (&["filter.language=de"], german, Fate::Kept),
        // Of a problem without a language any one will do.
        (&["filter.language=problem"], german, Fate::Kept),
        (&["filter.language=problem"], &mixed, Fate::Language),
        (&["filter.language_share=0.3"], &mixed, Fate::Kept),
        (&[], &long, Fate::Paragraph),
        (&[], &long[1..], Fate::Kept),
        (&["filter.max_paragraph=0"], &long, Fate::Kept),
        (&[], code, Fate::Code),
        (&["filter.code=false"], code, Fate::Kept),
        (&[], "<think>a</think>```\n7\n```", Fate::Kept),
        (&[], &again, Fate::Repetition),
        (&["filter.max_repetition=1"], &again, Fate::Kept),
        (&["filter.ngram=100"], &again, Fate::Kept),
        (&["filter.min_tokens=11"], "7", Fate::Length),
        (&["filter.min_tokens=10"], "7", Fate::Kept),
        (&["filter.max_tokens=9"], "7", Fate::Length),
        (&["filter.max_tokens=10"], "7", Fate::Kept),
    ] {
        assert_eq!(fate(set, text), want, "{set:?} {text}");
    }
}

#[test]
fn the_language_may_be_that_of_the_problem() {
    let german = "Zuerst zähle ich die Einer zusammen, danach die Zehner, und am Ende prüfe ich das Ergebnis noch einmal.";
    let of = |language| {
        let group = Group { problem: 0, language, opened: None, samples: vec![sample(german, 1, RIGHT)] };
        choose(&config(&["filter.language=problem"]), &group).rejections[0].fate
    };
    assert_eq!([of(Some("de")), of(Some("en")), of(None)], [Fate::Kept, Fate::Language, Fate::Kept]);
}

#[test]
fn a_prompt_that_opens_the_thinking_is_part_of_the_format() {
    let of = |text| {
        let opened = Some("<think>\n".to_owned());
        let group = Group { problem: 0, language: None, opened, samples: vec![sample(text, 1, RIGHT)] };
        choose(&config(&[]), &group).rejections[0].fate
    };
    assert_eq!(
        [of("a</think>7"), of("7"), of("<think>a</think>7")],
        [Fate::Kept, Fate::Format, Fate::Format]
    );
}

#[test]
fn what_was_cut_or_not_right_or_there_before_is_refused() {
    let mut cut = sample("8", 1, RIGHT);
    cut.truncated = true;
    let all = || {
        vec![
            cut.clone(),
            sample("7", 1, RIGHT),
            sample("6", 1, Outcome::Wrong),
            sample("?", 1, Outcome::Unparsable),
            sample("5", 1, Outcome::Undecided),
            sample(" 7\n", 1, RIGHT),
        ]
    };
    let got = fates(&config(&["keep.which=all"]), all());
    assert_eq!(got, [Fate::Cut, Fate::Kept, Fate::Wrong, Fate::Wrong, Fate::Undecided, Fate::Duplicate]);
    let off = ["keep.which=all", "filter.cut=false", "filter.wrong=false", "filter.duplicates=false"];
    assert_eq!(fates(&config(&off), all()), [Fate::Kept; 6], "nobody asks what is right");
    let least = ["keep.which=all", "filter.wrong=false", "filter.min_reward=0.5"];
    let got = fates(&config(&least), all());
    assert_eq!(got, [Fate::Cut, Fate::Kept, Fate::Reward, Fate::Reward, Fate::Undecided, Fate::Duplicate]);
    // A second term that is masked leaves no reward: only who asks for one misses it.
    let mut masked = sample("9", 1, RIGHT);
    masked.judgement.reward = None;
    assert_eq!(fates(&config(&[]), vec![masked.clone()]), [Fate::Kept]);
    assert_eq!(fates(&config(&["filter.min_reward=0.5"]), vec![masked]), [Fate::Undecided]);
}

#[test]
fn a_problem_keeps_the_first_the_shortest_some_or_all() {
    let samples =
        || vec![sample("a", 5, RIGHT), sample("b", 3, RIGHT), sample("c", 4, RIGHT), sample("d", 3, RIGHT)];
    let kept = |set: &[&str]| -> Vec<usize> {
        let fates = fates(&config(set), samples());
        (0..4).filter(|&i| fates[i] == Fate::Kept).collect()
    };
    assert_eq!(kept(&["keep.which=first"]), [0]);
    assert_eq!(kept(&["keep.which=first", "keep.at_most=2"]), [0, 1]);
    assert_eq!(kept(&["keep.which=shortest"]), [1]);
    assert_eq!(kept(&["keep.which=shortest", "keep.at_most=3"]), [1, 2, 3]);
    assert_eq!(kept(&["keep.which=all"]), [0, 1, 2, 3]);
    assert_eq!(kept(&["keep.at_most=9"]), [0, 1, 2, 3]);
    let drawn: Vec<Vec<usize>> = (0..20).map(|seed| kept(&[&format!("seed={seed}")])).collect();
    assert!((0..4).all(|i| drawn.contains(&vec![i])), "{drawn:?}");
    assert_eq!(kept(&["seed=3"]), drawn[3]);
    assert_eq!(kept(&["keep.which=all", "keep.easy_at_most=2"]), [0, 1], "all right: easy");
    assert_eq!(kept(&["keep.pass_rate=[0.1, 0.9]"]), [0; 0]);
}

#[test]
fn pass_rates_are_of_what_was_decided_whatever_the_filters_say() {
    let samples = |outcomes: &[Outcome]| {
        group(outcomes.iter().enumerate().map(|(i, o)| sample(&format!("<think>{i}"), 1, *o)).collect())
    };
    let rate = |outcomes: &[Outcome]| choose(&config(&[]), &samples(outcomes)).pass_rate;
    assert_eq!(rate(&[RIGHT, Outcome::Wrong, Outcome::Unparsable, Outcome::Undecided]), Some(1.0 / 3.0));
    assert_eq!(rate(&[Outcome::Undecided, Outcome::BadReference]), None);
    let mut summary = Summary::default();
    for outcomes in [&[Outcome::Wrong][..], &[RIGHT], &[RIGHT, Outcome::Wrong], &[Outcome::Undecided]] {
        summary.add(&choose(&config(&[]), &samples(outcomes)));
    }
    assert_eq!((summary.pass_rates, summary.problems_undecided), ([1, 0, 1, 0, 0, 1], 1));
    assert_eq!((summary.problems, summary.problems_without), (4, 4), "no format");
}

#[test]
fn pairs_are_the_best_beside_the_worst_of_about_the_same_length() {
    let pairs = |set: &[&str], samples: Vec<Answer>| {
        let config = config(&[&["keep.which=preference"], set].concat());
        let choice = choose(&config, &group(samples));
        let mut pairs = vec![(0, 0, 0.0); choice.rows];
        for (i, pair) in choice.rejections.iter().enumerate().filter_map(|(i, r)| Some((i, r.pair?))) {
            if pair.chosen {
                pairs[pair.number].0 = i;
            } else {
                pairs[pair.number].1 = i;
            }
            pairs[pair.number].2 = pair.margin;
        }
        (pairs, choice.tied)
    };
    let three =
        || vec![earning(0.5, 9), earning(1.0, 3), earning(0.0, 30), earning(1.0, 28), earning(0.0, 90)];
    assert_eq!(pairs(&[], three()), (vec![(3, 2, 1.0)], false), "28 and 30 tokens");
    assert_eq!(pairs(&["keep.at_most=9"], three()).0, [(3, 2, 1.0), (1, 4, 1.0)], "one is left over");
    assert_eq!(pairs(&["keep.min_margin=1"], three()), (vec![], true), "not more");
    let equal = vec![earning(1.0, 3), earning(1.0, 4)];
    assert_eq!(pairs(&[], equal), (vec![], true), "all equal");
    assert_eq!(pairs(&[], vec![earning(1.0, 3)]), (vec![], false), "nothing to compare");
    // The better one must be right, the worse one need not be.
    let wrong = |reward, tokens| {
        let mut sample = sample(&format!("{reward}"), tokens, Outcome::Wrong);
        sample.judgement.reward = Some(reward);
        sample
    };
    assert_eq!(pairs(&[], vec![wrong(0.5, 3), wrong(0.0, 4)]), (vec![], true));
    assert_eq!(pairs(&["filter.wrong=false"], vec![wrong(0.5, 3), wrong(0.0, 4)]).0, [(0, 1, 0.5)]);
    assert_eq!(pairs(&[], vec![earning(0.8, 3), wrong(0.9, 4), wrong(0.2, 5)]).0.len(), 1);
    let undecided = vec![sample("a", 1, Outcome::Undecided), earning(1.0, 3), earning(0.0, 3)];
    assert_eq!(pairs(&[], undecided).0, [(1, 2, 1.0)]);
}

/// A judge that says what a function makes of the numbers that are answers A and B.
struct Says<F>(F);

impl<F: Fn(f64, f64) -> &'static str> koan_reward::Models for Says<F> {
    fn score(
        &self,
        _: &Path,
        _: &[koan_reward::models::Reply],
    ) -> Result<Vec<Result<f64, String>>, koan_reward::ModelsError> {
        unreachable!("a judge gives no scores")
    }

    fn speak(
        &self,
        _: &Path,
        questions: &[koan_reward::models::Question],
        _: koan_reward::models::Speech,
    ) -> Result<Vec<Result<String, String>>, koan_reward::ModelsError> {
        let said = |question: &koan_reward::models::Question| {
            let prompt = &question.messages[0].content;
            let number = |name: &str| {
                let after = prompt.split_once(name).map_or("", |(_, after)| after);
                after.lines().find_map(|line| line.trim().parse::<f64>().ok()).expect("a number")
            };
            Ok((self.0)(number("Answer A:"), number("Answer B:")).to_owned())
        };
        Ok(questions.iter().map(said).collect())
    }
}

#[test]
fn a_judge_keeps_pairs_that_differ_clearly_in_both_orders() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("model.safetensors"), "").expect("written");
    let more = format!(
        "reward = []\n[filter]\nwrong = false\n[keep]\nwhich = 'preference'\nat_most = 9\n[judge]\nmodel = '{}'\nmin_words = 1\n",
        folder.path().display()
    );
    let config = load(&more, &[]).expect("a config");
    let built = config.judge.as_ref().expect("one").build(&koan_reward::Context::default());
    let judge = built.unwrap_or_else(|error| panic!("{error:?}"));
    let problems: Vec<Problem> =
        (0..4).map(|_| Problem { prompt: Some("?".to_owned()), ..Problem::default() }).collect();
    let unrewarded = |text: &str, tokens| {
        let mut sample = sample(text, tokens, RIGHT);
        sample.judgement = Judgement { terms: Vec::new(), reward: None };
        sample
    };
    // Pairs of about the same length: 1 and 2; 50 and 9.
    let samples = [("<think>7</think>1", 10), ("50", 31), ("2", 11), ("9", 30), ("3", 99)];
    let group = group(samples.map(|(text, tokens)| unrewarded(text, tokens)).into());
    let chosen = |models: &dyn koan_reward::Models| {
        let groups = std::slice::from_ref(&group);
        judge.choose(&config, models, &problems, groups).expect("asked").swap_remove(0)
    };
    let larger = Says(|a: f64, b: f64| match a - b {
        d if d > 1.0 => "[[A>>B]]",
        d if d > 0.0 => "[[A>B]]",
        d if d < -1.0 => "[[B>>A]]",
        _ => "[[B>A]]",
    });
    let choice = chosen(&larger);
    let pairs: Vec<_> = choice.rejections.iter().map(|r| r.pair.map(|p| (p.chosen, p.margin))).collect();
    assert_eq!(pairs, [None, Some((true, 2.0)), None, Some((false, 2.0)), None]);
    let all = Comparisons { judged: 2, ..Comparisons::default() };
    assert_eq!((choice.rows, choice.comparisons), (1, Comparisons { unclear: 1, ..all }));
    let first = chosen(&Says(|_, _| "[[A>>B]]"));
    let comparisons = Comparisons { flipped: 2, unclear: 2, ..all };
    assert_eq!(
        (first.rows, first.comparisons, first.tied),
        (0, comparisons, true),
        "it likes what stands first"
    );
    let silent = chosen(&Says(|_, _| "Both are fine."));
    assert_eq!((silent.rows, silent.comparisons), (0, Comparisons { undecided: 2, ..all }));
    assert!(silent.silent.is_some() && !silent.tied);
}

#[test]
fn lengths_are_balanced_over_all_pairs() {
    // Chosen are 30 longer in all, of 130 tokens: without the first they are equal.
    let lengths = [(50, 20), (10, 10), (20, 20)];
    assert_eq!(balanced(&lengths, 0.1), [false, true, true]);
    assert_eq!(balanced(&lengths, 1.0), [true; 3]);
    let rejected_longer = lengths.map(|(c, r)| (r, c));
    assert_eq!(balanced(&rejected_longer, 0.1), [false, true, true]);
    assert_eq!(balanced(&[(9, 9), (5, 7), (7, 5)], 0.0), [true; 3]);
    assert_eq!(balanced(&[], 0.1), [true; 0]);
}

#[test]
fn a_config_says_everything_and_reads_back() {
    let rewards = "[[reward]]\nkind = 'number'\nweight = 0.5\n";
    let none =
        "reward = []\n[filter]\nwrong = false\n[rollout]\nsystem = 'Be brief.'\n[keep]\nwhich = 'all'\n";
    let judged = "reward = []\n[filter]\nwrong = false\n[keep]\nwhich = 'preference'\n[judge]\nmodel = 'm'\nworkers = 2\n";
    let server = "[server]\nurl = 'http://a/v1'\nmodel = 'm'\nfields = {top_k = 0}\n";
    let written = load(server, &["model=''"]).expect("a config").to_toml();
    let again: RejectConfig = toml::from_str(&written).expect("TOML");
    assert_eq!(again, load(server, &["model=''"]).expect("a config").resolved(), "{written}");
    for text in ["", rewards, none, "[keep]\nwhich = 'preference'\neasy_at_most = 2\n", judged] {
        let config = load(text, &[]).expect("a config");
        let written = config.to_toml();
        let again: RejectConfig = toml::from_str(&written).expect("TOML");
        assert_eq!(again, config.resolved(), "{written}");
        assert!(!written.contains("optim") && !written.contains("checkpoint"), "{written}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_its_key() {
    for (more, set, expected) in [
        ("", &["filter.lanuage=en"][..], "did you mean `language`?"),
        ("filtre = 1", &[], "did you mean `filter`?"),
        ("", &["optim.lr=1"], "unknown field `optim`"),
        ("checkpoint_every = 1", &[], "unknown field `checkpoint_every`"),
        ("", &["filter.language=xx"], "`filter.language` is xx"),
        ("", &["filter.format=xml"], "unknown variant `xml`"),
        ("", &["filter.max_repetition=1.5"], "0 to 1"),
        ("", &["filter.ngram=0"], "1 to 100"),
        ("", &["filter.min_tokens=9", "filter.max_tokens=8"], "at most filter.max_tokens"),
        ("", &["filter.min_reward=nan"], "finite"),
        ("", &["keep.which=best"], "unknown variant `best`"),
        ("", &["keep.which=all", "keep.at_most=2"], "absent where keep.which is all"),
        ("", &["keep.at_most=0"], "at least 1"),
        ("", &["keep.pass_rate=[0.9, 0.1]"], "the smaller first"),
        ("", &["keep.min_margin=-1"], "0 or more"),
        ("", &["rollout.temperature=0"], "without chance all completions are equal"),
        ("", &["rollout.group_size=0"], "1 to 65536"),
        ("", &["rollout.problems=0"], "`rollout.problems` is 0"),
        ("", &["group_size=4"], "did you mean `rollout.group_size`?"),
        ("reward = []", &[], "`filter.wrong` is true"),
        ("reward = []\nfilter.wrong = false", &["keep.which=preference"], "`keep.which` is preference"),
        ("[[reward]]\nkind = 'mathe'", &[], "math"),
        ("[judge]\nmodel = 'm'", &[], "absent, except where keep.which is preference"),
        (
            "[judge]\nmodle = 'm'",
            &["keep.which=preference"],
            "there is no option `modle`; use one of: model, mode,",
        ),
        ("[judge]\nmodel = 'm'\njudgements = 3", &["keep.which=preference"], "an even number from 2 to 64"),
        ("[judge]\nmodel = 'm'\ntemperature = 0.0", &["keep.which=preference"], "a judge repeats itself"),
        ("[judge]\nmodel = 'm'\nmode = 'rubric'", &["keep.which=preference"], "the only one that compares"),
    ] {
        let error = load(more, set).expect_err(expected);
        let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
        let error = causes.map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(error.contains(expected), "{more} {set:?}: {error}");
    }
    config(&["rollout.temperature=0", "rollout.group_size=1"]);
    let server = "[server]\nurl = 'http://a/v1'\nmodel = 'm'\n";
    for (set, expected) in [
        (&[][..], "`model` is m: absent where a [server]"),
        (&["model=''", "server.url=localhost"], "`server.url` is localhost"),
        (
            &["model=''", "server.url=http://me:secret@a/v1"],
            "`server.url` is an address with a name, a key or a query",
        ),
        (&["model=''", "server.workers=0"], "1 to 1024"),
        (&["model=''", "server.timeout_s=0"], "above 0 and at most 86400"),
        (&["model=''", "server.model=''"], "the model's name on the server"),
        (&["model=''", "server.modle=m"], "did you mean `model`"),
        (&["model=''", "server.fields.seed=3"], "fields that no other setting gives"),
        (&["model=''", "rollout.log_probs=true"], "their tokens stay there"),
        (&["model=''", "rollout.drafts=text"], "it computes as it likes"),
        (&["model=''", "rollout.sequences=3"], "server.workers"),
    ] {
        let error = load(server, set).expect_err(expected);
        let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
        let error = causes.map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(error.contains(expected), "{set:?}: {error}");
    }
}

fn any_sample() -> impl Strategy<Value = Answer> {
    let texts = prop::sample::select(vec![
        "",
        "7",
        "8",
        "<think>a</think>7",
        "<think>a",
        "<think>```\n```</think>7",
        "是的，所以答案是七。 And so the answer must be seven, as we have seen before.",
        "a b c d a b c d a b c d a b c d a b c d a b c d a b c d a b c d",
    ]);
    let outcomes = prop::sample::select(Outcome::ALL.to_vec());
    (texts, 0..40_usize, outcomes, any::<bool>(), prop::option::of(0..4_u8)).prop_map(
        |(text, tokens, outcome, cut, reward)| {
            let mut sample = sample(text, tokens, outcome);
            if cut {
                sample.truncated = true;
            }
            sample.judgement.reward = reward.map(f32::from);
            sample
        },
    )
}

proptest! {
    #[test]
    fn every_completion_is_counted_once(
        groups in prop::collection::vec(prop::collection::vec(any_sample(), 0..12), 0..8),
        which in prop::sample::select(vec!["first", "shortest", "random", "all", "preference"]),
        switches in prop::collection::vec(any::<bool>(), 5),
        low in 0.0..=1.0_f64,
    ) {
        let names = ["filter.cut", "filter.code", "filter.wrong", "filter.duplicates"];
        let mut set: Vec<String> = names.iter().zip(&switches).map(|(name, on)| format!("{name}={on}")).collect();
        set.push(format!("keep.which={which}"));
        set.push(format!("keep.pass_rate=[{low}, 1.0]"));
        if switches[4] && which != "all" {
            set.push("keep.at_most=3".to_owned());
        }
        let config = config(&set.iter().map(String::as_str).collect::<Vec<_>>());
        let mut summary = Summary::default();
        let (mut all, mut rows) = (0, 0);
        for samples in groups {
            all += samples.len() as u64;
            let n = samples.len();
            let choice = choose(&config, &group(samples));
            prop_assert_eq!(choice.rejections.len(), n);
            rows += choice.rows as u64;
            summary.add(&choice);
        }
        prop_assert_eq!(summary.completions.all(), all);
        let per_row = if which == "preference" { 2 } else { 1 };
        prop_assert_eq!(summary.completions.kept, rows * per_row);
        prop_assert_eq!(summary.pass_rates.iter().sum::<u64>() + summary.problems_undecided, summary.problems);
    }

    #[test]
    fn what_is_balanced_is_balanced(
        lengths in prop::collection::vec((0..50_usize, 0..50_usize), 0..40),
        balance in 0.0..=1.0_f64,
    ) {
        let kept = balanced(&lengths, balance);
        let left = lengths.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(pair, _)| *pair);
        let (c, r) = left.fold((0, 0), |(c, r), (x, y)| (c + x, r + y));
        let before: i64 = lengths.iter().map(|(c, r)| *c as i64 - *r as i64).sum();
        let sum = c as i64 - r as i64;
        let within = sum.abs() as f64 <= balance * (c + r) as f64 / 2.0;
        prop_assert!(within || sum.signum() != before.signum(), "{c} {r}");
    }
}
