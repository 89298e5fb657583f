//! Requests that come, fork and go at any time: what each draws is what it draws alone, and what it shares is computed once.

use std::{collections::HashMap, sync::Arc};

use koan_backend::{Backend, Draw, Reference};
use koan_cpu::{Cpu, Isa};
use koan_generate::{
    Completion, Drafts, Generator, Limits, Listener, MemoryPlan, Request, RequestError, RequestId, Sampled,
    Sampling, Stream,
};
use koan_model::{Config, Model, testkit};
use proptest::prelude::*;

const LIMITS: Limits = Limits { sequences: 6, prompt_tokens: 60, new_tokens: 40, drafts: Drafts::Off };

/// What happens between two passes.
#[derive(Clone, Debug)]
enum Action {
    Submit(Request),
    /// Forks one of the requests so far, with this sampling and this sample number.
    Fork(prop::sample::Index, Sampling, u64),
    Cancel(prop::sample::Index),
    Steps(usize),
}

fn samplings() -> impl Strategy<Value = Sampling> {
    let truncation = prop::sample::select(vec![
        (0, 1.0f32, 0.0f32),
        (0, 1.0, 0.0),
        (5, 1.0, 0.0),
        (0, 0.8, 0.0),
        (0, 1.0, 0.3),
        (9, 0.9, 0.1),
    ]);
    let temperature = prop::sample::select(vec![0.0f32, 0.6, 1.0, 1.0]);
    let streams = prop::sample::select(vec![Stream::Request, Stream::Rollout { step: 3 }]);
    let stop_ids = prop::collection::vec(0u32..29, 0..2);
    let key = (0u64..2, streams);
    (temperature, truncation, 1usize..30, stop_ids, key).prop_map(
        |(temperature, (top_k, top_p, min_p), max_new_tokens, stop_ids, (seed, stream))| Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            max_new_tokens,
            stop_ids,
            seed,
            stream,
        },
    )
}

/// Prompts that begin alike, as far as `common` says.
fn prompt(common: usize, own: usize, seed: u64) -> Arc<[u32]> {
    let token = |seed: u64, i: usize| ((testkit::random(seed, i as u64) + 0.5) * 29.0) as u32;
    (0..common).map(|i| token(99, i)).chain((0..own).map(|i| token(seed, i))).collect()
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let prompts = (0usize..35, 1usize..20, 0u64..3).prop_map(|(common, own, seed)| prompt(common, own, seed));
    let shows = prop::sample::select(vec![false, false, true]);
    let request = (prompts, samplings(), 0u64..4, 0u64..4, shows).prop_map(
        |(prompt, sampling, problem, sample, shows_logits)| Request {
            prompt,
            sampling,
            problem,
            sample,
            shows_logits,
        },
    );
    let action = prop_oneof![
        4 => request.prop_map(Action::Submit),
        3 => (any::<prop::sample::Index>(), samplings(), 4u64..8)
            .prop_map(|(which, sampling, sample)| Action::Fork(which, sampling, sample)),
        2 => any::<prop::sample::Index>().prop_map(Action::Cancel),
        5 => (1usize..12).prop_map(Action::Steps),
    ];
    prop::collection::vec(action, 1..30)
}

/// Takes the likeliest of the tokens with even numbers, where logits are shown, and says the logit for its log-probability.
struct Even;

impl Listener for Even {
    fn logits(&mut self, _: RequestId, logits: &[f32], _: &Draw, drawn: Sampled) -> Sampled {
        let even = (0..logits.len()).step_by(2).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        let token = even.expect("a token");
        Sampled { token: token as u32, log_prob: logits[token], ..drawn }
    }

    fn token(&mut self, _: RequestId, _: Sampled) -> bool {
        false
    }
}

/// A generator, and what is known of its requests from outside.
struct Watched<'a, B: Backend> {
    b: &'a B,
    model: &'a Model<B>,
    generator: Generator<B>,
    ids: Vec<RequestId>,
    requests: HashMap<RequestId, Request>,
    drawn: HashMap<RequestId, Vec<u32>>,
    /// What is over, and whether it was cancelled.
    over: HashMap<RequestId, (Completion, bool)>,
}

