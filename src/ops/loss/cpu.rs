//! The fast paths: the definitions, a few images a thread. What they cost is exponentials.

use super::reference;
use super::{LossArgs, Params, TargetsArgs, TargetsParams};
use crate::ops::Threads;
use crate::ops::parallel::{pieces, pieces_of};

/// Images of a piece.
const IMAGES: usize = 16;

/// Probabilities of the weighted exits.
pub fn targets(p: &TargetsParams, a: TargetsArgs<'_, f32>, threads: Threads) {
    let stride = p.stride as usize;
    let probabilities = &mut a.probabilities[..p.images as usize * stride];
    pieces(threads, probabilities, IMAGES * stride, |index, probabilities| {
        let images = probabilities.len() / stride;
        let part = index * IMAGES * stride..(index * IMAGES + images) * stride;
        let args = TargetsArgs {
            a: &a.a[part.clone()],
            b: a.b.map(|exit| &exit[part.clone()]),
            c: a.c.map(|exit| &exit[part.clone()]),
            d: a.d.map(|exit| &exit[part.clone()]),
            e: a.e.map(|exit| &exit[part.clone()]),
            probabilities,
        };
        reference::targets(&TargetsParams { images: images as u32, ..*p }, args);
    });
}

/// Loss, correctness, gradient.
pub fn loss(p: &Params, a: LossArgs<'_, f32>, threads: Threads) {
    let (images, stride) = (p.images as usize, p.stride as usize);
    let (logits, labels, teacher) = (a.logits, a.labels, a.teacher);
    let out =
        [(&mut a.scores[..2 * images], 2 * IMAGES), (&mut a.dlogits[..images * stride], IMAGES * stride)];
    pieces_of(threads, out, |index, [scores, dlogits]| {
        let both = scores.chunks_exact_mut(2).zip(dlogits.chunks_exact_mut(stride));
        for (image, (scores, dlogits)) in (index * IMAGES..).zip(both) {
            let row = image * stride..(image + 1) * stride;
            let teacher = teacher.map(|teacher| &teacher[row.clone()]);
            reference::of_image(p, (&logits[row.clone()], labels[image], teacher), scores, dlogits);
        }
    });
}
