//! One file over HTTP, resumed where an earlier attempt was cut off.
//!
//! What has come is in `FILE.part`, written through at once, so that it survives any end of the
//! process. An attempt asks for the rest of it (`Range`); a server that sends everything is taken
//! at its word and the part begun again. The part gets the file's name only with the right MD5; with
//! another it is removed, since resuming could never mend it. So is one that grows past the published
//! size, or that a server says will: a server cannot fill the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use ureq::http::Response;
use ureq::{Agent, Body};

use super::{Archive, Error, Patience, Result, check_md5, failed};
use crate::run::{Output, Progress, StopFlag};

/// Connecting takes no longer than this, nor does the server pause for longer.
const SILENCE: Duration = Duration::from_secs(30);

/// Bytes behind the published size that are still taken: the MD5 then says what is wrong.
const ALLOWANCE: u64 = 1 << 20;
/// All attempts together bring at most so many times the published size.
const TIMES: u64 = 16;

/// Where a file comes from.
pub(super) struct Source {
    pub url: String,
    pub patience: Patience,
}

/// How an attempt ended that did not bring the end of the file.
enum Cut {
    /// Nobody there: not tried again before anything has come.
    Unreachable(String),
    /// Tried again.
    Lost(String),
    /// Not tried again.
    Failed(Error),
}

impl From<Error> for Cut {
    fn from(error: Error) -> Self {
        Cut::Failed(error)
    }
}

/// Download to `file`, and say how many bytes came.
pub(super) fn download(
    source: &Source,
    archive: &Archive,
    file: &Path,
    output: Output,
    stop: &StopFlag,
) -> Result<u64> {
    let mut part = Part::open(file)?;
    let resumed = part.have;
    let received = match transfer(source, archive, file, &mut part, output, stop) {
        Ok(received) => received,
        Err(error) => {
            if part.have == 0 || matches!(error, Error::TooLarge { .. }) {
                // Nothing to resume, or nothing that could be.
                let _ = fs::remove_file(&part.path);
            }
            return Err(error);
        }
    };
    let path = part.close()?;
    let remedy = match resumed {
        0 => {
            "the server sent another file or it was damaged on its way. It has been removed; give the same command again, or the address of another copy with --url"
        }
        _ => {
            "a part of it was left from an earlier call and may have been of another file. It has been removed; give the same command again"
        }
    };
    output.note(&format!("{}: checking", archive.file));
    match check_md5(archive, &path, remedy, stop) {
        Err(Error::Checksum { expected, found, remedy, .. }) => {
            fs::remove_file(&path).map_err(failed("remove", &path))?;
            Err(Error::Checksum { file: path, expected, found, remedy })
        }
        Err(error) => Err(error),
        Ok(()) => fs::rename(&path, file).map_err(failed("write", file)).map(|()| received),
    }
}

/// Attempt after attempt, until the part is the whole; says how many bytes came.
fn transfer(
    source: &Source,
    archive: &Archive,
    file: &Path,
    part: &mut Part,
    output: Output,
    stop: &StopFlag,
) -> Result<u64> {
    let agent = agent(&source.url);
    let mut shown = Shown { name: archive.name, output, progress: None };
    // A server that does not resume may send the same bytes for ever: what counts is the farthest.
    let (mut received, mut reached, mut fruitless, mut farthest) = (0, false, 0, part.have);
    loop {
        if stop.requested() {
            return Err(Error::Stopped { file: file.to_owned() });
        }
        let reason = match attempt(&agent, (source, archive), part, &mut received, &mut shown, stop) {
            Ok(()) => break,
            Err(Cut::Failed(error)) => return Err(error),
            Err(Cut::Unreachable(reason)) if !reached => {
                return Err(Error::Unreachable { url: source.url.clone(), reason, file: file.to_owned() });
            }
            Err(Cut::Unreachable(reason)) => reason,
            Err(Cut::Lost(reason)) => {
                reached = true;
                reason
            }
        };
        fruitless = if part.have > farthest { 1 } else { fruitless + 1 };
        farthest = farthest.max(part.have);
        if fruitless >= source.patience.attempts || received > TIMES.saturating_mul(archive.bytes) {
            let (have, total) = (part.have, part.total);
            return Err(Error::Interrupted { url: source.url.clone(), have, total, reason });
        }
        shown.note(&format!("{}: {reason}; trying again", archive.name));
        wait(source.patience.pause * 2u32.saturating_pow(fruitless - 1).min(64), stop);
    }
    shown.finish();
    Ok(received)
}

