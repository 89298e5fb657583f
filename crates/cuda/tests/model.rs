//! Whole models in the emulator: near the reference, sampled as they are trained, and the same bits in any order of threads.

mod emulated;

use koan_backend::{AdamWStep, Backend, Layout, MomentType, Reference};
use koan_cuda::Cuda;
use koan_generate::{Completion, Drafts, Generator, Limits, Prompt, Sampling};
use koan_model::{Activations, Config, Gradient, Head, Model, Purpose, Role, testkit};
use serde_json::json;

use emulated::emulated;

/// Models of three families, whose rows begin at odd places, one of them by both forms of latent attention; and one of a size that is
/// read 16 bytes at a time.
fn configs() -> impl Iterator<Item = Config> {
    let even = json!({"hidden_size": 64, "intermediate_size": 96, "head_dim": 16});
    let deepseek = json!({"model_type": "deepseek_v3", "n_group": 3, "topk_group": 2, "num_experts_per_tok": 3, "first_k_dense_replace": 1});
    let deepseek = testkit::deepseek(deepseek);
    let mut latent = deepseek.clone();
    latent[testkit::CACHE] = "latent".into();
    let kinds = [json!({}), json!({"model_type": "qwen3"}), deepseek, latent, even];
    kinds
        .into_iter()
        .zip([11, 17, 29, 29, 32])
        .map(|(kind, vocab)| testkit::config_with(vocab, vocab == 17, kind))
}

/// Two groups: shared prompts, completions of several lengths, a prompt of one token.
fn layout() -> Layout {
    let mut layout = Layout::default();
    layout.push_group(&[3, 1, 4, 1], [&[5, 9, 2][..], &[6], &[5, 3]]);
    layout.push_group(&[2], [&[7, 1][..], &[8, 2, 8]]);
    layout
}

/// Log-probabilities, the gradient of a sum of them by each tensor, and each tensor after a step that it makes.
fn step<B: Backend>(b: &B, config: &Config) -> (Vec<f64>, Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let layout = layout();
    let (rows, scored) = (layout.len(), layout.head_rows.len());
    let mut model: Model<B> = testkit::model(b, config.clone(), 5);
    model.pack(b).expect("memory");
    let layout = model.upload(b, layout).expect("memory");
    let mut a = Activations::new(b, config, rows, Purpose::Training).expect("memory");
    let mut head = Head::new(b, config, scored).expect("memory");
    let mut gradient = Gradient::new(b, config, rows).expect("memory");
    model.forward(b, &layout, &mut a, None);
    let [log_probs, _] = model.log_probs(b, &a, &layout, 0.7, &mut head);
    let d: Vec<f64> = (0..scored).map(|i| f64::from(testkit::random(9, i as u64)) + 0.6).collect();
    model.backward(b, &layout, &mut a, &d, 0.7, &mut head, &mut gradient);

    let read = |buf: &B::Buf, len: usize| {
        let [values] = b.read([(buf, len)]);
        values
    };
    let (mut gradients, mut weights) = (Vec::new(), Vec::new());
    for (i, (p, g)) in model.weights.tensors_mut().zip(gradient.weights.tensors()).enumerate() {
        let (len, trained) = (p.info().len(), p.info().trained_len());
        gradients.push(read(g, trained));
        if trained > 0 && p.info().role != Role::RouterBias {
            let moment = || b.zero_moment(len, MomentType::Bf16).expect("memory");
            let (mut m, mut v) = (moment(), moment());
            let step = AdamWStep {
                lr: 0.01,
                beta1: 0.9,
                beta2: 0.95,
                eps: 1e-8,
                weight_decay: 0.1,
                grad_scale: 0.5,
                bias_correction1: 0.1,
                bias_correction2: 0.05,
                rounding_key: i as u32,
            };
            b.adamw_step(p.value_mut(), &mut m, &mut v, g, step);
            let moments = [m, v].map(|moment| b.read_moment(&moment));
            weights.extend(moments);
        }
        weights.push(read(p.value(), len));
    }
    (log_probs, gradients, weights)
}

/// Cosine of the angle between two gradients.
fn cosine<'a>(pairs: impl Iterator<Item = (&'a f32, &'a f32)>) -> f64 {
    let [dot, a, b] = pairs.fold([0.0; 3], |[dot, aa, bb], (&a, &b)| {
        let (a, b) = (f64::from(a), f64::from(b));
        [dot + a * b, aa + a * a, bb + b * b]
    });
    dot / (a * b).sqrt()
}

