//! Flags that every command of the client has.

use clap::{Args, Subcommand, ValueEnum};

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The document as the server tells it.
    Json,
    /// The same with colours, on a terminal.
    Jsonc,
    /// The same as YAML.
    Yaml,
    /// Columns with a header.
    Table,
    /// Values separated by tabs, without a header.
    Tsv,
    /// Nothing.
    None,
}

/// When colours are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, and where NO_COLOR is not set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Flags that every command of the client has.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Output and connection")]
pub struct Global {
    /// How the answer is written; without it, tables on a terminal and JSON elsewhere.
    #[arg(short, long, global = true, value_enum, env = "BATCHYARD_OUTPUT", hide_env = true)]
    pub output: Option<Format>,
    /// Picks from the answer, before it is written.
    #[arg(long, global = true, value_name = "JMESPATH")]
    pub query: Option<String>,
    /// The profile to use.
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Option<String>,
    /// The server's address, in place of the profile's.
    #[arg(long, global = true, value_name = "URL")]
    pub server: Option<String>,
    /// The subscription, in place of the profile's.
    #[arg(long, global = true, value_name = "ID")]
    pub subscription: Option<String>,
    /// When colours are used.
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN", hide_possible_values = true)]
    pub color: Color,
    /// Asks nothing: where an answer is needed, the command ends.
    #[arg(long, global = true)]
    pub no_input: bool,
    /// Says each request, its status and time.
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Says bodies too, without secrets.
    #[arg(long, global = true)]
    pub debug: bool,
    /// Says nothing but errors.
    #[arg(long, global = true)]
    pub only_show_errors: bool,
}

/// A command and the flags that all have.
#[derive(Args, Clone, Debug)]
pub struct With<A: Args> {
    /// The command's own.
    #[command(flatten)]
    pub args: A,
    /// Those of all.
    #[command(flatten)]
    pub global: Global,
}

/// A noun, its verbs, and the flags that all have.
#[derive(Args, Clone, Debug)]
pub struct Noun<V: Subcommand> {
    /// What is done.
    #[command(subcommand)]
    pub verb: V,
    /// Flags of all.
    #[command(flatten)]
    pub global: Global,
}
