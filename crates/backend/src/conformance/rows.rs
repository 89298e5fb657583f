//! Cases of the embedding table, and of gathers and scatters of rows.

use super::{
    Case, EDGES, Output, Precision, ROUNDOFF,
    values::{Numbers, by_row, exactly, input, magnitudes, output, pick, summed, unwritten},
};
use crate::{Backend, Reference};

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
    let sizes = EDGES.iter().flat_map(|&e| [(e, 3, 5), (7, e, 33), (33, 17, e)]).chain([(600, 130, 65)]);
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
        let features = self.features;
        let (table, dy) = (exactly(b, &self.table), input(b, &self.dy));
        let [mut embedded, mut gathered] = [(); 2].map(|()| output(b, &unwritten(self.dy.len())));
        b.embedding_forward(&mut embedded, &self.ids, &table, features);
        b.gather_rows(&mut gathered, &table, &self.ids, features);
        let [mut dw, mut dx, mut scattered] = [(); 3].map(|()| output(b, &self.table));
        b.embedding_backward(&mut dw, &self.ids, &dy, features);
        b.scatter_add_rows(&mut dx, &dy, &self.ids, features);
        b.scatter_rows(&mut scattered, &dy, &self.places, features);
        vec![
            by_row("embedding_forward", b, &embedded),
            by_row("gather_rows", b, &gathered),
            summed("embedding_backward", b, &dw),
            summed("scatter_add_rows", b, &dx),
            summed("scatter_rows", b, &scattered),
        ]
    }

    /// Copies are exact; a sum of N errs by N roundings of the magnitudes' sum.
    fn allowed(&self, _: Precision) -> Vec<Vec<f64>> {
        let sums =
            Self { table: magnitudes(&self.table), dy: magnitudes(&self.dy), ..self.clone() }.run(&Reference);
        let n = self.rows() as f64 * ROUNDOFF;
        let factors = [0.0, 0.0, n, n, 0.0];
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
