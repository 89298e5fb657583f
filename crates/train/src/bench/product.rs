//! Matrix products at the shapes of a model: the three of each linear layer.

use std::{collections::BTreeMap, time::Instant};

use koan_backend::{Backend, Forms, Keep, Matrix, OutOfMemory, Store};
use koan_model::Config;
use serde::Serialize;

/// One of the products of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Product {
    /// `y = x Wᵀ`, from weights packed before.
    Forward,
    /// `dx = dy W`
    BackwardInput,
    /// `dW += dyᵀ x`
    BackwardWeight,
}

/// A shape, and how long its product takes.
#[derive(Clone, Debug, Serialize)]
pub struct ProductSeconds {
    /// Which product.
    pub product: Product,
    /// Rows of the activations.
    pub rows: usize,
    /// Features of the layer's output.
    pub out_features: usize,
    /// Features of the layer's input.
    pub in_features: usize,
    /// How often the shape stands in the model.
    pub times: usize,
    /// Median seconds.
    pub seconds: f64,
}

impl ProductSeconds {
    /// Multiply-adds are two operations.
    pub fn gflops(&self) -> f64 {
        2e-9 * (self.rows * self.out_features * self.in_features) as f64 / self.seconds
    }
}

/// Times every product of `config`'s matrices on `rows` rows, each `repeats` times after one that is not counted.
///
/// # Errors
/// If the device refuses the memory.
pub fn products<B: Backend>(
    b: &B,
    config: &Config,
    rows: usize,
    repeats: usize,
    mut each: impl FnMut(ProductSeconds),
) -> Result<(), OutOfMemory> {
    let mut shapes: BTreeMap<[usize; 2], usize> = BTreeMap::new();
    for info in config.tensors().iter().filter(|info| info.role.is_product()) {
        *shapes.entry(info.matrix()).or_default() += 1;
    }
    for ([out_features, in_features], times) in shapes {
        let values = |n: usize| (0..n).map(|i| (i * 31 % 61) as f32 / 61.0 - 0.5).collect::<Vec<_>>();
        let operand = |features: usize| {
            let mut operand = b.operand(rows * features, Keep::Operand)?;
            b.write_operand(&mut operand, &values(rows * features));
            Ok::<_, OutOfMemory>(operand)
        };
        let (shape, forms) = ([out_features, in_features], Forms { values: true, packed: true });
        let w = Matrix::new(b, &values(out_features * in_features), shape, forms)?;
        let (x, dy) = (operand(in_features)?, operand(out_features)?);
        let (mut y, mut dx) = (b.zeros(rows * out_features)?, b.zeros(rows * in_features)?);
        let mut dw = b.zeros(out_features * in_features)?;
        for product in [Product::Forward, Product::BackwardInput, Product::BackwardWeight] {
            let mut run = || {
                let start = Instant::now();
                match product {
                    Product::Forward => b.linear_forward(&mut y, &x, &w, rows, Store::Write),
                    Product::BackwardInput => {
                        b.linear_backward_input(&mut dx, &dy, &w, rows, Store::Write);
                    }
                    Product::BackwardWeight => {
                        b.linear_backward_weight(&mut dw, &dy, &x, rows, shape);
                    }
                }
                start.elapsed().as_secs_f64()
            };
            run();
            let seconds = super::median((0..repeats.max(1)).map(|_| run()).collect());
            each(ProductSeconds { product, rows, out_features, in_features, times, seconds });
        }
    }
    Ok(())
}
