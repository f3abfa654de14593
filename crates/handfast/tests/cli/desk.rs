//! A place to type commands at: a directory of its own, and the binary, with an environment that changes nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory where commands are typed. `[DIR]` stands for it in what they print.
pub(crate) struct Desk {
    directory: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("hf").tempdir().expect("a directory");
        Self { directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, content).expect("a file");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a readable file")
    }

    /// Types `handfast <line>`; words are separated by single spaces.
    pub(crate) fn run(&self, line: &str) -> Ran {
        let words = line.split(' ').filter(|word| !word.is_empty());
        let ended = Command::new(env!("CARGO_BIN_EXE_handfast"))
            .args(words)
            .current_dir(self.directory.path())
            .env_clear()
            .env("HOME", self.directory.path())
            .env("XDG_DATA_HOME", self.directory.path())
            .output()
            .expect("the binary starts");
        Ran {
            code: ended.status.code().expect("an exit code"),
            stdout: self.normal(&ended.stdout),
            stderr: self.normal(&ended.stderr),
        }
    }

    /// Types a command and compares everything about its end.
    #[track_caller]
    pub(crate) fn check(&self, line: &str, code: i32, stdout: &str, stderr: &str) {
        let ran = self.run(line);
        assert_eq!(ran.stdout, stdout, "standard output of `handfast {line}`\n{ran:#?}");
        assert_eq!(ran.stderr, stderr, "standard error of `handfast {line}`\n{ran:#?}");
        assert_eq!(ran.code, code, "exit code of `handfast {line}`");
    }

    fn normal(&self, output: &[u8]) -> String {
        let text = String::from_utf8(output.to_vec()).expect("output is UTF-8");
        text.replace(&self.directory.path().display().to_string(), "[DIR]")
    }
}

/// The mode bits of a file.
pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).expect("the file is there").permissions().mode() & 0o777
}
