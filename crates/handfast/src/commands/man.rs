//! `handfast man`: the manual, made from the same definitions as `--help`, so that the two cannot disagree.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap_mangen::Man;

use crate::cli;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Output};

/// Arguments of `handfast man`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  handfast man | man -l -\n  handfast man /usr/local/share/man/man1"
)]
pub(crate) struct Arguments {
    /// Write one page per command into this directory, instead of printing the first page
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Prints `handfast(1)`, or writes every page.
pub(crate) fn run(arguments: &Arguments, output: Output) -> anyhow::Result<()> {
    let mut tree = cli::tree().disable_help_subcommand(true);
    tree.build();
    let Some(directory) = &arguments.directory else {
        return output::print(&String::from_utf8(page(tree)?)?);
    };
    if !directory.is_dir() {
        let failure = Failure::new(Exit::BadInput, "cannot write the manual pages")
            .at(directory.display())
            .because("there is no such directory")
            .remedy(format!("make it first: mkdir -p {}", directory.display()));
        return Err(failure.into());
    }
    let mut written = Vec::new();
    write_all(&tree, directory, &mut written)?;
    output.show(&written, |text| {
        for path in &written {
            text.line(path);
        }
    })
}

fn write_all(
    command: &clap::Command,
    directory: &Path,
    written: &mut Vec<String>,
) -> anyhow::Result<()> {
    let path = directory.join(Man::new(command.clone()).get_filename());
    std::fs::write(&path, page(command.clone())?)
        .with_context(|| format!("cannot write the manual page {}", path.display()))?;
    written.push(path.display().to_string());
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        write_all(sub, directory, written)?;
    }
    Ok(())
}

fn page(command: clap::Command) -> anyhow::Result<Vec<u8>> {
    let mut page = Vec::new();
    let is_first = command.get_name() == "handfast";
    Man::new(command).manual("handfast manual").source("handfast").render(&mut page)?;
    if is_first {
        page.extend_from_slice(exit_status().as_bytes());
    }
    Ok(page)
}

/// The section EXIT STATUS, as man-pages(7) wants it.
fn exit_status() -> String {
    let items = Exit::ALL.map(|exit| format!(".TP\n{}\n{}\n", exit.code(), exit.meaning()));
    format!(".SH \"EXIT STATUS\"\n{}", items.concat())
}