impl<B: Backend> Watched<'_, B> {
    fn apply(&mut self, action: &Action) {
        match action {
            Action::Submit(request) => {
                let id = self.generator.submit(request.clone()).expect("it fits");
                self.know(id, request.clone());
            }
            Action::Fork(which, sampling, sample) if !self.ids.is_empty() => {
                let id = *which.get(&self.ids);
                let Request { prompt, problem, .. } = &self.requests[&id];
                let prompt: Arc<[u32]> = prompt.iter().chain(&self.drawn[&id]).copied().collect();
                let (problem, sampling, sample) = (*problem, sampling.clone(), *sample);
                match self.generator.fork(id, sampling.clone(), problem, sample) {
                    Ok(fork) => {
                        let shows_logits = false;
                        self.know(fork, Request { prompt, sampling, problem, sample, shows_logits });
                    }
                    Err(RequestError::Unknown) => assert!(self.over.contains_key(&id), "{id:?} is known"),
                    Err(RequestError::TooLong { .. }) => {
                        let longest = prompt.len() + sampling.max_new_tokens;
                        assert!(
                            longest > LIMITS.prompt_tokens + LIMITS.new_tokens - 32,
                            "{longest} tokens fit"
                        );
                    }
                    Err(e) => panic!("{e}"),
                }
            }
            Action::Cancel(which) if !self.ids.is_empty() => {
                let id = *which.get(&self.ids);
                match self.generator.cancel(id) {
                    Some(cancelled) => {
                        assert_eq!(cancelled.request, self.requests[&id]);
                        assert_eq!(self.over.insert(id, (cancelled.completion, true)), None);
                    }
                    None => assert!(self.over.contains_key(&id)),
                }
            }
            Action::Fork(..) | Action::Cancel(_) => {}
            Action::Steps(n) => (0..*n).for_each(|_| self.step()),
        }
    }

    fn know(&mut self, id: RequestId, request: Request) {
        self.ids.push(id);
        self.requests.insert(id, request);
        self.drawn.insert(id, Vec::new());
    }

    fn step(&mut self) {
        let step = self.generator.step_with(self.b, self.model, &mut Even).expect("memory");
        for (id, token) in step.tokens {
            self.drawn.get_mut(&id).expect("a known request").push(token);
        }
        for finished in step.finished {
            assert_eq!(finished.request, self.requests[&finished.id]);
            assert_eq!(finished.completion.token_ids, self.drawn[&finished.id]);
            assert_eq!(self.over.insert(finished.id, (finished.completion, false)), None);
        }
    }
}

