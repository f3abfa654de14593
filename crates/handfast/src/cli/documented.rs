//! Every command that a document, a help text, a remedy or an error names is one that this program takes: whoever types
//! it as written gets as far as what it is about. So is every resource that a document shows. What they do is tested
//! elsewhere.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use clap::error::ErrorKind;
use handfast_api::resources::Resources;

use super::{Cli, tree};

#[test]
fn commands_in_the_documents_parse() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for page in files(&["README.md", "docs", "benches", "deploy"], &["md", "yaml"]) {
        // Generated, and wrapped at a width; what it is made of is looked at below.
        if page.ends_with("docs/cli.md") {
            continue;
        }
        let text = fs::read_to_string(&page).expect("a readable page");
        for (line, command) in blocks(&text) {
            seen += 1;
            wrong.extend(complete(&command, &format!("{}:{line}", page.display())));
        }
        for command in spans(&text) {
            seen += 1;
            wrong.extend(mentioned(&command, &page.display().to_string()));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(seen > 300, "{seen} commands were found: the pages are not read as they are written");
}

#[test]
fn resources_in_the_documents_are_read() {
    let mut seen = 0;
    for page in files(&["README.md", "docs"], &["md"]) {
        let text = fs::read_to_string(&page).expect("a readable page");
        for block in text.split("\n```yaml\n").skip(1) {
            let document = block.split("\n```").next().unwrap_or_default();
            if !document.lines().any(|line| line.starts_with("kind: ")) {
                continue;
            }
            seen += 1;
            let (_, faults) = Resources::parse(&page, document);
            // Where a certificate is left out, that is what is missing.
            let fault =
                faults.iter().find(|fault| !fault.what.contains("no usable CA certificate"));
            assert!(fault.is_none(), "{fault:?} in\n{document}");
        }
    }
    assert!(seen > 10, "{seen} resources were found: the pages are not read as they are written");
}

#[test]
fn commands_in_help_texts_parse() {
    fn visit(command: &clap::Command, path: &str, wrong: &mut Vec<String>) {
        let path = format!("{path} {}", command.get_name());
        for text in [command.get_after_help(), command.get_after_long_help()].into_iter().flatten()
        {
            let text = text.to_string().replace("\\\n", "");
            let examples = text.lines().filter(|line| line.starts_with("  "));
            wrong.extend(examples.flat_map(typed).filter_map(|command| complete(&command, &path)));
            wrong.extend(spans(&text).iter().filter_map(|command| mentioned(command, &path)));
        }
        command.get_subcommands().for_each(|sub| visit(sub, &path, wrong));
    }
    let mut tree = tree();
    tree.build();
    let mut wrong = Vec::new();
    visit(&tree, "", &mut wrong);
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn commands_in_messages_parse() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for source in files(&["crates"], &["rs"]) {
        if source.ends_with("documented.rs")
            || source.components().any(|part| part.as_os_str() == "tests")
        {
            continue;
        }
        let text = fs::read_to_string(&source).expect("a readable source");
        // A string goes on after a line that ends with a backslash, a comment after `///`.
        let lines = text.lines().map(|line| line.trim_start().trim_start_matches(['/', '!']));
        let text = lines.collect::<Vec<_>>().join("\n").replace("\\\n", "");
        for command in spans(&text) {
            seen += 1;
            wrong.extend(mentioned(&command, &source.display().to_string()));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(seen > 100, "{seen} commands were found: the sources are not read as they are written");
}

/// Why a whole command is not taken, with something in the place of what its reader fills in.
fn complete(words: &[String], at: &str) -> Option<String> {
    let error = Cli::try_parse_from(filled(words)).err()?;
    (!is_help(error.kind())).then(|| told(words, at, &error))
}

/// Why what is named in passing is not taken. It may leave out what does not matter there; what it says has to exist.
fn mentioned(words: &[String], at: &str) -> Option<String> {
    // What a program fills in is what nobody can know here, and what comes after it.
    let known = words.iter().position(|word| word.contains('{')).unwrap_or(words.len());
    if known < 2 {
        return None;
    }
    let error = Cli::try_parse_from(filled(&words[..known])).err()?;
    let made_up = matches!(
        error.kind(),
        ErrorKind::ArgumentConflict | ErrorKind::InvalidSubcommand | ErrorKind::UnknownArgument
    );
    made_up.then(|| told(words, at, &error))
}

fn told(words: &[String], at: &str, error: &clap::Error) -> String {
    let why = error.to_string().lines().next().unwrap_or_default().to_owned();
    format!("{at}: `{}`: {why}", words.join(" "))
}

fn is_help(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            | ErrorKind::DisplayVersion
    )
}

/// The words with placeholders filled in: `NAME`, `$WEST`, `{name}`.
fn filled(words: &[String]) -> impl Iterator<Item = String> {
    let optional = |word: &&String| !matches!(word.as_str(), "..." | "[...]");
    let stands_for = |word: &String| match word.as_str() {
        "HOST:PORT" => "127.0.0.1:1".to_owned(),
        "PORT" | "NUMBER" | "COUNT" | "ID" => "1".to_owned(),
        word if word.contains('$') => "127.0.0.1:1".to_owned(),
        word if word.contains('{') || is_placeholder(word) => "one".to_owned(),
        word => word.to_owned(),
    };
    words.iter().filter(optional).map(stands_for).collect::<Vec<_>>().into_iter()
}

fn is_placeholder(word: &str) -> bool {
    word.len() > 1 && word.chars().all(|it| it.is_ascii_uppercase() || matches!(it, '-' | '|'))
}

/// The commands in the blocks that are for typing, with their lines.
fn blocks(text: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    let mut kind: Option<&str> = None;
    let mut begun: Option<(usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        if let Some(fence) = line.trim_start().strip_prefix("```") {
            kind = if kind.is_some() { None } else { Some(fence) };
            continue;
        }
        let line = match kind {
            Some("sh") => line,
            // What is typed stands behind a prompt, what is answered does not.
            Some("console") if begun.is_some() => line,
            Some("console") => line.split_once("$ ").map_or("", |(_, typed)| typed),
            _ => continue,
        };
        let (first, before) = begun.take().unwrap_or((number + 1, String::new()));
        let line = before + line.trim();
        match line.strip_suffix('\\') {
            Some(part) => begun = Some((first, part.to_owned())),
            None => found.extend(typed(&line).into_iter().map(|command| (first, command))),
        }
    }
    found
}

/// The commands between backticks.
fn spans(text: &str) -> Vec<Vec<String>> {
    let starts = text.match_indices("`handfast ");
    starts
        .filter_map(|(at, _)| {
            let rest = &text[at + 1..];
            let end = rest.find('`')?;
            let span = rest[..end].replace('\n', " ");
            // No command is that long, and none holds the end of a string: the backtick was the end of something.
            let is_command = end < 200 && !span.contains('"') && !span.starts_with(STATEMENTS);
            is_command.then(|| typed(&span))
        })
        .flatten()
        .collect()
}

/// What signed statements about revocations begin with; no command.
const STATEMENTS: &str = "handfast revocations ";

/// The words of each `handfast` in a line of shell.
fn typed(line: &str) -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    for words in simple_commands(line) {
        let assigned = |word: &&String| {
            word.split_once('=').is_some_and(|(name, _)| !name.contains('-') && !name.is_empty())
        };
        let mut words: Vec<String> = words.iter().skip_while(assigned).cloned().collect();
        if let Some(at) =
            words.iter().position(|word| word == "handfast" || word.ends_with("/handfast"))
        {
            // Before it there may be who types it (`sudo -u handfast`) or what asks (`if`), not another program's arguments.
            let before = words.drain(..at).collect::<Vec<_>>();
            let is_typed = match before.first().map(String::as_str) {
                Some("sudo") => {
                    let names =
                        words.iter().rposition(|word| word == "handfast").unwrap_or_default();
                    words.drain(..names);
                    true
                }
                None | Some("if" | "while" | "until" | "do" | "then" | "time" | "!") => true,
                Some(_) => false,
            };
            if is_typed && words.len() > 1 {
                commands.push(words);
            }
        }
    }
    commands
}

/// A line of shell as commands of words: enough of its grammar for what is written here.
fn simple_commands(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let end = |word: &mut Option<String>, commands: &mut Vec<Vec<String>>| {
        if let Some(word) = word.take() {
            commands.last_mut().expect("there is one at least").push(word);
        }
    };
    let mut depth = 0_usize;
    for character in line.chars() {
        // What a command in `$( )` prints is one word, whatever it is.
        if character == '(' && word.as_ref().is_some_and(|word| word.ends_with('$')) || depth > 0 {
            match character {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            continue;
        }
        match (character, quote) {
            (it, Some(open)) if it == open => quote = None,
            ('\'' | '"', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            ('#', None) if word.is_none() => break,
            (';' | '|' | '&' | '(' | ')', None) => {
                // `2>&1` is one redirection.
                if character == '&' && word.as_ref().is_some_and(|word| word.ends_with('>')) {
                    continue;
                }
                end(&mut word, &mut commands);
                commands.push(Vec::new());
            }
            (it, None) if it.is_whitespace() => end(&mut word, &mut commands),
            (it, _) => word.get_or_insert_default().push(it),
        }
    }
    end(&mut word, &mut commands);
    for words in &mut commands {
        // What comes from or goes to a file is no argument.
        let redirection = |word: &String| {
            word.trim_start_matches(|it: char| it.is_ascii_digit()).starts_with(['>', '<'])
        };
        while let Some(at) = words.iter().position(redirection) {
            let alone = words[at].ends_with(['>', '<']);
            words.drain(at..words.len().min(at + 1 + usize::from(alone)));
        }
    }
    commands
}

/// All files with one of the endings at or below these places of the repository.
fn files(places: &[&str], endings: &[&str]) -> Vec<PathBuf> {
    fn visit(path: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
        if path.is_dir() {
            for entry in fs::read_dir(path).expect("a readable directory") {
                visit(&entry.expect("an entry").path(), endings, found);
            }
        } else if path.extension().is_some_and(|it| endings.iter().any(|ending| it == *ending)) {
            found.push(path.to_owned());
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    for place in places {
        visit(&root.join(place), endings, &mut found);
    }
    found
}

#[test]
fn shell_is_read_as_a_shell_does() {
    let line = |text: &str| -> Vec<String> {
        typed(text).into_iter().map(|words| words.join(" ")).collect()
    };
    for (text, commands) in [
        ("handfast status # well?", vec!["handfast status"]),
        ("A=1 handfast run > log 2>&1 &", vec!["handfast run"]),
        (
            "handfast cert list --why 'a b' | head && handfast check",
            vec!["handfast cert list --why a b", "handfast check"],
        ),
        ("sudo -u handfast handfast status", vec!["handfast status"]),
        ("X=$(handfast status | jq .a) && ls handfast", vec![]),
        ("useradd --system handfast", vec![]),
        ("P=$(cat lock); handfast --home $P status", vec!["handfast --home $P status"]),
    ] {
        assert_eq!(line(text), commands, "{text}");
    }
}
