//! The table of features, and how trees see it.
//!
//! A row is a genotype: one small unsigned integer per gene. `Integer` hands the genes to the trees
//! as they are. `OneHot` makes a 0/1 column of every value that a gene takes in the training rows,
//! so that trees do not see the order of the values.

use super::Error;
use crate::words::{parsed, words};
use std::borrow::Cow;

/// Most columns after encoding.
const MAX_COLUMNS: usize = 1 << 16;

words!(
    /// How the trees see the features.
    #[derive(Default)]
    Encoding {
        /// Values as they are (NATv2).
        #[default]
        Integer = "integer",
        /// A 0/1 column for every value that a gene takes in the training rows (NAT). A value never
        /// seen in training sets none of its gene's columns.
        OneHot = "one-hot",
    }
);

parsed!(Encoding, Error, |text| super::unknown::<Encoding>("encoding", text));

/// Rows of small unsigned integers, row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    rows: usize,
    columns: usize,
    values: Vec<u8>,
}

impl Features {
    /// A table from its values, row after row.
    ///
    /// # Errors
    /// [`Error::Ragged`] if the values cannot be cut into rows of `columns`.
    pub fn new(columns: usize, values: Vec<u8>) -> Result<Self, Error> {
        if columns == 0 || !values.len().is_multiple_of(columns) {
            return Err(Error::Ragged { values: values.len(), columns });
        }
        Ok(Features { rows: values.len() / columns, columns, values })
    }

    /// A table from its rows.
    ///
    /// # Errors
    /// [`Error::Ragged`] if the rows differ in length or have none; no rows at all are
    /// [`Error::Empty`], as nothing then says how many columns there are.
    pub fn from_rows<R: AsRef<[u8]>>(rows: &[R]) -> Result<Self, Error> {
        let columns = rows.first().ok_or(Error::Empty)?.as_ref().len();
        if let Some(odd) = rows.iter().find(|row| row.as_ref().len() != columns) {
            return Err(Error::Ragged { values: odd.as_ref().len(), columns });
        }
        Self::new(columns, rows.iter().flat_map(|row| row.as_ref().iter().copied()).collect())
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// One row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> &[u8] {
        &self.values[row * self.columns..][..self.columns]
    }
}

/// An encoding with what it learned from the training rows.
#[derive(Debug, Clone)]
pub(super) struct Encoder {
    columns: usize,
    /// For one-hot: for each gene its values in ascending order.
    categories: Option<Vec<Vec<u8>>>,
}

impl Encoder {
    pub(super) fn new(encoding: Encoding, features: &Features) -> Result<Self, Error> {
        let columns = features.columns();
        let categories = match encoding {
            Encoding::Integer => None,
            Encoding::OneHot => {
                let mut seen = vec![[false; 256]; columns];
                for row in 0..features.rows() {
                    for (seen, &value) in seen.iter_mut().zip(features.row(row)) {
                        seen[usize::from(value)] = true;
                    }
                }
                Some(
                    seen.iter().map(|seen| (0..=255u8).filter(|&v| seen[usize::from(v)]).collect()).collect(),
                )
            }
        };
        let encoder = Encoder { columns, categories };
        let width = encoder.width();
        if width > MAX_COLUMNS {
            return Err(Error::TooLarge { what: "columns", limit: MAX_COLUMNS, found: width });
        }
        Ok(encoder)
    }

    /// Columns before encoding.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// Columns after encoding.
    fn width(&self) -> usize {
        self.categories.as_ref().map_or(self.columns, |genes| genes.iter().map(Vec::len).sum())
    }

    pub(super) fn encode<'a>(&self, features: &'a Features) -> Cow<'a, Features> {
        if self.categories.is_none() {
            return Cow::Borrowed(features);
        }
        let columns = self.width();
        let mut values = Vec::with_capacity(features.rows() * columns);
        for row in 0..features.rows() {
            values.extend_from_slice(&self.encode_row(features.row(row)));
        }
        Cow::Owned(Features { rows: features.rows(), columns, values })
    }

    pub(super) fn encode_row<'a>(&self, row: &'a [u8]) -> Cow<'a, [u8]> {
        match &self.categories {
            None => Cow::Borrowed(row),
            Some(genes) => Cow::Owned(
                genes
                    .iter()
                    .zip(row)
                    .flat_map(|(categories, value)| categories.iter().map(move |c| u8::from(c == value)))
                    .collect(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hot_has_a_column_per_gene_and_value_seen() {
        let features = Features::from_rows(&[[2, 0], [5, 0], [2, 1]]).unwrap();
        let encoder = Encoder::new(Encoding::OneHot, &features).unwrap();
        let encoded = encoder.encode(&features);
        assert_eq!(encoded.columns(), 4);
        assert_eq!(encoded.row(0), [1, 0, 1, 0]);
        assert_eq!(encoded.row(1), [0, 1, 1, 0]);
        assert_eq!(encoded.row(2), [1, 0, 0, 1]);
        assert_eq!(encoder.encode_row(&[9, 9])[..], [0, 0, 0, 0]);
    }

    #[test]
    fn tables_that_are_not_rectangular_are_refused() {
        assert_eq!(Features::new(3, vec![0; 7]), Err(Error::Ragged { values: 7, columns: 3 }));
        assert_eq!(Features::new(0, vec![]), Err(Error::Ragged { values: 0, columns: 0 }));
        assert_eq!(Features::from_rows(&[vec![1, 2], vec![3]]), Err(Error::Ragged { values: 1, columns: 2 }));
        assert_eq!(Features::from_rows::<[u8; 2]>(&[]), Err(Error::Empty));
        assert_eq!(Features::new(2, vec![]).unwrap().rows(), 0);
    }
}
