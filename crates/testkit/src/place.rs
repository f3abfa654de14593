//! Where whole nodes are tried out: a directory with homes in it, free ports, and commands typed as a
//! user types them. The nodes themselves are in [`crate::site`].

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

use serde_json::Value;

use crate::site::Site;

/// A directory that goes away with the value, and the binary under test.
#[derive(Debug)]
pub struct Place {
    directory: tempfile::TempDir,
    binary: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    /// The command, to be shown.
    pub line: String,
    /// The exit code; -1 after a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Place {
    /// A new, empty place. `binary` is `env!("CARGO_BIN_EXE_handfast")`.
    pub fn new(binary: &str) -> Self {
        // Short, since the path of a Unix socket may have 107 characters only.
        let directory = tempfile::Builder::new().prefix("hf").tempdir().expect("a directory");
        Self { directory, binary: binary.into() }
    }

    /// The path of this name here.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file, with the directories above it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(&path, content).expect("a file");
        path
    }

    /// The binary under test.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Types `handfast <line>` here; words are separated by spaces.
    pub fn run(&self, line: &str) -> Ran {
        let words: Vec<&str> = line.split_whitespace().collect();
        Ran::of(self.command(&words), line)
    }

    /// `handfast` with these arguments and a clean environment, to be started.
    pub fn command(&self, words: &[&str]) -> Command {
        command(&self.binary, self.directory.path(), words)
    }

    /// A home of this name, with nothing in it yet.
    pub fn site(&self, name: &str) -> Site {
        Site::new(name, &self.path(name), &self.binary)
    }

    /// The site `west`: founds `demo.example` and can be linked to on 127.0.0.1. Not started.
    pub fn west(&self) -> Site {
        let mut west = self.site("west");
        let (link, grant) = (free_port(), free_port());
        west.json(&format!(
            "site create west --trust-domain demo.example --enable-link-access \
             --link-host 127.0.0.1 --link-port {link} --grant-port {grant}"
        ));
        west.ports = Some((link, grant));
        west
    }

    /// A site that stands alone until it redeems a token. Not started.
    pub fn lone(&self, name: &str) -> Site {
        let site = self.site(name);
        site.json(&format!("site create {name}"));
        site
    }

    /// `west` and `east`, both running, linked by a token.
    pub fn linked(&self) -> (Site, Site) {
        let (mut west, mut east) = (self.west(), self.lone("east"));
        west.start();
        east.start();
        self.link(&west, &east);
        (west, east)
    }

    /// `to` issues a token and `from` redeems it; returns when the link is up. Returns its name.
    pub fn link(&self, to: &Site, from: &Site) -> String {
        let token = self.path(&format!("{}-{}.token", to.name(), from.name()));
        to.json(&format!("token issue {}", token.display()));
        let redeemed = from.json(&format!("token redeem {} --timeout 60s", token.display()));
        assert_eq!(redeemed["state"], "up", "{redeemed:#}");
        redeemed["links"][0].as_str().expect("a link").to_owned()
    }
}

impl Ran {
    pub(crate) fn of(mut command: Command, line: &str) -> Self {
        let output = command.stdin(Stdio::null()).output().expect("the binary starts");
        Self::from_output(&output, line)
    }

    /// From how a process ended that was started with [`Place::command`].
    pub fn from_output(output: &Output, line: &str) -> Self {
        Self {
            line: line.to_owned(),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout.clone()).expect("output is UTF-8"),
            stderr: String::from_utf8(output.stderr.clone()).expect("errors are UTF-8"),
        }
    }

    /// Fails the test unless the command did what it was asked for.
    #[track_caller]
    #[expect(
        clippy::return_self_not_must_use,
        reason = "the check is the point; the value is often not needed"
    )]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "handfast {}\n{}{}", self.line, self.stdout, self.stderr);
        self
    }

    /// Fails the test unless the command ended with this code.
    #[track_caller]
    #[expect(
        clippy::return_self_not_must_use,
        reason = "the check is the point; the value is often not needed"
    )]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "handfast {}\n{}{}", self.line, self.stdout, self.stderr);
        self
    }

    /// The result of a command typed with `-o json`.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("handfast {}: {error}\n{self:#?}", self.line))
    }

    /// The error of a command typed with `-o json`: one document and nothing else.
    #[track_caller]
    pub fn error(&self) -> Value {
        serde_json::from_str(&self.stderr)
            .unwrap_or_else(|error| panic!("handfast {}: {error}\n{self:#?}", self.line))
    }
}

pub(crate) fn command(binary: &Path, directory: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(binary);
    command
        .args(words)
        .current_dir(directory)
        .env_clear()
        .env("HOME", directory)
        .env("XDG_DATA_HOME", directory)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// A port of 127.0.0.1 that nobody uses, outside of the range that the kernel gives to clients, so
/// that no outgoing connection takes it before the node does.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().expect("no test fails while it holds this");
    // Test processes that run beside each other start far apart.
    let start = std::process::id().wrapping_mul(7919);
    let span = u32::from(LAST_PORT - FIRST_PORT);
    (0..span)
        .map(|step| {
            FIRST_PORT + u16::try_from((start.wrapping_add(step)) % span).expect("in range")
        })
        .find(|port| !given.contains(port) && TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .inspect(|port| {
            given.insert(*port);
        })
        .expect("a free port")
}

const FIRST_PORT: u16 = 12_000;
const LAST_PORT: u16 = 32_000;
