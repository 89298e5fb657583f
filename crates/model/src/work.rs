//! What passes compute, in floating-point operations (FLOPs): one formula for what is planned and for what was done.
//!
//! ```text
//! forward  = 2 · rows · layers + 2 · head rows · head + 4 · pairs · features
//! backward = the same for the gradient of what products read, once more for that of the weights that are trained,
//!            and what is computed again: the head's products, attention's scores, with recomputation the layers
//! ```
//!
//! `layers` and `head` are the elements of the matrices that a row is multiplied by, of experts those that it chooses; `pairs` those of a row and a key that it
//! attends to, `features` those of all query heads of all layers. So the backward of a model that is trained whole is twice
//! its forward, and what is computed again. Norms, rotations, softmax, samples and updates are not counted: together they
//! are some hundredths.

use std::{
    cell::OnceCell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{Config, HeadKind, Role, TensorInfo};

/// The sizes of a model that the work of its passes depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flops {
    /// Elements of the layers' matrices, of experts those of the ones that a row chooses, and of a reward model's head.
    pub layers: f64,
    /// Elements of the language head's matrix.
    pub head: f64,
    /// Those of `layers` that are trained.
    pub trained_layers: f64,
    /// Those of `head` that are trained.
    pub trained_head: f64,
    /// Features of all query heads of all layers; where values have others, the mean of both.
    pub features: f64,
    /// Elements of the matrices of a module that predicts further tokens.
    pub module: f64,
}

/// The sizes of a pass that its work depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PassSize {
    /// Rows: tokens that are computed.
    pub rows: f64,
    /// Rows that a language head reads.
    pub head_rows: f64,
    /// Pairs of a row and a key that it attends to.
    pub pairs: f64,
}

impl Flops {
    /// Of a model of `config`.
    pub fn of(config: &Config) -> Self {
        if config.multi_token_layers > 0 {
            let [with, own] =
                [config.clone(), config.clone().without_modules()].map(|config| elements(&config));
            let module = (with[0] - own[0]) / config.multi_token_layers as f64;
            return Self { module, ..Self::of(&config.clone().without_modules()) };
        }
        let [all, head, trained, trained_head] = elements(config);
        let predicts_tokens = if config.head == HeadKind::Language { 1.0 } else { 0.0 };
        Self {
            layers: all - head,
            head: predicts_tokens * head,
            trained_layers: trained - trained_head,
            trained_head: predicts_tokens * trained_head,
            features: config.attention_features(),
            module: 0.0,
        }
    }

    /// Of the passes of `n` modules over the rows of `pass`, each with the head rows of it; with their backward three times that.
    pub(crate) fn modules(&self, pass: PassSize, n: usize) -> f64 {
        n as f64 * (2.0 * pass.rows * self.module + self.head(pass))
    }

    /// Of the elements that a row is multiplied by, the share that all rows are: what is left are experts of its own.
    pub fn common(config: &Config) -> f64 {
        let config = &config.clone().without_modules();
        let Self { layers, head, .. } = Self::of(config);
        let of_experts = config.experts.as_ref().map_or(0.0, |of| {
            let all: usize =
                config.tensors().iter().filter(|info| info.shape.len() > 2).map(TensorInfo::len).sum();
            all as f64 * of.per_token as f64 / of.routed as f64
        });
        1.0 - of_experts / (layers + head)
    }

    /// What a module's pass takes of one of the model, by the elements of their matrices.
    pub fn module_share(&self) -> f64 {
        (self.module + self.head) / (self.layers + self.head)
    }

    /// Of a pass forward.
    pub fn forward(&self, pass: PassSize) -> f64 {
        self.trunk(pass) + self.head(pass)
    }

    /// Of a pass's backward; `recomputes` if of each layer only its input was kept.
    pub fn backward(&self, pass: PassSize, recomputes: bool) -> f64 {
        let PassSize { rows, head_rows, pairs } = pass;
        let weights = 2.0 * (rows * self.trained_layers + head_rows * self.trained_head);
        let attention_again = (4.0 + 2.0) * pairs * self.features;
        let layers_again = if recomputes { self.trunk(pass) } else { 0.0 };
        self.forward(pass) + weights + attention_again + self.head(pass) + layers_again
    }

