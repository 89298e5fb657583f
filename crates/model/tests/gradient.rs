//! The backward pass of a whole model against finite differences, through the f64 reference backend.

use koan_backend::{Layout, Reference};
use koan_model::{
    Activations, Config, Gradient, Head, Model, MultiTokenRows, Purpose, Role, Targets, testkit,
};

const TEMPERATURE: f32 = 0.7;

/// Two groups: shared prompts, completions of several lengths, a prompt of one token.
fn layout() -> Layout {
    let mut layout = Layout::default();
    layout.push_group(&[3, 1, 4, 1], [&[5, 9, 2][..], &[6], &[5, 3]]);
    layout.push_group(&[2], [&[7, 1][..], &[8, 2, 8]]);
    layout
}

/// Texts: a prompt of several tokens, one of one token, one that is shorter than modules look ahead.
fn texts() -> Layout {
    let mut layout = Layout::default();
    layout.push_group(&[3, 1, 4, 1], [&[5, 9, 2][..]]);
    layout.push_group(&[2], [&[7, 1, 8, 2, 8][..]]);
    layout.push_group(&[6], [&[5][..]]);
    layout
}

/// The weight of what modules predict.
const AHEAD: f64 = 0.4;

/// A loss with a different weight for each scored token.
fn weights(n: usize) -> Vec<f64> {
    (0..n).map(|i| f64::from(testkit::random(9, i as u64)) + 0.1).collect()
}

struct Passes {
    layout: Layout,
    activations: Activations<Reference>,
    head: Head<Reference>,
    /// The passes of the model's modules, and what they work in.
    ahead: Vec<Layout>,
    rows: MultiTokenRows<Reference>,
}

impl Passes {
    fn new(model: &Model<Reference>, purpose: Purpose) -> Self {
        let (b, config) = (&Reference, model.config());
        let layout = if config.trains_multi_token { texts() } else { layout() };
        let rows = layout.len() + 3;
        let modules = if config.trains_multi_token { config.multi_token_layers } else { 0 };
        Self {
            activations: Activations::new(b, config, rows, purpose).expect("memory"),
            head: Head::new(b, config, layout.head_rows.len() + 2).expect("memory"),
            ahead: (1..=modules).map(|k| layout.ahead(k)).collect(),
            rows: MultiTokenRows::new(b, config, rows).expect("memory"),
            layout: model.upload(b, layout).expect("memory"),
        }
    }

    /// Σ wᵢ log pᵢ, and what modules predict
    fn loss(&mut self, model: &Model<Reference>) -> f64 {
        let Self { layout, activations, head, ahead, rows } = self;
        model.forward(&Reference, layout, activations, None);
        let [log_probs, _] = model.log_probs(&Reference, activations, layout, TEMPERATURE, head);
        let own: f64 = log_probs.iter().zip(weights(layout.head_rows.len())).map(|(p, w)| p * w).sum();
        if ahead.is_empty() {
            return own;
        }
        let further = model.modules_log_probs(&Reference, ahead, activations, TEMPERATURE, head, rows);
        own + AHEAD * further.iter().sum::<f64>()
    }

    /// The gradient of the loss by each tensor.
    fn gradient(&mut self, model: &Model<Reference>) -> Vec<Vec<f64>> {
        let mut gradient =
            Gradient::new(&Reference, model.config(), self.activations.rows()).expect("memory");
        let Self { layout, activations, head, ahead, rows } = self;
        let (b, d) = (&Reference, weights(layout.head_rows.len()));
        model.forward(b, layout, activations, None);
        model.log_probs(b, activations, layout, TEMPERATURE, head);
        if ahead.is_empty() {
            model.backward(b, layout, activations, &d, TEMPERATURE, head, &mut gradient);
        } else {
            let d = (&d[..], AHEAD);
            model.backward_with_modules(
                b,
                layout,
                ahead,
                activations,
                d,
                TEMPERATURE,
                head,
                rows,
                &mut gradient,
            );
        }
        gradient.weights.tensors().cloned().collect()
    }
}

fn kinds() -> impl Iterator<Item = Config> {
    let kinds = testkit::kinds().into_iter().zip([true, false].into_iter().cycle());
    kinds.map(|(kind, tied)| testkit::config_with(11, tied, kind))
}

