//! `docs/cli.md` is what `--help` says: generated, committed, compared.

use std::fmt::Write as _;
use std::fs;

use crate::desk::Desk;

#[test]
fn the_reference_page_says_what_help_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
    let page = page(&Desk::new());
    if std::env::var_os("HANDFAST_WRITE_DOCS").is_some() {
        fs::write(path, &page).expect("docs/cli.md can be written");
    }
    let committed = fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == page,
        "docs/cli.md has drifted; write it anew: HANDFAST_WRITE_DOCS=1 cargo test -p handfast --test cli reference"
    );
}

fn page(desk: &Desk) -> String {
    let mut page = String::from(
        "# The command line\n\nEvery command as its `-h` says it (`--help` says it at more length). Generated; a test compares \
         it with\nthe program. The codes that commands exit with are in [exit-codes.md](exit-codes.md).\n",
    );
    describe(desk, "", &mut page);
    page
}

fn describe(desk: &Desk, command: &str, page: &mut String) {
    let help = desk.run(&format!("{command} -h"));
    assert_eq!(help.code, 0, "{help:?}");
    let (title, text) = match command {
        "" => ("handfast".to_owned(), help.stdout.clone()),
        command => (format!("handfast{command}"), without_globals(&help.stdout)),
    };
    write!(page, "\n## {title}\n\n```text\n{}\n```\n", text.trim_end()).expect("a String");
    for sub in subcommands(&help.stdout) {
        describe(desk, &format!("{command} {sub}"), page);
    }
}

/// The global options are the same everywhere; the page has them once, at the top.
fn without_globals(help: &str) -> String {
    let (before, after) = help.split_once("Global options:\n").expect("every command has them");
    let rest = after.split_once("\n\n").map_or("", |(_, rest)| rest);
    format!("{before}{rest}")
}

/// The names in the section "Commands:" of a help text.
fn subcommands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(ToOwned::to_owned)
        .collect()
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let desk = Desk::new();
    let missing = desk.run("man nowhere");
    assert_eq!(missing.code, 3, "{missing:?}");
    fs::create_dir(desk.path("man1")).expect("a directory");
    let ran = desk.run("man man1");
    assert_eq!(ran.code, 0, "{ran:?}");
    for page in ["handfast.1", "handfast-site-create.1", "handfast-cert-verify.1"] {
        assert!(desk.read(&format!("man1/{page}")).contains(".SH SYNOPSIS"), "{page}");
    }
    let first = desk.read("man1/handfast.1");
    assert!(first.contains(".SH \"EXIT STATUS\"") && !first.contains("demo\\-service"), "{first}");
}

#[test]
fn completions_name_the_verbs() {
    let desk = Desk::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = desk.run(&format!("completion {shell}"));
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.stdout.contains("listener") && ran.stdout.contains("redeem"), "{shell}");
    }
}
