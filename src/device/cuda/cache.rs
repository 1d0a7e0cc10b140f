//! Images that NVRTC has made, kept on disk: compiling all kernels takes a minute, loading them none.
//!
//! A file an image, named after the hash of everything that went into it, so that nothing has to be told to be out
//! of date. It holds the image's length and hash too, and one that does not agree with them is made again. Where
//! the folder cannot be written there is no cache, which is no error.

use super::images::{KernelHeader, KernelSource};
use crate::run::write_atomic;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

/// What a file starts with.
const MAGIC: &[u8; 16] = b"natv2 image v1\r\n";
/// Bytes in front of the image: magic, length, hash.
const HEAD: usize = MAGIC.len() + 8 + 32;

/// What an image is made from, as one number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// The key of a source, compiled with these headers and options by this version of NVRTC.
    pub fn new(
        source: &KernelSource,
        headers: &[KernelHeader],
        options: &[String],
        version: (u32, u32),
    ) -> Key {
        let mut hash = Sha256::new();
        // With lengths, so that no two lists of parts run together to the same bytes.
        let mut add = |part: &str| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(&format!("nvrtc {}.{}", version.0, version.1));
        add(source.name);
        add(source.text);
        for header in headers {
            add(header.name);
            add(header.text);
        }
        // The number of headers is told by where the options begin.
        add("options");
        options.iter().for_each(|option| add(option));
        let digits = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Key(format!("{}-{}", source.name, &digits[..32]))
    }
}

/// The folder of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageCache {
    folder: Option<PathBuf>,
}

impl ImageCache {
    /// The cache that the environment names: `NATV2_CACHE`, else `natv2` in `XDG_CACHE_HOME`, else in `.cache` of `HOME`.
    pub fn of_environment() -> ImageCache {
        ImageCache::found(|name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
    }

    fn found(variable: impl Fn(&str) -> Option<PathBuf>) -> ImageCache {
        let folder = variable("NATV2_CACHE")
            .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("natv2")))
            .or_else(|| variable("HOME").map(|home| home.join(".cache/natv2")));
        ImageCache { folder: folder.map(|folder| folder.join("kernels")) }
    }

    /// In a folder, which is made when something is kept.
    pub fn at(folder: &Path) -> ImageCache {
        ImageCache { folder: Some(folder.to_owned()) }
    }

    /// The folder, or `None` where nothing says where to keep images.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    fn file(&self, key: &Key) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(&key.0))
    }

    /// The image of that key, if it is there and whole.
    pub fn get(&self, key: &Key) -> Option<Vec<u8>> {
        let mut bytes = fs::read(self.file(key)?).ok()?;
        let image = bytes.get(HEAD..)?;
        if bytes[..HEAD] != head(image) {
            return None;
        }
        bytes.drain(..HEAD);
        Some(bytes)
    }

    /// Keeps an image, where that can be done.
    pub fn put(&self, key: &Key, image: &[u8]) {
        let (Some(folder), Some(file)) = (&self.folder, self.file(key)) else { return };
        if fs::create_dir_all(folder).is_ok() {
            // Another process finds all of it or nothing. Without it, the next one compiles again.
            let _ = write_atomic(&file, &[&head(image)[..], image].concat());
        }
    }
}

fn head(image: &[u8]) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..16].copy_from_slice(MAGIC);
    head[16..24].copy_from_slice(&(image.len() as u64).to_le_bytes());
    head[24..].copy_from_slice(&Sha256::digest(image));
    head
}

