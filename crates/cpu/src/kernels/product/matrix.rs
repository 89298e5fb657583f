//! The matrices of a product: A as it lies, B in packed panels, and the block of C that a task writes.

use koan_backend::int8::BLOCK;

use crate::{memory::Disjoint, simd::Simd};

/// Elements of a cache line.
pub(super) const LINE: usize = 16;

/// A matrix that is read: element `(row, column)` lies at `row · row_stride + column · column_stride`, within
/// `data`. Its elements are f32, or the bits of bf16.
#[derive(Clone, Copy)]
pub(crate) struct View<'a, T = f32> {
    pub(super) data: &'a [T],
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl<'a, T: Copy> View<'a, T> {
    /// The matrix `[rows, columns]` that lies in `data` row by row.
    pub(crate) fn new(data: &'a [T], rows: usize, columns: usize) -> Self {
        Self { data: &data[..rows * columns], row_stride: columns, column_stride: 1, rows, columns }
    }

    /// The matrix `[rows, columns]` whose rows lie in `data`, `stride` elements apart.
    #[inline(always)]
    pub(crate) fn strided(data: &'a [T], stride: usize, rows: usize, columns: usize) -> Self {
        assert!(rows > 0 && columns <= stride && (rows - 1) * stride + columns <= data.len());
        Self { data, row_stride: stride, column_stride: 1, rows, columns }
    }

    pub(crate) fn rows(self) -> usize {
        self.rows
    }

    pub(crate) fn columns(self) -> usize {
        self.columns
    }

    /// Row `i`, of a matrix whose rows are contiguous.
    #[inline(always)]
    pub(crate) fn row(self, i: usize) -> &'a [T] {
        &self.data[i * self.row_stride..][..self.columns]
    }

    pub(crate) fn transposed(self) -> Self {
        let Self { data, row_stride, column_stride, rows, columns } = self;
        Self { data, row_stride: column_stride, column_stride: row_stride, rows: columns, columns: rows }
    }

    /// `rows` rows from `row` on, of `columns` columns from `column` on.
    #[inline(always)]
    pub(crate) fn part(self, row: usize, rows: usize, column: usize, columns: usize) -> Self {
        assert!(row + rows <= self.rows && column + columns <= self.columns, "a part beyond its matrix");
        let start = if rows * columns == 0 { 0 } else { row * self.row_stride + column * self.column_stride };
        Self { data: &self.data[start..], rows, columns, ..self }
    }
}

impl View<'_> {
    /// The address of the first element, and how far it is from a row to the next.
    #[inline(always)]
    pub(crate) fn start(self) -> (*const f32, usize) {
        (self.data.as_ptr(), self.row_stride)
    }

    /// Asks for the cache lines of a matrix whose rows are contiguous.
    #[inline(always)]
    pub(crate) fn prefetch<S: Simd>(self, s: S) {
        for i in 0..self.rows {
            for column in (0..self.columns).step_by(LINE) {
                s.prefetch(self.data.as_ptr().wrapping_add(i * self.row_stride + column));
            }
        }
    }
}

/// A matrix that products read: weights, which are f32, or activations, in the precision of the products.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    F32(View<'a>),
    Bf16(View<'a, u16>),
}

