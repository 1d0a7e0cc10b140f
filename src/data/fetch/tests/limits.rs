//! Servers and archives that would take more than the published archive: there is an end to it.

use super::*;

/// Answers the first connection with a head and then with bytes for as long as they are taken; says how many
/// that were.
fn endless(head: String) -> (String, JoinHandle<u64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}/", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let asked = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).count();
        assert!(asked > 0);
        let (mut sent, block) = (0, vec![7; 1 << 16]);
        let _ = stream.write_all(head.as_bytes());
        while stream.write_all(&block).is_ok() {
            sent += block.len() as u64;
            assert!(sent < 1 << 30, "taken for ever");
        }
        sent
    });
    (base, thread)
}

#[test]
fn a_server_that_sends_too_much_is_cut_off_and_nothing_is_kept() {
    let (archive, bytes) = example();
    // Without a length, in one piece and behind a part; the longest that is written is the published size and a little.
    for (head, have) in [
        ("HTTP/1.1 200 OK\r\n\r\n".to_owned(), 0),
        ("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5000-/*\r\n\r\n".to_owned(), 5000),
        (
            format!("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5000-9/{}\r\n\r\n", bytes.len()),
            5000,
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        if have > 0 {
            fs::write(dir.path().join("set.tar.gz.part"), &bytes[..have]).unwrap();
        }
        let (base, server) = endless(head.clone());
        let error =
            fetch(&archive, dir.path(), Some(&base), ONCE, Output::Silent, &StopFlag::new()).unwrap_err();
        assert!(matches!(error, Error::TooLarge { announced: None, .. }), "{head}: {error}");
        let message = error.to_string();
        assert!(
            message.contains(&format!("sends more and more, and the published archive has {}", bytes.len()))
        );
        assert!(message.contains("nothing of it is kept") && message.contains("--url"), "{message}");
        assert_eq!(names(dir.path()), [""; 0], "{head}");
        // What was on its way when the connection was closed, too.
        assert!(server.join().unwrap() < 64 << 20, "{head}");
    }
}

#[test]
fn a_length_that_is_far_too_large_is_refused_before_anything_is_written() {
    let (archive, bytes) = example();
    let (whole, far) = (bytes.len(), 50_000_000_000u64);
    for (head, have, announced) in [
        (format!("HTTP/1.1 200 OK\r\nContent-Length: {far}\r\n\r\n"), 0, far),
        (format!("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 100-{far}/{far}\r\n\r\n"), 100, far),
        (
            format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 100-/*\r\nContent-Length: {far}\r\n\r\n"
            ),
            100,
            far + 100,
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        if have > 0 {
            fs::write(dir.path().join("set.tar.gz.part"), &bytes[..have]).unwrap();
        }
        let (base, server) = endless(head.clone());
        let error =
            fetch(&archive, dir.path(), Some(&base), ONCE, Output::Silent, &StopFlag::new()).unwrap_err();
        let message = error.to_string();
        let expected = format!("announces {announced} bytes, and the published archive has {whole} bytes");
        assert!(message.contains(&expected), "{head}: {message}");
        assert_eq!(names(dir.path()), [""; 0], "{head}");
        server.join().unwrap();
    }
}

#[test]
fn a_server_that_starts_again_and_again_comes_to_an_end() {
    let (archive, bytes) = example();
    // Each answer is cut off a little farther than the one before: there is progress, and no end of traffic.
    let file = bytes.clone();
    let server = Server::start(move |number, _| {
        let end = (file.len() / 2 + number).min(file.len() - 1);
        Reply { promised: Some(file.len()), ..reply("200 OK", &file[..end]) }
    });
    let dir = tempfile::tempdir().unwrap();
    let error = get(&archive, dir.path(), &server, TWICE).unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }), "{error}");
    assert!(server.ranges().len() < 40, "{}", server.ranges().len());
}

#[test]
fn the_next_address_is_taken_where_the_first_is_not_reached() {
    let (archive, bytes) = example();
    let server = Server::start(move |_, from| well_behaved(&bytes, from));
    // Nobody listens on the first.
    let bases: &'static [&'static str] = vec!["https://127.0.0.1:1/", server.base().leak()].leak();
    let archive = Archive { bases, ..archive };
    let dir = tempfile::tempdir().unwrap();
    fetch(&archive, dir.path(), None, ONCE, Output::Silent, &StopFlag::new()).unwrap();
    assert_eq!(names(dir.path()), ["set-bin"]);
    // An address that is given is the only one.
    let dir = tempfile::tempdir().unwrap();
    let nobody = Some("https://127.0.0.1:1/");
    let error = fetch(&archive, dir.path(), nobody, ONCE, Output::Silent, &StopFlag::new()).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

#[test]
fn plain_http_is_known_as_such() {
    for (url, plain) in
        [("http://a/b", true), ("HTTP://a/b", true), ("https://a/b", false), ("ftp://a", false), ("h", false)]
    {
        assert_eq!(is_plain(url), plain, "{url}");
    }
}

#[test]
fn archives_that_unpack_to_far_more_than_their_size_are_refused() {
    let zeros = vec![0; 8 << 20];
    let members: [(&str, &[u8]); 1] = [("set-bin/data_batch_1.bin", &zeros)];
    for (file, bytes) in [("a.tar.gz", tar_gz(&members)), ("a.zip", zip_of(&members))] {
        assert!(bytes.len() < 100_000, "{file}: {}", bytes.len());
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive { file, md5: md5_of(&bytes), bytes: bytes.len() as u64, ..example().0 };
        fs::write(dir.path().join(file), &bytes).unwrap();
        let error = fetch(&archive, dir.path(), None, ONCE, Output::Silent, &StopFlag::new()).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("far more than the published archive"), "{error}");
        assert_eq!(names(dir.path()), [file], "what came out is gone");
    }
}