/// The images of sources, in their order: from the cache, or made by `compile`, on up to `threads` threads, and
/// then kept.
pub fn compile_all<E: Send>(
    sources: &[KernelSource],
    cache: &ImageCache,
    key: impl Fn(&KernelSource) -> Key + Sync,
    compile: impl Fn(&KernelSource) -> Result<Vec<u8>, E> + Sync,
    threads: usize,
) -> Vec<Result<Vec<u8>, E>> {
    let one = |source: &KernelSource| {
        let key = key(source);
        if let Some(image) = cache.get(&key) {
            return Ok(image);
        }
        let image = compile(source)?;
        cache.put(&key, &image);
        Ok(image)
    };
    // The longest first, since one may take as long as many others.
    let mut order: Vec<usize> = (0..sources.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(sources[index].text.len()));
    let next = AtomicUsize::new(0);
    let take = || {
        let mut made = Vec::new();
        while let Some(&index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            made.push((index, one(&sources[index])));
        }
        made
    };
    let mut made: Vec<(usize, Result<Vec<u8>, E>)> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(sources.len())).map(|_| scope.spawn(take)).collect();
        let mut made = take();
        for other in others {
            made.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        made
    });
    made.sort_by_key(|&(index, _)| index);
    made.into_iter().map(|(_, image)| image).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    const SOURCES: [KernelSource; 3] = [
        KernelSource { name: "one", text: "1", fatbin: None },
        KernelSource { name: "two", text: "22", fatbin: None },
        KernelSource { name: "three", text: "333", fatbin: None },
    ];

    fn key(source: &KernelSource) -> Key {
        Key::new(source, &[], &["-x".to_owned()], (13, 0))
    }

    /// The images, and how many had to be compiled.
    fn images(cache: &ImageCache) -> (Vec<Vec<u8>>, usize) {
        let compiled = AtomicUsize::new(0);
        let compile = |source: &KernelSource| {
            compiled.fetch_add(1, Ordering::Relaxed);
            Ok::<_, ()>(source.text.repeat(3).into_bytes())
        };
        let made = compile_all(&SOURCES, cache, key, compile, 2);
        (made.into_iter().map(|image| image.expect("an image")).collect(), compiled.into_inner())
    }

    #[test]
    fn images_are_compiled_once_and_again_where_the_file_is_damaged() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = ImageCache::at(&folder.path().join("made/when/needed"));
        let (wanted, count) = images(&cache);
        assert_eq!((wanted[2].as_slice(), count), (&b"333333333"[..], 3));
        assert_eq!(images(&cache), (wanted.clone(), 0));
        let file = cache.file(&key(&SOURCES[1])).expect("a file");
        let whole = fs::read(&file).expect("the file");
        let mut flipped = whole.clone();
        flipped[HEAD] ^= 1;
        let damages =
            [&[][..], &whole[..HEAD - 1], &whole[..whole.len() - 1], &flipped, &[&whole[..], b"0"].concat()];
        for damage in damages {
            fs::write(&file, damage).expect("the file");
            assert_eq!(cache.get(&key(&SOURCES[1])), None, "{} bytes", damage.len());
            assert_eq!(images(&cache), (wanted.clone(), 1));
            assert_eq!(fs::read(&file).expect("the file"), whole);
        }
        let names = fs::read_dir(cache.folder().expect("a folder")).expect("files");
        assert_eq!(names.count(), 3, "no temporary file stays");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a file");
        fs::write(&file, "").expect("a file");
        // Nothing can be made below a file, whoever asks.
        for cache in [ImageCache::at(&file.join("cache")), ImageCache { folder: None }] {
            assert_eq!(images(&cache).1, 3);
            assert_eq!(images(&cache).1, 3);
        }
    }

    #[test]
    fn a_key_is_of_everything_that_goes_into_an_image() {
        let header = |name, text| KernelHeader { name, text };
        let source = |text| KernelSource { name: "one", text, fatbin: None };
        let options = |list: &[&str]| list.iter().map(|&option| option.to_owned()).collect::<Vec<_>>();
        let of = |text, headers: &[KernelHeader], list: &[&str], version| {
            Key::new(&source(text), headers, &options(list), version)
        };
        let keys = [
            of("1", &[header("h", "2")], &["-x"], (13, 0)),
            of("2", &[header("h", "2")], &["-x"], (13, 0)),
            of("1", &[header("h", "3")], &["-x"], (13, 0)),
            of("1", &[header("g", "2")], &["-x"], (13, 0)),
            of("1", &[header("h", "2"), header("g", "")], &["-x"], (13, 0)),
            of("1", &[], &["-x"], (13, 0)),
            of("1", &[header("h", "2")], &["-x", "-y"], (13, 0)),
            of("1", &[header("h", "2")], &["-x-y"], (13, 0)),
            of("1", &[header("h", "2")], &["-x"], (13, 1)),
            of("1h", &[header("", "2")], &["-x"], (13, 0)),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(key), "{index}");
        }
        assert_eq!(keys[0], of("1", &[header("h", "2")], &["-x"], (13, 0)));
        assert_ne!(keys[0], Key::new(&SOURCES[1], &[header("h", "2")], &options(&["-x"]), (13, 0)));
    }

    #[test]
    fn files_are_compiled_side_by_side_and_failures_are_not_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = ImageCache::at(folder.path());
        let both = Barrier::new(2);
        let compile = |source: &KernelSource| {
            // Passed only while another file is compiled.
            if source.name != "one" {
                both.wait();
            }
            if source.name == "three" { Err("wrong") } else { Ok(vec![7]) }
        };
        let made = compile_all(&SOURCES, &cache, key, compile, 2);
        assert_eq!(made, [Ok(vec![7]), Ok(vec![7]), Err("wrong")]);
        assert_eq!(images(&cache).1, 1);
    }

    #[test]
    fn the_folder_is_the_first_that_the_environment_names() {
        let found = |set: &[(&str, &str)]| {
            let value = |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, v)| v.into());
            ImageCache::found(value).folder
        };
        let all = [("HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("NATV2_CACHE", "/n")];
        assert_eq!(found(&all), Some("/n/kernels".into()));
        assert_eq!(found(&all[..2]), Some("/x/natv2/kernels".into()));
        assert_eq!(found(&all[..1]), Some("/h/.cache/natv2/kernels".into()));
        assert_eq!(found(&[]), None);
    }
}
