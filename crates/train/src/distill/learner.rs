//! One update by the divergence of a student's distributions from a teacher's: both forward, the divergence, the student
//! backward, AdamW.
//!
//! ```text
//! L = 1/T Σₜ D(pₜ, qₜ)    over the T learned tokens of an update
//! ```
//!
//! One denominator for the whole update: loss and gradient do not depend on how it is cut into passes.

use koan_backend::{Backend, Divergence, OutOfMemory, Scored};
use koan_model::{Activations, Config, DivergenceRows, Gradient, Model, Purpose};

use crate::{
    TrainError,
    comm::Shards,
    gradient::{Group, MicroBatch, Tree, cut, cut_shards, deal, share_balance},
    optim::{NotFinite, OptimConfig, Optimizer},
    stage::Trained,
    supervised::next_token::{Text, Update},
};

/// A student that learns from a teacher's distributions, and all that learning works with.
pub struct Learner<B: Backend> {
    /// The student.
    pub model: Model<B>,
    /// Its optimizer.
    pub optimizer: Optimizer<B>,
    teacher: Model<B>,
    passes: DivergencePasses<B>,
    gradient: Gradient<B>,
    tree: Tree<B>,
}

impl<B: Backend> Learner<B> {
    /// A student that learns by the divergence `of` it from `teacher`, in passes of up to `rows` tokens, by updates of `optim`.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn new(
        b: &B,
        model: Model<B>,
        optimizer: Optimizer<B>,
        teacher: Model<B>,
        of: Divergence,
        rows: usize,
        optim: &OptimConfig,
    ) -> Result<Self, OutOfMemory> {
        let configs = [model.config(), teacher.config()];
        let passes = DivergencePasses::new(b, configs, rows, optim.purpose(), of)?;
        let gradient = Gradient::new(b, model.config(), rows)?;
        let tree = Tree::new(b, model.config(), Shards::of_one_rank(1))?;
        Ok(Self { model, optimizer, teacher, passes, gradient, tree })
    }

    /// With updates whose gradient is the sum of those of `shards`.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn sharded(self, b: &B, shards: Shards) -> Result<Self, OutOfMemory> {
        let tree = Tree::new(b, self.model.config(), shards)?;
        Ok(Self { tree, ..self })
    }

    /// What a checkpoint keeps.
    pub fn trained(&self) -> Trained<'_, B> {
        Trained { model: &self.model, reference: None, optimizer: &self.optimizer }
    }

    /// One update at learning rate `lr`.
    ///
    /// # Errors
    /// If the loss or the gradient is not finite, or the device refuses memory; the student is then unchanged.
    ///
    /// # Panics
    /// If a text has no context, or with it exceeds the planned rows.
    pub fn update(
        &mut self,
        b: &B,
        texts: &[Text],
        optim: &OptimConfig,
        lr: f32,
    ) -> Result<Update, TrainError> {
        let tokens = count(texts);
        self.gradient.clear(b);
        let (mut groups, shards) = (groups(texts), self.tree.shards().clone());
        deal(&mut groups, shards.count());
        let passes = cut_shards(&groups, &shards, self.passes.rows, 1);
        self.gradient.balance = share_balance(self.optimizer.balance.loss, &passes, shards.ranks())?;
        let mut sums = Vec::new();
        for (shard, passes) in shards.own().zip(passes) {
            let learned = Some((1.0 / tokens.max(1) as f64, &mut self.gradient));
            sums.push(self.passes.sum(b, [&self.model, &self.teacher], passes, learned)?.to_bits());
            self.tree.add(b, shard, &mut self.gradient.weights);
        }
        self.tree.add_ranks(b, &mut self.gradient.weights)?;
        let sums: Vec<Vec<u64>> = shards.ranks().all_gather(&sums)?;
        let sum: f64 = sums.into_iter().flatten().map(f64::from_bits).sum();
        if !sum.is_finite() {
            return Err(NotFinite { what: "the loss".into(), update: self.optimizer.updates + 1 }.into());
        }
        let grad_norm = self.optimizer.update(b, &mut self.model, &self.gradient, optim, lr)?;
        Ok(Update { loss: sum / tokens.max(1) as f64, further_loss: None, tokens, grad_norm })
    }

    /// The loss on `texts`; nothing is learned.
    ///
    /// # Errors
    /// If the device refuses memory.
    ///
    /// # Panics
    /// As [`Learner::update`].
    pub fn loss(&mut self, b: &B, texts: &[Text]) -> Result<f64, OutOfMemory> {
        self.passes.mean(b, [&self.model, &self.teacher], texts)
    }
}

/// The memory that passes of up to so many tokens through a student and a teacher work in.
pub(super) struct DivergencePasses<B: Backend> {
    rows: usize,
    of: Divergence,
    of_student: Activations<B>,
    of_teacher: Activations<B>,
    head: DivergenceRows<B>,
}

