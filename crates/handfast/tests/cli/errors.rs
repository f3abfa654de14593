//! What a user reads when it does not work: one message with what, where, why and what to do, and a documented code.

use crate::desk::Desk;

#[test]
fn without_a_node_everything_that_needs_one_says_so_and_exits_with_4() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("h")).expect("a home");
    let expect = "error: no node runs on this home\n  \
        where  [DIR]/h/runtime/admin.sock\n  \
        why    nobody answers on its admin socket\n  \
        to do  start it with `handfast run`, or name another home with --home\n";
    for line in [
        "status",
        "link status",
        "listener status",
        "connector status",
        "cert renew --all",
        "cert renew handfast-site-server",
    ] {
        desk.check(&format!("--home h {line}"), 4, "", expect);
        desk.check(&format!("{line} --home h"), 4, "", expect);
    }
}

#[test]
fn a_home_that_is_not_there_is_named_and_is_no_empty_one() {
    let desk = Desk::new();
    desk.write("file", "no directory");
    for home in ["nowhere", "file"] {
        let expect = format!(
            "error: no node runs on this home\n  where  [DIR]/{home}\n  why    there is no such directory\n  \
             to do  name the right home with --home or HANDFAST_HOME\n"
        );
        desk.check(&format!("--home {home} status"), 4, "", &expect);
        for line in ["cert list", "cert list --expiring 7d", "cert list --issued"] {
            let ran = desk.run(&format!("--home {home} {line}"));
            assert_eq!((ran.code, ran.stdout.as_str()), (6, ""), "{line}: {ran:#?}");
            assert!(ran.stderr.starts_with("error: there is no such home\n"), "{line}: {ran:#?}");
        }
    }
}

#[test]
fn a_node_that_hangs_is_asked_once_and_that_is_said() {
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc;

    let desk = Desk::new();
    std::fs::create_dir_all(desk.path("h/runtime")).expect("a home");
    // A socket takes connections for a process that is stopped, too.
    let hanging = UnixListener::bind(desk.path("h/runtime/admin.sock")).expect("a socket");
    let (told, asked) = mpsc::channel();
    std::thread::spawn(move || {
        for connection in hanging.incoming() {
            if told.send(connection).is_err() {
                return;
            }
        }
    });
    let ran = desk.run("--home h check");
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert!(ran.stdout.contains("did not answer within 10 s"), "{ran:#?}");
    assert!(ran.stderr.contains("note: the node at [DIR]/h/runtime/admin.sock"), "{ran:#?}");
    assert!(ran.stderr.contains("has not answered for 5 s; it has 10 s in all"), "{ran:#?}");
    assert_eq!(asked.try_iter().count(), 1, "how often it was asked");
}

#[test]
fn errors_are_documents_where_results_would_be() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("h")).expect("a home");
    let expect = r#"{
  "error": "no-node",
  "exit": 4,
  "what": "no node runs on this home",
  "where": "[DIR]/h/runtime/admin.sock",
  "why": "nobody answers on its admin socket",
  "remedy": "start it with `handfast run`, or name another home with --home"
}
"#;
    desk.check("--home h status -o json", 4, "", expect);
    let yaml = desk.run("--home h status -o yaml");
    assert_eq!((yaml.code, yaml.stdout.as_str()), (4, ""));
    assert!(
        yaml.stderr.starts_with("error: no-node\nexit: 4\nwhat: no node runs on this home\n"),
        "{yaml:?}"
    );
}

#[test]
fn a_token_needs_a_node_and_leaves_no_empty_file() {
    let desk = Desk::new();
    let ran = desk.run("--home h token issue west.token");
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.stderr.starts_with("error: no token was issued\n"), "{ran:?}");
    assert!(!desk.path("west.token").exists());
}

#[test]
fn a_token_file_that_is_there_is_not_overwritten() {
    let desk = Desk::new();
    desk.write("west.token", "precious");
    desk.check(
        "--home h token issue west.token",
        1,
        "",
        "error: no token was issued: its file cannot be made\n  where  west.token\n  \
         why    File exists (os error 17)\n  to do  name another file, or remove this one\n",
    );
    assert_eq!(desk.read("west.token"), "precious");
}

