//! The language head of a student beside a teacher's: how far its distributions are from the teacher's, and the gradient of
//! that.
//!
//! ```text
//! z = W n,  z' = W' n'          logits of both, of a chunk of rows at a time
//! d, dz of z and z'             Backend::divergence
//! dn = dz W,  dW += dzᵀ n
//! ```
//!
//! The logits of a whole pass are never stored: at 4096 rows and 150,000 tokens they would take 2.5 GB of each model.

use koan_backend::{Backend, Divergence, Keep, Layout, Matrix, OutOfMemory, Store};

use crate::{Config, LanguageHead, Param, activations::RowMaker};

/// Logits of each model that are there at once, at most, if not those of a single row: 128 MiB in f32. That is 220 rows of a
/// vocabulary of 152,000 tokens, near enough to what keeps products busy; more would gain little.
const CHUNK_LOGITS: usize = 1 << 25;

/// What a student's head works in beside a teacher's, in passes of up to `rows` tokens.
pub struct DivergenceRows<B: Backend> {
    rows: usize,
    /// Head rows whose logits are there at once.
    chunk: usize,
    /// The divergence of each row of the pass, 0 of those that no head reads; of each row of a chunk.
    of_pass: B::Buf,
    of_chunk: B::Buf,
    /// The normed rows of a chunk.
    x: B::Operand,
    teacher_x: B::Operand,
    /// The student's logits, and then their gradient.
    logits: B::Operand,
    teacher_logits: B::Buf,
    dx: B::Buf,
}

/// A head and the normed rows that it reads.
pub(crate) struct Side<'a, B: Backend> {
    pub(crate) head: &'a LanguageHead<Param<B>>,
    pub(crate) embedding: &'a Param<B>,
    pub(crate) normed: &'a B::Operand,
}

/// What the backward adds to, or writes.
pub(crate) struct Target<'a, B: Backend> {
    /// The gradient of the head's matrix; added to.
    pub(crate) dw: Option<&'a mut B::Buf>,
    /// That of the normed rows; written.
    pub(crate) d_normed: &'a mut B::Buf,
}

impl<B: Backend> DivergenceRows<B> {
    /// For a student and a teacher of these configs.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn new(b: &B, student: &Config, teacher: &Config, rows: usize) -> Result<Self, OutOfMemory> {
        Self::in_chunks(b, student, teacher, rows, chunk(student, teacher, rows))
    }

    /// Bytes of it.
    pub fn bytes(b: &B, student: &Config, teacher: &Config, rows: usize) -> usize {
        let chunk = chunk(student, teacher, rows);
        let of_chunk =
            RowMaker::count(b, chunk, |make| Self::build(student, teacher, [rows, chunk], b.zeros(0)?, make))
                [1];
        of_chunk.saturating_add(b.bytes(rows))
    }

    fn in_chunks(
        b: &B,
        student: &Config,
        teacher: &Config,
        rows: usize,
        chunk: usize,
    ) -> Result<Self, OutOfMemory> {
        Self::build(student, teacher, [rows, chunk], b.zeros(rows)?, &mut RowMaker::new(b, chunk))
    }

    fn build(
        student: &Config,
        teacher: &Config,
        [rows, chunk]: [usize; 2],
        of_pass: B::Buf,
        make: &mut RowMaker<'_, B>,
    ) -> Result<Self, OutOfMemory> {
        Ok(Self {
            rows,
            chunk,
            of_pass,
            of_chunk: make.buf(1)?,
            x: make.operand(student.hidden_size, Keep::Operand)?,
            teacher_x: make.operand(teacher.hidden_size, Keep::Operand)?,
            logits: make.operand(student.vocab_size, Keep::Values)?,
            teacher_logits: make.buf(teacher.vocab_size)?,
            dx: make.buf(student.hidden_size)?,
        })
    }
}

/// Head rows whose logits are there at once: as many as sizes alone say, since the order of sums depends on it.
fn chunk(student: &Config, teacher: &Config, rows: usize) -> usize {
    // Even: products of bf16 may add rows in pairs.
    let fitting = CHUNK_LOGITS / student.vocab_size.max(teacher.vocab_size).max(1) / 2 * 2;
    fitting.clamp(1, rows.max(1))
}