impl<'a> Source<'a> {
    /// The f32 matrix `[rows, columns]` that lies in `data` row by row.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::F32(View::new(data, rows, columns))
    }

    pub(crate) fn rows(self) -> usize {
        match self {
            Self::F32(x) => x.rows,
            Self::Bf16(x) => x.rows,
        }
    }

    pub(crate) fn columns(self) -> usize {
        match self {
            Self::F32(x) => x.columns,
            Self::Bf16(x) => x.columns,
        }
    }

    pub(crate) fn transposed(self) -> Self {
        match self {
            Self::F32(x) => Self::F32(x.transposed()),
            Self::Bf16(x) => Self::Bf16(x.transposed()),
        }
    }

    /// Whether its rows are contiguous.
    pub(crate) fn is_row_major(self) -> bool {
        match self {
            Self::F32(x) => x.column_stride == 1,
            Self::Bf16(x) => x.column_stride == 1,
        }
    }

    /// As [`View::part`].
    pub(crate) fn part(self, row: usize, rows: usize, column: usize, columns: usize) -> Self {
        match self {
            Self::F32(x) => Self::F32(x.part(row, rows, column, columns)),
            Self::Bf16(x) => Self::Bf16(x.part(row, rows, column, columns)),
        }
    }

    /// The matrix, where products are f32.
    #[inline(always)]
    pub(super) fn of_f32(self) -> View<'a> {
        match self {
            Self::F32(x) => x,
            Self::Bf16(_) => unreachable!("a bf16 operand of a product of f32"),
        }
    }
}

/// A block of a row-major matrix that one task writes.
pub(crate) struct Block {
    pub(super) start: *mut f32,
    pub(super) row_stride: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Block {
    /// The block of `rows` by `columns` elements whose first is element `start` of `c`.
    ///
    /// # Safety
    /// While the block lives, no other access to its elements happens.
    pub(crate) unsafe fn new(
        c: &Disjoint<'_>,
        start: usize,
        row_stride: usize,
        rows: usize,
        columns: usize,
    ) -> Self {
        assert!(
            rows > 0 && columns > 0 && columns <= row_stride,
            "an empty block, or one of overlapping rows"
        );
        let start = c.pointer(start, start + (rows - 1) * row_stride + columns - 1);
        Self { start, row_stride, rows, columns }
    }

    /// `columns` columns of it from `column` on; those of several such blocks may not overlap while they live.
    pub(crate) fn columns(&self, column: usize, columns: usize) -> Self {
        assert!(columns > 0 && column + columns <= self.columns, "columns beyond their block");
        // SAFETY: the column lies in the block.
        Self { start: unsafe { self.start.add(column) }, columns, ..*self }
    }
}

/// How an instruction set's products want B, and of what size a task's block is.
pub(crate) struct Format {
    /// Columns of a panel, those of a tile.
    pub(crate) panel_columns: usize,
    /// A panel's depth is padded with zeros to a multiple of this.
    pub(crate) depth: usize,
    /// Elements in the space of an f32.
    pub(crate) per_f32: usize,
    /// Rows of a block: whole tiles.
    pub(crate) block_rows: usize,
    /// Columns of a block, at most.
    pub(crate) block_columns: usize,
}

impl Format {
    /// Space of a panel of depth `k`, in f32.
    pub(crate) fn panel_len(&self, k: usize) -> usize {
        k.next_multiple_of(self.depth) * self.panel_columns / self.per_f32
    }

    /// Space of a panel of f32 whose values are held in bf16, in f32.
    pub(crate) fn halves_panel_len(&self, k: usize) -> usize {
        k * self.panel_columns / 2
    }

    /// Space of the codes of a panel of weights in 8 bits, in f32.
    pub(crate) fn int8_panel_len(&self, k: usize) -> usize {
        k.next_multiple_of(BLOCK) * self.panel_columns / 4
    }

    /// Scales of a panel of weights in 8 bits.
    pub(crate) fn int8_scales_len(&self, k: usize) -> usize {
        k.div_ceil(BLOCK) * self.panel_columns
    }

    /// Space of B `[k, columns]`, in f32.
    pub(crate) fn len(&self, k: usize, columns: usize) -> usize {
        columns.div_ceil(self.panel_columns) * self.panel_len(k)
    }
}

/// B `[k, columns]`, packed in panels, each padded with zeros to whole columns.
#[derive(Clone, Copy)]
pub(crate) struct Panels<'a> {
    pub(super) data: &'a [f32],
    pub(super) panel_len: usize,
    pub(super) panel_columns: usize,
    pub(super) k: usize,
    pub(super) columns: usize,
    form: Form<'a>,
}

