//! `natv2 data`: downloads that fail or are cut off, counts, and damaged files.

use super::program::*;
use serde_json::json;
#[cfg(feature = "fetch")]
use std::io::Read;
use std::path::Path;
#[cfg(feature = "fetch")]
use std::process::{Command, Stdio};

/// A server that answers requests one after the other, each with the next of these bytes and then
/// silence or, after the last, an end. Gives its address.
#[cfg(feature = "fetch")]
fn server(answers: Vec<Vec<u8>>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            std::io::Write::write_all(&mut stream, &answer).unwrap();
            open.push(stream);
        }
    });
    address
}

#[cfg(feature = "fetch")]
#[test]
fn fetching_fails_with_a_reason() {
    let scratch = Scratch::new();
    let folder = scratch.path("data");
    let refused = |code, name, url: &str, parts: &[&str]| {
        fails(code, &["data", "fetch", name, "--data-dir", &folder, "--url", url], parts);
    };
    refused(2, "digits", "http://127.0.0.1", &["`digits` cannot be fetched: it is built in"]);
    fails(2, &["data", "fetch", "cifar10"], &["--data-dir"]);
    let unreachable = "cannot reach http://127.0.0.1:1/cifar-100-binary.tar.gz";
    refused(1, "cifar100", "http://127.0.0.1:1/", &[unreachable]);
    let missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec();
    refused(1, "cifar10", &server(vec![missing]), &["answers 404", "--url"]);
    let other = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother".to_vec();
    let parts = ["c32a1d4ab5d03f1284b67883e8d87530", "795f3202b17cb6bc3d4b771d8c6c9eaf", "removed"];
    refused(1, "cifar10", &server(vec![other]), &parts);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "nothing is left");
}

#[cfg(feature = "fetch")]
#[test]
fn an_interrupted_download_keeps_what_has_come() {
    let scratch = Scratch::new();
    let folder = scratch.path("data");
    // A megabyte of many, then silence.
    let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 170000000\r\n\r\n".to_vec();
    answer.resize(answer.len() + 1_000_000, 7);
    let child = Command::new(env!("CARGO_BIN_EXE_natv2"))
        .args(["data", "fetch", "cifar10", "--data-dir", &folder, "--url", &server(vec![answer])])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let part = Path::new(&folder).join("cifar-10-binary.tar.gz.part");
    let size = || std::fs::metadata(&part).map_or(0, |data| data.len());
    while size() < 1_000_000 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(75), "{stderr}");
    assert!(
        stderr.contains("stopped; what is here of") && stderr.contains("cifar-10-binary.tar.gz"),
        "{stderr}"
    );
    assert_eq!(size(), 1_000_000);
}

#[test]
fn data_is_counted_and_checked() {
    let info = json_of(&["data", "info", "digits", "--json"]);
    assert_eq!((&info["version"], &info["name"], &info["side"]), (&json!(1), &json!("digits"), &json!(8)));
    assert_eq!(info["classes"].as_array().unwrap().len(), 10);
    let splits: Vec<u64> =
        info["splits"].as_array().unwrap().iter().map(|split| split["images"].as_u64().unwrap()).collect();
    assert_eq!(splits, [1079, 359, 359]);
    assert_eq!(info, json_of(&["data", "info", "--data", "digits", "--json"]));
    assert!(succeeds(&["data", "info", "digits"]).starts_with("digits: 1797 images"));
    let check = json_of(&["data", "check", "digits", "--json"]);
    assert_eq!(check, json!({"version": 1, "name": "digits", "images": 1797, "classes": 10, "warnings": []}));

    let scratch = Scratch::new();
    let record = |label: u8| [vec![label], vec![128; 3072]].concat();
    let batch: Vec<u8> = (0..10).flat_map(record).collect();
    scratch.write("cifar/data_batch_1.bin", &batch);
    let folder = scratch.path("cifar");
    let check = json_of(&["data", "check", "cifar10", "--data-dir", &folder, "--json"]);
    let warnings = check["warnings"].to_string();
    assert!(warnings.contains("test split has no images") && warnings.contains("10 of 50,000"), "{warnings}");
    assert!(succeeds(&["data", "check", "cifar10", "--data-dir", &folder]).contains("\nwarning: "));
}

#[test]
fn damaged_data_is_named() {
    let scratch = Scratch::new();
    let cifar = |name: &str, bytes: &[u8]| {
        scratch.write(&format!("{name}/data_batch_1.bin"), bytes);
        scratch.path(name)
    };
    let arch = small().to_string();
    let refused = |folder: &str, parts: &[&str]| {
        fails(1, &["data", "check", "cifar10", "--data-dir", folder, "--json"], parts);
        fails(1, &["evaluate", "--arch", &arch, "--data", "cifar10", "--data-dir", folder, "--json"], parts);
    };
    refused(&cifar("partial", &[1; 3073 + 100]), &["data_batch_1.bin", "3173 bytes", "3073", "Download"]);
    refused(&cifar("empty", &[]), &["data_batch_1.bin"]);
    refused(&cifar("label", &[77; 3073]), &["data_batch_1.bin", "label 77"]);
    refused(&scratch.path("absent"), &["absent", "--data-dir"]);
    std::fs::create_dir(scratch.path("bare")).unwrap();
    refused(&scratch.path("bare"), &["bare", "data_batch"]);
    fails(2, &["data", "info", "mnist"], &["mnist", "known data sets"]);
    fails(2, &["data", "info"], &["<NAME>"]);
    fails(2, &["data", "info", "digits", "--side", "64"], &["data.side"]);
}