impl<B: Backend> DivergencePasses<B> {
    /// For passes of a student and a teacher of these configs; those of the student are for `purpose`.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub(super) fn new(
        b: &B,
        [student, teacher]: [&Config; 2],
        rows: usize,
        purpose: Purpose,
        of: Divergence,
    ) -> Result<Self, OutOfMemory> {
        Ok(Self {
            rows,
            of,
            of_student: Activations::new(b, student, rows, purpose)?,
            of_teacher: Activations::new(b, teacher, rows, Purpose::Inference)?,
            head: DivergenceRows::new(b, student, teacher, rows)?,
        })
    }

    /// Bytes of a pass, and of the gradients that its backward works in.
    pub(super) fn bytes(b: &B, [student, teacher]: [&Config; 2], rows: usize, purpose: Purpose) -> usize {
        let of_teacher = Purpose::Inference.bytes(b, teacher, rows);
        purpose.bytes(b, student, rows) + of_teacher + DivergenceRows::bytes(b, student, teacher, rows)
    }

    /// The sum of the divergences at the tokens of `passes`; of what is `learned`, a weight times the sum, adds the gradient.
    ///
    /// # Errors
    /// If the device refuses memory.
    fn sum(
        &mut self,
        b: &B,
        [student, teacher]: [&Model<B>; 2],
        passes: Vec<MicroBatch>,
        mut learned: Option<(f64, &mut Gradient<B>)>,
    ) -> Result<f64, OutOfMemory> {
        let Self { of, of_student, of_teacher, head, .. } = self;
        let mut sum = 0.0;
        for MicroBatch { layout, .. } in passes {
            let head_rows = layout.head_rows.clone();
            let layout = student.upload(b, layout)?;
            teacher.forward(b, &layout, of_teacher, None);
            student.forward(b, &layout, of_student, None);
            let teacher = (teacher, &*of_teacher);
            let divergences = match &mut learned {
                None => student.divergences(b, of_student, teacher, &head_rows, *of, head)?,
                Some((weight, gradient)) => student.backward_divergences(
                    b, &layout, of_student, teacher, &head_rows, *of, *weight, head, gradient,
                )?,
            };
            sum += divergences.iter().sum::<f64>();
        }
        Ok(sum)
    }

    /// The mean divergence at the tokens of `texts`.
    ///
    /// # Errors
    /// If the device refuses memory.
    ///
    /// # Panics
    /// If a text has no context, or with it exceeds the planned rows.
    pub(super) fn mean(&mut self, b: &B, models: [&Model<B>; 2], texts: &[Text]) -> Result<f64, OutOfMemory> {
        let passes = cut(&groups(texts), self.rows, 1);
        Ok(self.sum(b, models, passes, None)? / count(texts).max(1) as f64)
    }
}

fn groups<'a>(texts: &[Text<'a>]) -> Vec<Group<'a>> {
    let group = |text: &Text<'a>| Group {
        prompt: text.context,
        scored: Scored::Completions,
        shard: 0,
        completions: vec![(0, text.tokens)],
    };
    texts.iter().map(group).collect()
}

fn count(texts: &[Text]) -> usize {
    texts.iter().map(|text| text.tokens.len()).sum()
}

#[cfg(test)]
mod tests {
    use koan_backend::{DivergenceForm, MomentType, Reference, Support};
    use koan_model::testkit;
    use proptest::prelude::*;

    use super::*;

    const FORMS: [DivergenceForm; 3] =
        [DivergenceForm::Forward, DivergenceForm::Reverse, DivergenceForm::JensenShannon { beta: 0.2 }];

    fn learner(rows: usize, of: Divergence) -> Learner<Reference> {
        let b = &Reference;
        let student = testkit::model(b, testkit::config(11, true), 1);
        let teacher = testkit::model(b, testkit::config(12, false), 2);
        let optimizer = Optimizer::new(b, student.config(), MomentType::F32).expect("memory");
        Learner::new(b, student, optimizer, teacher, of, rows, &OptimConfig::default()).expect("memory")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Promise 4: loss and gradient do not depend on how a batch is cut, in which order it is packed, or to how many shards it is
        /// dealt.
        #[test]
        fn cut_and_order_change_nothing(
            texts in prop::collection::vec((prop::collection::vec(0u32..11, 1..6), prop::collection::vec(0u32..11, 1..6)), 1..5),
            rows in 10usize..30, form in prop::sample::select(FORMS.to_vec()),
            support in prop::sample::select(vec![Support::Whole, Support::WithRest(3)]), shards in prop::sample::select(vec![2usize, 4]),
        ) {
            let of = Divergence { form, temperature: 1.5, support };
            let forward: Vec<Text> = texts.iter().map(|(context, tokens)| Text { context, tokens }).collect();
            let backward: Vec<Text> = forward.iter().rev().copied().collect();
            let run = |rows, shards, texts: &[Text]| {
                let mut learner = learner(rows, of).sharded(&Reference, Shards::of_one_rank(shards)).expect("memory");
                let optim = OptimConfig { grad_clip: 1e30, ..OptimConfig::default() };
                let update = learner.update(&Reference, texts, &optim, 0.0).expect("finite");
                let gradient: Vec<f64> = learner.gradient.weights.tensors().flatten().copied().collect();
                (update, gradient)
            };
            let (whole, gradient) = run(200, 1, &forward);
            for (update, other) in [run(rows, 1, &forward), run(rows, shards, &backward)] {
                prop_assert_eq!(update.tokens, whole.tokens);
                prop_assert!((update.loss - whole.loss).abs() < 1e-12);
                for (x, y) in gradient.iter().zip(&other) {
                    prop_assert!((x - y).abs() <= 1e-9 * (1.0 + x.abs()), "{x} {y}");
                }
            }
        }
    }

    #[test]
    fn a_student_that_is_its_own_teacher_has_nothing_to_learn() {
        let b = &Reference;
        let model = || testkit::model(b, testkit::config(11, true), 1);
        for form in FORMS {
            let of = Divergence { form, temperature: 1.0, support: Support::Whole };
            let optimizer = Optimizer::new(b, model().config(), MomentType::F32).expect("memory");
            let optim = OptimConfig::default();
            let mut learner = Learner::new(b, model(), optimizer, model(), of, 20, &optim).expect("memory");
            let texts = [Text { context: &[1, 2], tokens: &[3, 4, 5] }];
            let update = learner.update(b, &texts, &optim, 0.0).expect("finite");
            assert!(update.loss.abs() < 1e-12 && update.grad_norm < 1e-12, "{form:?}: {update:?}");
        }
    }
}
