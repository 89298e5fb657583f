//! Whatever is drafted, what is sampled has the same bits.

use std::{collections::BTreeMap, sync::Arc};

use koan_backend::{Backend, Reference};
use koan_cpu::{Cpu, Isa};
use koan_model::{Config, Model, testkit};
use proptest::prelude::*;

use super::{Source, Text};
use crate::{
    Completion, Counters, Drafts, FinishReason, Generator, Limits, MemoryPlan, Request, RequestId, Sampling,
};

const VOCABULARY: u32 = 29;
const LIMITS: Limits = Limits { sequences: 6, prompt_tokens: 70, new_tokens: 40, drafts: Drafts::Text };

/// What is drafted.
#[derive(Clone, Copy, Debug)]
enum Script {
    Right,
    Wrong,
    /// Each token right or wrong, by turns of no order.
    Mixed,
    /// What is right, and then far more than was asked for.
    TooLong,
    /// The lookup and the schedule of [`Drafts::Text`].
    Text,
    /// The model's module.
    Module,
}

/// A source that knows what `answers` are to their prompts.
fn source(script: Script, answers: Vec<(Arc<[u32]>, Vec<u32>)>) -> Source {
    match script {
        Script::Text => return Source::Text,
        Script::Module => return Source::MultiToken,
        _ => {}
    }
    let mut turn = 0;
    Source::Script(Box::new(move |text: Text<'_>, most| {
        turn += 1;
        let mut known = answers
            .iter()
            .filter(|(prompt, answer)| **prompt == *text.prompt && answer.starts_with(text.completion));
        let mut draft: Vec<u32> =
            known.next_back().map(|(_, answer)| answer[text.completion.len()..].to_vec()).unwrap_or_default();
        let wrong = |token: &mut u32| *token = (*token + 1) % VOCABULARY;
        match script {
            Script::Right | Script::Text | Script::Module => draft.truncate(most),
            Script::Wrong => draft.iter_mut().for_each(wrong),
            Script::Mixed => {
                let random = |i: usize| testkit::random(turn, i as u64);
                draft.truncate((random(99) * 40.0).abs() as usize);
                draft.iter_mut().enumerate().filter(|(i, _)| random(*i) > 0.2).for_each(|(_, t)| wrong(t));
            }
            Script::TooLong => draft.resize(200, 3),
        }
        draft
    }))
}

/// Ends a completion, as a stop string would, after a token that sums up with the one before to a multiple of `of`.
fn cut(completion: &[u32], of: u32) -> bool {
    let last = completion.iter().rev().take(2);
    completion.len() > 1 && last.sum::<u32>().is_multiple_of(of)
}

/// What a request samples alone and without drafts.
fn alone<B: Backend>(b: &B, model: &Model<B>, request: &Request, of: u32) -> Completion {
    let limits = Limits { sequences: 1, drafts: Drafts::Off, ..LIMITS };
    let mut generator = Generator::new(b, model.config(), limits).expect("memory");
    let id = generator.submit(request.clone()).expect("it fits");
    let mut sampled = Vec::new();
    loop {
        let step = generator.step(b, model).expect("memory");
        sampled.extend(step.tokens.into_iter().map(|(_, token)| token));
        if cut(&sampled, of) {
            let over =
                step.finished.into_iter().next().or_else(|| generator.cancel(id)).expect("it was there");
            return Completion { finish_reason: FinishReason::Stop, ..over.completion };
        }
        if let Some(finished) = step.finished.into_iter().next() {
            return finished.completion;
        }
    }
}

/// A run of requests of which some are forked and cancelled between passes.
#[derive(Clone, Debug)]
struct Run {
    requests: Vec<Request>,
    script: Script,
    sequences: usize,
    cache_tokens: usize,
    keep: bool,
    cut: u32,
    /// After so many passes each: a request is forked, or cancelled.
    forks: Vec<(usize, prop::sample::Index)>,
    cancels: Vec<(usize, prop::sample::Index)>,
    kind: usize,
}

