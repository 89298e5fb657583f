//! The kernels' sources, and their compilers.

/// The kernels, file by file. Each stands behind `device.h`; a file that another needs names it in `needs`.
pub(crate) struct Source {
    pub(crate) name: &'static str,
    /// Headers of `kernels/`, in order, that the file builds on, `device.h` apart.
    pub(crate) headers: &'static [(&'static str, &'static str)],
    pub(crate) text: &'static str,
}

const ATTENTION: (&str, &str) = ("attention.h", include_str!("../kernels/attention.h"));
const HOPPER: (&str, &str) = ("hopper.h", include_str!("../kernels/hopper.h"));
const PRODUCT: (&str, &str) = ("product.h", include_str!("../kernels/product.h"));
const RMS_NORM: (&str, &str) = ("rms_norm.h", include_str!("../kernels/rms_norm.h"));
const VOCABULARY: (&str, &str) = ("vocabulary.h", include_str!("../kernels/vocabulary.h"));
const VECTORS: (&str, &str) = ("vectors.h", include_str!("../kernels/vectors.h"));

/// Every file of kernels.
pub(crate) const SOURCES: &[Source] = &[
    Source { name: "adamw.cu", headers: &[VECTORS], text: include_str!("../kernels/adamw.cu") },
    Source {
        name: "attention.cu",
        headers: &[VECTORS, ATTENTION],
        text: include_str!("../kernels/attention.cu"),
    },
    Source {
        name: "attention_backward.cu",
        headers: &[VECTORS, ATTENTION],
        text: include_str!("../kernels/attention_backward.cu"),
    },
    Source { name: "bias.cu", headers: &[VECTORS], text: include_str!("../kernels/bias.cu") },
    Source { name: "columns.cu", headers: &[VECTORS], text: include_str!("../kernels/columns.cu") },
    Source { name: "divergence.cu", headers: &[VOCABULARY], text: include_str!("../kernels/divergence.cu") },
    Source { name: "embedding.cu", headers: &[VECTORS], text: include_str!("../kernels/embedding.cu") },
    Source { name: "experts.cu", headers: &[PRODUCT], text: include_str!("../kernels/experts.cu") },
    Source { name: "fp8.cu", headers: &[PRODUCT], text: include_str!("../kernels/fp8.cu") },
    Source {
        name: "head.cu",
        headers: &[PRODUCT, HOPPER, VOCABULARY],
        text: include_str!("../kernels/head.cu"),
    },
    Source { name: "heads.cu", headers: &[VECTORS, RMS_NORM], text: include_str!("../kernels/heads.cu") },
    Source { name: "hopper.cu", headers: &[PRODUCT, HOPPER], text: include_str!("../kernels/hopper.cu") },
    Source { name: "layout.cu", headers: &[], text: include_str!("../kernels/layout.cu") },
    Source { name: "log_prob.cu", headers: &[VOCABULARY], text: include_str!("../kernels/log_prob.cu") },
    Source { name: "operand.cu", headers: &[VECTORS], text: include_str!("../kernels/operand.cu") },
    Source { name: "product.cu", headers: &[PRODUCT], text: include_str!("../kernels/product.cu") },
    Source {
        name: "product_input.cu",
        headers: &[PRODUCT],
        text: include_str!("../kernels/product_input.cu"),
    },
    Source {
        name: "product_weight.cu",
        headers: &[PRODUCT],
        text: include_str!("../kernels/product_weight.cu"),
    },
    Source {
        name: "rms_norm.cu",
        headers: &[VECTORS, RMS_NORM],
        text: include_str!("../kernels/rms_norm.cu"),
    },
    Source { name: "rope.cu", headers: &[VECTORS], text: include_str!("../kernels/rope.cu") },
    Source { name: "route.cu", headers: &[], text: include_str!("../kernels/route.cu") },
    Source { name: "swiglu.cu", headers: &[VECTORS], text: include_str!("../kernels/swiglu.cu") },
    Source { name: "wrappers.cu", headers: &[], text: include_str!("../kernels/wrappers.cu") },
];

/// What stands before every file of kernels.
const DEVICE_H: &str = include_str!("../kernels/device.h");

/// The text of a file of kernels as a compiler gets it: after `device.h` and its headers, whose lines messages name.
pub(crate) fn unit(source: &Source) -> String {
    let files = [("device.h", DEVICE_H)].into_iter().chain(source.headers.iter().copied());
    let files = files.chain([(source.name, source.text)]);
    let mut unit = String::new();
    for (name, text) in files {
        unit.extend(["#line 1 \"", name, "\"\n", text, "\n"]);
    }
    unit
}

/// The names of the kernels in a source: what stands behind `KERNEL(`.
pub(crate) fn kernels_of(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_prefix("KERNEL(")?.split(',').next())
}
