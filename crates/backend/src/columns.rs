//! Which columns of rows an operation takes: those of heads that lie at equal distances.

/// Where rotary positions turn the features of rows: in each of `heads` heads, `dim` features from `start` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Heads of a row.
    pub heads: usize,
    /// Features of a head, of which some are rotated.
    pub head_features: usize,
    /// The first of a head that is.
    pub start: usize,
    /// How many are, an even number.
    pub dim: usize,
    /// Which two turn together.
    pub pairs: Pairs,
}

/// Which two features turn by the angle `i`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// `i` and `i + dim / 2`: Hugging Face's form.
    Halves,
    /// `2i` and `2i + 1`: DeepSeek's.
    Neighbours,
}

impl Rotation {
    /// Of whole heads of `dim` features, in halves.
    pub fn whole(heads: usize, dim: usize) -> Self {
        Self { heads, head_features: dim, start: 0, dim, pairs: Pairs::Halves }
    }

    /// Features of a row.
    pub fn features(&self) -> usize {
        self.heads * self.head_features
    }

    /// The places within a head that turn by the angle `i`.
    pub fn pair(&self, i: usize) -> [usize; 2] {
        match self.pairs {
            Pairs::Halves => [self.start + i, self.start + i + self.dim / 2],
            Pairs::Neighbours => [self.start + 2 * i, self.start + 2 * i + 1],
        }
    }

    /// Asserts that it fits into a head.
    ///
    /// # Panics
    /// If it does not, or if `dim` is odd.
    pub fn check(&self) {
        assert!(
            self.dim.is_multiple_of(2) && self.start + self.dim <= self.head_features,
            "{self:?}: whole pairs within a head"
        );
    }
}

/// Some columns of a row's heads: of each head `h`, those from `start + h · stride` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    /// Features of a row.
    pub features: usize,
    /// The first of the first head.
    pub start: usize,
    /// From a head's first to the next one's; 0 where all heads have the same.
    pub stride: usize,
}

impl Columns {
    /// Columns of one head.
    pub fn from(start: usize, features: usize) -> Self {
        Self { features, start, stride: 0 }
    }

    /// Asserts that `width` columns of `heads` heads lie within a row.
    ///
    /// # Panics
    /// If they do not.
    pub fn check(&self, heads: usize, width: usize) {
        let end = self.start + heads.saturating_sub(1) * self.stride + width;
        assert!(end <= self.features, "{self:?}: {width} columns of {heads} heads");
    }
}