    /// Of a pass through the layers alone.
    pub(crate) fn trunk(&self, pass: PassSize) -> f64 {
        2.0 * pass.rows * self.layers + 4.0 * pass.pairs * self.features
    }

    /// Of the head rows of a pass.
    pub(crate) fn head(&self, pass: PassSize) -> f64 {
        2.0 * pass.head_rows * self.head
    }
}

/// Elements of the matrices that a row is multiplied by: of all, of the head's, of those that are trained, and of the head's if
/// it is.
fn elements(config: &Config) -> [f64; 4] {
    let infos = config.tensors();
    let active = |info: &TensorInfo| match &config.experts {
        Some(of) if info.shape.len() > 2 => of.per_token as f64 / of.routed as f64,
        _ => 1.0,
    };
    let sum = |is_counted: fn(Role) -> bool, len: fn(&TensorInfo) -> usize| {
        let counted = infos.iter().filter(|info| is_counted(info.role));
        counted.map(|info| active(info) * len(info) as f64).sum::<f64>()
    };
    let [all, trained] = [TensorInfo::len, TensorInfo::trained_len].map(|len| sum(Role::is_product, len));
    let [head, trained_head] = [TensorInfo::len, TensorInfo::trained_len].map(|len| sum(Role::is_head, len));
    [all, head, trained, trained_head]
}

/// What was computed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Floating-point operations of all passes: sampling, scoring, judging, learning.
    pub flops: f64,
    /// Tokens that were sampled.
    pub tokens_drawn: u64,
    /// Tokens that were learned from: those whose prediction a backward pass improves, once for each pass; of a reward
    /// model all rows of its passes.
    pub tokens_trained: u64,
}

impl Work {
    /// What was computed since it stood at `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            flops: self.flops - before.flops,
            tokens_drawn: self.tokens_drawn - before.tokens_drawn,
            tokens_trained: self.tokens_trained - before.tokens_trained,
        }
    }
}

/// Counts the work of the passes that one thread asks for. Whoever runs a stage or a measurement drives all of its models
/// from one thread: the policy, its reference, judges, a teacher. What that thread asked for is what all of it took.
#[derive(Debug, Default)]
pub struct Counter {
    /// An f64 as bits: only the counter's own thread writes it.
    flops: AtomicU64,
    tokens_drawn: AtomicU64,
    tokens_trained: AtomicU64,
}

thread_local! {
    static OWN: OnceCell<Arc<Counter>> = const { OnceCell::new() };
}

impl Counter {
    /// The calling thread's, which other threads may read.
    pub fn of_this_thread() -> Arc<Self> {
        OWN.with(|own| own.get_or_init(Arc::default).clone())
    }

    /// What the thread has asked for so far.
    pub fn work(&self) -> Work {
        Work {
            flops: f64::from_bits(self.flops.load(Ordering::Relaxed)),
            tokens_drawn: self.tokens_drawn.load(Ordering::Relaxed),
            tokens_trained: self.tokens_trained.load(Ordering::Relaxed),
        }
    }
}

/// Counts `tokens` that were sampled. Their passes count themselves; which of what [`Model::sample`](crate::Model::sample)
/// gives is kept, only its caller knows.
pub fn count_drawn(tokens: usize) {
    count(Work { tokens_drawn: tokens as u64, ..Work::default() });
}

/// Counts `work` for the calling thread.
pub(crate) fn count(work: Work) {
    OWN.with(|own| {
        let own = own.get_or_init(Arc::default);
        let flops = f64::from_bits(own.flops.load(Ordering::Relaxed)) + work.flops;
        own.flops.store(flops.to_bits(), Ordering::Relaxed);
        own.tokens_drawn.fetch_add(work.tokens_drawn, Ordering::Relaxed);
        own.tokens_trained.fetch_add(work.tokens_trained, Ordering::Relaxed);
    });
}

