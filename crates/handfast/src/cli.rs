//! The command line as a whole: the global options, the list of verbs, and how a wrong line is answered.
//!
//! Each command defines its own arguments in its own file under [`crate::commands`].

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use handfast_api::admin::NodeUrl;

use crate::commands::{
    agent_certs, approve, audit, backup, ca, cert, check, collector, completion, connector, enrol,
    event, link, listener, log, man, metric, policy, relay, rollout, run, service, site, status,
    token, trace,
};
use crate::demo;
use crate::exit::Exit;
use crate::output::Format;

/// Mutual TLS for everything that talks: one binary that issues every certificate, renews it, and carries the traffic.
#[derive(Debug, Parser)]
#[command(
    name = "handfast",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Two sites on this machine, linked, proven and renewed under load:\n  handfast demo\n\n\
                  Exit codes: 0 done, 1 failed, 2 wrong command line, 3 bad file, 4 no node runs, 5 refused by the \
                  other side, 6 home unusable, 7 timed out, 8 port in use, 9 the answer is no, 10 waits for a second person, \
                  11 no such thing."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options every command takes, before or after the verb.
#[derive(Args, Clone, Debug)]
pub(crate) struct Globals {
    /// The node's home directory [default: /var/lib/handfast for root, else $XDG_DATA_HOME/handfast]
    #[arg(
        long,
        global = true,
        env = "HANDFAST_HOME",
        hide_env_values = true,
        value_name = "DIR",
        help_heading = "Global options"
    )]
    pub(crate) home: Option<PathBuf>,
    /// A node elsewhere instead of the home's, by the URL of its admin port.
    #[arg(
        long,
        help = "A node elsewhere instead of the home's: its admin port, like https://west.example:8443",
        global = true,
        env = "HANDFAST_NODE",
        hide_env_values = true,
        value_name = "URL",
        help_heading = "Global options"
    )]
    pub(crate) node: Option<NodeUrl>,
    /// The operator credential to show there: a name in the home, or a directory with tls.crt, tls.key and ca.crt
    #[arg(
        long,
        global = true,
        env = "HANDFAST_CLIENT_CERT",
        hide_env_values = true,
        value_name = "NAME|DIR",
        help_heading = "Global options"
    )]
    pub(crate) client_cert: Option<String>,
    /// How results are printed
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT", help_heading = "Global options")]
    pub(crate) output: Format,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make two sites on this machine, link them, and prove every claim
    Demo(demo::Arguments),
    /// Create this home's site
    #[command(
        subcommand,
        after_help = "Example:\n  handfast site create west --trust-domain demo.example"
    )]
    Site(site::Verb),
    /// Run the node of this home
    Run(run::Arguments),
    /// Issue and redeem the tokens that link sites
    #[command(
        subcommand,
        after_help = "Examples:\n  handfast token issue west.token --expiration-window 15m\n  handfast token redeem west.token"
    )]
    Token(token::Verb),
    /// Get the certificate of telemetry agents by a token, and keep it fresh
    Enrol(enrol::Arguments),
    /// See the links to other sites
    #[command(subcommand, after_help = "Example:\n  handfast link status")]
    Link(link::Verb),
    /// Say where a service of the network is reachable from here
    #[command(
        subcommand,
        after_help = "Examples:\n  handfast listener create payments 9090\n  handfast listener status"
    )]
    Listener(listener::Verb),
    /// Say where a service is, and offer it to the network
    #[command(
        subcommand,
        after_help = "Examples:\n  handfast connector create payments 8080\n  handfast connector status"
    )]
    Connector(connector::Verb),
    /// Receive telemetry, knowing who reports, and keep it or send it on
    #[command(
        subcommand,
        after_help = "Examples:\n  handfast collector create telemetry --hosts collector.shop.example\n  handfast collector status"
    )]
    Collector(collector::Verb),
    /// Let agents report in the clear on this machine, and carry it over mutual TLS
    #[command(
        subcommand,
        after_help = "Examples:\n  handfast relay create shop --service shop --backend collector.shop.example:11800\n  handfast relay status"
    )]
    Relay(relay::Verb),
    /// Go from plaintext to mutual TLS, seeing who is ready
    #[command(
        subcommand,
        after_help = "Examples:\n  handfast rollout status\n  handfast rollout plan --to mtls"
    )]
    Rollout(rollout::Verb),
    /// List traces, and draw them
    #[command(subcommand, after_help = "Example:\n  handfast trace ls --service shop --since 1h")]
    Trace(trace::Verb),
    /// See the services that report telemetry
    #[command(subcommand, after_help = "Example:\n  handfast service ls")]
    Service(service::Verb),
    /// List the lines of log that services reported
    #[command(subcommand, after_help = "Example:\n  handfast log ls --service shop --text timeout")]
    Log(log::Verb),
    /// List what happened to services: starts, shutdowns, deployments
    #[command(subcommand, after_help = "Example:\n  handfast event ls --service shop --since 1d")]
    Event(event::Verb),
    /// List what services measure
    #[command(subcommand, after_help = "Example:\n  handfast metric ls --service shop")]
    Metric(metric::Verb),
    /// See how this home's node is
    Status(status::Arguments),
    /// Check this home and its node, one line for each fact
    Check(check::Arguments),
    /// See what waits for a second person, and approve it
    Approve(approve::Arguments),
    /// Ask, list and check the policies about who may do what
    #[command(
        subcommand,
        after_help = "Example:\n  handfast policy test --principal alice --action token.issue"
    )]
    Policy(policy::Verb),
    /// Issue, list, verify, renew, import and export certificates
    #[command(
        subcommand,
        after_help = "Examples:\n  handfast cert list --expiring 7d\n  handfast cert verify west.example:443 --ca ca.crt\n  handfast cert revoke --name east --reason key-compromise"
    )]
    Cert(cert::Verb),
    /// Make the files that telemetry agents and their backend are set up with, and print the settings to paste
    AgentCerts(agent_certs::Arguments),
    /// See the authorities of this site and their keys, give them new ones, have them signed elsewhere
    #[command(
        subcommand,
        after_help = "Examples:\n  handfast ca status\n  handfast ca rotate root --wait"
    )]
    Ca(ca::Verb),
    /// List, verify and export the record of everything that was done
    #[command(
        subcommand,
        after_help = "Examples:\n  handfast audit list --since 24h --outcome refused\n  handfast audit verify"
    )]
    Audit(audit::Verb),
    /// Make a backup of this home, while its node runs
    Backup(backup::BackupArguments),
    /// Put a backup back, without forgetting what was revoked since
    Restore(backup::RestoreArguments),
    /// Print the completion script for a shell
    Completion(completion::Arguments),
    /// Print or write the manual pages
    Man(man::Arguments),
    /// The HTTP service of the demo
    #[command(hide = true)]
    DemoService(demo::ServiceArguments),
}

