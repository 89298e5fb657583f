//! Promise 1: a token's log-probability from generation equals, bit for bit, the one that the training forward computes
//! for it, whatever else was in the batch, on every instruction set and any number of threads.

use koan_backend::{Backend, Reference};
use koan_cpu::{Cpu, Isa};
use koan_generate::{Completion, Generator, Limits, Prompt, Sampling};
use koan_model::{Activations, Batch, Head, Model, Purpose, Scored, testkit};
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Schedule {
    prompts: Vec<(usize, usize)>,
    sequences: usize,
    max_new_tokens: usize,
    temperature: f32,
    /// Which of the test kit's models.
    kind: usize,
}

fn schedules() -> impl Strategy<Value = Schedule> {
    let prompts = prop::collection::vec((1usize..40, 0usize..5), 1..5);
    let temperature = prop::sample::select(vec![0.0f32, 0.6, 1.0]);
    (prompts, 1usize..9, 1usize..12, temperature, 0..testkit::kinds().len()).prop_map(
        |(prompts, sequences, max_new_tokens, temperature, kind)| Schedule {
            prompts,
            sequences,
            max_new_tokens,
            temperature,
            kind,
        },
    )
}

fn prompts(schedule: &Schedule) -> Vec<Prompt> {
    let token = |p: usize, i: usize| ((testkit::random(p as u64, i as u64) + 0.5) * 29.0) as u32;
    let prompt = |(p, &(tokens, samples)): (usize, &(usize, usize))| Prompt {
        ids: (0..tokens).map(|i| token(p, i)).collect(),
        problem: p as u64,
        samples,
    };
    schedule.prompts.iter().enumerate().map(prompt).collect()
}

/// All completions, in the order of prompts and samples.
fn generate<B: Backend>(b: &B, model: &Model<B>, schedule: &Schedule, prompts: &[Prompt]) -> Vec<Completion> {
    let limits = Limits { sequences: schedule.sequences, prompt_tokens: 40, new_tokens: 12 };
    let mut generator = Generator::new(b, model.config(), limits);
    let sampling = Sampling {
        temperature: schedule.temperature,
        max_new_tokens: schedule.max_new_tokens,
        stop_ids: vec![0],
        seed: 3,
        step: 1,
    };
    let mut all = Vec::new();
    generator.run(b, model, prompts, &sampling, |p, s, completion| all.push(((p, s), completion)));
    all.sort_by_key(|(key, _)| *key);
    let wanted: Vec<_> =
        (0..prompts.len()).flat_map(|p| (0..prompts[p].samples).map(move |s| (p, s))).collect();
    assert_eq!(all.iter().map(|(key, _)| *key).collect::<Vec<_>>(), wanted, "every sample, once");
    all.into_iter().map(|(_, completion)| completion).collect()
}

/// The log-probabilities of the completions by one packed training forward.
fn score<B: Backend>(
    b: &B,
    model: &Model<B>,
    temperature: f32,
    prompts: &[Prompt],
    completions: &[Completion],
) -> Vec<f32> {
    let (mut batch, mut scored, mut rest) = (Batch::default(), Scored::default(), completions);
    for prompt in prompts {
        let (own, others) = rest.split_at(prompt.samples);
        rest = others;
        batch.push_group(&prompt.ids, own.iter().map(|c| &c.token_ids[..]), &mut scored);
    }
    let mut activations = Activations::new(b, model.config(), batch.len().max(1), Purpose::Training);
    let mut head = Head::new(b, model.config(), scored.rows.len().max(1));
    model.forward(b, &batch, &mut activations, None);
    let temperature = if temperature == 0.0 { 1.0 } else { temperature };
    model.log_probs(b, &activations, &scored, temperature, &mut head).0
}

fn bits(values: impl IntoIterator<Item = f32>) -> Vec<u32> {
    values.into_iter().map(f32::to_bits).collect()
}

fn holds<B: Backend>(b: &B, schedule: &Schedule) -> Vec<Completion> {
    let kind = testkit::kinds().swap_remove(schedule.kind);
    let model = testkit::model(b, testkit::config_with(29, true, kind), 5);
    let prompts = prompts(schedule);
    let completions = generate(b, &model, schedule, &prompts);
    let sampled = completions.iter().flat_map(|c| c.log_probs.clone());
    assert_eq!(bits(sampled), bits(score(b, &model, schedule.temperature, &prompts, &completions)));
    completions
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn sampled_log_probs_are_the_training_forwards(schedule in schedules()) {
        holds(&Reference, &schedule);
        for isa in Isa::available() {
            let one = holds(&Cpu::new(isa, 1).expect("a processor"), &schedule);
            let two = holds(&Cpu::new(isa, 2).expect("a processor"), &schedule);
            prop_assert_eq!(&one, &two, "{} on 1 and 2 threads", isa.name());
            // The batch a sample was drawn in changes nothing.
            let alone = Schedule { sequences: 1, ..schedule.clone() };
            prop_assert_eq!(&one, &holds(&Cpu::new(isa, 2).expect("a processor"), &alone), "{} alone", isa.name());
        }
    }
}