fn agent(url: &str) -> Agent {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_resolve(Some(SILENCE))
        .timeout_connect(Some(SILENCE))
        .timeout_recv_response(Some(2 * SILENCE))
        .timeout_per_read(Some(SILENCE))
        .accept_encoding("identity")
        .user_agent(concat!("natv2/", env!("CARGO_PKG_VERSION")));
    // A proxy has no way to a server on this very machine.
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    if host.starts_with("127.") || host.starts_with("localhost") || host.starts_with("[::1]") {
        config = config.proxy(None);
    }
    config.build().into()
}

/// What the thread that talks to the server tells.
enum News {
    Head(Result<Head, Cut>),
    Chunk(Vec<u8>),
    Lost(String),
}

/// What matters of a response's head.
struct Head {
    status: u16,
    /// Start of the range that follows, and length of the whole file.
    range: Option<(Option<u64>, Option<u64>)>,
    length: Option<u64>,
}

/// Ask for a file from byte `from` on, on a thread, since neither connecting nor reading hears a
/// request to stop. The thread ends with its next message after the receiver is gone; the news end
/// with the file.
fn ask(agent: &Agent, url: &str, from: u64) -> Receiver<News> {
    let (tell, news) = sync_channel(8);
    let mut request = agent.get(url);
    if from > 0 {
        request = request.header("Range", format!("bytes={from}-"));
    }
    let teller = tell.clone();
    let talk = move || {
        let response = match request.call() {
            Ok(response) => response,
            Err(error) => return teller.send(News::Head(Err(cut(error)))),
        };
        let range = header(&response, "content-range").as_deref().and_then(content_range);
        let length = header(&response, "content-length").and_then(|length| length.parse().ok());
        teller.send(News::Head(Ok(Head { status: response.status().as_u16(), range, length })))?;
        let mut body = response.into_body().into_reader();
        loop {
            let mut chunk = vec![0; 1 << 16];
            match body.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    chunk.truncate(count);
                    teller.send(News::Chunk(chunk))?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return teller.send(News::Lost(error.to_string())),
            }
        }
    };
    // That nobody listens any more ends the thread and is no failure.
    let thread = std::thread::Builder::new().name("download".to_owned()).spawn(move || drop(talk()));
    if let Err(error) = thread {
        // The channel is empty, so this does not wait.
        let _ = tell.send(News::Head(Err(Cut::Lost(format!("cannot start a thread: {error}")))));
    }
    news
}

