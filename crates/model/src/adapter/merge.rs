//! Weights with an adapter in them: `W + s B A`.

use rayon::prelude::*;

use crate::{
    Config, TensorInfo,
    checkpoint::{CheckpointError, Weights},
};

use super::AdapterError;

/// The values of tensor `info` of the base model of `config`, with its adapter in them. Each element is summed in f64 and rounded once.
///
/// # Errors
/// If `weights`, which has the files of both, can't be read; or B has a bias and the layer has none, so that there is no tensor
/// that could take it.
pub(crate) fn merged(
    config: &Config,
    weights: &Weights,
    info: &TensorInfo,
) -> Result<Vec<f32>, CheckpointError> {
    let adapter = config.adapter.as_ref().expect("a model with an adapter");
    let placed = adapter.place(info.clone());
    let mut values = weights.read(&placed)?.into_owned();
    let Some((path, part)) = info.name.rsplit_once('.') else { return Ok(values) };
    let Some(low_rank) = adapter.of(path) else { return Ok(values) };
    let own: Vec<TensorInfo> = config.tensors();
    let read = |part: &str| {
        let name = format!("{path}.{part}");
        let info = own.iter().find(|info| info.name == name).expect("a tensor of the adapter");
        weights.read(info)
    };
    match part {
        "weight" => {
            let ([_, out_features, in_features], rank) = (info.matrices(), low_rank.rank);
            let (down, up, scale) =
                (read("lora_A.weight")?, read("lora_B.weight")?, f64::from(low_rank.scale));
            let rows = values.par_chunks_mut(in_features).zip(up.par_chunks(rank)).enumerate();
            rows.for_each(|(i, (row, up))| {
                let mut sums = vec![0.0; in_features];
                let down = &down[i / out_features * rank * in_features..][..rank * in_features];
                for (&b, down) in up.iter().zip(down.chunks(in_features)) {
                    sums.iter_mut().zip(down).for_each(|(sum, &a)| *sum += f64::from(b) * f64::from(a));
                }
                row.iter_mut().zip(sums).for_each(|(w, sum)| *w = (f64::from(*w) + scale * sum) as f32);
            });
        }
        "bias" if low_rank.bias => {
            let bias = read("lora_B.bias")?;
            values.iter_mut().zip(bias.iter()).for_each(|(value, bias)| *value += low_rank.scale * bias);
        }
        _ => {}
    }
    Ok(values)
}

/// Refuses an adapter with a bias on a layer that has none.
///
/// # Errors
/// [`AdapterError::Unmergeable`], with the layer.
pub(crate) fn check_mergeable(config: &Config, dir: &std::path::Path) -> Result<(), AdapterError> {
    let infos = config.base().tensors();
    let has = |name: &str| infos.iter().any(|info| info.name == name);
    let adapter = config.adapter.as_ref().expect("a model with an adapter");
    let without =
        adapter.layers.iter().find(|(path, low_rank)| low_rank.bias && !has(&format!("{path}.bias")));
    without
        .map_or(Ok(()), |(path, _)| Err(AdapterError::Unmergeable { layer: path.clone(), path: dir.into() }))
}