#[test]
fn broken_token_files_are_named_with_line_and_field() {
    let desk = Desk::new();
    let missing = desk.run("--home h token redeem nowhere.token");
    assert_eq!(missing.code, 3, "{missing:?}");
    assert!(missing.stderr.contains("nowhere.token"), "{missing:?}");

    desk.write(
        "typo.token",
        "apiVersion: handfast.dev/v1alpha1\nkind: AccessToken\nmetadata:\n  name: t\nspec:\n  urk: https://h:1/v1/grants/a\n",
    );
    let typo = desk.run("--home h token redeem typo.token");
    assert_eq!(typo.code, 3, "{typo:?}");
    for word in ["typo.token:6", "urk", "url"] {
        assert!(typo.stderr.contains(word), "`{word}` is not in {typo:?}");
    }

    desk.write(
        "site.token",
        "apiVersion: handfast.dev/v1alpha1\nkind: Site\nmetadata:\n  name: t\nspec: {}\n",
    );
    let site = desk.run("--home h token redeem site.token");
    assert_eq!(site.code, 3, "{site:?}");
    assert!(site.stderr.contains("AccessToken"), "{site:?}");

    desk.write("noise.token", [0xff, 0xfe, 0x00, 0x01]);
    assert_eq!(desk.run("--home h token redeem noise.token").code, 3);
}

#[test]
fn wrong_command_lines_exit_with_2() {
    let desk = Desk::new();
    for line in [
        "",
        "nonsense",
        "site create",
        "site create West",
        "site create west --link-port 55671",
        "site create west --enable-link-access",
        "site create west --enable-link-access --link-host h --link-port 0",
        "site create west --enable-link-access --link-host h --link-port 70000",
        "listener create payments",
        "listener create payments 0",
        "connector create payments http",
        "token issue t --expiration-window soon",
        "token issue t --redemptions-allowed 0",
        "cert renew",
        "cert renew a --all",
        "cert verify x --cert c",
        "status -o xml",
        "completion tcsh",
    ] {
        let ran = desk.run(line);
        assert_eq!(ran.code, 2, "`handfast {line}`: {ran:?}");
        assert_eq!(ran.stdout, "", "`handfast {line}`");
        assert!(!ran.stderr.is_empty(), "`handfast {line}`");
    }
}

#[test]
fn a_home_that_cannot_be_known_is_asked_for() {
    let ended = std::process::Command::new(env!("CARGO_BIN_EXE_handfast"))
        .arg("status")
        .env_clear()
        .output()
        .expect("the binary starts");
    // Root has a home in any case; everybody else has to be told.
    let code = ended.status.code().expect("a code");
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert!(
        code == 4 && stderr.contains("/var/lib/handfast") || code == 2 && stderr.contains("--home"),
        "{code} {stderr}"
    );
}

#[test]
fn help_and_version_succeed() {
    let desk = Desk::new();
    for line in [
        "--help",
        "-h",
        "help",
        "site create --help",
        "help cert verify",
        "--version",
        "cert --version",
    ] {
        let ran = desk.run(line);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "`handfast {line}`");
        assert!(!ran.stdout.is_empty(), "`handfast {line}`");
    }
}

#[test]
fn a_reader_that_goes_away_is_not_an_error() {
    use std::process::{Command, Stdio};
    let mut child = Command::new(env!("CARGO_BIN_EXE_handfast"))
        .args(["completion", "bash"])
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(ended.stderr.is_empty(), "{ended:?}");
}

#[test]
fn a_backup_that_is_not_there_is_bad_input() {
    let desk = Desk::new();
    desk.check(
        "--home h restore nope.tar",
        3,
        "",
        "error: there is nothing to restore\n  where  nope.tar\n  why    No such file or directory (os error 2)\n  \
         to do  check the path, and who may read it\n",
    );
    assert!(!desk.path("h").exists(), "and no home is made for it");
}

#[test]
fn a_no_is_an_answer_and_no_error() {
    let desk = Desk::new();
    assert_eq!(desk.run("--home h site create west --trust-domain demo.example").code, 0);
    desk.check(
        "--home h policy test --principal alice --action token.issue",
        9,
        "denied\nwhy  no policy permits it\n",
        "",
    );
}
