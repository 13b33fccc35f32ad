//! Scripted conversations and their transcripts: the same [`Row`] is played to the real program and to ours, and what
//! came back must be the same text.
//!
//! No clock decides when an answer is complete: at a row's end every connection is sent the command `~`, which both
//! protocols refuse with an error and a close. If that refusal comes, the connection was open until then; if the end of
//! the stream comes without it, an earlier command had closed it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::Value;

use crate::http::{self, Reply};
use crate::wire::{Frame, Version, Wire, sized};

/// One thing that a row does. Texts may hold `{t}`, a topic name of the row's own, and `{0}`, `{1}`.., the ids of the
/// messages in the order received.
#[derive(Debug, Clone)]
pub enum Step {
    /// Bytes on connection n.
    Send(usize, Vec<u8>),
    /// Reads this many frames on connection n.
    Read(usize, usize),
    /// Reads frames on connection n until the peer closes.
    ReadToEnd(usize),
    /// Ends our side of connection n.
    HalfClose(usize),
    /// An HTTP request: method, target, headers, body.
    Http(String, String, Vec<(String, String)>, Vec<u8>),
    /// Exactly these bytes as an HTTP request.
    RawHttp(Vec<u8>),
    /// The same, and our side ends with them.
    CutHttp(Vec<u8>),
    /// The next connections do not send their magic.
    NoMagic,
    /// From here on frames are not noted, or are again: for answers that differ by nature, such as a daemon's ports.
    Quiet(bool),
    /// GET until the JSON value at this pointer is this: for what follows without an answer, such as FIN.
    Until(String, String, Value),
}

/// Bytes on connection 0.
pub fn send(bytes: impl AsRef<[u8]>) -> Step {
    send_on(0, bytes)
}

/// Bytes on connection `on`.
pub fn send_on(on: usize, bytes: impl AsRef<[u8]>) -> Step {
    Step::Send(on, bytes.as_ref().to_vec())
}

/// A body with its length before it, on connection 0.
pub fn body(bytes: impl AsRef<[u8]>) -> Step {
    send(sized(bytes.as_ref()))
}

/// A bare length, on connection 0.
pub fn len(length: i32) -> Step {
    send(length.to_be_bytes())
}

/// Reads `count` frames on connection 0.
pub fn read(count: usize) -> Step {
    Step::Read(0, count)
}

/// Reads `count` frames on connection `on`.
pub fn read_on(on: usize, count: usize) -> Step {
    Step::Read(on, count)
}

/// Ends our side of connection 0.
pub fn half_close() -> Step {
    Step::HalfClose(0)
}

/// GET.
pub fn get(target: &str) -> Step {
    Step::Http("GET".into(), target.into(), Vec::new(), Vec::new())
}

/// POST.
pub fn post(target: &str, body: impl AsRef<[u8]>) -> Step {
    Step::Http(
        "POST".into(),
        target.into(),
        Vec::new(),
        body.as_ref().to_vec(),
    )
}

/// Any method, with headers.
pub fn http(method: &str, target: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Step {
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Step::Http(
        method.into(),
        target.into(),
        headers,
        body.as_ref().to_vec(),
    )
}

/// GET until the JSON value at this pointer is `value`.
pub fn until(target: &str, pointer: &str, value: impl Into<Value>) -> Step {
    Step::Until(target.into(), pointer.into(), value.into())
}

/// A named script.
#[derive(Debug, Clone)]
pub struct Row {
    /// A sentence of behaviour, unique in its table.
    pub name: &'static str,
    /// What is done.
    pub steps: Vec<Step>,
}

/// A row.
pub fn row<const N: usize>(name: &'static str, steps: [Step; N]) -> Row {
    Row {
        name,
        steps: steps.to_vec(),
    }
}

/// A row whose answer differs on purpose.
#[derive(Debug, Clone, Copy)]
pub struct Deliberate {
    /// The row's name.
    pub row: &'static str,
    /// Why ours answers otherwise.
    pub reason: &'static str,
    /// Our transcript, whole, without its last newline.
    pub ours: &'static str,
}

/// The two addresses of a program under test.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Which TCP protocol.
    pub version: Version,
    /// Its TCP address.
    pub tcp: SocketAddr,
    /// Its HTTP address.
    pub http: SocketAddr,
}

