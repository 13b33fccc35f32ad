//! The end of a run: the table, and whether anything is missing.

use std::fmt::Write;
use std::time::Duration;

use super::ledger::{Campaigns, End, Ledger};
use super::state::{Facts, State};

/// Ids and campaigns that are named; the others are counted.
const NAMED_MAX: usize = 5;

/// What came out.
#[derive(Debug)]
pub(crate) struct Report {
    /// The table and the verdict, for people.
    pub(crate) text: String,
    /// Everything was acknowledged, and what was acknowledged is at both ends as it was published.
    pub(crate) is_good: bool,
}

/// Puts together what is known after `took`. `total` events were to be published.
pub(crate) fn report(
    state: &State,
    total: u64,
    upstream: &Campaigns,
    local: &Campaigns,
    took: Duration,
) -> Report {
    let ledger = state.ledger.borrow();
    let facts = state.facts.borrow();
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _infallible = table(&mut text, &ledger, &facts, state.sent_again.get(), took);
    let mut is_good = true;
    let mut wrong = |line: String| {
        is_good = false;
        text.push_str(&line);
        text.push('\n');
    };
    let totals = ledger.totals();
    if totals.acknowledged < total {
        wrong(format!(
            "NOT ALL PUBLISHED: {} of {} were acknowledged{}",
            grouped(totals.acknowledged),
            grouped(total),
            Some(state.last_refusal.borrow())
                .filter(|reason| !reason.is_empty())
                .map(|reason| format!("; the last refusal: {reason}"))
                .unwrap_or_default()
        ));
    }
    for (end, name) in [(End::Upstream, "upstream"), (End::Local, "local")] {
        let lost = ledger.missing(end).count();
        if lost > 0 {
            let ids: Vec<&str> = ledger.missing(end).take(NAMED_MAX).collect();
            let more = if lost > ids.len() { ", .." } else { "" };
            let lost = grouped(lost as u64);
            wrong(format!("MISSING {name}: {lost}: {}{more}", ids.join(", ")));
        }
    }
    if totals.altered > 0 {
        let altered = grouped(totals.altered);
        wrong(format!(
            "ALTERED: {altered} deliveries that nobody published like that"
        ));
    }
    // Counts can only agree when everything is there.
    if is_good {
        for (counted, name) in [(upstream, "upstream"), (local, "local")] {
            if let Some(difference) = difference(ledger.campaigns(), counted) {
                is_good = false;
                let _infallible = writeln!(text, "COUNTS DIFFER {name}: {difference}");
            }
        }
    }
    if is_good {
        let campaigns = ledger.campaigns().len();
        let _infallible = writeln!(
            text,
            "Every acknowledged event arrived at both ends; the clicks per campaign ({campaigns}) \
             agree at both.",
        );
    }
    Report { text, is_good }
}

fn table(
    out: &mut String,
    ledger: &Ledger,
    facts: &Facts,
    sent_again: u64,
    took: Duration,
) -> std::fmt::Result {
    let totals = ledger.totals();
    let lost = |end| ledger.missing(end).count() as u64;
    let cell = |number: Option<u64>| number.map(grouped).unwrap_or_default();
    let ends = |upstream, local| [None, Some(upstream), Some(local)];
    let (upstream, local) = (totals.upstream, totals.local);
    let rows = [
        ("published", [Some(totals.published), None, None]),
        ("acknowledged", [Some(totals.acknowledged), None, None]),
        ("arrived", ends(upstream.events, local.events)),
        ("lost", ends(lost(End::Upstream), lost(End::Local))),
        ("duplicates", ends(upstream.duplicates, local.duplicates)),
    ];
    let head = ("", ["gateway", "upstream", "local"].map(str::to_owned));
    let rows = rows.map(|(name, cells)| (name, cells.map(cell)));
    writeln!(out)?;
    for (name, [gateway, upstream, local]) in std::iter::once(head).chain(rows) {
        let row = format!("{name:<14}{gateway:>12}{upstream:>12}{local:>12}");
        writeln!(out, "{}", row.trim_end())?;
    }
    writeln!(out)?;
    let back = match facts.back_after {
        Some(back) => format!(", back after {:.2} s", back.as_secs_f64()),
        None => String::new(),
    };
    let rows = [
        (
            "gateway kills",
            format!(
                "{} (kill -9, {} events unanswered, {} buffered{back})",
                facts.kills,
                grouped(facts.unanswered_at_kill),
                grouped(facts.buffered_at_kill)
            ),
        ),
        (
            "link cuts",
            format!("{} ({} connections broken)", facts.cuts, facts.broken),
        ),
        ("sent again", format!("{} events", grouped(sent_again))),
        ("written", written(facts)),
        ("peak memory", memory(facts.peak_memory_bytes)),
        ("time", format!("{:.1} s", took.as_secs_f64())),
    ];
    for (name, value) in rows {
        writeln!(out, "{name:<14}  {value}")?;
    }
    writeln!(out)
}

