//! Promise 1: a token's log-probability from generation equals, bit for bit, the one that the training forward computes
//! for it, whatever else was in the batch, wherever a sequence was interrupted, on every instruction set and any number of
//! threads.

use std::collections::HashMap;

use koan_backend::{Backend, Layout, ProductPrecision, Reference};
use koan_cpu::{Cpu, Isa};
use koan_generate::{
    Completion, Counters, Drafts, Generator, Limits, MemoryPlan, Prompt, RequestId, Sampling, Stream,
};
use koan_model::{Activations, Head, Model, Purpose, Targets, testkit};
use proptest::prelude::*;

/// Sequences at once, room for tokens, and drafts, in the place of a schedule's own.
const OTHERWISE: [(usize, usize, Drafts); 3] =
    [(1, 10_000, Drafts::Text), (9, 100, Drafts::Text), (9, 10_000, Drafts::Off)];

const LIMITS: Limits = Limits { sequences: 9, prompt_tokens: 60, new_tokens: 40, drafts: Drafts::Off };

#[derive(Clone, Debug)]
struct Schedule {
    /// Tokens that every prompt begins with.
    common: usize,
    /// Each prompt's own tokens, and its samples.
    prompts: Vec<(usize, usize)>,
    sequences: usize,
    /// Room for so many tokens, if that is less than all take.
    cache_tokens: usize,
    sampling: Sampling,
    /// A completion ends, as if by a stop string, where two tokens in a row sum up to a multiple of it.
    cut: u32,
    /// Which of the test kit's models, and the same with an adapter.
    kind: usize,
    drafts: Drafts,
    /// In what its products are computed.
    precision: ProductPrecision,
}

fn schedules() -> impl Strategy<Value = Schedule> {
    let prompts = prop::collection::vec((1usize..30, 0usize..5), 1..5);
    let truncation = prop::sample::select(vec![
        (0, 1.0f32, 0.0f32),
        (0, 1.0, 0.0),
        (5, 1.0, 0.0),
        (0, 0.8, 0.0),
        (0, 1.0, 0.3),
        (9, 0.9, 0.1),
    ]);
    let room = prop::sample::select(vec![100usize, 150, 250, 10_000]);
    let temperature = prop::sample::select(vec![0.0f32, 0.6, 1.0, 1.0]);
    let shape = (0usize..30, prompts, 1usize..10, room);
    let precision = prop::sample::select(vec![ProductPrecision::Device, ProductPrecision::Fp8]);
    let kinds = (0..2 * testkit::kinds().len(), precision);
    (shape, temperature, truncation, 1usize..40, 5u32..40, kinds).prop_map(
        |((common, prompts, sequences, cache_tokens), temperature, cuts, max_new_tokens, cut, kind)| {
            let (kind, precision) = kind;
            let (top_k, top_p, min_p) = cuts;
            let (stop_ids, seed, stream) = (vec![0], 3, Stream::Rollout { step: 1 });
            let sampling =
                Sampling { temperature, top_k, top_p, min_p, max_new_tokens, stop_ids, seed, stream };
            let drafts = Drafts::Off;
            Schedule { common, prompts, sequences, cache_tokens, sampling, cut, kind, drafts, precision }
        },
    )
}

fn prompts(schedule: &Schedule) -> Vec<Prompt> {
    let token = |p: usize, i: usize| ((testkit::random(p as u64, i as u64) + 0.5) * 29.0) as u32;
    let prompt = |(p, &(tokens, samples)): (usize, &(usize, usize))| Prompt {
        ids: (0..schedule.common).map(|i| token(99, i)).chain((0..tokens).map(|i| token(p, i))).collect(),
        problem: p as u64,
        samples,
    };
    schedule.prompts.iter().enumerate().map(prompt).collect()
}

