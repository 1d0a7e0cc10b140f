//! Opening data sets: values, splits, and what is said about damaged files.

use super::*;
use std::fs;

fn cifar_record(label_bytes: &[u8], first: u8) -> Vec<u8> {
    let pixels = (0..3072usize).map(|i| (i / 4) as u8 ^ first);
    label_bytes.iter().copied().chain(pixels).collect()
}

fn cifar10_file(folder: &Path, name: &str, labels: &[u8]) {
    let bytes: Vec<u8> = labels.iter().flat_map(|&label| cifar_record(&[label], label)).collect();
    fs::write(folder.join(name), bytes).unwrap();
}

fn fails(spec: &Spec) -> String {
    open(spec).unwrap_err().to_string()
}

#[test]
fn digits_hold_the_values_of_scikit_learn() {
    let data = open(&Spec::new("digits", None)).unwrap();
    assert_eq!((data.len(), data.side(), data.scale(), data.classes().len()), (1797, 8, 16.0, 10));
    // load_digits().images[0][:2] and .target[:10], .target[-3:], and the sums of both.
    let grey: Vec<u8> = data.image(0).chunks_exact(3).map(|rgb| rgb[0]).collect();
    assert_eq!(grey[..16], [0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0]);
    assert!(data.pixels().chunks_exact(3).all(|rgb| rgb[0] == rgb[1] && rgb[1] == rgb[2]));
    assert_eq!(data.labels()[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(data.labels()[1794..], [8, 9, 8]);
    assert_eq!(data.pixels().iter().map(|&p| u64::from(p)).sum::<u64>(), 3 * 561_718);
    assert_eq!(data.labels().iter().sum::<u32>(), 8070);
}

#[test]
fn digits_are_split_by_index_modulo_five() {
    let data = open(&Spec::new("digits", None)).unwrap();
    assert_eq!(data.split(Split::Train)[..6], [0, 1, 2, 5, 6, 7]);
    assert_eq!(data.split(Split::Val)[..3], [3, 8, 13]);
    assert_eq!(data.split(Split::Test)[..3], [4, 9, 14]);
    assert_eq!(Split::ALL.map(|split| data.split(split).len()), [1079, 359, 359]);
    let validation = Validation { images: Some(100), fraction: None };
    let message = fails(&Spec { validation, ..Spec::new("digits", None) });
    assert!(message.starts_with("`data.validation_images` does not apply to data set `digits`"), "{message}");
}

#[test]
fn cifar10_is_read_batch_after_batch_from_the_folder_or_its_parent() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("cifar-10-batches-bin");
    fs::create_dir(&folder).unwrap();
    // A tenth batch comes after the second, and missing ones are no error.
    cifar10_file(&folder, "data_batch_10.bin", &[9]);
    cifar10_file(&folder, "data_batch_2.bin", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    cifar10_file(&folder, "test_batch.bin", &[5, 6]);
    fs::write(folder.join("batches.meta.txt"), "airplane\n").unwrap();
    for dir in [&folder, parent.path()] {
        let data = open(&Spec::new("cifar10", Some(dir))).unwrap();
        assert_eq!((data.len(), data.side(), data.scale()), (22, 32, 255.0));
        assert_eq!(data.split(Split::Train), (0..18).collect::<Vec<u32>>());
        assert_eq!(data.split(Split::Val), [18, 19]);
        assert_eq!(data.split(Split::Test), [20, 21]);
        assert_eq!(data.label(18), 8);
        assert_eq!(data.label(19), 9);
        assert_eq!(data.classes()[9], "truck");
        // Planes become interleaved channels: pixel 4 of each plane is (4 + 1024 c) / 4 xor label.
        assert_eq!(data.image(20)[12..15], [1 ^ 5, 1 ^ 5, 1 ^ 5]);
        assert_eq!(data.image(20)[15..18], [1 ^ 5; 3]);
    }
    let validation = Validation { images: Some(5), fraction: None };
    let data = open(&Spec { validation, ..Spec::new("cifar10", Some(&folder)) }).unwrap();
    assert_eq!(data.split(Split::Val), [15, 16, 17, 18, 19]);
    let validation = Validation { images: None, fraction: Some(0.25) };
    let data = open(&Spec { validation, ..Spec::new("cifar10", Some(&folder)) }).unwrap();
    assert_eq!(data.split(Split::Val), [15, 16, 17, 18, 19]);
    let validation = Validation { images: Some(20), fraction: None };
    let message = fails(&Spec { validation, ..Spec::new("cifar10", Some(&folder)) });
    assert!(
        message.contains("`data.validation_images` = 20, and cifar10 has 20 training images"),
        "{message}"
    );
}

#[test]
fn cifar_channels_are_taken_plane_by_plane() {
    let folder = tempfile::tempdir().unwrap();
    let mut record = vec![3u8];
    for plane in [10u8, 20, 30] {
        record.extend((0..1024).map(|i| plane + (i % 7) as u8));
    }
    fs::write(folder.path().join("test_batch.bin"), &record).unwrap();
    let data = open(&Spec::new("cifar10", Some(folder.path()))).unwrap();
    assert_eq!(data.image(0)[..9], [10, 20, 30, 11, 21, 31, 12, 22, 32]);
    assert_eq!(data.split(Split::Train), [0u32; 0]);
    assert_eq!(data.split(Split::Val), [0u32; 0]);
    assert_eq!(data.split(Split::Test), [0]);
}

#[test]
fn cifar100_uses_the_fine_label() {
    let folder = tempfile::tempdir().unwrap();
    let train: Vec<u8> = (0..10u8).flat_map(|i| cifar_record(&[i, 90 + i], i)).collect();
    fs::write(folder.path().join("train.bin"), train).unwrap();
    fs::write(folder.path().join("test.bin"), cifar_record(&[19, 0], 0)).unwrap();
    let data = open(&Spec::new("cifar100", Some(folder.path()))).unwrap();
    assert_eq!(data.labels(), [90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 0]);
    assert_eq!(
        (data.classes().len(), data.classes()[0].as_str(), data.classes()[99].as_str()),
        (100, "apple", "worm")
    );
    assert_eq!(Split::ALL.map(|split| data.split(split).len()), [9, 1, 1]);
    fs::write(folder.path().join("test.bin"), cifar_record(&[0, 100], 0)).unwrap();
    let message = fails(&Spec::new("cifar100", Some(folder.path())));
    assert!(message.contains("test.bin: record 0 has label 100") && message.contains("0 to 99"), "{message}");
}

#[test]
fn damaged_cifar_files_are_named_with_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let spec = Spec::new("cifar10", Some(folder.path()));
    let file = folder.path().join("data_batch_1.bin");

    fs::write(&file, []).unwrap();
    let message = fails(&spec);
    assert!(message.contains("data_batch_1.bin: the file is empty") && message.contains("3073"), "{message}");

    fs::write(&file, vec![0u8; 5000]).unwrap();
    let message = fails(&spec);
    assert!(
        message.contains("data_batch_1.bin: 5000 bytes is not a multiple of the 3073-byte record"),
        "{message}"
    );
    assert!(message.contains("1 whole records and 1927 bytes over"), "{message}");

    let mut records = cifar_record(&[1], 0);
    records.extend(cifar_record(&[10], 0));
    fs::write(&file, records).unwrap();
    let message = fails(&spec);
    assert!(message.contains("data_batch_1.bin: record 1 has label 10"), "{message}");
    assert!(message.contains("classes 0 to 9"), "{message}");
}

#[test]
fn one_batch_under_two_names_is_refused_and_other_names_do_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let spec = Spec::new("cifar10", Some(folder.path()));
    cifar10_file(folder.path(), "data_batch_1.bin", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    for twin in ["data_batch_01.bin", "data_batch_+1.bin", "data_batch_0000001.bin"] {
        cifar10_file(folder.path(), twin, &[0, 1]);
        let message = fails(&spec);
        let both = message.contains("data_batch_1.bin") && message.contains(twin);
        assert!(both && message.contains("both batch 1 of cifar10"), "{message}");
        fs::remove_file(folder.path().join(twin)).unwrap();
    }
    // Not in the form of a batch's name: left alone.
    for other in ["data_batch_1.BIN", "Data_batch_1.bin", "data_batch_1 (copy).bin", "data_batch_1.bin.bak"] {
        cifar10_file(folder.path(), other, &[0, 1]);
    }
    let data = open(&spec).unwrap();
    assert_eq!(data.len(), 10);
    // Alone, any form is that of its number.
    fs::rename(folder.path().join("data_batch_1.bin"), folder.path().join("data_batch_01.bin")).unwrap();
    assert_eq!(open(&spec).unwrap().len(), 10);

    let folder = tempfile::tempdir().unwrap();
    let train: Vec<u8> = (0..10u8).flat_map(|i| cifar_record(&[i, i], i)).collect();
    for name in ["train.bin", "TRAIN.BIN", "train.bin.1", "train_1.bin"] {
        fs::write(folder.path().join(name), &train).unwrap();
    }
    let data = open(&Spec::new("cifar100", Some(folder.path()))).unwrap();
    // On a disk without letter case the second is the first.
    assert_eq!(data.len(), 10);
}

#[test]
fn missing_folders_and_unknown_names_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let message = fails(&Spec::new("cifar10", None));
    assert!(message.contains("--data-dir") && message.contains("test_batch.bin"), "{message}");
    let message = fails(&Spec::new("cifar10", Some(&folder.path().join("nowhere"))));
    assert!(message.contains("nowhere: no such folder"), "{message}");
    let message = fails(&Spec::new("cifar100", Some(folder.path())));
    assert!(
        message.contains("no files of data set `cifar100` here; expected train.bin and test.bin"),
        "{message}"
    );
    let message = fails(&Spec::new("cifar-10", None));
    assert!(
        message.starts_with(
            "unknown data set `cifar-10` (did you mean `cifar10`?); known data sets: digits, cifar10,"
        ),
        "{message}"
    );
    let message = fails(&Spec::new("something", None));
    assert!(message.starts_with("unknown data set `something`; known data sets: digits"), "{message}");
    let message = fails(&Spec { side: Some(64), ..Spec::new("digits", None) });
    assert!(message.starts_with("`data.side` does not apply to data set `digits`"), "{message}");
    let validation = Validation { images: None, fraction: Some(1.0) };
    let message = fails(&Spec { validation, ..Spec::new("cifar10", None) });
    assert!(message.starts_with("`data.validation_fraction` = 1: a fraction from 0 to below 1"), "{message}");
    assert!("validation".parse::<Split>().unwrap_err().to_string().contains("train, val, test"));
    assert_eq!("val".parse::<Split>().unwrap(), Split::Val);
}