#[test]
fn a_model_and_its_gradient_are_near_the_reference() {
    let Some(cuda) = emulated(1) else { return };
    for config in configs() {
        let (got, want) = (step(&cuda, &config), step(&Reference, &config));
        let off = got.0.iter().zip(&want.0).map(|(a, b)| (a - b).abs()).sum::<f64>() / want.0.len() as f64;
        let name = config.family.name();
        assert!(off < 0.02, "{name}: log-probabilities are off by {off} on average");
        for (info, (got, want)) in config.tensors().iter().zip(got.1.iter().zip(&want.1)) {
            if info.role != Role::RouterBias && !want.is_empty() {
                let cosine = cosine(got.iter().zip(want));
                assert!(
                    cosine > 0.98,
                    "{name}: {}: cosine {cosine} with the reference's gradient",
                    info.name
                );
            }
        }
        let all = cosine(got.1.iter().flatten().zip(want.1.iter().flatten()));
        println!("{name}: log-probabilities off by {off:.1e}, gradient's cosine {all}");
        assert!(all > 0.999, "{name}: cosine {all} with the reference's gradient");
    }
}

#[test]
fn a_training_step_has_the_same_bits_in_any_order_of_threads() {
    let Some([a, b]) = emulated(1).zip(emulated(2)).map(<[Cuda; 2]>::from) else { return };
    for config in configs() {
        assert_eq!(step(&a, &config), step(&b, &config), "{}", config.family.name());
    }
}

/// The log-probabilities of the completions of each prompt, by one packed training forward.
fn score(cuda: &Cuda, model: &Model<Cuda>, prompts: &[Prompt], completions: &[Completion]) -> Vec<f32> {
    let (mut layout, mut rest) = (Layout::default(), completions);
    for prompt in prompts {
        let (own, others) = rest.split_at(prompt.samples);
        rest = others;
        layout.push_group(&prompt.ids, own.iter().map(|c| &c.token_ids[..]));
    }
    let config = model.config();
    let mut a = Activations::new(cuda, config, layout.len(), Purpose::Training).expect("memory");
    let mut head = Head::new(cuda, config, layout.head_rows.len()).expect("memory");
    let layout = model.upload(cuda, layout).expect("memory");
    model.forward(cuda, &layout, &mut a, None);
    let [log_probs, _] = model.log_probs(cuda, &a, &layout, 0.8, &mut head);
    log_probs.into_iter().map(|p| p as f32).collect()
}

#[test]
fn sampled_log_probs_are_the_training_forwards() {
    let Some(cuda) = emulated(3) else { return };
    let prompt = |problem: u64, ids: &[u32], samples| Prompt { ids: ids.to_vec(), problem, samples };
    let prompts =
        [prompt(0, &[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3], 3), prompt(1, &[2, 7], 2)];
    for (i, config) in configs().enumerate() {
        let mut model = testkit::model(&cuda, config, 5);
        model.pack(&cuda).expect("memory");
        // From the whole distribution, then from parts; with drafts, then without; with room for all, and for two.
        let whole = Sampling { temperature: 0.8, max_new_tokens: 20, ..Sampling::default() };
        let cut = Sampling { top_k: 7, top_p: 0.9, min_p: 0.01, ..whole.clone() };
        let limits = |sequences, drafts| Limits { sequences, prompt_tokens: 20, new_tokens: 20, drafts };
        for (sampling, limits) in [(whole, limits(5, Drafts::Text)), (cut, limits(2, Drafts::Off))] {
            let mut generator = Generator::new(&cuda, model.config(), limits).expect("memory");
            let mut finished = Vec::new();
            let done =
                generator.run(&cuda, &model, &prompts, &sampling, |f| finished.push((f.id, f.completion)));
            done.expect("it fits");
            finished.sort_by_key(|(id, _)| *id);
            let completions: Vec<Completion> =
                finished.into_iter().map(|(_, completion)| completion).collect();
            let sampled = completions.iter().flat_map(|c| &c.full_log_probs).map(|p| p.to_bits());
            let scored = score(&cuda, &model, &prompts, &completions);
            let scored: Vec<u32> = scored.into_iter().map(f32::to_bits).collect();
            assert_eq!(sampled.collect::<Vec<_>>(), scored, "config {i}, {sampling:?}");
        }
    }
}
