//! What training images cost before the network sees them: drawing, operations, crop, flip, resize
//! and normalisation, on one thread, by preset, image size and resolution. Figures are images.
//!
//! `cargo bench --bench augment`

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use natv2::data::augment::{Preset, Renderer};
use natv2::data::{Dataset, Spec, Split, open};
use natv2::evaluator::Pixels;
use rand::RngExt;
use std::hint::black_box;

/// Images of an iteration.
const IMAGES: u64 = 256;

/// Random images of 32 x 32 in CIFAR's format.
fn cifar() -> Dataset {
    let folder = tempfile::tempdir().expect("a folder");
    let mut random = natv2::random::stream(0, "bench/images", 0, 0);
    let mut bytes: Vec<u8> = (0..3073 * 300).map(|_| random.random()).collect();
    bytes.chunks_exact_mut(3073).for_each(|record| record[0] %= 10);
    std::fs::write(folder.path().join("data_batch_1.bin"), bytes).expect("written");
    open(&Spec::new("cifar10", Some(folder.path()))).expect("a data set")
}

/// Random images of 64 x 64.
fn photos() -> Dataset {
    let folder = tempfile::tempdir().expect("a folder");
    let class = folder.path().join("class");
    std::fs::create_dir(&class).expect("made");
    let mut random = natv2::random::stream(0, "bench/images", 1, 0);
    for number in 0..300 {
        let file = std::fs::File::create(class.join(format!("{number}.png"))).expect("made");
        let mut encoder = png::Encoder::new(file, 64, 64);
        encoder.set_color(png::ColorType::Rgb);
        let pixels: Vec<u8> = (0..64 * 64 * 3).map(|_| random.random()).collect();
        encoder.write_header().and_then(|mut w| w.write_image_data(&pixels)).expect("written");
    }
    open(&Spec::new("image-folder", Some(folder.path()))).expect("a data set")
}

fn augment(c: &mut Criterion) {
    let digits = open(&Spec::new("digits", None)).expect("embedded");
    let (cifar, photos) = (cifar(), photos());
    let cases = [
        (&digits, Preset::None, 32),
        (&digits, Preset::Digits, 32),
        (&cifar, Preset::None, 48),
        (&cifar, Preset::CifarClassic, 48),
        (&cifar, Preset::Cifar, 48),
        (&cifar, Preset::Cifar, 64),
        (&photos, Preset::None, 64),
        (&photos, Preset::TinyImagenet, 64),
        (&photos, Preset::Photos, 224),
    ];
    let mut group = c.benchmark_group("augment");
    group.throughput(Throughput::Elements(IMAGES)).sample_size(20);
    for (data, preset, r) in cases {
        let pixels = Pixels::usual(data.name());
        let augmentation = preset.augmentation();
        let mut renderer =
            Renderer::new(data, r, pixels.mean, pixels.std, augmentation.pad).expect("settings");
        let mut out = vec![0.0; r * r * 3];
        let name = format!("{} {} px", preset.name(), data.side());
        group.bench_function(BenchmarkId::new(name, r), |b| {
            b.iter(|| {
                for (position, &index) in (0..IMAGES).zip(data.split(Split::Train)) {
                    let drawn = augmentation.draw(data.side(), 0, 0, position);
                    renderer.render(data.image(index), &drawn, r, &mut out);
                    black_box(&out);
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, augment);
criterion_main!(benches);
