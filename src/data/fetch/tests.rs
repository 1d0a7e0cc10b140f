//! Fetching from a server of this process, which can be told to misbehave.

mod limits;

use super::*;
use std::io::{BufRead, BufReader, Cursor, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What the server answers to a request.
struct Reply {
    status: &'static str,
    headers: String,
    body: Vec<u8>,
    /// Length that is promised, where it is not the body's.
    promised: Option<usize>,
}

fn reply(status: &'static str, body: &[u8]) -> Reply {
    Reply { status, headers: String::new(), body: body.to_vec(), promised: None }
}

/// The whole file or, as HTTP has it, the range asked for.
fn well_behaved(file: &[u8], from: Option<usize>) -> Reply {
    match from {
        None => reply("200 OK", file),
        Some(from) if from < file.len() => Reply {
            headers: format!("Content-Range: bytes {from}-{}/{}\r\n", file.len() - 1, file.len()),
            ..reply("206 Partial Content", &file[from..])
        },
        Some(_) => Reply {
            headers: format!("Content-Range: bytes */{}\r\n", file.len()),
            ..reply("416 Range Not Satisfiable", b"")
        },
    }
}

/// The path of a request and the first byte of its range.
type Seen = (String, Option<usize>);

/// Answers connections one after the other.
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `answer` gets the number of the request and where its range starts.
    fn start(mut answer: impl FnMut(usize, Option<usize>) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let Some(Ok(first)) = lines.next() else { continue };
                let path = first.split(' ').nth(1).unwrap().to_owned();
                if path == "/stop" {
                    return;
                }
                let mut from = None;
                for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
                    if let Some(range) = line.to_lowercase().strip_prefix("range: bytes=") {
                        from = range.split('-').next().unwrap().parse().ok();
                    }
                }
                let number = {
                    let mut requests = requests.lock().unwrap();
                    requests.push((path, from));
                    requests.len() - 1
                };
                let Reply { status, headers, body, promised } = answer(number, from);
                let length = promised.unwrap_or(body.len());
                let head = format!(
                    "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                // A client that has seen enough closes.
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            }
        });
        Self { address, seen, thread: Some(thread) }
    }

    fn base(&self) -> String {
        format!("http://{}/files/", self.address)
    }

    fn ranges(&self) -> Vec<Option<usize>> {
        self.seen.lock().unwrap().iter().map(|request| request.1).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let asked =
            TcpStream::connect(self.address).and_then(|mut s| s.write_all(b"GET /stop HTTP/1.1\r\n\r\n"));
        if let (Ok(()), Some(thread)) = (asked, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(747_796_405).wrapping_add(12345);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn tar_gz(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (path, content) in members {
        let mut header = tar::Header::new_gnu();
        // Past the builder's own check, which would refuse what a test wants to smuggle in.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (path, content) in members {
        writer.start_file(*path, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn md5_of(bytes: &[u8]) -> &'static str {
    use md5::{Digest, Md5};
    let digits: String = Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    digits.leak()
}

/// An archive of one file of 300,000 bytes of noise.
fn example() -> (Archive, Vec<u8>) {
    let bytes = tar_gz(&[("set-bin/readme.html", b"<p>"), ("set-bin/data_batch_1.bin", &noise(300_000))]);
    let archive = Archive {
        name: "cifar10",
        title: "CIFAR-10",
        bases: &["http://127.0.0.1:1/"],
        file: "set.tar.gz",
        bytes: bytes.len() as u64,
        md5: md5_of(&bytes),
        folder: "set-bin",
        parts: &[("data_batch_1.bin", Part::Bytes(300_000)), ("readme.html", Part::File)],
    };
    (archive, bytes)
}

const ONCE: Patience = Patience { attempts: 1, pause: Duration::ZERO };
const TWICE: Patience = Patience { attempts: 2, pause: Duration::ZERO };

fn get(archive: &Archive, dir: &Path, server: &Server, patience: Patience) -> Result<Fetched> {
    fetch(archive, dir, Some(&server.base()), patience, Output::Silent, &StopFlag::new())
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn downloads_checks_unpacks_and_then_leaves_alone() {
    let (archive, bytes) = example();
    let size = bytes.len() as u64;
    let server = Server::start(move |_, from| well_behaved(&bytes, from));
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("new/data");
    let folder = dir.join("set-bin");
    let fetched = get(&archive, &dir, &server, ONCE).unwrap();
    assert_eq!(fetched, Fetched { folder: folder.clone(), downloaded: size, already: false });
    assert_eq!(fs::read(folder.join("data_batch_1.bin")).unwrap(), noise(300_000));
    assert_eq!(names(&dir), ["set-bin"], "nothing else is left");
    assert_eq!(*server.seen.lock().unwrap(), [("/files/set.tar.gz".to_owned(), None)]);

    // Again, also by the folder itself: no request.
    for dir in [&dir, &folder] {
        let fetched = get(&archive, dir, &server, ONCE).unwrap();
        assert_eq!(fetched, Fetched { folder: folder.clone(), downloaded: 0, already: true });
    }
    assert_eq!(server.ranges().len(), 1);

    // A folder that is not whole is not touched.
    fs::write(folder.join("data_batch_1.bin"), [1, 2, 3]).unwrap();
    let message = get(&archive, &dir, &server, ONCE).unwrap_err().to_string();
    assert!(message.contains("not whole: data_batch_1.bin has 3 bytes instead of 300000"), "{message}");
    assert_eq!(fs::read(folder.join("data_batch_1.bin")).unwrap(), [1, 2, 3]);
}

#[test]
fn a_lost_connection_is_resumed_in_one_call_or_the_next() {
    let (archive, bytes) = example();
    let file = bytes.clone();
    // The first two answers are cut off.
    let answer = move |number, from: Option<usize>| {
        let mut reply = well_behaved(&file, from);
        if number < 2 {
            reply.promised = Some(reply.body.len());
            reply.body.truncate(100_000);
        }
        reply
    };
    let server = Server::start(answer.clone());
    let dir = tempfile::tempdir().unwrap();
    get(&archive, dir.path(), &server, TWICE).unwrap();
    assert_eq!(server.ranges(), [None, Some(100_000), Some(200_000)]);
    assert_eq!(fs::read(dir.path().join("set-bin/data_batch_1.bin")).unwrap(), noise(300_000));

    let server = Server::start(answer);
    let dir = tempfile::tempdir().unwrap();
    for have in [100_000, 200_000] {
        let message = get(&archive, dir.path(), &server, ONCE).unwrap_err().to_string();
        let expected = format!("lost after {have} bytes of {}: ", bytes.len());
        assert!(message.contains(&expected) && message.contains("goes on from there"), "{message}");
        assert_eq!(fs::read(dir.path().join("set.tar.gz.part")).unwrap(), bytes[..have]);
    }
    let fetched = get(&archive, dir.path(), &server, ONCE).unwrap();
    assert_eq!(fetched.downloaded, bytes.len() as u64 - 200_000);
    assert_eq!(server.ranges(), [None, Some(100_000), Some(200_000)]);
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let (archive, bytes) = example();
    let file = bytes.clone();
    let server = Server::start(move |_, _| reply("200 OK", &file));
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("set.tar.gz.part"), &bytes[..5000]).unwrap();
    assert_eq!(get(&archive, dir.path(), &server, ONCE).unwrap().downloaded, bytes.len() as u64);
    assert_eq!(server.ranges(), [Some(5000)]);

    // And if it is always cut at the same place, there is an end to it.
    let server =
        Server::start(move |_, _| Reply { promised: Some(bytes.len()), ..reply("200 OK", &bytes[..1000]) });
    let dir = tempfile::tempdir().unwrap();
    let patience = Patience { attempts: 3, pause: Duration::ZERO };
    let message = get(&archive, dir.path(), &server, patience).unwrap_err().to_string();
    assert!(message.contains("lost after 1000 bytes of"), "{message}");
    assert_eq!(server.ranges(), [None, Some(1000), Some(1000)]);
}

#[test]
fn a_part_that_is_complete_or_too_long_is_found_out() {
    let (archive, bytes) = example();
    let file = bytes.clone();
    let server = Server::start(move |_, from| well_behaved(&file, from));
    let dir = tempfile::tempdir().unwrap();
    let part = dir.path().join("set.tar.gz.part");
    fs::write(&part, &bytes).unwrap();
    assert_eq!(get(&archive, dir.path(), &server, ONCE).unwrap().downloaded, 0);
    assert_eq!(server.ranges(), [Some(bytes.len())]);

    fs::remove_dir_all(dir.path().join("set-bin")).unwrap();
    fs::write(&part, [&bytes[..], &[0]].concat()).unwrap();
    assert_eq!(get(&archive, dir.path(), &server, TWICE).unwrap().downloaded, bytes.len() as u64);
    assert_eq!(server.ranges()[1..], [Some(bytes.len() + 1), None]);
}

#[test]
fn another_file_than_the_published_one_is_removed() {
    let (archive, _) = example();
    let server = Server::start(|_, from| well_behaved(b"<html>Please log in</html>", from));
    let dir = tempfile::tempdir().unwrap();
    let error = get(&archive, dir.path(), &server, ONCE).unwrap_err();
    let message = error.to_string();
    assert!(message.contains(md5_of(b"<html>Please log in</html>")), "{message}");
    assert!(message.contains(archive.md5) && message.contains("has been removed"), "{message}");
    assert_eq!(names(dir.path()), [""; 0]);

    // One that somebody put there stays.
    let file = dir.path().join("set.tar.gz");
    fs::write(&file, b"something").unwrap();
    let message = get(&archive, dir.path(), &server, ONCE).unwrap_err().to_string();
    assert!(message.contains("not the published file. Remove it"), "{message}");
    assert_eq!(fs::read(&file).unwrap(), b"something");
    assert_eq!(server.ranges().len(), 1);
}

#[test]
fn an_archive_that_is_there_needs_no_network() {
    let (archive, bytes) = example();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("set.tar.gz");
    fs::write(&file, &bytes).unwrap();
    // The archive's own address has no server.
    let fetched = fetch(&archive, dir.path(), None, ONCE, Output::Silent, &StopFlag::new()).unwrap();
    assert_eq!((fetched.downloaded, fetched.already), (0, false));
    assert_eq!(names(dir.path()), ["set-bin", "set.tar.gz"], "the user's file stays");
}

#[test]
fn refusals_of_server_and_network_say_what_to_do() {
    let (archive, bytes) = example();
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_, _| reply("404 Not Found", b"no"));
    let message = get(&archive, dir.path(), &server, TWICE).unwrap_err().to_string();
    assert!(message.contains("set.tar.gz: the server answers 404 (no such file)"), "{message}");
    assert!(message.contains("--url"), "{message}");
    assert_eq!(server.ranges().len(), 1, "asked once");
    let gone = server.base();
    drop(server);

    let call = |base: &str| {
        fetch(&archive, dir.path(), Some(base), TWICE, Output::Silent, &StopFlag::new())
            .unwrap_err()
            .to_string()
    };
    let message = call(&gone);
    assert!(message.starts_with("cannot reach http://127.0.0.1:"), "{message}");
    assert!(message.to_lowercase().contains("refused"), "{message}");
    assert!(message.contains(&format!("put it at {}", dir.path().join("set.tar.gz").display())), "{message}");
    assert!(call("no-scheme").starts_with("cannot reach no-scheme/set.tar.gz: "));

    // An overloaded server is asked again.
    let server = Server::start(move |number, from| match number {
        0 => reply("503 Service Unavailable", b""),
        _ => well_behaved(&bytes, from),
    });
    get(&archive, dir.path(), &server, TWICE).unwrap();
}

#[test]
fn a_zip_of_folders_is_counted() {
    let members: [(&str, &[u8]); 4] = [
        ("tiny/wnids.txt", b"n01\n"),
        ("tiny/train/n01/images/0.JPEG", &noise(3000)),
        ("tiny/train/n01/images/1.JPEG", b"2"),
        ("tiny/val/images/0.JPEG", b"3"),
    ];
    let bytes = zip_of(&members);
    let archive = |images| Archive {
        name: "tiny-imagenet",
        title: "Tiny ImageNet",
        bases: &[],
        file: "tiny.zip",
        bytes: bytes.len() as u64,
        md5: md5_of(&bytes),
        folder: "tiny",
        parts: match images {
            2 => &[("wnids.txt", Part::File), ("train", Part::Files(2))],
            _ => &[("wnids.txt", Part::File), ("train", Part::Files(3))],
        },
    };
    let file = bytes.clone();
    let server = Server::start(move |_, from| well_behaved(&file, from));
    let dir = tempfile::tempdir().unwrap();
    let message = get(&archive(3), dir.path(), &server, ONCE).unwrap_err().to_string();
    assert!(message.contains("in the archive, train holds 2 files instead of 3"), "{message}");
    assert_eq!(names(dir.path()), ["tiny.zip"], "nothing half-unpacked is left");
    get(&archive(2), dir.path(), &server, ONCE).unwrap();
    for (path, content) in members {
        assert_eq!(fs::read(dir.path().join(path)).unwrap(), content);
    }
    assert_eq!(server.ranges().len(), 1);
}

#[test]
fn members_that_lead_out_and_damaged_archives_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let try_out = |file: &'static str, bytes: &[u8]| {
        let data = tempfile::tempdir_in(dir.path()).unwrap();
        let archive = Archive { file, md5: md5_of(bytes), ..example().0 };
        fs::write(data.path().join(file), bytes).unwrap();
        let error = fetch(&archive, data.path(), None, ONCE, Output::Silent, &StopFlag::new()).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert_eq!(names(data.path()), [file]);
        error.to_string()
    };
    for path in ["../escaped", "/tmp/natv2-escaped", "set-bin/../../escaped"] {
        for (file, bytes) in [("a.tar.gz", tar_gz(&[(path, b"x")])), ("a.zip", zip_of(&[(path, b"x")]))] {
            let message = try_out(file, &bytes);
            assert!(message.contains("leads out of it"), "{file} {path}: {message}");
        }
    }
    assert!(names(dir.path()).is_empty());
    let whole = example().1;
    try_out("a.tar.gz", &whole[..whole.len() / 2]);
    try_out("a.tar.gz", b"not an archive");
    try_out("a.zip", b"not an archive");
    let mut link = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    link.append_link(&mut header, "set-bin", "/etc").unwrap();
    let link = link.into_inner().unwrap().finish().unwrap();
    assert!(try_out("a.tar.gz", &link).contains("set-bin is neither file nor folder"));
}

#[test]
fn a_stop_keeps_the_part_and_leftovers_of_a_killed_call_are_cleared() {
    let (archive, bytes) = example();
    let dir = tempfile::tempdir().unwrap();
    let file = bytes.clone();
    let part = dir.path().join("set.tar.gz.part");
    fs::write(&part, &bytes[..5000]).unwrap();
    let stop = StopFlag::new();
    let raised = stop.clone();
    let server = Server::start(move |number, from| {
        if number == 0 {
            raised.request();
        }
        well_behaved(&file, from)
    });
    let error = fetch(&archive, dir.path(), Some(&server.base()), TWICE, Output::Silent, &stop).unwrap_err();
    assert!(matches!(error, Error::Stopped { .. }), "{error}");
    let kept = fs::read(&part).unwrap();
    assert!(kept.len() >= 5000 && bytes.starts_with(&kept), "{} bytes", kept.len());
    let half = dir.path().join(".set-bin.unpacking/set-bin");
    fs::create_dir_all(&half).unwrap();
    fs::write(half.join("half"), b"half").unwrap();
    get(&archive, dir.path(), &server, ONCE).unwrap();
    assert_eq!(names(dir.path()), ["set-bin"]);
    assert!(!dir.path().join("set-bin/half").exists());
}

#[test]
fn two_calls_on_one_folder_do_not_mix() {
    let (archive, bytes) = example();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("set.tar.gz"), bytes).unwrap();
    let held = lock(dir.path()).unwrap();
    if held.is_some() {
        let error = fetch(&archive, dir.path(), None, ONCE, Output::Silent, &StopFlag::new()).unwrap_err();
        assert!(matches!(error, Error::InUse { .. }), "{error}");
    }
    drop(held);
    fetch(&archive, dir.path(), None, ONCE, Output::Silent, &StopFlag::new()).unwrap();
}

