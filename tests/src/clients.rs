//! The real client libraries as programs; `tests/peers/README.md` has their arguments.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::daemon::{peers_dir, workspace_dir};
use crate::wait;

/// Which library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// go-nsq.
    Go,
    /// pynsq.
    Python,
    /// nsqjs.
    Node,
}

/// Every one that the tests drive.
pub const LIBRARIES: [Library; 3] = [Library::Go, Library::Python, Library::Node];

/// Where a consumer finds its broker.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// An nsqd's TCP address.
    Nsqd(SocketAddr),
    /// An nsqlookupd's HTTP address.
    Lookupd(SocketAddr),
}

/// One delivery, as a consumer reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The message's body.
    pub body: String,
    /// Its attempts field.
    pub attempts: u64,
    /// Its id, 16 characters.
    pub id: String,
    /// What the consumer did: finish, requeue, hold.
    pub does: String,
}

impl Library {
    /// Publishes by `single:B`, `multi:B,B`, `defer:MS:B`; panics unless all were answered OK.
    pub fn publish(self, nsqd: SocketAddr, topic: &str, actions: &[&str]) {
        let mut args = vec!["publish".to_owned(), nsqd.to_string(), topic.to_owned()];
        args.extend(actions.iter().map(|action| (*action).to_owned()));
        let output = self.run(&args);
        assert!(
            output.status.success() && output.stdout.starts_with(b"ok"),
            "{self:?} could not publish: {output:?}"
        );
    }

    /// Consumes until `finish` messages are finished, by `requeue:B:TIMES` and `hold:B`.
    pub fn consume(
        self,
        from: Source,
        topic: &str,
        channel: &str,
        finish: usize,
        rules: &[&str],
    ) -> Vec<Delivery> {
        let from = match from {
            Source::Nsqd(address) => format!("nsqd:{address}"),
            Source::Lookupd(address) => format!("lookupd:{address}"),
        };
        let mut args = vec![
            "consume".to_owned(),
            from,
            topic.to_owned(),
            channel.to_owned(),
            finish.to_string(),
        ];
        args.extend(rules.iter().map(|rule| (*rule).to_owned()));
        let output = self.run(&args);
        assert!(
            output.status.success(),
            "{self:?} could not consume: {output:?}"
        );
        let lines = String::from_utf8(output.stdout).unwrap();
        lines.lines().map(delivery).collect()
    }

    fn run(self, args: &[String]) -> Output {
        let mut command = self.command();
        let mut child = command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}; run `tests/run peers`"));
        // What these programs print fits into a pipe's buffer, so the end can be awaited before it is read.
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait::until("the client program's end", || {
                child.try_wait().unwrap().is_some()
            });
        }));
        if ended.is_err() {
            let _gone = child.kill();
            panic!(
                "{self:?} {args:?} does not end: {:?}",
                child.wait_with_output().unwrap()
            );
        }
        child.wait_with_output().unwrap()
    }

    fn command(self) -> Command {
        let (peers, sources) = (peers_dir(), workspace_dir().join("tests/peers"));
        match self {
            Library::Go => Command::new(built(peers.join("bin/gonsq"))),
            Library::Python => {
                let mut command = Command::new(built(peers.join("venv/bin/python")));
                command.arg(sources.join("python/peer.py"));
                command
            }
            Library::Node => {
                let mut command = Command::new(built(peers.join("bin/node")));
                command.env("NODE_PATH", built(peers.join("node/node_modules")));
                command.arg(sources.join("node/peer.js"));
                command
            }
        }
    }
}

/// How often each body was delivered.
pub fn deliveries_by_body(deliveries: &[Delivery]) -> BTreeMap<String, Vec<u64>> {
    let mut by_body: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for delivery in deliveries {
        by_body
            .entry(delivery.body.clone())
            .or_default()
            .push(delivery.attempts);
    }
    by_body
}

fn built(path: PathBuf) -> PathBuf {
    assert!(
        path.exists(),
        "{} is missing: run `tests/run peers`",
        path.display()
    );
    path
}

fn delivery(line: &str) -> Delivery {
    let json: serde_json::Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let text = |key: &str| json[key].as_str().unwrap().to_owned();
    Delivery {
        body: text("body"),
        attempts: json["attempts"].as_u64().unwrap(),
        id: text("id"),
        does: text("does"),
    }
}