/// All completions, in the order of prompts and samples.
fn generate<B: Backend>(
    b: &B,
    model: &Model<B>,
    schedule: &Schedule,
    prompts: &[Prompt],
) -> (Vec<Completion>, Counters) {
    let limits = Limits { sequences: schedule.sequences, drafts: schedule.drafts, ..LIMITS };
    let whole = MemoryPlan::whole(b, limits);
    let plan = whole.with_cache_tokens(schedule.cache_tokens.min(whole.cache_tokens()));
    let mut generator = Generator::planned(b, model.config(), plan).expect("memory");
    generator.submit_all(prompts, &schedule.sampling).expect("they fit");
    let mut all: Vec<(RequestId, Completion)> = Vec::new();
    let mut last: HashMap<RequestId, u32> = HashMap::new();
    while generator.is_busy() {
        let step = generator.step_until(b, model, |id, token| {
            last.insert(id, token).is_some_and(|last| (last + token).is_multiple_of(schedule.cut))
        });
        let step = step.expect("memory");
        all.extend(step.finished.into_iter().map(|finished| (finished.id, finished.completion)));
    }
    all.sort_by_key(|(id, _)| *id);
    assert!(all.windows(2).all(|pair| pair[0].0 < pair[1].0), "every sample once");
    assert_eq!(all.len(), prompts.iter().map(|prompt| prompt.samples).sum::<usize>(), "every sample");
    (all.into_iter().map(|(_, completion)| completion).collect(), generator.counters())
}

/// The log-probabilities of the completions by one packed training forward.
fn score<B: Backend>(
    b: &B,
    model: &Model<B>,
    temperature: f32,
    prompts: &[Prompt],
    completions: &[Completion],
) -> Vec<f32> {
    let (mut layout, mut rest) = (Layout::default(), completions);
    for prompt in prompts {
        let (own, others) = rest.split_at(prompt.samples);
        rest = others;
        layout.push_group(&prompt.ids, own.iter().map(|c| &c.token_ids[..]));
    }
    let mut activations =
        Activations::new(b, model.config(), layout.len().max(1), Purpose::Training).expect("memory");
    let mut head = Head::new(b, model.config(), layout.head_rows.len().max(1)).expect("memory");
    let layout = model.upload(b, layout).expect("memory");
    model.forward(b, &layout, &mut activations, None);
    let temperature = if temperature == 0.0 { 1.0 } else { temperature };
    let [log_probs, _] = model.log_probs(b, &activations, &layout, temperature, &mut head);
    log_probs.into_iter().map(|p| p as f32).collect()
}

fn bits(values: impl IntoIterator<Item = f32>) -> Vec<u32> {
    values.into_iter().map(f32::to_bits).collect()
}

fn holds<B: Backend>(b: &B, schedule: &Schedule) -> Vec<Completion> {
    let mut kinds = testkit::kinds();
    let adapted = schedule.kind >= kinds.len();
    let kind = kinds.swap_remove(schedule.kind % kinds.len());
    let mut config = testkit::config_with(29, true, kind);
    if adapted {
        config = config.with_adapter(testkit::adapter(Targets::AllLinear)).expect("an adapter");
    }
    config.precision = schedule.precision;
    let mut model = testkit::model(b, config, 5);
    let prompts = prompts(schedule);
    model.pack(b).expect("memory");
    let (completions, _) = generate(b, &model, schedule, &prompts);
    model.unpack(b); // as learning holds it
    let sampled = completions.iter().flat_map(|c| c.full_log_probs.clone());
    assert_eq!(bits(sampled), bits(score(b, &model, schedule.sampling.temperature, &prompts, &completions)));
    let Sampling { temperature, top_k, top_p, min_p, .. } = schedule.sampling;
    let whole = temperature == 0.0 || (top_k, top_p, min_p) == (0, 1.0, 0.0);
    for c in &completions {
        let mut pairs = c.log_probs.iter().zip(&c.full_log_probs);
        assert!(pairs.all(|(p, full)| if whole { p.to_bits() == full.to_bits() } else { *p >= full - 1e-5 }));
    }
    completions
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn sampled_log_probs_are_the_training_forwards(schedule in schedules()) {
        holds(&Reference, &schedule);
        for isa in Isa::available() {
            let cpu = |threads| Cpu::new(isa, threads).expect("a processor");
            let one = holds(&cpu(1), &schedule);
            prop_assert_eq!(&one, &holds(&cpu(3), &schedule), "{} on 1 and 3 threads", isa.name());
            // The batch a sample was drawn in changes nothing, nor does being interrupted, nor being drafted.
            for (sequences, cache_tokens, drafts) in OTHERWISE {
                let other = Schedule { sequences, cache_tokens, drafts, ..schedule.clone() };
                let other = holds(&cpu(2), &other);
                prop_assert_eq!(&one, &other, "{}, {} in {}, {:?}", isa.name(), sequences, cache_tokens, drafts);
            }
        }
    }
}