#[test]
fn the_gradient_of_every_tensor_is_the_finite_difference() {
    hold_to_finite_differences(kinds());
}

#[test]
fn the_gradient_of_modules_that_predict_further_tokens_is_the_finite_difference() {
    hold_to_finite_differences(kinds().map(|config| Config {
        multi_token_layers: 2,
        trains_multi_token: true,
        ..config
    }));
}

#[test]
fn modules_that_are_not_trained_change_nothing_and_stay() {
    let b = Reference;
    for config in kinds() {
        let [with, without] = [1, 0].map(|n| {
            let config = Config { multi_token_layers: n, ..config.clone() };
            let model = testkit::model(&b, config, 1);
            let mut passes = Passes::new(&model, Purpose::Training);
            let layout = passes.layout.clone();
            model.forward(&b, &layout, &mut passes.activations, None);
            let [log_probs, _] = model.log_probs(&b, &passes.activations, &layout, 1.0, &mut passes.head);
            let kept = model.weights.multi_token.iter().flat_map(|module| {
                [&module.enorm, &module.eh_proj.weight].map(|w| (w.info().trained, w.value().len()))
            });
            (log_probs, kept.collect::<Vec<_>>())
        });
        // The values of later tensors are other ones: the head's, where it has its own.
        if config.tie_word_embeddings {
            assert_eq!(with.0, without.0);
        }
        let hidden = config.hidden_size;
        assert_eq!(with.1, [(false, hidden), (false, 2 * hidden * hidden)]);
    }
}

#[test]
fn the_gradient_of_an_adapter_is_the_finite_difference_and_all_else_is_frozen() {
    let some = |config: &Config| match config.experts {
        None => ["v_proj", "layers.1.mlp.down_proj"],
        Some(_) => ["shared_experts.down_proj", "experts.up_proj"],
    };
    let adapted = kinds().zip([true, false].into_iter().cycle()).map(|(config, all)| {
        let some = some(&config).map(str::to_owned).into();
        let targets = if all { Targets::AllLinear } else { Targets::Suffixes(some) };
        config.with_adapter(testkit::adapter(targets)).expect("an adapter")
    });
    hold_to_finite_differences(adapted);
}

fn hold_to_finite_differences(configs: impl Iterator<Item = Config>) {
    for config in configs {
        let b = Reference;
        let mut model = testkit::model(&b, config, 1);
        let mut passes = Passes::new(&model, Purpose::Training);
        let gradients = passes.gradient(&model);
        let again = Passes::new(&model, Purpose::Recomputing).gradient(&model);
        assert_eq!(gradients, again, "what is computed again has the same bits");
        let infos = model.config().tensors();
        assert!(infos.iter().any(|info| info.trained));
        for (t, (info, gradient)) in infos.iter().zip(&gradients).enumerate() {
            let name = &info.name;
            if info.role == Role::RouterBias {
                let is_module =
                    name.starts_with(&format!("model.layers.{}", model.config().num_hidden_layers));
                let chosen =
                    passes.layout.len() * model.config().experts.map_or(0, |experts| experts.per_token);
                let load: f64 = gradient.iter().sum();
                assert!(is_module || load == chosen as f64, "{name} counts what was chosen: {load}");
                continue;
            }
            if !info.trained {
                assert!(gradient.is_empty(), "{name} is frozen");
                continue;
            }
            let largest =
                (0..gradient.len()).max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs()));
            let largest = largest.expect("a tensor has elements");
            assert!(gradient[largest].abs() > 1e-4, "{name}: the gradient is zero");
            for i in [largest, gradient.len() / 3, gradient.len() - 1] {
                let h = 1e-3;
                let mut at = |shift: f64| {
                    let p = model.weights.tensors_mut().nth(t).expect("a tensor");
                    p.value_mut()[i] += shift;
                    p.repack(&b);
                    let loss = passes.loss(&model);
                    let p = model.weights.tensors_mut().nth(t).expect("a tensor");
                    p.value_mut()[i] -= shift;
                    p.repack(&b);
                    loss
                };
                // Five points: the error is of order h⁴.
                let difference = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
                let error = (difference - gradient[i]).abs();
                assert!(error < 1e-7 * (1.0 + gradient[i].abs()), "{name}[{i}] {} {difference}", gradient[i]);
            }
        }
    }
}