#[cfg(test)]
mod tests {
    use koan_backend::{Layout, Reference};

    use super::*;
    use crate::{Activations, Gradient, Head, Purpose, testkit};

    fn count_of(work: impl FnOnce()) -> Work {
        let before = Counter::of_this_thread().work();
        work();
        Counter::of_this_thread().work().since(before)
    }

    #[test]
    fn a_pass_forward_and_backward_is_counted_as_worked_out_by_hand() {
        let (b, config) = (&Reference, testkit::config(11, false));
        let model = testkit::model(b, config.clone(), 1);
        // A prompt of three tokens, of which two are computed once, and completions of two and one tokens.
        let mut layout = Layout::default();
        layout.push_group(&[1, 2, 3], [&[4, 5][..], &[6]]);
        // Pairs: the prompt's rows see 1 and 2 keys, the completions' 3, 4 and 3.
        let pass = PassSize { rows: 5.0, head_rows: 3.0, pairs: 13.0 };
        let infos = config.tensors();
        let matrices = |is_head: bool| -> f64 {
            let of = infos.iter().filter(|i| i.shape.len() == 2 && (i.role == Role::Head) == is_head);
            of.filter(|i| !i.name.contains("embed")).map(TensorInfo::len).sum::<usize>() as f64
        };
        let features = (config.num_hidden_layers * config.num_attention_heads * config.head_dim) as f64;
        let (layers, head) = (2.0 * 5.0 * matrices(false), 2.0 * 3.0 * matrices(true));
        let attention = 4.0 * 13.0 * features;
        let forward = layers + head + attention;
        let backward = 2.0 * forward + head + attention / 2.0;
        let flops = Flops::of(&config);
        assert_eq!(flops.forward(pass), forward);
        assert_eq!(flops.backward(pass, false), backward);
        assert_eq!(flops.backward(pass, true), backward + layers + attention);

        for (purpose, again) in [(Purpose::Training, 0.0), (Purpose::Recomputing, layers + attention)] {
            let mut a = Activations::new(b, &config, 5, purpose).expect("memory");
            let mut head_rows = Head::new(b, &config, 3).expect("memory");
            let mut gradient = Gradient::new(b, &config, 5).expect("memory");
            let layout = model.upload(b, layout.clone()).expect("memory");
            let done = count_of(|| {
                model.forward(b, &layout, &mut a, None);
                model.log_probs(b, &a, &layout, 1.0, &mut head_rows);
            });
            assert_eq!(done, Work { flops: forward, ..Work::default() });
            let done = count_of(|| {
                model.backward(b, &layout, &mut a, &[1.0; 3], 1.0, &mut head_rows, &mut gradient);
            });
            assert_eq!(done, Work { flops: backward + again, tokens_drawn: 0, tokens_trained: 3 });
        }
    }

    #[test]
    fn a_row_has_experts_of_its_own() {
        let share = |name: &str| {
            let kind = testkit::kinds().into_iter().find(|kind| kind["model_type"] == name).expect("a kind");
            let config = testkit::config_with(11, false, kind);
            let flops = Flops::of(&config);
            let experts = config.experts.as_ref().map_or(0, |of| {
                let layers = config.num_hidden_layers - of.first_dense;
                3 * layers * of.per_token * of.intermediate_size * config.hidden_size
            });
            (Flops::common(&config), 1.0 - experts as f64 / (flops.layers + flops.head))
        };
        assert_eq!(share("qwen2"), (1.0, 1.0));
        let (common, by_hand) = share("deepseek_v3");
        assert!((common - by_hand).abs() < 1e-12 && common > 0.1 && common < 0.9, "{common} for {by_hand}");
    }

    #[test]
    fn another_threads_work_is_not_this_ones() {
        let own = count_of(|| {
            let other = std::thread::spawn(|| {
                count_of(|| count(Work { flops: 5.0, tokens_drawn: 2, tokens_trained: 1 }))
            });
            assert_eq!(other.join().expect("it ends").flops, 5.0);
        });
        assert_eq!(own, Work::default());
    }
}
