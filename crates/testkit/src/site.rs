//! One home and the real `handfast run` process on it. The process is killed when the value goes away,
//! also when the test fails; then the end of its log is shown.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::eventually::{eventually, within};
use crate::place::{Ran, command};

/// A home, and the node on it while it runs.
#[derive(Debug)]
pub struct Site {
    name: String,
    home: PathBuf,
    binary: PathBuf,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    node: Option<Child>,
    pub(crate) ports: Option<(u16, u16)>,
}

impl Site {
    pub(crate) fn new(name: &str, home: &Path, binary: &Path) -> Self {
        Self {
            name: name.to_owned(),
            home: home.to_owned(),
            binary: binary.to_owned(),
            environment: Vec::new(),
            arguments: Vec::new(),
            node: None,
            ports: None,
        }
    }

    /// The name it was made with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The home directory.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// A path in the home.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// Where links are accepted.
    pub fn link_port(&self) -> u16 {
        self.ports.expect("a site with link access").0
    }

    /// Where tokens are redeemed.
    pub fn grant_port(&self) -> u16 {
        self.ports.expect("a site with link access").1
    }

    /// More arguments for the next `handfast run`.
    pub fn run_with(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
    }

    /// A variable for the next `handfast run`.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Writes a file of the home, as a user does: with the directories above it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, content).expect("a file");
    }

    /// Declares a resource in a file of the user's.
    pub fn declare(&self, file: &str, document: &str) {
        self.write(&format!("input/resources/{file}"), document);
    }

    /// Types `handfast --home HOME <line>`; words are separated by spaces.
    pub fn run(&self, line: &str) -> Ran {
        let home = self.home.display().to_string();
        let mut words = vec!["--home", &home];
        words.extend(line.split_whitespace());
        let parent = self.home.parent().expect("a home in a directory");
        Ran::of(command(&self.binary, parent, &words), line)
    }

    /// The same with `-o json`; it must succeed.
    #[track_caller]
    pub fn json(&self, line: &str) -> Value {
        self.run(&format!("{line} -o json")).ok().json()
    }

    /// The same with `-o json`; it must end with this code and one error document.
    #[track_caller]
    pub fn refused(&self, line: &str, code: i32) -> Value {
        self.run(&format!("{line} -o json")).exits(code).error()
    }

    /// Starts the node, and returns when it answers.
    #[track_caller]
    pub fn start(&mut self) {
        self.spawn();
        eventually("the node answers", || {
            assert!(self.runs(), "{} ended by itself:\n{}", self.name, self.log());
            (self.run("status").code == 0).then_some(())
        });
    }

    /// Starts the node and returns at once.
    #[track_caller]
    pub fn spawn(&mut self) {
        assert!(self.node.is_none(), "{} runs already", self.name);
        let home = self.home.display().to_string();
        let mut words = vec!["--home", &home, "run", "--log-format", "json"];
        words.extend(self.arguments.iter().map(String::as_str));
        let log = self.log_file();
        let parent = self.home.parent().expect("a home in a directory");
        let mut command = command(&self.binary, parent, &words);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let node = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("the node starts");
        self.node = Some(node);
    }

    /// The process id of the node.
    pub fn pid(&self) -> u32 {
        self.node.as_ref().expect("a node that runs").id()
    }

    /// Whether the process is there.
    pub fn runs(&mut self) -> bool {
        self.node.as_mut().is_some_and(|node| node.try_wait().expect("a child").is_none())
    }

    /// Tells the node to end (SIGTERM) and returns at once.
    pub fn terminate(&self) {
        signal(self.pid(), Signal::TERM);
    }

    /// Waits until the node has ended by itself.
    #[track_caller]
    pub fn ended(&mut self, limit: Duration) -> ExitStatus {
        let mut node = self.node.take().expect("a node that runs");
        let status = within(limit, "the node ends", || node.try_wait().expect("a child"));
        self.node = None;
        status
    }

    /// Ends the node in order; it must exit with 0.
    #[track_caller]
    pub fn stop(&mut self) {
        self.terminate();
        let status = self.ended(Duration::from_secs(40));
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut node) = self.node.take() {
            drop(node.kill());
            drop(node.wait());
        }
    }

    /// Everything the node has written so far, over all its starts.
    pub fn log(&self) -> String {
        let text = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// `handfast status -o json`.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.json("status")
    }

    /// The link of this name, as `link status` shows it.
    pub fn link(&self, name: &str) -> Option<Value> {
        let links = self.json("link status");
        let links = links.as_array().expect("a list");
        links.iter().find(|link| link["name"] == name).cloned()
    }

    /// Returns when a link of this name is up.
    #[track_caller]
    pub fn link_up(&self, name: &str) -> Value {
        eventually(&format!("{}: link {name} is up", self.name), || {
            self.link(name).filter(|link| link["state"] == "up")
        })
    }

    /// The credential of this name, as `cert list` shows it.
    pub fn credential(&self, name: &str) -> Option<Value> {
        let list = self.json("cert list");
        list.as_array().expect("a list").iter().find(|one| one["name"] == name).cloned()
    }

    /// The serial number of a credential that is there.
    #[track_caller]
    pub fn serial(&self, name: &str) -> String {
        let credential = self.credential(name).unwrap_or_else(|| panic!("no credential {name}"));
        credential["serial"].as_str().expect("a serial").to_owned()
    }

    /// One figure in kilobytes of the node's `/proc/PID/status`, such as `VmRSS` or `VmHWM`.
    pub fn memory_kb(&self, figure: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a process");
        let line = text.lines().find(|line| line.starts_with(figure)).expect("the figure");
        line.split_whitespace().nth(1).and_then(|value| value.parse().ok()).expect("a number")
    }

    fn log_path(&self) -> PathBuf {
        self.home.with_extension("log")
    }

    fn log_file(&self) -> File {
        let path = self.log_path();
        OpenOptions::new().create(true).append(true).open(path).expect("a log")
    }
}

impl Drop for Site {
    #[expect(clippy::print_stderr, reason = "a failed test shows what the node said")]
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.lines().count().saturating_sub(SHOWN);
            eprintln!("--- the last lines of {}:", self.name);
            log.lines().skip(from).for_each(|line| eprintln!("{line}"));
        }
    }
}

/// Sends a signal to a process that this test started.
pub fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a process id")).expect("not zero");
    kill_process(pid, signal).expect("the process is ours");
}

/// Lines of a log shown with a failure.
const SHOWN: usize = 40;