/// What the data of panels are.
#[derive(Clone, Copy)]
enum Form<'a> {
    /// What the product reads.
    Whole,
    /// bf16 of a product of f32, two in its space.
    Halves,
    /// Codes of 8 bits, four in the space of an f32.
    Int8(Scales<'a>),
}

/// The scales of panels of weights in 8 bits.
#[derive(Clone, Copy)]
struct Scales<'a> {
    data: &'a [f32],
    panel_len: usize,
}

impl<'a> Panels<'a> {
    /// B `[k, columns]`, which was packed into `data` in the layout of `format`.
    pub(crate) fn new(format: &Format, data: &'a [f32], k: usize, columns: usize) -> Self {
        let (panel_len, panel_columns) = (format.panel_len(k), format.panel_columns);
        Self { data, panel_len, panel_columns, k, columns, form: Form::Whole }
    }

    /// B `[k, columns]` in 8 bits: codes and their scales.
    pub(crate) fn int8(format: &Format, [codes, scales]: [&'a [f32]; 2], k: usize, columns: usize) -> Self {
        let (panel_len, panel_columns) = (format.int8_panel_len(k), format.panel_columns);
        let form = Form::Int8(Scales { data: scales, panel_len: format.int8_scales_len(k) });
        Self { data: codes, panel_len, panel_columns, k, columns, form }
    }

    /// B `[k, columns]` whose values are held in bf16.
    pub(crate) fn halves(format: &Format, data: &'a [f32], k: usize, columns: usize) -> Self {
        let (panel_len, panel_columns) = (format.halves_panel_len(k), format.panel_columns);
        Self { data, panel_len, panel_columns, k, columns, form: Form::Halves }
    }

    /// Whether it is held in another form than products read.
    pub(crate) fn is_coded(self) -> bool {
        !matches!(self.form, Form::Whole)
    }

    /// Whether it is of weights in 8 bits.
    pub(crate) fn is_int8(self) -> bool {
        matches!(self.form, Form::Int8(_))
    }

    /// Words `[k, panel_columns / 2]` of panel `i`, of weights held in bf16.
    pub(crate) fn halves_panel(self, i: usize) -> &'a [u32] {
        assert!(matches!(self.form, Form::Halves), "other weights than in bf16");
        let words = &self.data[i * self.panel_len..][..self.panel_len];
        // SAFETY: any bits are a word, which has the space of an f32.
        unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len()) }
    }

    /// Codes `[k, panel_columns]` and scales `[k / 32, panel_columns]` of panel `i`, of weights in 8 bits.
    pub(crate) fn int8_panel(self, i: usize) -> (&'a [i8], &'a [f32]) {
        let Form::Int8(scales) = self.form else { panic!("other weights than in 8 bits") };
        let codes = &self.data[i * self.panel_len..][..self.panel_len];
        // SAFETY: an f32 has the space of four codes, of which any bits are some.
        let codes = unsafe { std::slice::from_raw_parts(codes.as_ptr().cast(), 4 * codes.len()) };
        (codes, &scales.data[i * scales.panel_len..][..scales.panel_len])
    }

    /// `columns` columns from `column`, a panel's first, on.
    pub(crate) fn part(self, column: usize, columns: usize) -> Self {
        assert!(column.is_multiple_of(self.panel_columns) && column + columns <= self.columns);
        let panel = column / self.panel_columns;
        let form = match self.form {
            Form::Int8(s) => Form::Int8(Scales { data: &s.data[panel * s.panel_len..], ..s }),
            form => form,
        };
        Self { data: &self.data[panel * self.panel_len..], columns, form, ..self }
    }

    pub(crate) fn k(self) -> usize {
        self.k
    }

    /// Panel `i`, which is not coded.
    pub(crate) fn panel(self, i: usize) -> &'a [f32] {
        assert!(!self.is_coded(), "codes are no values");
        &self.data[i * self.panel_len..][..self.panel_len]
    }

    pub(crate) fn columns(self) -> usize {
        self.columns
    }
}
