//! The native command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use config::{Config, ConfigError, Options};

use crate::daemons::{self, Daemons, Said};
use crate::demo::DemoArgs;
use crate::{check, demo, environment, exit};

/// A durable NSQ broker for edge gateways: OK means on flash
#[derive(Debug, Parser)]
#[command(name = "nsq-edge", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Broker, lookupd and forwarder in one process, for one small box
    Gateway(Settings),
    /// The broker alone (what nsqd is to NSQ)
    Broker(Settings),
    /// The registry alone (what nsqlookupd is to NSQ)
    Lookupd(Settings),
    /// The relay to upstream brokers alone (what nsq_to_nsq is to NSQ)
    Forwarder(Settings),
    /// Watch clicks go through a gateway that is killed, over a link that is cut, and none lost
    Demo(DemoArgs),
    /// Look at configuration files
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the configuration that a file results in, or what is wrong with it (exit code 1)
    Check {
        /// The file; without it, the built-in defaults are shown
        file: Option<PathBuf>,
        /// Print errors only
        #[arg(short, long)]
        quiet: bool,
        /// Set one key over the file, as TOML, e.g. --set ring.bytes=8MiB
        #[arg(long = "set", value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct Settings {
    /// The configuration file; without it, the built-in defaults hold
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one key over the file, as TOML, e.g. --set broker.tcp_address=127.0.0.1:4150
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Runs the program under its own name.
pub(crate) fn main(args: &[String]) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version too; clap knows which of them is an error.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::USAGE));
        }
    };
    match cli.command {
        Command::Config(ConfigCommand::Check { file, quiet, set }) => {
            check::run(resolve(file.as_deref(), &set), quiet)
        }
        Command::Demo(args) => demo::main(&args),
        Command::Gateway(settings) => daemons(Daemons::ALL, &settings),
        Command::Broker(settings) => daemons(Daemons::BROKER, &settings),
        Command::Lookupd(settings) => daemons(Daemons::LOOKUPD, &settings),
        Command::Forwarder(settings) => daemons(Daemons::FORWARDER, &settings),
    }
}

fn daemons(wanted: Daemons, settings: &Settings) -> ExitCode {
    match resolve(settings.config.as_deref(), &settings.set) {
        Ok((_, options)) => daemons::main("nsq-edge", wanted, options, &Said::default()),
        Err(error) => exit::fatal(error),
    }
}

fn resolve(file: Option<&Path>, set: &[String]) -> Result<(Config, Options), ConfigError> {
    let mut config = file.map_or_else(|| Ok(Config::default()), config::load)?;
    for assignment in set {
        config.set(assignment)?;
    }
    let options = config.resolve(&environment::read())?;
    Ok((config, options))
}
