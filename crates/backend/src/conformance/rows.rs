//! Cases of rows taken and put by their numbers: the embedding table, head rows, stored keys.

use super::{
    Case, EDGES, Output, Precision, ROUNDOFF,
    values::{
        Numbers, by_row, exactly, input, magnitudes, on, operand, operand_by_row, output, output_operand,
        pick, summed, unwritten,
    },
};
use crate::{Backend, Keep, Layout, Reference};

/// `table` is (rows, C), the others are (N, C). `places` are distinct rows of the table, `ids` are not.
#[derive(Clone)]
pub(super) struct Rows {
    features: usize,
    ids: Vec<u32>,
    places: Vec<u32>,
    table: Vec<f32>,
    dy: Vec<f32>,
}

/// Tables larger than what is taken of them, and smaller.
pub(super) fn cases() -> impl Iterator<Item = Rows> {
    let many = [(600, 130, 65), (130, 3, 64), (7, 20, 1104)];
    let sizes = EDGES.iter().flat_map(|&e| [(e, 3, 5), (7, e, 33), (33, 17, e)]).chain(many);
    sizes.map(|(n, rows, features)| {
        let mut numbers = Numbers::new(n * 1000 + rows);
        let ids = numbers.ids(n, rows);
        let mut places: Vec<u32> = (0..rows as u32).collect();
        (1..rows).for_each(|i| places.swap(i, numbers.below(i + 1)));
        places.truncate(n);
        Rows { features, ids, places, table: numbers.vec(rows * features), dy: numbers.vec(n * features) }
    })
}

impl Case for Rows {
    fn name(&self) -> String {
        format!(
            "{} rows of {} features, from {}",
            self.rows(),
            self.features,
            self.table.len() / self.features
        )
    }

    fn run<B: Backend>(&self, b: &B) -> Vec<Output> {
        let (features, rows) = (self.features, self.table.len() / self.features);
        let (table, dy) = (exactly(b, &self.table), input(b, &self.dy));
        let tokens = on(b, Layout { ids: self.ids.clone(), ..Layout::default() });
        let mut embedded = output(b, &unwritten(self.dy.len()));
        b.embedding_forward(&mut embedded, &table, features, &tokens);
        let mut dw = output(b, &self.table);
        b.embedding_backward(&mut dw, &dy, features, &tokens);

        let head_rows = self.places.clone();
        let heads = on(b, Layout { ids: vec![0; rows], head_rows, ..Layout::default() });
        let (taken, len) = (self.places.len(), self.places.len() * features);
        assert_eq!((b.rows(&heads), b.head_rows(&heads)), (rows, taken), "sizes of a layout");
        let mut hidden = output_operand(b, &unwritten(len), Keep::Operand);
        b.head_rows_forward(&mut hidden, &operand(b, &self.table), features, &heads);
        let mut dx = output(b, &unwritten(self.table.len()));
        b.head_rows_backward(&mut dx, &dy, features, &heads);
        vec![
            by_row("embedding_forward", b, &embedded),
            summed("embedding_backward", b, &dw),
            Output { by_row: false, ..operand_by_row("head_rows_forward", b, &hidden, len) },
            summed("head_rows_backward", b, &dx),
        ]
    }

    /// Copies are exact; a sum of N errs by N roundings of the magnitudes' sum.
    fn allowed(&self, _: Precision) -> Vec<Vec<f64>> {
        let sums =
            Self { table: magnitudes(&self.table), dy: magnitudes(&self.dy), ..self.clone() }.run(&Reference);
        let n = self.rows() as f64 * ROUNDOFF;
        let factors = [0.0, n, 0.0, 0.0];
        sums.iter().zip(factors).map(|(s, f)| s.values.iter().map(|&x| f * f64::from(x)).collect()).collect()
    }

    fn rows(&self) -> usize {
        self.ids.len()
    }

    fn select(&self, rows: &[usize]) -> Self {
        let (ids, dy) = (pick(&self.ids, self.rows(), rows), pick(&self.dy, self.rows(), rows));
        let places = self.places.iter().copied().take(rows.len()).collect();
        Self { ids, places, dy, ..self.clone() }
    }
}
