//! `koan bench peak`

use koan_backend::{Backend, Ceilings, Forms, Keep, Matrix, Store};
use serde_json::json;

use super::{check_values, seconds_of, share_of};
use crate::{
    device::{Device, Job, Running},
    numbers::count,
};

/// The most that this device reaches: bytes per second, operations of multiply-adds alone and of a large product
///
/// It is what other figures are to be held to.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan bench peak --device cuda:0")]
pub(crate) struct PeakBench {
    /// Rows and features of the product; by default 8192 on a GPU and 2048 on a CPU
    #[arg(long, value_name = "N", value_parser = count::<usize>)]
    size: Option<usize>,
    /// Runs measured, after one that is not
    #[arg(long, default_value_t = 10, value_parser = count::<usize>)]
    repeats: usize,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) device: Device,
}

impl Job for PeakBench {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        // A device that wants passes of many rows is one that is large.
        let is_large = b.pass_rows() >= 1024;
        let size = self.size.unwrap_or(if is_large { 8192 } else { 2048 });
        check_values(size, size)?;
        let elements = if is_large { 1 << 28 } else { 1 << 26 };
        let copy_s = {
            let (mut to, from) = (b.zeros(elements)?, b.zeros(elements)?);
            seconds_of(b, self.repeats, || b.copy(&mut to, &from, elements))
        };
        let copied = 2.0 * b.bytes(elements) as f64 / copy_s;
        let values: Vec<f32> = (0..size * size).map(|i| (i * 31 % 61) as f32 / 61.0 - 0.5).collect();
        let w = Matrix::new(b, &values, [size, size], Forms { values: false, packed: true })?;
        let mut x = b.operand(size * size, Keep::Operand)?;
        b.write_operand(&mut x, &values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>());
        let mut y = b.zeros(size * size)?;
        let product_s = seconds_of(b, self.repeats, || b.linear_forward(&mut y, &x, &w, size, Store::Write));
        let flops = 2.0 * (size as f64).powi(3) / product_s;
        let ceilings = b.ceilings()?;
        if self.json {
            let result = json!({
                "bench": "peak", "device": running.device, "isa": running.isa, "threads": running.threads,
                "copy_bytes": 2 * b.bytes(elements), "copy_bytes_per_s": copied, "size": size, "flops": flops,
                "multiply_add_flops": ceilings.map(|c| c.flops), "read_bytes_per_s": ceilings.map(|c| c.read_bytes_per_s),
            });
            say!("{result}")?;
        } else {
            let mib = b.bytes(elements) >> 20;
            say!("{running}")?;
            say!("copy of {mib} MiB: {:.1} GB/s, read and written", copied * 1e-9)?;
            if let Some(Ceilings { flops, read_bytes_per_s }) = ceilings {
                say!("multiply-adds alone: {:.0} GFLOP/s", flops * 1e-9)?;
                say!("memory read: {:.1} GB/s", read_bytes_per_s * 1e-9)?;
            }
            let share = share_of(flops, ceilings);
            say!("product of {size} x {size} x {size}: {:.0} GFLOP/s{share}", flops * 1e-9)?;
        }
        Ok(())
    }
}
