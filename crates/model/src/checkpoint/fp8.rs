//! Matrices in FP8, as DeepSeek-V3's files hold them: beside the codes of `X.weight`, which are E4M3, the f32 scales of its
//! blocks of 128 × 128 elements, `X.weight_scale_inv` `[⌈out / 128⌉, ⌈in / 128⌉]`. An element is its code times its block's
//! scale.

use koan_backend::fp8::{self, BLOCK};
use rayon::prelude::*;

use crate::{
    config::Fp8Weights,
    safetensors_file::{Entry, FileError, Reader},
};

/// What the name of a matrix is followed by in that of its scales.
const SCALES: &str = "_scale_inv";
/// Largest scale. Its block would reach 65504, the end of f16: no weight of a real model comes near. Files that hold
/// reciprocals by mistake have larger ones.
const MAX_SCALE: f32 = 65504.0 / fp8::MAX;

/// The tensor that the scales `name` are of, if it is a name of scales.
pub(super) fn scaled_by(name: &str) -> Option<&str> {
    name.strip_suffix(SCALES)
}

/// The scales of matrix `entry`, or None of what is no matrix.
pub(super) fn scales_of(entry: &Entry) -> Option<Entry> {
    let [out, inp] = entry.shape[..] else { return None };
    let shape = vec![out.div_ceil(BLOCK), inp.div_ceil(BLOCK)];
    Some(Entry { name: format!("{}{SCALES}", entry.name), shape })
}

/// What is wrong with the scales of `name`, which lie in `file`.
fn wrong(name: &str, file: &Reader, what: String) -> FileError {
    FileError::Scales { name: name.to_owned(), what, path: file.path().to_owned() }
}

/// Checks that matrix `entry`, whose codes `file` holds, has scales of the right shape. `scales_in` gives the file of a tensor.
pub(super) fn check<'a>(
    entry: &Entry,
    file: &Reader,
    config: Option<Fp8Weights>,
    scales_in: impl FnOnce(&str) -> Option<&'a Reader>,
) -> Result<(), FileError> {
    file.check_shape(entry)?;
    let Some(scales) = scales_of(entry) else {
        return Err(wrong(&entry.name, file, "only matrices are read in FP8 (F8_E4M3)".into()));
    };
    if config.is_none() {
        let what = "it is stored as F8_E4M3, but config.json has no quantization_config that says how";
        return Err(wrong(&entry.name, file, what.into()));
    }
    let Some(scales_file) = scales_in(&scales.name) else {
        let what = format!("it is stored as F8_E4M3, and `{}` is missing", scales.name);
        return Err(wrong(&entry.name, file, what));
    };
    match scales_file.shape(&scales.name) {
        Some(shape) if shape == scales.shape => scales_file.check(&scales),
        found => {
            let found = found.unwrap_or_default();
            let what = format!(
                "`{}` has shape {found:?}; a matrix of {:?} has {:?}, one for every {BLOCK} x {BLOCK}",
                scales.name, entry.shape, scales.shape
            );
            Err(wrong(&entry.name, scales_file, what))
        }
    }
}

/// Reads matrix `entry`, whose codes `file` holds; `scales_in` gives the file of a tensor.
pub(super) fn read<'a>(
    entry: &Entry,
    file: &Reader,
    config: Option<Fp8Weights>,
    scales_in: impl FnOnce(&str) -> Option<&'a Reader>,
) -> Result<Vec<f32>, FileError> {
    let scales = scales_of(entry).unwrap_or_else(|| entry.clone());
    let Some(scales_file) = scales_in(&scales.name) else {
        return Err(wrong(&entry.name, file, format!("`{}` is missing", scales.name)));
    };
    let values = scales_file.read(&scales)?;
    let only_powers = config.is_some_and(|config| config.power_of_two_scales);
    for (i, &scale) in values.iter().enumerate() {
        let what = if !(scale.is_normal() && scale > 0.0) {
            "is not a positive number"
        } else if scale > MAX_SCALE {
            "is larger than that of any real model"
        } else if only_powers && scale.to_bits() & 0x007f_ffff != 0 {
            "is no power of two, and config.json says ue8m0"
        } else {
            continue;
        };
        let [row, column] = [i / scales.shape[1], i % scales.shape[1]];
        let what = format!("that of block ({row}, {column}) in `{}`, {scale:e}, {what}", scales.name);
        return Err(wrong(&entry.name, scales_file, what));
    }
    file.read_fp8(entry, &values)
}

/// The scales of a matrix of `columns` columns: of each block the largest magnitude over 448.
pub(super) fn scales(values: &[f32], columns: usize) -> Vec<f32> {
    let width = columns.max(1);
    let band = |band: &[f32]| {
        let mut most = vec![0.0f32; columns.div_ceil(BLOCK)];
        for row in band.chunks(width) {
            row.chunks(BLOCK).zip(&mut most).for_each(|(block, most)| *most = most.max(fp8::largest(block)));
        }
        most.into_iter().map(fp8::scale).collect::<Vec<f32>>()
    };
    values.par_chunks(BLOCK * width).flat_map_iter(band).collect()
}

/// The values of a matrix of `columns` columns, each divided by its block's scale.
pub(super) fn scaled(values: &[f32], columns: usize) -> Vec<f32> {
    let width = columns.max(1);
    let scales = scales(values, columns);
    let mut scaled = values.to_vec();
    let bands = scaled.par_chunks_mut(BLOCK * width).zip(scales.par_chunks(width.div_ceil(BLOCK)));
    bands.for_each(|(band, scales)| {
        for row in band.chunks_mut(width) {
            for (block, scale) in row.chunks_mut(BLOCK).zip(scales) {
                for x in block {
                    *x /= scale;
                }
            }
        }
    });
    scaled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_of_blocks_and_ragged_edges_have_their_own() {
        let (rows, columns) = (130, 257);
        let mut values = vec![0.0; rows * columns];
        for (row, column, x) in [(0, 0, 1.0), (127, 127, -448.0), (0, 128, 3.0), (129, 256, 7.0)] {
            values[row * columns + column] = x;
        }
        let expected = [1.0, 3.0 / 448.0, 1.0, 1.0, 1.0, 7.0 / 448.0];
        assert_eq!(scales(&values, columns), expected);
        let scaled = scaled(&values, columns);
        assert_eq!((scaled[0], scaled[127 * columns + 127]), (1.0, -448.0));
        assert_eq!((scaled[128], scaled[rows * columns - 1]), (448.0, 448.0));
    }
}
