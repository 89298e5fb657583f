//! The kernels' sources, and their compilers.

/// The kernels, file by file. Each stands behind `device.h`; a file that another needs names it in `needs`.
pub(crate) struct Source {
    pub(crate) name: &'static str,
    /// Headers of `kernels/`, in order, that the file builds on, `device.h` apart.
    pub(crate) headers: &'static [(&'static str, &'static str)],
    pub(crate) text: &'static str,
}

/// Every file of kernels.
pub(crate) const SOURCES: &[Source] =
    &[Source { name: "operand.cu", headers: &[], text: include_str!("../kernels/operand.cu") }];

/// The names of the kernels in a source: what stands behind `KERNEL(`.
pub(crate) fn kernels_of(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_prefix("KERNEL(")?.split(',').next())
}