fn long_completions(sequences: usize, cache_tokens: usize) -> Schedule {
    let sampling = Sampling { max_new_tokens: 40, ..Sampling::default() };
    Schedule {
        common: 17,
        prompts: vec![(5, 4), (9, 4)],
        sequences,
        cache_tokens,
        sampling,
        cut: 1000,
        kind: 0,
        drafts: Drafts::Off,
        precision: ProductPrecision::Device,
    }
}

#[test]
fn promise_1_holds_of_latents_in_the_cache() {
    let kinds = testkit::kinds();
    let latent = (0..kinds.len()).filter(|&kind| kinds[kind].get(testkit::CACHE).is_some());
    for kind in latent.flat_map(|kind| [kind, kind + kinds.len()]) {
        let sampling = Sampling { max_new_tokens: 12, ..Sampling::default() };
        let schedule = Schedule { sampling, kind, ..long_completions(9, 10_000) };
        for isa in Isa::available() {
            let cpu = |threads| Cpu::new(isa, threads).expect("a processor");
            let one = holds(&cpu(1), &schedule);
            for (sequences, cache_tokens, drafts) in OTHERWISE {
                let other = Schedule { sequences, cache_tokens, drafts, ..schedule.clone() };
                assert_eq!(
                    one,
                    holds(&cpu(2), &other),
                    "{}, kind {kind}, {sequences} in {cache_tokens}",
                    isa.name()
                );
            }
        }
    }
}

#[test]
fn sequences_that_run_out_of_room_wait_and_go_on() {
    let cpu = Cpu::best(Some(2)).expect("a processor");
    let model = testkit::model(&cpu, testkit::config(29, true), 5);
    let run = |schedule: &Schedule| generate(&cpu, &model, schedule, &prompts(schedule));
    let (roomy, counters) = run(&long_completions(8, 10_000));
    assert_eq!(counters.preemptions, 0);
    let (narrow, counters) = run(&long_completions(8, 250));
    assert!(counters.preemptions > 0, "8 sequences of 60 tokens do not fit in 250");
    assert_eq!(roomy, narrow);
}

#[test]
fn what_prompts_begin_with_is_computed_once() {
    let cpu = Cpu::best(Some(1)).expect("a processor");
    let model = testkit::model(&cpu, testkit::config(29, true), 5);
    let sampling = Sampling { max_new_tokens: 1, ..Sampling::default() };
    let schedule = Schedule { prompts: vec![(8, 4); 2], sampling, ..long_completions(8, 10_000) };
    // The prompts have 17 tokens in common, and the last of each belongs to its 4 samples: one page of 16 is shared.
    let (_, counters) = generate(&cpu, &model, &schedule, &prompts(&schedule));
    assert_eq!(counters.rows, 16 + 2 * 8 + 8);
}

#[test]
fn a_conversation_that_goes_on_costs_its_new_tokens() {
    let cpu = Cpu::best(Some(2)).expect("a processor");
    let model = testkit::model(&cpu, testkit::config(29, true), 5);
    let sampling = Sampling { max_new_tokens: 20, ..Sampling::default() };
    let mut ids: Vec<u32> = (0..20).map(|i| i % 29).collect();
    let run = |generator: &mut Generator<Cpu>, ids: &[u32]| {
        let prompt = Prompt { ids: ids.to_vec(), problem: 0, samples: 1 };
        let mut drawn = None;
        let counters = generator.run(&cpu, &model, &[prompt], &sampling, |f| drawn = Some(f.completion));
        (drawn.expect("a completion"), counters.expect("it fits").rows)
    };
    let limits = Limits { sequences: 1, ..LIMITS };
    let mut keeping = Generator::new(&cpu, model.config(), limits).expect("memory");
    keeping.keep_keys(true);
    for turn in 0..3 {
        let mut fresh = Generator::new(&cpu, model.config(), limits).expect("memory");
        let ((kept, kept_rows), (new, new_rows)) = (run(&mut keeping, &ids), run(&mut fresh, &ids));
        assert_eq!(kept, new, "turn {turn}");
        assert_eq!(new_rows, ids.len() - 1 + 20);
        assert!(turn == 0 || kept_rows < 20 + 20, "turn {turn}: {kept_rows} rows");
        ids.truncate(30 - 10 * turn);
        ids.extend(&new.token_ids[..10]);
        ids.extend([1, 2, 3]);
    }
}
