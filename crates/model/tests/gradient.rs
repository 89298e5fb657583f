//! The backward pass of a whole model against finite differences, through the f64 reference backend.

use koan_backend::{Backend, Layout, Reference};
use koan_model::{Activations, Config, Gradient, Head, Model, Purpose, Targets, testkit};

const TEMPERATURE: f32 = 0.7;

/// Two groups: shared prompts, completions of several lengths, a prompt of one token.
fn layout() -> Layout {
    let mut layout = Layout::default();
    layout.push_group(&[3, 1, 4, 1], [&[5, 9, 2][..], &[6], &[5, 3]]);
    layout.push_group(&[2], [&[7, 1][..], &[8, 2, 8]]);
    layout
}

/// A loss with a different weight for each scored token.
fn weights(n: usize) -> Vec<f64> {
    (0..n).map(|i| f64::from(testkit::random(9, i as u64)) + 0.1).collect()
}

struct Passes {
    layout: Layout,
    activations: Activations<Reference>,
    head: Head<Reference>,
}

impl Passes {
    /// Σ wᵢ log pᵢ
    fn loss(&mut self, model: &Model<Reference>) -> f64 {
        let Self { layout, activations, head } = self;
        model.forward(&Reference, layout, activations, None);
        let [log_probs, _] = model.log_probs(&Reference, activations, layout, TEMPERATURE, head);
        log_probs.iter().zip(weights(layout.head_rows.len())).map(|(p, w)| p * w).sum()
    }

    /// The gradient of the loss by each tensor.
    fn gradient(&mut self, model: &Model<Reference>) -> Vec<Vec<f64>> {
        self.loss(model);
        let mut gradient =
            Gradient::new(&Reference, model.config(), self.activations.rows()).expect("memory");
        let Self { layout, activations, head } = self;
        let d = weights(layout.head_rows.len());
        model.backward(&Reference, layout, activations, &d, TEMPERATURE, head, &mut gradient);
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
fn the_gradient_of_an_adapter_is_the_finite_difference_and_all_else_is_frozen() {
    let some = Targets::Suffixes(vec!["o_proj".into(), "layers.1.mlp.down_proj".into()]);
    let targets = [Targets::AllLinear, some].into_iter().cycle();
    let adapted = kinds()
        .zip(targets)
        .map(|(config, targets)| config.with_adapter(testkit::adapter(targets)).expect("an adapter"));
    hold_to_finite_differences(adapted);
}

fn hold_to_finite_differences(configs: impl Iterator<Item = Config>) {
    for config in configs {
        let b = Reference;
        let mut model = testkit::model(&b, config, 1);
        let layout = model.upload(&b, layout()).expect("memory");
        let rows = b.rows(&layout);
        let mut passes = Passes {
            activations: Activations::new(&b, model.config(), rows + 3, Purpose::Training).expect("memory"),
            head: Head::new(&b, model.config(), layout.head_rows.len() + 2).expect("memory"),
            layout,
        };
        let gradients = passes.gradient(&model);
        passes.activations =
            Activations::new(&b, model.config(), rows + 3, Purpose::Recomputing).expect("memory");
        assert_eq!(gradients, passes.gradient(&model), "what is computed again has the same bits");
        let infos = model.config().tensors();
        assert!(infos.iter().any(|info| info.trained));
        for (t, (info, gradient)) in infos.iter().zip(&gradients).enumerate() {
            let name = &info.name;
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
