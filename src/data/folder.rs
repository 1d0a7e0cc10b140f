//! Data sets that are folders of image files: Tiny ImageNet in its official layout, and any tree
//! with a folder a class.
//!
//! Every class gives its last images, in name order, to the validation split. Within a split the
//! classes take turns (see [`super`]): the first image of each, then the second of each. Decoding
//! runs on all threads and its result does not depend on their number.
//!
//! `tiny-imagenet` (Stanford CS231N): `wnids.txt` lists the classes (used in sorted order),
//! `words.txt` names them, `train/WNID/images/*.JPEG` are the training images, and `val/images`
//! with `val_annotations.txt` is the test split, since the official test images have no labels.
//!
//! `image-folder`: `CLASS/**/*.{jpg,jpeg,png}`. Or the folder has a subfolder `train` of that form;
//! then `test`, or without it `val`, is the test split if it is there, and a `val` beside a `test`
//! is the validation split.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use super::decode::{Picture, decode, fit};
use super::{Dataset, Error, Facts, Spec, Validation, entries, folder_of, folder_or_child, index_range};

/// Images that are yet to be decoded: file and label.
type Files = Vec<(PathBuf, u32)>;

/// A data set with the lists of Tiny ImageNet.
pub(super) fn listed(facts: &'static Facts, spec: &Spec) -> Result<Dataset, Error> {
    let fraction = held_back(facts, spec)?;
    let holds = |path: &Path| path.join("wnids.txt").is_file() && path.join("train").is_dir();
    let folder = folder_or_child(spec, facts, holds)?;

    let mut wnids: Vec<String> =
        lines(&folder.join("wnids.txt"))?.into_iter().filter(|line| !line.trim().is_empty()).collect();
    wnids.iter_mut().for_each(|wnid| wnid.truncate(wnid.trim_end().len()));
    wnids.sort();
    wnids.dedup();
    if wnids.is_empty() {
        return Err(Error::NoImages { folder });
    }
    let training =
        wnids.iter().map(|wnid| images_below(&folder.join("train").join(wnid))).collect::<Result<_, _>>()?;
    let test = annotated(&folder.join("val"), &wnids)?;
    let names = class_names(&folder, &wnids)?;
    let (train, val) = hold_back(training, fraction);
    load(facts, names, [train, val, test], None)
}

/// Any tree with a folder a class.
pub(super) fn any(facts: &'static Facts, spec: &Spec) -> Result<Dataset, Error> {
    let fraction = held_back(facts, spec)?;
    let folder = folder_of(spec, facts)?;
    let root = if is_split(&folder.join("train"))? { folder.join("train") } else { folder.to_owned() };
    let mut names = Vec::new();
    let mut training = Vec::new();
    for class in entries(&root)?.into_iter().filter(|path| path.is_dir()) {
        training.push(images_below(&class)?);
        names.push(name_of(&class));
    }
    if names.is_empty() {
        return Err(Error::NoImages { folder: root });
    }

    let mut others: [Option<Files>; 2] = [None, None];
    if root != folder {
        for (files, name) in others.iter_mut().zip(["val", "test"]) {
            if is_split(&folder.join(name))? {
                *files = Some(known_classes(&folder.join(name), &names)?);
            }
        }
    }
    let splits = match others {
        [Some(val), Some(test)] => {
            if spec.validation.fraction.is_some() {
                return Err(Error::SettingDoesNotApply {
                    setting: "data.validation_fraction",
                    dataset: facts.name,
                    instead: "this folder has `val` beside `test`; remove the setting, or one of the folders",
                });
            }
            [hold_back(training, 0.0).0, val, test]
        }
        [val, test] => {
            let (train, held_back) = hold_back(training, fraction);
            [train, held_back, test.or(val).unwrap_or_default()]
        }
    };
    load(facts, names, splits, spec.side)
}