/// The next of the news, or nothing at their end.
fn hear(news: &Receiver<News>, part: &Part, stop: &StopFlag) -> Result<Option<News>, Cut> {
    loop {
        if stop.requested() {
            return Err(Error::Stopped { file: part.path.clone() }.into());
        }
        match news.recv_timeout(Duration::from_millis(100)) {
            Ok(message) => return Ok(Some(message)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Ask for what is missing and write what comes.
fn attempt(
    agent: &Agent,
    (source, archive): (&Source, &Archive),
    part: &mut Part,
    received: &mut u64,
    shown: &mut Shown,
    stop: &StopFlag,
) -> Result<(), Cut> {
    let news = ask(agent, &source.url, part.have);
    let Some(News::Head(head)) = hear(&news, part, stop)? else {
        return Err(Cut::Lost("no answer".to_owned()));
    };
    let Head { status, range, length } = head?;
    match (status, range) {
        (200, _) => {
            part.restart()?;
            part.total = length;
        }
        (206, Some((Some(start), total))) if start == part.have => part.total = total,
        // Everything is here: the process ended between the last byte and the rename.
        (416, Some((None, Some(total)))) if total == part.have && total > 0 => return Ok(()),
        (206 | 416, _) if part.have > 0 => {
            part.restart()?;
            return Err(Cut::Lost("the server does not resume this file".to_owned()));
        }
        (408 | 429 | 500.., _) => return Err(Cut::Lost(format!("the server answers {status}"))),
        _ => return Err(Error::Refused { url: source.url.clone(), status }.into()),
    }
    let most = archive.bytes.saturating_add(ALLOWANCE);
    let too_large =
        |announced| Error::TooLarge { url: source.url.clone(), expected: archive.bytes, announced };
    // Of a range whose whole is not told, its own length is.
    let announced = part.total.or(length.map(|length| part.have.saturating_add(length)));
    if let Some(announced) = announced.filter(|&announced| announced > most) {
        return Err(too_large(Some(announced)).into());
    }
    shown.start(part.have, part.total);
    while let Some(message) = hear(&news, part, stop)? {
        match message {
            News::Chunk(bytes) => {
                if part.have + bytes.len() as u64 > most {
                    return Err(too_large(None).into());
                }
                part.write(&bytes)?;
                *received += bytes.len() as u64;
                shown.at(part.have);
            }
            News::Lost(reason) => return Err(Cut::Lost(reason)),
            News::Head(_) => {}
        }
    }
    match part.total {
        Some(total) if part.have < total => Err(Cut::Lost("the server ended the connection".to_owned())),
        _ => Ok(()),
    }
}

/// Which failures of a request are worth another attempt.
fn cut(error: ureq::Error) -> Cut {
    use ErrorKind::{ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error {
        ureq::Error::Io(error)
            if matches!(error.kind(), ConnectionReset | ConnectionAborted | UnexpectedEof) =>
        {
            Cut::Lost(error.to_string())
        }
        ureq::Error::Timeout(which) => Cut::Lost(format!("no answer in time ({which})")),
        ureq::Error::HostNotFound => Cut::Unreachable("the server's name is not found".to_owned()),
        error => Cut::Unreachable(error.to_string()),
    }
}

fn header(response: &Response<Body>, name: &str) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

/// `bytes 100-199/200` and `bytes */200`: where the range starts and how long the file is.
fn content_range(text: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let start = match range {
        "*" => None,
        _ => Some(range.split_once('-')?.0.parse().ok()?),
    };
    Some((start, total.parse().ok()))
}

/// Sleep in short pieces, so that a request to stop is heard.
fn wait(time: Duration, stop: &StopFlag) {
    let end = Instant::now() + time;
    while !stop.requested() {
        match end.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => std::thread::sleep(left.min(Duration::from_millis(100))),
            _ => return,
        }
    }
}

/// The file that grows.
struct Part {
    path: PathBuf,
    file: File,
    have: u64,
    /// Bytes of the whole, once a server has said so.
    total: Option<u64>,
}

impl Part {
    fn open(file: &Path) -> Result<Self> {
        let mut path = file.as_os_str().to_owned();
        path.push(".part");
        let path = PathBuf::from(path);
        let file =
            OpenOptions::new().create(true).append(true).open(&path).map_err(failed("write", &path))?;
        let have = file.metadata().map_err(failed("read", &path))?.len();
        Ok(Self { path, file, have, total: None })
    }

    fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(failed("write", &self.path))?;
        self.have = 0;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all(bytes).map_err(failed("write", &self.path));
        if written.is_err() {
            // A full disk may have taken some of the bytes; what it has is right.
            self.have = self.file.metadata().map_or(self.have, |data| data.len());
        } else {
            self.have += bytes.len() as u64;
        }
        written
    }

    fn close(self) -> Result<PathBuf> {
        self.file.sync_all().map_err(failed("write", &self.path))?;
        Ok(self.path)
    }
}

/// The progress, in whole MB.
struct Shown {
    name: &'static str,
    output: Output,
    progress: Option<(Progress, u64)>,
}

const MEGABYTE: u64 = 1_000_000;

impl Shown {
    fn start(&mut self, have: u64, total: Option<u64>) {
        let (done, total) = (have / MEGABYTE, total.unwrap_or(0).div_ceil(MEGABYTE));
        let what = format!("{} (MB)", self.name);
        self.progress = Some((Progress::start(self.output, what, done, total), done));
    }

    fn at(&mut self, have: u64) {
        if let Some((progress, done)) = &mut self.progress
            && have / MEGABYTE > *done
        {
            progress.advance(have / MEGABYTE - *done);
            *done = have / MEGABYTE;
        }
    }

    fn note(&self, line: &str) {
        match &self.progress {
            Some((progress, _)) => progress.note(line),
            None => self.output.note(line),
        }
    }

    fn finish(&mut self) {
        if let Some((progress, _)) = self.progress.take() {
            progress.finish();
        }
    }
}
