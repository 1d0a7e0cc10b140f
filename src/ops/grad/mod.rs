//! Backward operators: from the gradient of an output to the gradients of inputs and weights.
//!
//! Throughout, `dy` is the gradient of the loss by `y`. Gradients of activations are written;
//! gradients of weights are added to what is there, so that several sub-networks of one step share
//! one gradient, laid out as the packed super-network. A sub-network's gradient is the same prefix
//! of it as its weights are.
//!
//! The gradient of a convolution's input is a convolution: with [`pointwise::Transpose`]d panels the
//! forward [`Pointwise`](super::pointwise::Pointwise) computes it, with the gradient that has
//! already arrived at that map as its residual. With maps in 16 bits it is that of 16-bit numbers, on
//! transposed [rows](super::half_rows).
//!
//! Maps and their gradients are f32, f16 or bf16, as an operator's parameters say; gradients of weights,
//! sums, gates and what else has a number a channel are f32.
//!
//! Reductions over rows are cut into blocks of a fixed size and merged in order, so results do not
//! depend on the number of threads.

pub mod activation;
pub mod batch_norm;
pub mod depthwise;
pub mod kernel_transform;
pub mod pointwise;
pub mod pointwise_half;
pub mod pool;
pub mod squeeze_excite;
pub mod stem;