/// What a request draws when nothing else is there.
fn alone<B: Backend>(b: &B, model: &Model<B>, request: &Request) -> Completion {
    let new_tokens = request.sampling.max_new_tokens;
    let (prompt_tokens, drafts) = (request.prompt.len(), Drafts::Off);
    let limits = Limits { sequences: 1, prompt_tokens, new_tokens, drafts };
    let mut generator = Generator::new(b, model.config(), limits).expect("memory");
    generator.show_logits(b, model.config()).expect("memory");
    generator.submit(request.clone()).expect("it fits");
    loop {
        if let Some(finished) = generator.step_with(b, model, &mut Even).expect("memory").finished.pop() {
            return finished.completion;
        }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().copied().map(f32::to_bits).collect()
}

fn holds<B: Backend>(b: &B, kind: usize, plan: MemoryPlan, keep: bool, actions: &[Action]) {
    let kind = testkit::kinds().swap_remove(kind);
    let config = Config { multi_token_layers: 1, ..testkit::config_with(29, true, kind) };
    let mut model = testkit::model(b, config, 5);
    model.pack(b).expect("memory");
    let mut generator = Generator::planned(b, model.config(), plan).expect("memory");
    generator.keep_keys(keep);
    generator.show_logits(b, model.config()).expect("memory");
    let (ids, requests, drawn, over) = Default::default();
    let mut watched = Watched { b, model: &model, generator, ids, requests, drawn, over };
    for action in actions {
        watched.apply(action);
    }
    while watched.generator.is_busy() {
        watched.step();
    }
    for id in watched.ids {
        let (completion, cancelled) = &watched.over[&id];
        let alone = alone(b, &model, &watched.requests[&id]);
        let n = completion.token_ids.len();
        assert!(n == alone.token_ids.len() || (*cancelled && n < alone.token_ids.len()));
        assert_eq!(completion.token_ids, alone.token_ids[..n]);
        assert_eq!(bits(&completion.log_probs), bits(&alone.log_probs[..n]));
        assert_eq!(bits(&completion.full_log_probs), bits(&alone.full_log_probs[..n]));
        assert!(*cancelled || completion.finish_reason == alone.finish_reason);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_request_draws_what_it_draws_alone(
        actions in actions(),
        sequences in 1usize..7,
        cache_tokens in prop::sample::select(vec![112usize, 160, 250, 10_000]),
        keep in any::<bool>(),
        kind in 0..testkit::kinds().len(),
        drafts in prop::sample::select(vec![Drafts::Off, Drafts::Text, Drafts::MultiToken]),
    ) {
        let whole = MemoryPlan::whole(&Reference, Limits { sequences, drafts, ..LIMITS });
        let plan = whole.with_cache_tokens(cache_tokens.min(whole.cache_tokens()));
        holds(&Reference, kind, plan, keep, &actions);
        for isa in Isa::available() {
            holds(&Cpu::new(isa, 2).expect("a processor"), kind, plan, keep, &actions);
        }
    }
}

/// A generator for `sequences` at once, a model for it, and how a request of so many tokens is made.
fn tiny(sequences: usize) -> (Cpu, Model<Cpu>, Generator<Cpu>) {
    let cpu = Cpu::best(Some(1)).expect("a processor");
    let model = testkit::model(&cpu, testkit::config(29, true), 5);
    let generator = Generator::new(&cpu, model.config(), Limits { sequences, ..LIMITS }).expect("memory");
    (cpu, model, generator)
}

fn request(prompt: Arc<[u32]>, max_new_tokens: usize) -> Request {
    let sampling = Sampling { max_new_tokens, ..Sampling::default() };
    Request { prompt, sampling, problem: 0, sample: 0, shows_logits: false }
}

#[test]
fn a_later_request_shares_what_its_prompt_begins_with() {
    let (cpu, model, mut generator) = tiny(3);
    generator.submit(request(prompt(40, 3, 1), 30)).expect("it fits");
    for _ in 0..5 {
        generator.step(&cpu, &model).expect("memory");
    }
    // 42 rows of the prompt less its last token, and one per token sampled.
    assert_eq!(generator.counters().rows, 42 + 5);
    generator.submit(request(prompt(40, 10, 2), 30)).expect("it fits");
    generator.step(&cpu, &model).expect("memory");
    // Of 49 rows, the 32 of two whole pages are there; one more row for each of the two that run.
    assert_eq!(generator.counters().rows, 42 + 5 + (49 - 32) + 2);
}

#[test]
fn a_fork_shares_the_pages_of_its_parent() {
    let (cpu, model, mut generator) = tiny(3);
    let id = generator.submit(request(prompt(0, 17, 1), 40)).expect("it fits");
    for _ in 0..20 {
        generator.step(&cpu, &model).expect("memory");
    }
    assert_eq!(generator.counters().rows, 16 + 20);
    let sampling = Sampling { max_new_tokens: 5, ..Sampling::default() };
    let fork = generator.fork(id, sampling.clone(), 0, 1).expect("it fits");
    assert_eq!(generator.step(&cpu, &model).expect("memory").tokens.len(), 2);
    // The prompt's page and one of those drawn are whole: of the 37 tokens so far, four and the last are left.
    assert_eq!(generator.counters().rows, 16 + 20 + 4 + 2);
    assert!(generator.cancel(id).is_some() && generator.cancel(id).is_none());
    assert_eq!(generator.fork(id, sampling.clone(), 0, 2), Err(RequestError::Unknown), "keys are not kept");
    let finished = loop {
        if let Some(finished) = generator.step(&cpu, &model).expect("memory").finished.pop() {
            break finished;
        }
    };
    assert_eq!((finished.id, finished.request.prompt.len()), (fork, 17 + 20));

    generator.keep_keys(true);
    let id = generator.submit(request(prompt(0, 17, 1), 20)).expect("it fits");
    while generator.is_busy() {
        generator.step(&cpu, &model).expect("memory");
    }
    let before = generator.counters().rows;
    generator.fork(id, sampling, 0, 2).expect("a finished request, whose keys are kept");
    generator.step(&cpu, &model).expect("memory");
    // All but the last token that was drawn, which was never fed.
    assert_eq!(generator.counters().rows, before + 1);
}

#[test]
fn what_is_cancelled_makes_room_at_once() {
    let (cpu, model, mut generator) = tiny(1);
    let [first, second] =
        [1, 2].map(|seed| generator.submit(request(prompt(0, 50, seed), 40)).expect("it fits"));
    assert_eq!(generator.step(&cpu, &model).expect("memory").tokens[0].0, first);
    assert_eq!(generator.cancel(first).expect("it runs").completion.token_ids.len(), 1);
    assert_eq!(generator.step(&cpu, &model).expect("memory").tokens[0].0, second);
    generator.cancel_all();
    assert!(!generator.is_busy());
    assert_eq!(generator.step(&cpu, &model).expect("memory"), koan_generate::Step::default());
}

#[test]
fn what_cannot_run_is_refused() {
    let (_, _, mut generator) = tiny(2);
    let mut refused = |tokens, new_tokens| generator.submit(request(prompt(0, tokens, 1), new_tokens)).err();
    assert_eq!(refused(0, 1), Some(RequestError::EmptyPrompt));
    assert_eq!(refused(1, 0), Some(RequestError::NoNewTokens));
    assert_eq!(refused(80, 20), None, "only the whole length counts");
    let error = refused(61, 40).expect("too long");
    assert!(error.to_string().contains("sequences of 100 tokens"), "{error}");
}

#[test]
fn a_conversation_of_many_short_turns_fits() {
    let (cpu, model, mut generator) = tiny(1);
    generator.keep_keys(true);
    let mut tokens: Vec<u32> = Vec::new();
    for turn in 0..12 {
        tokens.extend([turn, turn + 1, turn + 2, turn + 3, 5]);
        generator.submit(request(tokens.as_slice().into(), 3)).expect("it fits");
        let before = generator.counters().rows;
        let mut finished = Vec::new();
        while generator.is_busy() {
            finished.extend(generator.step(&cpu, &model).expect("memory").finished);
        }
        tokens.extend(&finished[0].completion.token_ids);
        // Each turn leaves two pages that are not full; seven pages are there.
        assert!(turn > 2 || generator.counters().rows - before <= 8, "turn {turn} costs its own tokens");
    }
}
