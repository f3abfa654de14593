//! The OpenSSL command line as a second opinion. Where it is missing, tests say so in one plain line
//! and pass.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::eventually::until;

/// What one `openssl` command answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Whether it exited with 0.
    pub ok: bool,
    /// Its standard output and, after it, its standard error.
    pub text: String,
}

/// The `openssl` binary with a directory of its own for files.
#[derive(Debug)]
pub struct OpenSsl {
    directory: tempfile::TempDir,
}

impl OpenSsl {
    /// OpenSSL, or `None` and one line on standard error if it is not installed.
    #[expect(clippy::print_stderr, reason = "a test that skips says so")]
    pub fn find(test: &str) -> Option<Self> {
        let found = Command::new("openssl").arg("version").output();
        if !found.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: {test} needs the openssl command, which is not installed");
            return None;
        }
        Some(Self { directory: tempfile::tempdir().expect("a temporary directory") })
    }

    /// Writes a file into the directory and hands out its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("a temporary file");
        path
    }

    /// The path a file of this name would have.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Runs `openssl` with these arguments in the directory, without standard input.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Answer {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .output()
            .expect("openssl runs");
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Answer { ok: output.status.success(), text }
    }

    /// Runs a command that must succeed; its words separated by spaces.
    pub fn must(&self, command: &str) -> String {
        let answer = self.run(command.split_whitespace());
        assert!(answer.ok, "openssl {command}: {}", answer.text);
        answer.text
    }

    /// `openssl s_client` at a port of 127.0.0.1, which must show a certificate for that address under
    /// `anchors`. Returns what it printed until the other side closed the connection.
    pub fn s_client(&self, port: u16, anchors: &Path, arguments: &[&str]) -> String {
        let mut child = Command::new("openssl")
            .args(["s_client", "-connect", &format!("127.0.0.1:{port}")])
            .args(["-CAfile", &anchors.display().to_string(), "-verify_ip", "127.0.0.1"])
            .args(["-verify_return_error", "-ign_eof", "-nocommands"])
            .args(arguments)
            .current_dir(self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl runs");
        // Open as long as the other side lets it be: with an end of input it would leave by itself.
        let input = child.stdin.take();
        until("s_client ends", || child.try_wait().expect("a child").is_some());
        drop(input);
        let output = child.wait_with_output().expect("openssl ended");
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        text
    }

    /// The content of a file that a command wrote.
    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("a file that openssl wrote")
    }
}