/// Plays every row to both and panics with all rows that differ and are not listed, and with all that are listed and do
/// not differ as listed. Returns the number of rows compared.
pub fn compare(rows: &[Row], deliberate: &[Deliberate], real: Target, ours: Target) -> usize {
    let mut failures = String::new();
    for (number, row) in rows.iter().enumerate() {
        let topic = format!("row{number}");
        let theirs = play(row, real, &topic);
        let mine = play(row, ours, &topic);
        if std::env::var_os("TRANSCRIPTS").is_some() {
            eprintln!("== {}\n{theirs}", row.name);
        }
        let listed = deliberate.iter().find(|one| one.row == row.name);
        let expected = listed.map_or(theirs.trim_end(), |one| one.ours);
        if mine.trim_end() != expected {
            let what = listed.map_or("should be as nsqd's", |one| one.reason);
            write!(
                failures,
                "\n== {} ({what})\n-- real\n{theirs}-- expected of ours\n{expected}\n-- ours\n{mine}",
                row.name
            )
            .unwrap();
        } else if listed.is_some() && theirs.trim_end() == expected {
            write!(
                failures,
                "\n== {} is listed as different and is not",
                row.name
            )
            .unwrap();
        }
    }
    for one in deliberate {
        assert!(
            rows.iter().any(|row| row.name == one.row),
            "no row is named {:?}",
            one.row
        );
    }
    assert!(failures.is_empty(), "{failures}");
    rows.len()
}

/// Plays one row and returns its transcript.
pub fn play(row: &Row, target: Target, topic: &str) -> String {
    let mut player = Player {
        target,
        topic: topic.to_owned(),
        wires: BTreeMap::new(),
        magic: true,
        quiet: false,
        ids: Vec::new(),
        transcript: String::new(),
    };
    for step in &row.steps {
        player.step(step);
    }
    player.end();
    player.transcript
}

struct Player {
    target: Target,
    topic: String,
    /// The connection, and whether it may still be sent the closing `~`.
    wires: BTreeMap<usize, (Wire, bool)>,
    magic: bool,
    quiet: bool,
    ids: Vec<String>,
    transcript: String,
}