/// The share of each class that is the validation split; a number of images is refused.
fn held_back(facts: &Facts, spec: &Spec) -> Result<f64, Error> {
    let instead = "it holds back a share of each class; use `data.validation_fraction`";
    let (setting, dataset) = ("data.validation_images", facts.name);
    match spec.validation.images {
        Some(_) => Err(Error::SettingDoesNotApply { setting, dataset, instead }),
        None => Ok(spec.validation.fraction.or(facts.held_back).unwrap_or(0.0)),
    }
}

/// Whether a folder holds folders and no image of its own. A class may be called `train`.
fn is_split(folder: &Path) -> Result<bool, Error> {
    if !folder.is_dir() {
        return Ok(false);
    }
    let inside = entries(folder)?;
    Ok(inside.iter().any(|path| path.is_dir()) && !inside.iter().any(|path| is_image(path)))
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    matches!(extension.as_deref(), Some("jpg" | "jpeg" | "png"))
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// All images of a class's folder, at any depth, in the order of their paths.
fn images_below(class: &Path) -> Result<Vec<PathBuf>, Error> {
    fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), Error> {
        for path in entries(folder)? {
            // A link that leads back up would never end; no data set is this deep.
            if path.is_dir() && depth < 8 {
                walk(&path, depth + 1, found)?;
            } else if is_image(&path) && path.is_file() {
                found.push(path);
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    if class.is_dir() {
        walk(class, 0, &mut found)?;
    }
    if found.is_empty() { Err(Error::NoImages { folder: class.to_owned() }) } else { Ok(found) }
}

/// The images of a split whose classes are those of the training images.
fn known_classes(split: &Path, names: &[String]) -> Result<Files, Error> {
    let mut per_class = vec![Vec::new(); names.len()];
    for folder in entries(split)?.into_iter().filter(|path| path.is_dir()) {
        match names.binary_search(&name_of(&folder)) {
            Ok(class) => per_class[class] = images_below(&folder)?,
            Err(_) => return Err(Error::UnknownClass { folder }),
        }
    }
    Ok(take_turns(per_class))
}

/// The images of Tiny ImageNet's `val` folder with their labels, in the order of the list.
fn annotated(folder: &Path, wnids: &[String]) -> Result<Files, Error> {
    if !folder.is_dir() {
        return Ok(Files::new());
    }
    let list = folder.join("val_annotations.txt");
    let mut files = Files::new();
    for (number, line) in lines(&list)?.iter().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let bad = |reason: String| Error::BadLine { file: list.clone(), line: number + 1, reason };
        let mut fields = line.split_whitespace();
        let (Some(name), Some(wnid)) = (fields.next(), fields.next()) else {
            return Err(bad("expected an image's file name and its class".to_owned()));
        };
        let class = wnids
            .binary_search_by(|known| known.as_str().cmp(wnid))
            .map_err(|_| bad(format!("class `{wnid}` is not in wnids.txt")))?;
        files.push((folder.join("images").join(name), class as u32));
    }
    Ok(files)
}

/// What `words.txt` calls the classes; their identifiers where it is missing or silent.
fn class_names(folder: &Path, wnids: &[String]) -> Result<Vec<String>, Error> {
    let file = folder.join("words.txt");
    let mut names = wnids.to_vec();
    if file.is_file() {
        for line in lines(&file)? {
            if let Some((wnid, words)) = line.split_once('\t')
                && let Ok(class) = wnids.binary_search_by(|known| known.as_str().cmp(wnid))
            {
                names[class] = words.trim().to_owned();
            }
        }
    }
    Ok(names)
}

fn lines(file: &Path) -> Result<Vec<String>, Error> {
    let text =
        std::fs::read_to_string(file).map_err(|source| Error::Read { path: file.to_owned(), source })?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Training and validation images: of each class the last share is held back.
fn hold_back(mut classes: Vec<Vec<PathBuf>>, fraction: f64) -> (Files, Files) {
    let held_back = classes
        .iter_mut()
        .map(|files| files.split_off(files.len() - Validation::share_of(fraction, files.len())))
        .collect();
    (take_turns(classes), take_turns(held_back))
}

/// The first of every class, then the second of every class, and so on.
fn take_turns(classes: Vec<Vec<PathBuf>>) -> Files {
    let mut queues: Vec<_> = classes.into_iter().map(Vec::into_iter).collect();
    let mut files = Files::new();
    loop {
        let before = files.len();
        for (class, queue) in queues.iter_mut().enumerate() {
            files.extend(queue.next().map(|file| (file, class as u32)));
        }
        if files.len() == before {
            return files;
        }
    }
}

/// Decode everything. Without a `side` the first image's is that of all.
fn load(
    facts: &'static Facts,
    classes: Vec<String>,
    splits: [Files; 3],
    side: Option<usize>,
) -> Result<Dataset, Error> {
    let files: Vec<&(PathBuf, u32)> = splits.iter().flatten().collect();
    let common = match (side, files.first()) {
        (Some(side), _) => side,
        (None, Some((file, _))) => {
            let picture = read(file)?;
            if picture.width != picture.height {
                return Err(mixed(file, &picture, None));
            }
            picture.width
        }
        // Every class has an image, else we would not be here.
        (None, None) => 1,
    };
    let size = common * common * 3;
    let too_many = || Error::TooManyImages { count: files.len() };
    let mut images: Vec<u8> = Vec::new();
    images.try_reserve_exact(files.len().checked_mul(size).ok_or_else(too_many)?).map_err(|_| too_many())?;
    images.resize(files.len() * size, 0);
    let failure = images.par_chunks_mut(size).zip(&files).find_map_first(|(out, (file, _))| {
        let pixels = match read(file) {
            Ok(picture) if side.is_some() => fit(&picture, common),
            Ok(picture) if (picture.width, picture.height) == (common, common) => picture.pixels,
            Ok(picture) => return Some(mixed(file, &picture, Some(common))),
            Err(error) => return Some(error),
        };
        out.copy_from_slice(&pixels);
        None
    });
    if let Some(error) = failure {
        return Err(error);
    }

    let [train, val, test] = splits.each_ref().map(Vec::len);
    Ok(Dataset {
        facts,
        classes,
        side: common,
        scale: 255.0,
        images: Arc::new(images),
        labels: files.iter().map(|(_, label)| *label).collect(),
        splits: [
            index_range(0..train)?.collect(),
            index_range(train..train + val)?.collect(),
            index_range(train + val..train + val + test)?.collect(),
        ],
        origin: None,
    })
}

fn read(file: &Path) -> Result<Picture, Error> {
    let bytes = std::fs::read(file).map_err(|source| Error::Read { path: file.to_owned(), source })?;
    decode(&bytes).map_err(|(format, reason)| Error::UndecodableImage {
        file: file.to_owned(),
        format,
        reason,
    })
}

fn mixed(file: &Path, picture: &Picture, expected: Option<usize>) -> Error {
    Error::MixedSizes { file: file.to_owned(), width: picture.width, height: picture.height, expected }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::decode::tests::png_of;
    use super::super::{Split, open};
    use super::*;

    /// A grey image of one value under `root`, with its folders.
    fn image(root: &Path, name: &str, side: u32, value: u8) {
        let file = root.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let samples = vec![value; (side * side) as usize];
        fs::write(file, png_of(side, side, png::ColorType::Grayscale, &samples)).unwrap();
    }

    /// First pixel and label of every image of a split.
    fn seen(data: &Dataset, split: Split) -> Vec<(u8, u32)> {
        data.split(split).iter().map(|&i| (data.image(i)[0], data.label(i))).collect()
    }

    fn fails(spec: &Spec) -> String {
        open(spec).unwrap_err().to_string()
    }

    #[test]
    fn a_tree_gives_the_last_of_each_class_to_validation_and_classes_take_turns() {
        let root = tempfile::tempdir().unwrap();
        for i in 0..10 {
            // Written in another order than that of the names.
            image(root.path(), &format!("cat/{}.png", 9 - i), 8, 9 - i);
            image(root.path(), &format!("ant/deep/{i}.PNG"), 8, 100 + i);
        }
        image(root.path(), "bee/only.png", 8, 50);
        fs::write(root.path().join("cat/notes.txt"), "no image").unwrap();
        fs::write(root.path().join("cat/.hidden.png"), "no image either").unwrap();
        let spec = Spec::new("image-folder", Some(root.path()));
        let data = open(&spec).unwrap();
        assert_eq!(data.classes(), ["ant", "bee", "cat"]);
        assert_eq!((data.side(), data.scale(), data.len()), (8, 255.0, 21));
        assert_eq!(
            seen(&data, Split::Train)[..7],
            [(100, 0), (50, 1), (0, 2), (101, 0), (1, 2), (102, 0), (2, 2)]
        );
        assert_eq!(seen(&data, Split::Val), [(109, 0), (9, 2)]);
        assert_eq!(seen(&data, Split::Test), []);

        let validation = Validation { images: None, fraction: Some(0.25) };
        let data = open(&Spec { validation, ..spec.clone() }).unwrap();
        assert_eq!(seen(&data, Split::Val), [(107, 0), (7, 2), (108, 0), (8, 2), (109, 0), (9, 2)]);
        let validation = Validation { images: Some(5), fraction: None };
        let message = fails(&Spec { validation, ..spec });
        assert!(message.contains("use `data.validation_fraction`"), "{message}");
    }

    #[test]
    fn folders_called_train_val_and_test_are_splits() {
        let root = tempfile::tempdir().unwrap();
        for i in 0..10 {
            image(root.path(), &format!("train/a/{i}.png"), 4, i);
            image(root.path(), &format!("train/train/{i}.png"), 4, 20 + i);
        }
        image(root.path(), "val/train/0.png", 4, 77);
        let spec = Spec::new("image-folder", Some(root.path()));
        let data = open(&spec).unwrap();
        assert_eq!(data.classes(), ["a", "train"]);
        assert_eq!(seen(&data, Split::Val), [(9, 0), (29, 1)]);
        assert_eq!(seen(&data, Split::Test), [(77, 1)], "a lone `val` is the test split");

        image(root.path(), "test/a/0.png", 4, 88);
        let data = open(&spec).unwrap();
        assert_eq!(data.split(Split::Train).len(), 20);
        assert_eq!(seen(&data, Split::Val), [(77, 1)]);
        assert_eq!(seen(&data, Split::Test), [(88, 0)]);
        let validation = Validation { images: None, fraction: Some(0.25) };
        assert!(fails(&Spec { validation, ..spec.clone() }).contains("`val` beside `test`"));

        image(root.path(), "test/b/0.png", 4, 99);
        let message = fails(&spec);
        assert!(message.contains("test/b: the training images have no such class"), "{message}");
    }

    #[test]
    fn sizes_are_one_or_made_one() {
        let root = tempfile::tempdir().unwrap();
        image(root.path(), "a/0.png", 8, 1);
        image(root.path(), "a/1.png", 9, 2);
        let spec = Spec::new("image-folder", Some(root.path()));
        let message = fails(&spec);
        assert!(message.contains("a/1.png: 9 x 9 pixels, and the images before it have 8 x 8"), "{message}");
        assert!(message.contains("`data.side`"), "{message}");
        let data = open(&Spec { side: Some(16), ..spec.clone() }).unwrap();
        assert_eq!((data.side(), data.pixels().len()), (16, 2 * 16 * 16 * 3));
        assert_eq!(data.image(data.split(Split::Train)[1]), [2; 16 * 16 * 3]);
        for side in [0, 1025] {
            assert!(fails(&Spec { side: Some(side), ..spec.clone() }).starts_with("`data.side` = "));
        }
        let wide = png_of(4, 2, png::ColorType::Grayscale, &[0; 8]);
        fs::write(root.path().join("a/0.png"), wide).unwrap();
        assert!(fails(&spec).contains("a/0.png: 4 x 2 pixels, and images of one data set must be square"));
    }

    #[test]
    fn damage_and_emptiness_are_named() {
        let root = tempfile::tempdir().unwrap();
        let spec = Spec::new("image-folder", Some(root.path()));
        assert!(fails(&spec).contains("no images found"));
        image(root.path(), "a/0.png", 8, 1);
        image(root.path(), "a/2.png", 8, 1);
        fs::write(root.path().join("a/1.jpg"), [0xff, 0xd8, 0xff, 0xe0, 0]).unwrap();
        fs::write(root.path().join("a/3.jpg"), []).unwrap();
        let message = fails(&spec);
        assert!(message.contains("a/1.jpg: cannot be decoded as JPEG: "), "the first in order: {message}");
        assert!(message.contains("Replace the file, or remove it"), "{message}");
        fs::remove_file(root.path().join("a/1.jpg")).unwrap();
        assert!(fails(&spec).contains("a/3.jpg: cannot be decoded as JPEG or PNG: the file is empty"));
        fs::remove_file(root.path().join("a/3.jpg")).unwrap();
        fs::create_dir(root.path().join("empty")).unwrap();
        assert!(fails(&spec).contains("empty: no images found"));
    }

    #[test]
    fn tiny_imagenet_has_the_official_layout() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("tiny-imagenet-200");
        for i in 0..10 {
            image(&root, &format!("train/n02/images/n02_{i}.JPEG"), 8, 20 + i);
            image(&root, &format!("train/n01/images/n01_{i}.JPEG"), 8, 10 + i);
        }
        // Not a class of the list, as in a reduced copy.
        image(&root, "train/n03/images/n03_0.JPEG", 8, 0);
        fs::write(root.join("train/n01/n01_boxes.txt"), "n01_0.JPEG\t0\t0\t1\t1\n").unwrap();
        fs::write(root.join("wnids.txt"), "n02\nn01\r\n\n").unwrap();
        fs::write(root.join("words.txt"), "n00\tnothing\nn02\tcat, big cat\n").unwrap();
        let list = root.join("val/val_annotations.txt");
        image(&root, "val/images/val_0.JPEG", 8, 90);
        image(&root, "val/images/val_1.JPEG", 8, 91);
        fs::write(&list, "val_1.JPEG\tn02\t0\t0\t7\t7\nval_0.JPEG\tn01\t0\t0\t7\t7\n").unwrap();
        for dir in [&root, parent.path()] {
            let data = open(&Spec::new("tiny-imagenet", Some(dir))).unwrap();
            assert_eq!(data.classes(), ["n01", "cat, big cat"]);
            assert_eq!(seen(&data, Split::Train)[..4], [(10, 0), (20, 1), (11, 0), (21, 1)]);
            assert_eq!(seen(&data, Split::Val), [(18, 0), (28, 1), (19, 0), (29, 1)]);
            assert_eq!(seen(&data, Split::Test), [(91, 1), (90, 0)]);
        }
        let spec = Spec::new("tiny-imagenet", Some(&root));
        fs::write(&list, "val_1.JPEG\tn02\nval_0.JPEG\tn09\n").unwrap();
        let message = fails(&spec);
        assert!(
            message.contains("val_annotations.txt, line 2: class `n09` is not in wnids.txt"),
            "{message}"
        );
        fs::write(&list, "val_1.JPEG\n").unwrap();
        assert!(fails(&spec).contains("line 1: expected an image's file name and its class"));
        fs::write(&list, "val_7.JPEG n01\n").unwrap();
        let message = fails(&spec);
        assert!(message.contains("val_7.JPEG: cannot be read"), "{message}");
        fs::write(root.join("wnids.txt"), "n01\nn02\nn05\n").unwrap();
        assert!(fails(&spec).contains("n05: no images found"));
        fs::remove_file(root.join("wnids.txt")).unwrap();
        assert!(fails(&spec).contains("no files of data set `tiny-imagenet` here; expected wnids.txt"));
    }
}
