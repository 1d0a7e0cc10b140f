//! A set of points in objective space, stored row by row.

/// `len` points of `dimension` coordinates each, row-major.
///
/// Coordinates are compared a great deal, so they are made comparable once, when they come in:
/// NaN becomes positive infinity (an objective that could not be measured is the worst there is)
/// and negative zero becomes zero. A `Points` therefore never holds a NaN; infinities are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Points {
    dimension: usize,
    values: Vec<f64>,
}

impl Points {
    /// No points yet, of `dimension` coordinates.
    ///
    /// # Panics
    /// If `dimension` is 0.
    pub fn new(dimension: usize) -> Self {
        assert!(dimension > 0, "points need at least one coordinate");
        Self { dimension, values: Vec::new() }
    }

    /// No points yet, with room for `count`.
    ///
    /// # Panics
    /// If `dimension` is 0.
    pub fn with_capacity(dimension: usize, count: usize) -> Self {
        let mut points = Self::new(dimension);
        points.values.reserve_exact(dimension * count);
        points
    }

    /// The points whose coordinates are `rows`.
    ///
    /// # Panics
    /// If `dimension` is 0 or a row has another length.
    pub fn from_rows<R: AsRef<[f64]>>(dimension: usize, rows: impl IntoIterator<Item = R>) -> Self {
        let mut points = Self::new(dimension);
        for row in rows {
            points.push(row.as_ref());
        }
        points
    }

    /// Appends a point.
    ///
    /// # Panics
    /// If `row` does not have `dimension` coordinates.
    pub fn push(&mut self, row: &[f64]) {
        assert_eq!(row.len(), self.dimension, "a point of another dimension");
        // Adding zero turns -0 into 0 and leaves every other value alone.
        self.values.extend(row.iter().map(|&x| if x.is_nan() { f64::INFINITY } else { x + 0.0 }));
    }

    /// Appends all points of `other`.
    ///
    /// # Panics
    /// If the dimensions differ.
    pub fn append(&mut self, other: &Points) {
        assert_eq!(other.dimension, self.dimension, "points of another dimension");
        self.values.extend_from_slice(&other.values);
    }

    /// How many points there are.
    pub fn len(&self) -> usize {
        self.values.len() / self.dimension
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// How many coordinates a point has.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// The coordinates of point `i`.
    ///
    /// # Panics
    /// If there is no such point.
    pub fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.dimension..(i + 1) * self.dimension]
    }

    /// The points in order.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f64> {
        self.values.chunks_exact(self.dimension)
    }

    /// The points at `indices`, in that order.
    ///
    /// # Panics
    /// If an index is out of range.
    pub fn select(&self, indices: &[usize]) -> Points {
        let mut points = Self::with_capacity(self.dimension, indices.len());
        for &i in indices {
            points.values.extend_from_slice(self.row(i));
        }
        points
    }

    /// The points in lexicographic order.
    pub fn sorted(&self) -> Points {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by(|&a, &b| compare(self.row(a), self.row(b)));
        self.select(&order)
    }
}

/// Lexicographic order of two points without NaN.
pub(super) fn compare(a: &[f64], b: &[f64]) -> std::cmp::Ordering {
    a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_become_comparable_when_they_come_in() {
        let points = Points::from_rows(2, [[f64::NAN, -0.0], [1.0, f64::NEG_INFINITY]]);
        assert_eq!(points.len(), 2);
        assert_eq!(points.row(0), [f64::INFINITY, 0.0]);
        assert!(points.row(0)[1].is_sign_positive());
        assert_eq!(points.row(1), [1.0, f64::NEG_INFINITY]);
    }

    #[test]
    fn rows_can_be_chosen_appended_and_sorted() {
        let mut points = Points::from_rows(2, [[3.0, 0.0], [1.0, 2.0], [1.0, 1.0]]);
        assert_eq!(points.select(&[2, 0]), Points::from_rows(2, [[1.0, 1.0], [3.0, 0.0]]));
        assert_eq!(points.sorted(), Points::from_rows(2, [[1.0, 1.0], [1.0, 2.0], [3.0, 0.0]]));
        let copy = points.clone();
        points.append(&copy);
        assert_eq!(points.rows().count(), 6);
        assert!(Points::new(3).is_empty());
    }
}