impl<'a, B: Backend> Side<'a, B> {
    pub(super) fn matrix(&self) -> &'a Matrix<B> {
        self.head.matrix(self.embedding).matrix()
    }

    /// Writes the logits of the chunk of rows of `layout`.
    pub(super) fn logits(&self, b: &B, logits: &mut B::Buf, x: &mut B::Operand, layout: &B::Layout) {
        let w = self.matrix();
        b.head_rows_forward(x, self.normed, w.shape()[1], layout);
        b.linear_forward(logits, x, w, b.head_rows(layout), Store::Write);
    }
}

/// The divergence of each of `head_rows`. With a `target`, the gradient of `weight` times their sum.
///
/// # Errors
/// If the device refuses the memory of a layout.
///
/// # Panics
/// If a head row lies beyond the planned rows.
pub(crate) fn divergences<B: Backend>(
    b: &B,
    [student, teacher]: [Side<'_, B>; 2],
    head_rows: &[u32],
    of: Divergence,
    weight: f64,
    mut target: Option<Target<'_, B>>,
    a: &mut DivergenceRows<B>,
) -> Result<Vec<f64>, OutOfMemory> {
    let end = head_rows.iter().max().map_or(0, |&row| row as usize + 1);
    assert!(end <= a.rows, "{end} rows in a head planned for {}", a.rows);
    let (w, other) = (student.matrix(), teacher.matrix().shape()[0]);
    let [vocab, features] = w.shape();
    b.clear(&mut a.of_pass);
    if let Some(target) = &mut target {
        b.clear(target.d_normed);
    }
    for rows in head_rows.chunks(a.chunk) {
        let n = rows.len();
        let DivergenceRows { of_pass, of_chunk, x, teacher_x, logits, teacher_logits, dx, .. } = a;
        // Some rows of the pass are gathered, and what is made of them is added to these rows again.
        let gather = Layout { ids: vec![0; end], head_rows: rows.to_vec(), ..Layout::default() };
        let scatter = Layout { ids: rows.to_vec(), ..Layout::default() };
        let (gather, scatter) = (b.upload_layout(gather)?, b.upload_layout(scatter)?);
        student.logits(b, b.values_mut(logits), x, &gather);
        teacher.logits(b, teacher_logits, teacher_x, &gather);
        b.divergence(of_chunk, logits, teacher_logits, of, weight, [n, vocab, other]);
        b.embedding_backward(of_pass, of_chunk, 1, &scatter);
        if let Some(Target { dw, d_normed }) = &mut target {
            if let Some(dw) = dw {
                b.linear_backward_weight(dw, logits, x, n, w.shape(), w.precision());
            }
            b.linear_backward_input(dx, logits, w, n, Store::Write);
            b.embedding_backward(d_normed, dx, features, &scatter);
        }
    }
    let [of_pass] = b.read_exact([(&a.of_pass, end)]);
    Ok(head_rows.iter().map(|&row| of_pass[row as usize]).collect())
}

#[cfg(test)]
mod tests {
    use koan_backend::{DivergenceForm, Reference, Support};

    use super::*;
    use crate::{Activations, Gradient, Model, Purpose, testkit};

    const FORMS: [DivergenceForm; 3] =
        [DivergenceForm::Forward, DivergenceForm::Reverse, DivergenceForm::JensenShannon { beta: 0.3 }];

    /// A student of 11 tokens and a teacher of 13, on a pass of two texts.
    struct Pair {
        student: Model<Reference>,
        teacher: Model<Reference>,
        layout: Layout,
    }

    impl Pair {
        fn new(tied: bool) -> Self {
            let mut layout = Layout::default();
            layout.push_group(&[3, 1, 4, 1], [&[5, 9, 2][..], &[6]]);
            layout.push_group(&[2], [&[7, 1, 8][..]]);
            let student = testkit::model(&Reference, testkit::config(11, tied), 1);
            let teacher = testkit::config_with(13, true, serde_json::json!({"num_hidden_layers": 3}));
            Self { student, teacher: testkit::model(&Reference, teacher, 2), layout }
        }

        /// The divergences, and the gradient of `weight` times their sum.
        fn run(&self, of: Divergence, weight: f64, chunk: usize) -> (Vec<f64>, Vec<Vec<f64>>) {
            let (b, rows) = (&Reference, self.layout.len());
            let (student, teacher) = (&self.student, &self.teacher);
            let memory = |config, purpose| Activations::new(b, config, rows, purpose).expect("memory");
            let mut of_student = memory(student.config(), Purpose::Training);
            let mut of_teacher = memory(teacher.config(), Purpose::Inference);
            let mut head = DivergenceRows::in_chunks(b, student.config(), teacher.config(), rows, chunk)
                .expect("memory");
            let mut gradient = Gradient::new(b, student.config(), rows).expect("memory");
            let layout = student.upload(b, self.layout.clone()).expect("memory");
            student.forward(b, &layout, &mut of_student, None);
            teacher.forward(b, &layout, &mut of_teacher, None);
            let (teacher, head_rows) = ((teacher, &of_teacher), &self.layout.head_rows[..]);
            let alone =
                student.divergences(b, &of_student, teacher, head_rows, of, &mut head).expect("memory");
            let d = student
                .backward_divergences(
                    b,
                    &layout,
                    &mut of_student,
                    teacher,
                    head_rows,
                    of,
                    weight,
                    &mut head,
                    &mut gradient,
                )
                .expect("memory");
            assert_eq!(d, alone, "measured and learned from");
            (d, gradient.weights.tensors().cloned().collect())
        }
    }

    #[test]
    fn the_gradient_of_every_tensor_is_the_finite_difference() {
        for (form, tied) in FORMS.into_iter().zip([true, false, true]) {
            let of = Divergence { form, temperature: 1.5, support: Support::Whole };
            let mut pair = Pair::new(tied);
            let (_, gradients) = pair.run(of, 2.0, 3);
            let names: Vec<String> = pair.student.config().tensors().into_iter().map(|t| t.name).collect();
            for (t, (name, gradient)) in names.iter().zip(&gradients).enumerate() {
                let largest = (0..gradient.len())
                    .max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs()))
                    .expect("a tensor has elements");
                for i in [largest, gradient.len() / 3] {
                    let h = 1e-2;
                    let mut at = |shift: f64| {
                        let change = |pair: &mut Pair, by: f64| {
                            let p = pair.student.weights.tensors_mut().nth(t).expect("a tensor");
                            p.value_mut()[i] += by;
                            p.repack(&Reference);
                        };
                        change(&mut pair, shift);
                        let d: f64 = pair.run(of, 2.0, 3).0.iter().map(|&d| 2.0 * d).sum();
                        change(&mut pair, -shift);
                        d
                    };
                    // Five points: the error is of order h⁴.
                    let difference = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
                    let error = (difference - gradient[i]).abs();
                    assert!(
                        error < 2e-4 * (1.0 + gradient[i].abs()),
                        "{form:?}: {name}[{i}] {} {difference}",
                        gradient[i]
                    );
                }
            }
        }
    }

    #[test]
    fn the_cut_into_chunks_changes_nothing() {
        let pair = Pair::new(false);
        for (form, support) in
            FORMS.into_iter().zip([Support::Whole, Support::WithRest(4), Support::Renormalised(4)])
        {
            let of = Divergence { form, temperature: 1.0, support };
            let (whole, gradient) = pair.run(of, 1.0, 7);
            for chunk in [1, 2, 5] {
                let (d, other) = pair.run(of, 1.0, chunk);
                assert_eq!(d, whole);
                for (x, y) in gradient.iter().flatten().zip(other.iter().flatten()) {
                    assert!((x - y).abs() <= 1e-12 * (1.0 + x.abs()), "{x} {y}");
                }
            }
        }
    }

    #[test]
    fn chunks_are_bounded_by_the_larger_vocabulary() {
        let sized = |vocab| testkit::config(vocab, true);
        assert_eq!(chunk(&sized(11), &sized(13), 40), 40);
        assert_eq!(chunk(&sized(11), &sized(152_000), 4096), 220);
        assert_eq!(chunk(&sized(13), &sized(1 << 24), 4096), 2);
    }
}
