//! Cases of RMSNorm.

use super::{
    Case, EDGES, Output, Precision, ROUNDOFF, assert_same_bits,
    values::{
        Numbers, assert_same_operand, by_row, exactly, input, operand_by_row, output, output_operand, pick,
        summed, unwritten, values_by_row, whole,
    },
};
use crate::{Backend, Keep, Reference};

const EPS: f32 = 1e-5;

/// `x`, `dy`, `dx` are (N, C); `w`, `dw` are (C); `rstd` is (N). `dx`, `dw` are what the outputs hold before.
#[derive(Clone)]
pub(super) struct RmsNorm {
    n: usize,
    x: Vec<f32>,
    w: Vec<f32>,
    dy: Vec<f32>,
    rstd: Vec<f32>,
    dx: Vec<f32>,
    dw: Vec<f32>,
}

/// Few rows and many, of each number of features.
pub(super) fn cases() -> impl Iterator<Item = RmsNorm> {
    let long = [(300, 130), (3, 2049), (70, 64), (5, 576), (4, 2048), (2, 8448)];
    let sizes = EDGES.iter().flat_map(|&e| [(1, e), (6, e), (e, 33)]).chain(long);
    sizes.map(|(n, c)| {
        let mut numbers = Numbers::new(n * 1000 + c);
        let (x, w) = (numbers.vec(n * c), numbers.vec(c));
        let (y, mut rstd) = (&mut vec![0.0; n * c], vec![0.0; n]);
        Reference.rms_norm_forward(y, &mut rstd, &exactly(&Reference, &x), &exactly(&Reference, &w), EPS, n);
        let (dy, dx, dw) = (numbers.vec(n * c), numbers.vec(n * c), numbers.vec(c));
        RmsNorm { n, x, w, dy, rstd: whole(&Reference, &rstd), dx, dw }
    })
}

impl RmsNorm {
    /// The norms of the residual stream give the bits of their parts.
    fn check_stream<B: Backend>(
        &self,
        b: &B,
        [x, w, dy, rstd]: [&B::Buf; 4],
        wanted: &B::Operand,
        dx_wanted: &Output,
        dw_wanted: &[f32],
    ) {
        let (n, len, name) = (self.n, self.x.len(), self.name());
        let (mut copy, mut again) = (output(b, &unwritten(len)), output(b, &unwritten(n)));
        let mut y = output_operand(b, &unwritten(len), Keep::Operand);
        b.stream_norm_forward(&mut y, &mut copy, &mut again, x, w, EPS, n);
        assert_same_operand(&name, b, &y, wanted, len);
        let [x, copy] = [input(b, &self.x), copy].map(|x| whole(b, &x)[..len].to_vec());
        assert_same_bits(&name, "the copy of the stream", &copy, &x);
        for frozen in [false, true] {
            let (mut dx, mut dw) = (output_operand(b, &self.dx, Keep::Values), output(b, &self.dw));
            let x = input(b, &self.x);
            b.stream_norm_backward(&mut dx, (!frozen).then_some(&mut dw), dy, &x, w, rstd, n);
            let dx = values_by_row("dx of the stream", b, &dx, len);
            assert_same_bits(&name, dx.name, &dx.values, &dx_wanted.values);
            if !frozen {
                assert_same_bits(&name, "dw of the stream", &whole(b, &dw), dw_wanted);
            }
        }
    }
}

impl Case for RmsNorm {
    fn name(&self) -> String {
        format!("rms_norm, {} rows of {} features", self.n, self.w.len())
    }

    fn run<B: Backend>(&self, b: &B) -> Vec<Output> {
        let n = self.n;
        let (x, w) = (input(b, &self.x), exactly(b, &self.w));
        let len = self.x.len();
        let [mut rstd, mut head_rstd] = [(); 2].map(|()| output(b, &unwritten(n)));
        let mut y = output_operand(b, &unwritten(len), Keep::Operand);
        b.rms_norm_forward(&mut y, &mut rstd, &x, &w, EPS, n);
        let mut heads = output(b, &unwritten(len));
        b.head_norm_forward(&mut heads, &mut head_rstd, &x, &w, EPS, n);
        let [rstd, head_rstd] = [&rstd, &head_rstd].map(|rstd| by_row("rstd", b, rstd));
        assert_same_bits(&self.name(), "rstd of both norms", &head_rstd.values, &rstd.values);
        let (mut dx, mut dw) = (output(b, &self.dx), output(b, &self.dw));
        let (dy, saved) = (input(b, &self.dy), input(b, &self.rstd));
        b.rms_norm_backward(&mut dx, Some(&mut dw), &dy, &x, &w, &saved, n);
        let mut dx_frozen = output(b, &self.dx);
        b.rms_norm_backward(&mut dx_frozen, None, &dy, &x, &w, &saved, n);
        let [dx, dx_frozen] = [&dx, &dx_frozen].map(|dx| by_row("dx", b, dx));
        self.check_stream(b, [&x, &w, &dy, &saved], &y, &dx, &whole(b, &dw));
        assert_same_bits(&self.name(), "dx of frozen scales", &dx_frozen.values, &dx.values);
        vec![operand_by_row("y", b, &y, len), by_row("y of heads", b, &heads), rstd, dx, summed("dw", b, &dw)]
    }

    /// A mean of C numbers of one sign errs by C roundings, its root by half of them.
    fn allowed(&self, _: Precision) -> Vec<Vec<f64>> {
        let (n, c) = (self.n, self.w.len());
        let row_error = (c + 8) as f64 * ROUNDOFF;
        let [mut y, mut dx] = [(); 2].map(|()| vec![0.0; n * c]);
        let rstd = self.rstd.iter().map(|&rstd| row_error * f64::from(rstd)).collect();
        let mut dw: Vec<f64> = self.dw.iter().map(|&dw| f64::from(dw.abs())).collect();
        for row in 0..n {
            let rstd = f64::from(self.rstd[row]);
            let at = |i: usize| {
                let [x, w, dy] =
                    [self.x[row * c + i], self.w[i], self.dy[row * c + i]].map(|x| f64::from(x.abs()));
                (x * rstd, w, dy)
            };
            let mean = (0..c).map(at).map(|(x_hat, w, dy)| w * dy * x_hat).sum::<f64>() / c as f64;
            for i in 0..c {
                let (x_hat, w, dy) = at(i);
                y[row * c + i] = row_error * w * x_hat;
                let before = f64::from(self.dx[row * c + i].abs());
                dx[row * c + i] = row_error * (rstd * (w * dy + x_hat * mean) + before);
                dw[i] += dy * x_hat;
            }
        }
        let dw = dw.iter().map(|dw| dw * (n + 4) as f64 * ROUNDOFF).collect();
        vec![y.clone(), y, rstd, dx, dw]
    }

    fn rows(&self) -> usize {
        self.n
    }

    fn select(&self, rows: &[usize]) -> Self {
        let [x, dy, rstd, dx] = [&self.x, &self.dy, &self.rstd, &self.dx].map(|x| pick(x, self.n, rows));
        Self { n: rows.len(), x, dy, rstd, dx, ..self.clone() }
    }
}