/// Reads the command line. Help, version and usage errors are printed here; the error says how to exit after that.
pub(crate) fn parse() -> Result<Cli, Exit> {
    parse_from(std::env::args_os())
}

fn parse_from(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, Exit> {
    Cli::try_parse_from(arguments).map_err(|error| {
        // A closed pipe while printing help is nobody's fault.
        let _ = error.print();
        if error.use_stderr() { Exit::Usage } else { Exit::Success }
    })
}

/// The command tree as clap knows it, for completion, manual pages and tests.
pub(crate) fn tree() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod documented;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_consistent() {
        tree().debug_assert();
    }

    #[test]
    fn every_command_has_an_example_in_its_help() {
        fn visit(command: &mut clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let help = command.render_help().to_string();
            if path.trim() != "handfast" {
                assert!(help.contains("Example"), "`{}` has no example in its help", path.trim());
            }
            assert!(help.contains("  handfast "), "`{}` shows no full command", path.trim());
            let shown = |sub: &&mut clap::Command| !sub.is_hide_set() && sub.get_name() != "help";
            for sub in command.get_subcommands_mut().filter(shown) {
                visit(sub, &path);
            }
        }
        let mut tree = tree();
        tree.build();
        visit(&mut tree, "");
    }

    #[test]
    fn global_options_stand_before_or_after_the_verb() {
        for line in [
            "handfast --home /h -o json cert list",
            "handfast cert --home /h list -o json",
            "handfast cert list --home /h --output json",
            "handfast -o json cert list --home=/h",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).expect(line);
            assert_eq!(cli.globals.home, Some(PathBuf::from("/h")), "{line}");
            assert_eq!(cli.globals.output, Format::Json, "{line}");
        }
    }
}