fn written(facts: &Facts) -> String {
    if facts.payload_bytes == 0 {
        return "not known".to_owned();
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "two digits of the ratio are shown"
    )]
    let ratio = facts.written_bytes as f64 / facts.payload_bytes as f64;
    format!(
        "{ratio:.2} bytes per payload byte ({} for {})",
        size(facts.written_bytes),
        size(facts.payload_bytes)
    )
}

fn memory(bytes: u64) -> String {
    match bytes {
        0 => "not known".to_owned(),
        bytes => format!("{} (gateway, resident)", size(bytes)),
    }
}

fn size(bytes: u64) -> String {
    let tenths = |unit: u64| (bytes / unit, bytes % unit * 10 / unit);
    let (mib, kib) = (tenths(1 << 20), tenths(1 << 10));
    match (mib, kib) {
        ((0, _), (0, _)) => format!("{bytes} B"),
        ((0, _), (whole, tenth)) => format!("{whole}.{tenth} KiB"),
        ((whole, tenth), _) => format!("{whole}.{tenth} MiB"),
    }
}

/// Campaigns that were counted otherwise than acknowledged.
fn difference(acknowledged: &Campaigns, counted: &Campaigns) -> Option<String> {
    let names = acknowledged.keys().chain(counted.keys());
    let mut differ: Vec<String> = names
        .filter(|name| acknowledged.get(*name) != counted.get(*name))
        .map(|name| {
            let of = |counts: &Campaigns| grouped(counts.get(name).copied().unwrap_or_default());
            format!("{name}: {} of {}", of(counted), of(acknowledged))
        })
        .collect();
    differ.sort();
    differ.dedup();
    let more = if differ.len() > NAMED_MAX { ", .." } else { "" };
    differ.truncate(NAMED_MAX);
    (!differ.is_empty()).then(|| format!("{}{more}", differ.join(", ")))
}

/// 1234567 as 1,234,567.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &[u8] = br#"{"id":"a","campaign":7}"#;
    const B: &[u8] = br#"{"id":"b","campaign":8}"#;

    fn state() -> State {
        let state = State::default();
        {
            let mut ledger = state.ledger.borrow_mut();
            for body in [A, B] {
                let number = ledger.publish(body).unwrap();
                ledger.acknowledge(number);
                ledger.arrive(End::Upstream, body);
                ledger.arrive(End::Local, body);
            }
        }
        state
    }

    fn campaigns(counts: &[(&str, u64)]) -> Campaigns {
        counts
            .iter()
            .map(|(name, n)| ((*name).to_owned(), *n))
            .collect()
    }

    #[test]
    fn a_run_is_good_when_all_is_at_both_ends_and_the_counts_agree() {
        let counts = campaigns(&[("7", 1), ("8", 1)]);
        let report = report(&state(), 2, &counts, &counts, Duration::from_secs(3));
        assert!(report.is_good, "{}", report.text);
        assert!(report.text.contains("per campaign (2) agree"));
    }

    #[test]
    fn a_missing_event_is_named_and_the_run_is_not_good() {
        let state = state();
        let number = state.ledger.borrow_mut().publish(br#"{"id":"c"}"#).unwrap();
        state.ledger.borrow_mut().acknowledge(number);
        state
            .ledger
            .borrow_mut()
            .arrive(End::Local, br#"{"id":"c"}"#);
        let counts = campaigns(&[("7", 1), ("8", 1), ("-", 1)]);
        let report = report(&state, 3, &counts, &counts, Duration::ZERO);
        assert!(!report.is_good);
        assert!(
            report.text.contains("MISSING upstream: 1: c"),
            "{}",
            report.text
        );
        assert!(!report.text.contains("MISSING local"));
    }

    #[test]
    fn counts_that_differ_name_the_campaign() {
        let right = campaigns(&[("7", 1), ("8", 1)]);
        let wrong = campaigns(&[("7", 1), ("9", 1)]);
        let report = report(&state(), 2, &right, &wrong, Duration::ZERO);
        assert!(!report.is_good);
        assert!(
            report.text.contains("local: 8: 0 of 1, 9: 1 of 0"),
            "{}",
            report.text
        );
    }

    #[test]
    fn an_altered_delivery_or_an_unacknowledged_event_makes_a_run_bad() {
        let counts = campaigns(&[("7", 1), ("8", 1)]);
        let altered = state();
        altered.ledger.borrow_mut().arrive(End::Local, b"{}");
        assert!(!report(&altered, 2, &counts, &counts, Duration::ZERO).is_good);
        assert!(!report(&state(), 3, &counts, &counts, Duration::ZERO).is_good);
    }

    #[test]
    fn sizes_are_in_the_unit_that_fits() {
        let cases = [(999, "999 B"), (1536, "1.5 KiB"), (7_444_000, "7.0 MiB")];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn digits_are_grouped_by_three() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }
}
