//! The arguments that all benches take.

use std::path::PathBuf;

use clap::Args;

/// Embedded in each bench's own arguments.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// A minute or less: smaller loads, one round; prints the results and writes no page
    #[arg(long)]
    pub quick: bool,
    /// Rounds of A B A B; medians are shown
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: Option<u32>,
    /// Write the section of the results to this page even if --quick
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// The directory to work in; the wrapper makes and removes it
    #[arg(long, value_name = "DIR", hide = true)]
    pub work: PathBuf,
    /// Our executable
    #[arg(long, value_name = "FILE", hide = true)]
    pub edge: PathBuf,
    /// NSQ's nsqd; nsqlookupd and nsq_to_nsq lie beside it
    #[arg(long, value_name = "FILE", hide = true)]
    pub nsqd: PathBuf,
}

impl Common {
    /// Rounds to run: as asked, else `default`, else one if quick.
    pub fn rounds(&self, default: u32) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { default })
    }

    /// `full`, or `quick` under --quick.
    pub fn size<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Where the results go; `None`: only printed.
    pub fn results(&self) -> Option<PathBuf> {
        let page = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/RESULTS.md"));
        self.results
            .clone()
            .or_else(|| (!self.quick).then_some(page))
    }
}