fn runs() -> impl Strategy<Value = Run> {
    let truncation = prop::sample::select(vec![
        (0, 1.0f32, 0.0f32),
        (0, 1.0, 0.0),
        (5, 1.0, 0.0),
        (0, 0.8, 0.0),
        (0, 1.0, 0.3),
        (9, 0.9, 0.1),
    ]);
    let temperature = prop::sample::select(vec![0.0f32, 0.0, 0.3, 1.0]);
    let stop_ids = prop::collection::vec(0..VOCABULARY, 0..2);
    let sampling = (temperature, truncation, 1usize..40, stop_ids).prop_map(
        |(temperature, (top_k, top_p, min_p), max_new_tokens, stop_ids)| {
            let rest = Sampling { max_new_tokens, stop_ids, ..Sampling::default() };
            Sampling { temperature, top_k, top_p, min_p, ..rest }
        },
    );
    let request = (0usize..20, 1usize..10, 0u64..2, sampling, 0u64..3).prop_map(
        |(common, own, seed, sampling, sample)| {
            let token = |seed: u64, i: usize| ((testkit::random(seed, i as u64) + 0.5) * 29.0) as u32;
            let prompt = (0..common).map(|i| token(99, i)).chain((0..own).map(|i| token(seed, i))).collect();
            Request { prompt, sampling, problem: seed, sample, shows_logits: false }
        },
    );
    let scripts =
        vec![Script::Right, Script::Wrong, Script::Mixed, Script::TooLong, Script::Text, Script::Module];
    let when = || prop::collection::vec((0usize..30, any::<prop::sample::Index>()), 0..3);
    let room = prop::sample::select(vec![128usize, 160, 250, 10_000]);
    let shape = (1usize..7, room, any::<bool>(), 3u32..40);
    let requests = prop::collection::vec(request, 1..7);
    (requests, prop::sample::select(scripts), shape, when(), when(), 0..testkit::kinds().len()).prop_map(
        |(requests, script, (sequences, cache_tokens, keep, cut), forks, cancels, kind)| Run {
            requests,
            script,
            sequences,
            cache_tokens,
            keep,
            cut,
            forks,
            cancels,
            kind,
        },
    )
}

