//! Which units of a card a call is for: what its tensor cores take, and how its blocks go about it.

use super::Call;
use super::mbconv::blocks::Job;

impl Call {
    /// Those of a call's operations that are products of 16-bit numbers, for which cards have tensor cores. All
    /// others, depthwise filters above all, are for the units that multiply and add in f32.
    pub fn tensor_flops(&self) -> u64 {
        match self {
            Call::PointwiseHalf(call) => call.params.shape.flops(),
            Call::PointwiseHalfWeights(call) => call.params.shape.flops(),
            call => call.jobs().iter().map(Job::tensor_flops).sum(),
        }
    }

    /// What the blocks of a whole MBConv, of its first half, or of a pass of recalibration are to make, for each of
    /// the calls that are launched together; nothing of other calls.
    pub(crate) fn jobs(&self) -> Vec<Job> {
        match self {
            Call::Mbconv(call) => vec![Job::whole(&call.params)],
            Call::MbconvGroup(group) => group.calls.iter().map(|call| Job::whole(&call.params)).collect(),
            Call::ExpandDepthwise(call) => vec![Job::of_pair(&call.params)],
            Call::MbconvPass(call) => vec![Job::of_pass(&call.params)],
            Call::MbconvPassGroup(group) => {
                group.calls.iter().map(|call| Job::of_pass(&call.params)).collect()
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::Call;
    use crate::ops::cases::{edges, edges_in, mbconv_passes, network_in};
    use crate::ops::halves::Format;

    #[test]
    fn products_of_16_bit_numbers_are_a_part_of_the_operations() {
        // Nothing in f32 is for tensor cores.
        assert!(edges().iter().all(|case| case.call.tensor_flops() == 0));
        let format = Format::Bf16;
        let cases = [network_in(format, 3, 64), edges_in(format), mbconv_passes()].concat();
        for case in &cases {
            let (all, tensor) = (case.call.work().flops, case.call.tensor_flops());
            assert!(tensor <= all, "{}: {tensor} of {all}", case.name);
            let whole = matches!(case.call, Call::PointwiseHalf(_) | Call::PointwiseHalfWeights(_));
            // Sums of pooled outputs are all that is left of a product.
            assert!(!whole || 10 * tensor > 9 * all, "{}: {tensor} of {all}", case.name);
            // An MBConv has a filter too.
            let fused = matches!(case.call, Call::Mbconv(_) | Call::ExpandDepthwise(_));
            assert!(!fused || tensor < all, "{}: {tensor} of {all}", case.name);
        }
        assert!(cases.iter().filter(|case| case.call.tensor_flops() > 0).count() > 50);
    }

    #[test]
    fn products_of_a_layer_are_those_of_its_separate_calls() {
        let found = network_in(Format::F16, 5, 64).into_iter().find_map(|case| match case.call {
            Call::Mbconv(call) if call.params.expands() => Some(call.params),
            _ => None,
        });
        let params = found.unwrap();
        let apart = params.expansion().shape.flops() + params.projection().shape.flops();
        assert_eq!(params.tensor_flops(), apart);
        assert_eq!(params.front().tensor_flops(), params.expansion().shape.flops());
    }
}
