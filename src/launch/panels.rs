//! How matrices of pointwise weights are stored: panels of [`PANEL`] output channels, `[cout / 16][cin][16]`.
//!
//! A sub-network takes a prefix of them: the first `cout / 16` panels, the first `cin` rows of each.

/// Output channels of a panel of pointwise weights.
pub const PANEL: usize = 16;

/// Number of stored elements of a panelled matrix `[cout, cin]`.
pub fn panelled_len(cout: usize, cin: usize) -> usize {
    cout.div_ceil(PANEL) * PANEL * cin
}

/// Position of weight `[n, k]` in panels of `cin` rows.
pub fn panelled_index(cin: usize, n: usize, k: usize) -> usize {
    (n / PANEL * cin + k) * PANEL + n % PANEL
}
