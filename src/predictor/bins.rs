//! Bins: the values of a column that trees can tell apart.
//!
//! As in LightGBM, zero has a bin of its own, and the other values are joined from below until a bin
//! holds `min_data_in_bin` rows (the last one may hold fewer). A bin reaches half-way to the next
//! value seen, so that values between two seen ones have a place. The bins of all columns are
//! numbered through, and a row is stored as the bins it falls in: a histogram over all columns is
//! then one array, and a row adds to it at the places that its codes name.
//!
//! Columns with a single bin can never be split; they are left out.

use super::{Error, Features};

/// Bins of one column.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// The column of the feature table.
    pub feature: u16,
    /// The number of its first bin.
    pub offset: usize,
    /// The largest value of each bin; the last one is 255.
    pub upper: Vec<u8>,
}

/// The training rows as bins.
#[derive(Debug, Clone)]
pub(super) struct Binned {
    pub columns: Vec<Column>,
    /// Bins of all columns together.
    pub bins: usize,
    /// rows x columns, row-major: the bin's number, counted through all columns.
    pub codes: Vec<u16>,
    pub rows: usize,
}

impl Binned {
    /// Bins the chosen rows of a table.
    pub(super) fn new(features: &Features, rows: &[usize], min_data_in_bin: usize) -> Result<Self, Error> {
        let limit = usize::from(u16::MAX) + 1;
        let mut counts = vec![[0u32; 256]; features.columns()];
        for &row in rows {
            for (counts, &value) in counts.iter_mut().zip(features.row(row)) {
                counts[usize::from(value)] += 1;
            }
        }
        let mut columns: Vec<Column> = Vec::new();
        let mut bins = 0;
        for (feature, counts) in counts.iter().enumerate() {
            let upper = upper_bounds(counts, min_data_in_bin);
            if upper.len() > 1 {
                columns.push(Column { feature: feature as u16, offset: bins, upper });
                bins += columns.last().map_or(0, |column| column.upper.len());
            }
        }
        if bins > limit {
            return Err(Error::TooLarge { what: "bins", limit, found: bins });
        }
        let mut code_of = vec![[0u16; 256]; columns.len()];
        for (codes, column) in code_of.iter_mut().zip(&columns) {
            let mut bin = 0;
            for (value, code) in codes.iter_mut().enumerate() {
                bin += usize::from(value > usize::from(column.upper[bin]));
                *code = (column.offset + bin) as u16;
            }
        }
        let mut codes = Vec::with_capacity(rows.len() * columns.len());
        for &row in rows {
            let row = features.row(row);
            codes.extend(
                columns.iter().zip(&code_of).map(|(c, code)| code[usize::from(row[usize::from(c.feature)])]),
            );
        }
        Ok(Binned { columns, bins, codes, rows: rows.len() })
    }
}

/// The largest value of each bin of a column, from the number of rows of each value.
fn upper_bounds(counts: &[u32; 256], min_data_in_bin: usize) -> Vec<u8> {
    let mut upper = Vec::new();
    let positive: Vec<usize> = (1..256).filter(|&value| counts[value] > 0).collect();
    if counts[0] > 0 && !positive.is_empty() {
        upper.push(0);
    }
    let mut held = 0;
    for pair in positive.windows(2) {
        held += counts[pair[0]] as usize;
        if held >= min_data_in_bin {
            upper.push(((pair[0] + pair[1]) / 2) as u8);
            held = 0;
        }
    }
    upper.push(255);
    upper
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(counted: &[(usize, u32)], min: usize) -> Vec<u8> {
        let mut counts = [0; 256];
        for &(value, count) in counted {
            counts[value] = count;
        }
        upper_bounds(&counts, min)
    }

    #[test]
    fn rare_values_share_a_bin_and_zero_has_its_own() {
        assert_eq!(bounds(&[(0, 1), (1, 5), (2, 1), (3, 1), (4, 1), (9, 4)], 3), [0, 1, 6, 255]);
        assert_eq!(bounds(&[(1, 5), (2, 1)], 3), [1, 255]);
        assert_eq!(bounds(&[(1, 2), (2, 1), (3, 1)], 3), [2, 255]);
        assert_eq!(bounds(&[(0, 9)], 3), [255]);
        assert_eq!(bounds(&[(7, 9)], 3), [255]);
        assert_eq!(bounds(&[(0, 1), (7, 1)], 3), [0, 255]);
        assert_eq!(bounds(&[(254, 3), (255, 3)], 3), [254, 255]);
    }

    #[test]
    fn codes_number_the_bins_through_all_columns() {
        let features = Features::from_rows(&[[0, 4, 1], [1, 4, 2], [2, 4, 1], [7, 4, 2]]).unwrap();
        let binned = Binned::new(&features, &[0, 1, 3], 1).unwrap();
        assert_eq!(binned.columns.iter().map(|c| c.feature).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(binned.bins, 5);
        assert_eq!(binned.codes, [0, 3, 1, 4, 2, 4]);
    }
}