impl Player {
    fn step(&mut self, step: &Step) {
        match step {
            Step::NoMagic => self.magic = false,
            Step::Quiet(quiet) => self.quiet = *quiet,
            Step::Send(on, bytes) => {
                let bytes = self.filled(bytes);
                self.wire(*on).send(&bytes);
            }
            Step::HalfClose(on) => {
                self.wire(*on).half_close();
                self.wires.get_mut(on).unwrap().1 = false;
            }
            Step::Read(on, count) => {
                for _ in 0..*count {
                    let frame = self.wire(*on).frame();
                    self.note_frame(*on, frame.as_ref());
                    if frame.is_none() {
                        self.wires.remove(on);
                        break;
                    }
                }
            }
            Step::ReadToEnd(on) => {
                while let Some(frame) = self.wire(*on).frame() {
                    self.note_frame(*on, Some(&frame));
                }
                self.note_frame(*on, None);
                self.wires.remove(on);
            }
            Step::Http(method, target, headers, body) => {
                let target_text = self.filled_text(target);
                let body = self.filled(body);
                let headers: Vec<(&str, &str)> = headers
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str()))
                    .collect();
                let reply = http::request(self.target.http, method, &target_text, &headers, &body);
                self.note_reply(&format!("{method} {target}"), &reply);
            }
            Step::RawHttp(bytes) => {
                let bytes = self.filled(bytes);
                for reply in http::exchange_all(self.target.http, &bytes) {
                    self.note_reply("raw", &reply);
                }
            }
            Step::CutHttp(bytes) => {
                let bytes = self.filled(bytes);
                let reply = http::exchange_cut(self.target.http, &bytes);
                self.note_reply("cut", &reply);
            }
            Step::Until(target, pointer, value) => {
                let target = self.filled_text(target);
                let to = self.target.http;
                crate::wait::until(&format!("{pointer} of {target} is {value}"), || {
                    http::get(to, &target).json().pointer(pointer) == Some(value)
                });
            }
        }
    }

    /// Sends every connection `~` and notes what came before its refusal, or before the close.
    fn end(&mut self) {
        for (on, (mut wire, open)) in std::mem::take(&mut self.wires) {
            if open {
                wire.send(b"~\n");
            }
            loop {
                match wire.frame() {
                    Some(frame) if is_refusal(&frame) => {
                        writeln!(self.transcript, "c{on} open").unwrap();
                        break;
                    }
                    Some(frame) => self.note_frame(on, Some(&frame)),
                    None => {
                        self.note_frame(on, None);
                        break;
                    }
                }
            }
        }
    }

    fn wire(&mut self, on: usize) -> &mut Wire {
        let (target, magic) = (self.target, self.magic);
        let connect = || {
            if magic {
                Wire::connect(target.tcp, target.version)
            } else {
                Wire::connect_silently(target.tcp, target.version)
            }
        };
        &mut self.wires.entry(on).or_insert_with(|| (connect(), true)).0
    }

    fn note_frame(&mut self, on: usize, frame: Option<&Frame>) {
        let text = match frame {
            None => "closed".to_owned(),
            Some(Frame::Response(data)) => format!("response {}", shown(data)),
            Some(Frame::Error(text)) => format!("error {}", self.named(text)),
            Some(Frame::Message {
                timestamp_ns,
                attempts,
                id,
                body,
            }) => {
                let shape = if *timestamp_ns > 0 && is_id(id) {
                    ""
                } else {
                    " with a bad time or id"
                };
                let number = self
                    .ids
                    .iter()
                    .position(|known| known == id)
                    .unwrap_or_else(|| {
                        self.ids.push(id.clone());
                        self.ids.len() - 1
                    });
                format!(
                    "message {{{number}}} attempts={attempts} body={}{shape}",
                    shown(body)
                )
            }
            Some(Frame::Unknown(kind, data)) => {
                format!("unknown frame type {kind}: {}", shown(data))
            }
        };
        if !self.quiet {
            writeln!(self.transcript, "c{on} {text}").unwrap();
        }
    }

    fn note_reply(&mut self, request: &str, reply: &Reply) {
        const HEADERS: [&str; 4] = ["content-type", "x-nsq-content-type", "allow", "location"];
        let mut text = format!("{request} -> {}", reply.status);
        for name in HEADERS {
            if let Some(value) = reply.header(name) {
                write!(text, " [{name}: {value}]").unwrap();
            }
        }
        writeln!(self.transcript, "{text} {}", shown(&reply.body)).unwrap();
    }

    fn filled(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = replaced(bytes, b"{t}", self.topic.as_bytes());
        for (number, id) in self.ids.iter().enumerate() {
            bytes = replaced(&bytes, format!("{{{number}}}").as_bytes(), id.as_bytes());
        }
        bytes
    }

    fn filled_text(&self, text: &str) -> String {
        String::from_utf8(self.filled(text.as_bytes())).unwrap()
    }

    fn named(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (number, id) in self.ids.iter().enumerate() {
            text = text.replace(id.as_str(), &format!("{{{number}}}"));
        }
        text
    }
}

fn replaced(bytes: &[u8], what: &[u8], with: &[u8]) -> Vec<u8> {
    let mut all = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(what.len()).position(|window| window == what) {
        all.extend_from_slice(&rest[..at]);
        all.extend_from_slice(with);
        rest = &rest[at + what.len()..];
    }
    all.extend_from_slice(rest);
    all
}

fn is_refusal(frame: &Frame) -> bool {
    const REFUSAL: &str = "E_INVALID invalid command ~";
    match frame {
        Frame::Error(text) => text == REFUSAL,
        other => other.is(REFUSAL),
    }
}

fn is_id(id: &str) -> bool {
    id.len() == 16
        && id
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Text as it is; JSON objects with sorted keys, so that no order of keys counts; long or binary data by its length.
fn shown(data: &[u8]) -> String {
    const SHOWN_MAX: usize = 2000;
    match std::str::from_utf8(data) {
        Ok(text) if text.starts_with('{') => serde_json::from_str::<Value>(text)
            .map_or_else(|_| text.to_owned(), |json| json.to_string()),
        Ok(text) if text.len() <= SHOWN_MAX => text.escape_debug().to_string(),
        _ => format!("{} bytes", data.len()),
    }
}
