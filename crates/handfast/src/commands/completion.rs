//! `handfast completion`: the script that teaches a shell our verbs and flags.

use clap_complete::Shell;

use crate::cli;
use crate::output;

/// Arguments of `handfast completion`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  handfast completion bash > /etc/bash_completion.d/handfast\n  handfast completion zsh > \"${fpath[1]}/_handfast\""
)]
pub(crate) struct Arguments {
    /// The shell
    shell: Shell,
}

/// Prints the script. It is text whatever `-o` says: a shell reads it.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut cli::tree(), "handfast", &mut script);
    output::print(&String::from_utf8(script)?)
}