fn holds<B: Backend>(b: &B, run: &Run) -> Counters {
    let kind = testkit::kinds().swap_remove(run.kind);
    let config = testkit::config_with(VOCABULARY as usize, true, kind);
    let mut model = testkit::model(b, Config { multi_token_layers: 1, ..config }, 5);
    model.pack(b).expect("memory");
    let drafts = if matches!(run.script, Script::Module) { Drafts::MultiToken } else { Drafts::Text };
    let whole = MemoryPlan::whole(b, Limits { sequences: run.sequences, drafts, ..LIMITS });
    let plan = whole.with_cache_tokens(run.cache_tokens.min(whole.cache_tokens()));
    let mut generator = Generator::planned(b, model.config(), plan).expect("memory");
    generator.keep_keys(run.keep);
    let answer = |request: &Request| alone(b, &model, request, u32::MAX).token_ids;
    let answers = run.requests.iter().map(|request| (request.prompt.clone(), answer(request)));
    generator.scheduler_mut().draft_from(source(run.script, answers.collect()));

    let mut asked: BTreeMap<RequestId, Request> = BTreeMap::new();
    let mut sampled: BTreeMap<RequestId, Vec<u32>> = BTreeMap::new();
    let mut over: BTreeMap<RequestId, (Completion, bool)> = BTreeMap::new();
    for request in &run.requests {
        asked.insert(generator.submit(request.clone()).expect("it fits"), request.clone());
    }
    let mut passes = 0;
    while generator.is_busy() {
        let ids: Vec<RequestId> = asked.keys().copied().collect();
        for (_, which) in run.forks.iter().filter(|(pass, _)| *pass == passes) {
            let id = *which.get(&ids);
            let Request { prompt, sampling, .. } = &asked[&id];
            let prompt = prompt.iter().chain(sampled.get(&id).into_iter().flatten()).copied().collect();
            let request = Request {
                prompt,
                sampling: sampling.clone(),
                problem: 7,
                sample: passes as u64,
                shows_logits: false,
            };
            if let Ok(fork) = generator.fork(id, sampling.clone(), 7, passes as u64) {
                asked.insert(fork, request);
            }
        }
        for (_, which) in run.cancels.iter().filter(|(pass, _)| *pass == passes) {
            let id = *which.get(&ids);
            if let Some(cancelled) = generator.cancel(id) {
                assert_eq!(over.insert(id, (cancelled.completion, true)), None);
            }
        }
        let step = generator.step_until(b, &model, |id, token| {
            let sampled = sampled.entry(id).or_default();
            sampled.push(token);
            cut(sampled, run.cut)
        });
        let step = step.expect("memory");
        assert!(step.tokens.is_sorted_by_key(|(id, _)| *id));
        for finished in step.finished {
            assert_eq!(finished.completion.token_ids, sampled[&finished.id]);
            assert_eq!(over.insert(finished.id, (finished.completion, false)), None);
        }
        passes += 1;
    }
    let bits = |values: &[f32]| values.iter().copied().map(f32::to_bits).collect::<Vec<_>>();
    for (id, request) in asked {
        let (completion, cancelled) = &over[&id];
        let alone = alone(b, &model, &request, run.cut);
        let n = completion.token_ids.len();
        assert!(*cancelled || *completion == alone, "{completion:?} for {alone:?}");
        assert_eq!(completion.token_ids, alone.token_ids[..n]);
        assert_eq!(bits(&completion.log_probs), bits(&alone.log_probs[..n]));
        assert_eq!(bits(&completion.full_log_probs), bits(&alone.full_log_probs[..n]));
    }
    generator.counters()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn with_drafts_is_without(run in runs()) {
        holds(&Reference, &run);
        for isa in Isa::available() {
            holds(&Cpu::new(isa, 2).expect("a processor"), &run);
        }
    }
}

/// A request of 40 tokens of which none ends it.
fn one(script: Script) -> Counters {
    let cpu = Cpu::best(Some(1)).expect("a processor");
    let sampling = Sampling { max_new_tokens: 40, ..Sampling::default() };
    let request = Request { prompt: [1, 2, 3].into(), sampling, problem: 0, sample: 0, shows_logits: false };
    let (forks, cancels) = Default::default();
    let (cache_tokens, cut) = (10_000, u32::MAX);
    let run = Run {
        requests: vec![request],
        script,
        sequences: 1,
        cache_tokens,
        keep: false,
        cut,
        forks,
        cancels,
        kind: 0,
    };
    holds(&cpu, &run)
}

#[test]
fn drafts_that_are_right_save_passes() {
    let right = one(Script::Right);
    // The prompt's first two tokens and the first 16 in one pass; then 16, and the last 8.
    assert_eq!((right.tokens, right.passes, right.rows), (40, 3, 2 + 40));
    assert_eq!((right.drafted, right.kept), (37, 37));
    assert_eq!((right.draft_acceptance(), right.tokens_per_pass()), (Some(1.0), Some(40.0 / 3.0)));
}

#[test]
fn a_module_is_asked_until_its_guesses_are_found_to_be_worth_nothing() {
    let of_module = one(Script::Module);
    assert_eq!(of_module.tokens, 40);
    assert!(of_module.drafted > 0 && of_module.drafted < of_module.passes, "{of_module:?}");
}

#[test]
fn drafts_that_are_wrong_cost_rows_alone() {
    let wrong = one(Script::Wrong);
    assert_eq!((wrong.tokens, wrong.passes, wrong.kept), (40, 40, 0));
    assert_eq!((wrong.draft_acceptance(), wrong.tokens_per_pass()), (Some(0.0), Some(1.0)));
}
