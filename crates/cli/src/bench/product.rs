//! `koan bench product`

use std::{collections::BTreeMap, path::PathBuf};

use koan_backend::{Backend, Forms, Keep, Matrix, OutOfMemory, Store};
use koan_model::Config;
use serde::Serialize;
use serde_json::json;

use super::{check_values, peak_memory_bytes, seconds_of, share_of};
use crate::{
    device::{Device, Job, Running},
    numbers::count,
};

/// Speed of matrix products at a model's shapes: forward, backward to the input, backward to the weight
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan bench product --config bench/configs/llama-5m.json --rows 2048
  koan bench product --shape 3072x1024 --rows 16384 --device cuda:0")]
pub(crate) struct ProductBench {
    /// The model's config.json
    #[arg(long, value_name = "FILE", required_unless_present = "shape")]
    config: Option<PathBuf>,
    /// A matrix instead, of so many features out and in. Repeatable
    #[arg(long, value_name = "OUTxIN", value_parser = shape, conflicts_with = "config")]
    shape: Vec<[usize; 2]>,
    /// Rows of the activations: tokens of a pass
    #[arg(long, default_value_t = 2048, value_parser = count::<usize>)]
    rows: usize,
    /// Runs measured of each product, after one that is not
    #[arg(long, default_value_t = 5, value_parser = count::<usize>)]
    repeats: usize,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) device: Device,
}

/// Reads `--shape`.
fn shape(text: &str) -> Result<[usize; 2], String> {
    let (out_features, in_features) = text.split_once('x').ok_or("write OUTxIN, such as 3072x1024")?;
    Ok([count(out_features)?, count(in_features)?])
}

/// One of the products of a linear layer.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Product {
    /// `y = x Wᵀ`, from weights packed before.
    Forward,
    /// `dx = dy W`
    BackwardInput,
    /// `dW += dyᵀ x`
    BackwardWeight,
}

/// A shape, and how long its product takes.
#[derive(Serialize)]
struct ProductSeconds {
    product: Product,
    /// Rows of the activations.
    rows: usize,
    out_features: usize,
    in_features: usize,
    /// How often the shape stands in the model.
    times: usize,
    /// Median.
    seconds: f64,
}

impl ProductSeconds {
    /// Multiply-adds are two operations.
    fn gflops(&self) -> f64 {
        2e-9 * (self.rows * self.out_features * self.in_features) as f64 / self.seconds
    }
}

impl Job for ProductBench {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        if !self.json {
            say!("{running}; {} rows", self.rows)?;
            say!("{:>6} × {:<6} {:>5}   GFLOP/s: forward   input   weight", "out", "in", "times")?;
        }
        let mut shapes: BTreeMap<[usize; 2], usize> = BTreeMap::new();
        for shape in &self.shape {
            *shapes.entry(*shape).or_default() += 1;
        }
        if let Some(file) = &self.config {
            let config = Config::from_file(file)?;
            for info in config.tensors().iter().filter(|info| info.role.is_product()) {
                *shapes.entry(info.matrix()).or_default() += 1;
            }
        }
        let mut measured: Vec<ProductSeconds> = Vec::new();
        for (shape, times) in shapes {
            let [out_features, in_features] = shape;
            check_values(out_features, in_features)?;
            check_values(self.rows, out_features.max(in_features))?;
            let products = self.products(b, shape, times)?;
            if !self.json {
                let speeds = products.each_ref().map(|m| format!("{:8.0}", m.gflops())).concat();
                say!("{:>6} × {:<6} {times:>5}            {speeds}", shape[0], shape[1])?;
            }
            measured.extend(products);
        }
        let all =
            |f: fn(&ProductSeconds) -> f64| -> f64 { measured.iter().map(|m| m.times as f64 * f(m)).sum() };
        let gflops = all(|m| m.gflops() * m.seconds) / all(|m| m.seconds);
        let ceilings = b.ceilings()?;
        if self.json {
            let rows: Vec<_> = measured.iter().map(|m| json!({"shape": m, "gflops": m.gflops()})).collect();
            let result = json!({
                "bench": "product", "device": running.device, "isa": running.isa, "threads": running.threads, "products": rows,
                "gflops": gflops, "multiply_add_flops": ceilings.map(|c| c.flops), "peak_memory_bytes": peak_memory_bytes(),
            });
            say!("{result}")?;
        } else {
            let share = share_of(gflops * 1e9, ceilings);
            say!("all, as often as the model has them: {gflops:.0} GFLOP/s{share}")?;
        }
        Ok(())
    }
}

impl ProductBench {
    /// Times the three products of a matrix, each `repeats` times after one that is not counted.
    fn products<B: Backend>(
        &self,
        b: &B,
        shape: [usize; 2],
        times: usize,
    ) -> Result<[ProductSeconds; 3], OutOfMemory> {
        let (rows, [out_features, in_features]) = (self.rows, shape);
        let values = |n: usize| (0..n).map(|i| (i * 31 % 61) as f32 / 61.0 - 0.5).collect::<Vec<_>>();
        let operand = |features: usize| {
            let mut operand = b.operand(rows * features, Keep::Operand)?;
            let values: Vec<_> = values(rows * features).into_iter().map(f64::from).collect();
            b.write_operand(&mut operand, &values);
            Ok::<_, OutOfMemory>(operand)
        };
        let w =
            Matrix::new(b, &values(out_features * in_features), shape, Forms { values: true, packed: true })?;
        let (x, dy) = (operand(in_features)?, operand(out_features)?);
        let (mut y, mut dx) = (b.zeros(rows * out_features)?, b.zeros(rows * in_features)?);
        let mut dw = b.zeros(out_features * in_features)?;
        Ok([Product::Forward, Product::BackwardInput, Product::BackwardWeight].map(|product| {
            let seconds = seconds_of(b, self.repeats, || match product {
                Product::Forward => b.linear_forward(&mut y, &x, &w, rows, Store::Write),
                Product::BackwardInput => b.linear_backward_input(&mut dx, &dy, &w, rows, Store::Write),
                Product::BackwardWeight => {
                    b.linear_backward_weight(&mut dw, &dy, &x, rows, shape, w.precision());
                }
            });
            ProductSeconds { product, rows, out_features, in_features, times, seconds }
        }))
    }
}
