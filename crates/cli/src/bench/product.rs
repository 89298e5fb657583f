//! `koan bench product`

use std::path::PathBuf;

use anyhow::ensure;
use koan_backend::Backend;
use koan_model::Config;
use koan_train::bench::{self, Product, ProductSeconds};
use serde_json::json;

use crate::device::{Device, Job, Running};

/// Speed of matrix products at a model's shapes: forward, backward to the input, backward to the weight
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan bench product --config bench/configs/llama-5m.json --rows 2048")]
pub(crate) struct ProductBench {
    /// The model's config.json
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Rows of the activations: tokens of a pass
    #[arg(long, default_value_t = 2048)]
    rows: usize,
    /// Runs measured of each product, after one that is not
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) device: Device,
}

impl Job for ProductBench {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        ensure!(self.rows > 0 && self.repeats > 0, "--rows and --repeats must be at least 1");
        let config = Config::from_file(&self.config)?;
        if !self.json {
            say!("{running}; {} rows", self.rows)?;
            say!("{:>6} × {:<6} {:>5}   GFLOP/s: forward   input   weight", "out", "in", "times")?;
        }
        let (mut row, mut said) = (Vec::new(), Ok(()));
        let mut measured: Vec<ProductSeconds> = Vec::new();
        bench::products(b, &config, self.rows, self.repeats, |m| {
            if !self.json {
                if m.product == Product::Forward {
                    row = vec![format!(
                        "{:>6} × {:<6} {:>5}            ",
                        m.out_features, m.in_features, m.times
                    )];
                }
                row.push(format!("{:8.0}", m.gflops()));
                if m.product == Product::BackwardWeight && said.is_ok() {
                    said = say!("{}", row.concat());
                }
            }
            measured.push(m);
        })?;
        said?;
        let all =
            |f: fn(&ProductSeconds) -> f64| -> f64 { measured.iter().map(|m| m.times as f64 * f(m)).sum() };
        let gflops = all(|m| m.gflops() * m.seconds) / all(|m| m.seconds);
        if self.json {
            let rows: Vec<_> = measured.iter().map(|m| json!({"shape": m, "gflops": m.gflops()})).collect();
            let result = json!({
                "bench": "product", "isa": running.isa, "threads": running.threads, "products": rows,
                "gflops": gflops, "peak_memory_bytes": bench::peak_memory_bytes(),
            });
            say!("{result}")?;
        } else {
            say!("all, as often as the model has them: {gflops:.0} GFLOP/s")?;
        }
        Ok(())
    }
}
