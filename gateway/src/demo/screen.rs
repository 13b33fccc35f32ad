//! What is seen while it runs: bars on a terminal, else a plain line every second.

use std::io::{IsTerminal, Write};
use std::rc::Rc;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use runtime::{clock, timer};

use super::report::grouped;
use super::state::State;

const BARS_EVERY: Duration = Duration::from_millis(100);
const LINES_EVERY: Duration = Duration::from_secs(1);

/// Where progress is shown.
pub(crate) struct Screen {
    total: u64,
    started: Duration,
    bars: Option<Bars>,
}

struct Bars {
    all: MultiProgress,
    published: ProgressBar,
    buffered: ProgressBar,
    forwarded: ProgressBar,
}

impl Screen {
    /// For `total` events. Bars only where nothing of the output goes elsewhere.
    pub(crate) fn new(total: u64) -> Self {
        let is_watched = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        Self {
            total,
            started: clock::now(),
            bars: is_watched.then(|| Bars::new(total)),
        }
    }

    /// Since it was made.
    pub(crate) fn elapsed(&self) -> Duration {
        clock::now().saturating_sub(self.started)
    }

    /// A line that stays.
    pub(crate) fn say(&self, line: &str) {
        match &self.bars {
            Some(bars) => {
                // A terminal that is gone is no reason to end before the clean-up.
                let _unseen = bars.all.println(line);
            }
            None => print(line),
        }
    }

    /// Shows how far it is, until it is dropped.
    pub(crate) async fn watch(&self, state: Rc<State>) {
        let every = if self.bars.is_some() {
            BARS_EVERY
        } else {
            LINES_EVERY
        };
        let mut due = self.started;
        loop {
            due = due.saturating_add(every);
            timer::sleep_until(due).await;
            self.show(&state);
        }
    }

    /// The last state of it, before other output.
    pub(crate) fn end(&self, state: &State) {
        self.show(state);
        self.stop();
    }

    /// Leaves the bars as they are.
    pub(crate) fn stop(&self) {
        if let Some(bars) = &self.bars {
            for bar in [&bars.published, &bars.buffered, &bars.forwarded] {
                bar.abandon();
            }
        }
    }

    fn show(&self, state: &State) {
        let totals = state.totals();
        let facts = state.facts.borrow();
        let link = if facts.link_is_up { "up" } else { "down" };
        let Some(bars) = &self.bars else {
            let seconds = self.elapsed().as_secs_f64();
            print(&format!(
                "{seconds:5.1} s   published {:>8}   buffered {:>8}   forwarded {:>8} of {}   \
                 link {link}, {} cuts",
                grouped(totals.acknowledged),
                grouped(totals.buffered),
                grouped(totals.upstream.events),
                grouped(self.total),
                facts.cuts,
            ));
            return;
        };
        bars.published.set_position(totals.acknowledged);
        bars.buffered.set_position(totals.buffered);
        bars.forwarded.set_position(totals.upstream.events);
        let message = format!("link {link}, {} cuts", facts.cuts);
        bars.forwarded.set_message(message);
    }
}

impl Bars {
    fn new(total: u64) -> Self {
        let all = MultiProgress::new();
        // The template is a constant; if it were wrong, the plain bar would do.
        let style = ProgressStyle::with_template("  {prefix:<10} {bar:40} {pos:>8}  {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        let bar = |name: &'static str| {
            all.add(
                ProgressBar::new(total)
                    .with_style(style.clone())
                    .with_prefix(name),
            )
        };
        Self {
            published: bar("published"),
            buffered: bar("buffered"),
            forwarded: bar("forwarded"),
            all,
        }
    }
}

/// A line on stdout. One that nobody reads any more is no reason to end before the clean-up.
pub(crate) fn print(line: &str) {
    let mut out = std::io::stdout().lock();
    let _unread = writeln!(out, "{line}");
}