#[test]
fn only_published_sets_can_be_fetched() {
    for archive in archives() {
        assert!(crate::data::NAMES.contains(&archive.name));
        assert_eq!(archive.md5.len(), 32);
        assert!(!archive.bases.is_empty() && archive.bases.iter().all(|base| base.ends_with('/')));
        // The first address is one that nobody on the way can change.
        assert!(archive.bases[0].starts_with("https://"), "{}", archive.name);
        // What is looked at in the folder fits what may come out of the archive.
        let sizes = archive.parts.iter().map(|(_, part)| if let Part::Bytes(n) = part { *n } else { 0 });
        assert!((archive.bytes..2 * archive.bytes).contains(&sizes.sum::<u64>().max(archive.bytes)));
        assert_eq!(super::archive(archive.name).unwrap(), archive);
    }
    for (name, part) in [("digits", "built in"), ("image-folder", "your own images"), ("mnist", "no such")] {
        let message = super::archive(name).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
        assert!(message.ends_with("cifar10, cifar100, tiny-imagenet can"), "{message}");
    }
}

#[test]
fn a_full_disk_is_named_as_such() {
    let full = failed("write", Path::new("x"))(io::Error::from(io::ErrorKind::StorageFull)).to_string();
    assert!(full.contains("x: no space left") && full.contains("goes on where it stopped"), "{full}");
    let other = failed("write", Path::new("x"))(io::Error::from(io::ErrorKind::PermissionDenied)).to_string();
    assert!(other.starts_with("cannot write x: "), "{other}");
    // Where there is a device that is always full, the real thing.
    if Path::new("/dev/full").exists() {
        let mut file = File::options().write(true).open("/dev/full").unwrap();
        let error = file.write_all(b"x").map_err(failed("write", Path::new("/dev/full"))).unwrap_err();
        assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    }
}
