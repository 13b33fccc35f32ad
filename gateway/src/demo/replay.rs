//! Events of a file, one JSON object per line.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use client::rng::Rng;

use super::clicks::uuid;
use super::ledger::look;

/// The largest message that a gateway takes by default.
const LINE_BYTES_MAX: usize = 1 << 20;
/// They are held in memory.
const FILE_BYTES_MAX: usize = 256 << 20;
/// Lines that are named; the others are only counted.
const NAMED_MAX: usize = 10;
/// Room for the id that is put in.
const ID_BYTES_MAX: usize = 64;

/// What a file gave.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    /// Events with an id each that no other has.
    pub(crate) events: Vec<Vec<u8>>,
    /// Of the first lines that are no events: number and reason.
    pub(crate) complaints: Vec<String>,
    /// Lines that are no events.
    pub(crate) skipped: u64,
    /// Events that got a `demo_id`.
    pub(crate) named: u64,
}

/// Reads at most `count` events. Ids that are put in depend on the seed alone.
///
/// # Errors
/// The file cannot be read, is too large, or has no event.
pub(crate) fn read(path: &Path, count: Option<u32>, seed: u64) -> Result<Replay, String> {
    let error = |error: std::io::Error| format!("--events {}: {error}", path.display());
    let file = File::open(path).map_err(error)?;
    let replay = parse(BufReader::new(file), count, seed).map_err(error)?;
    if replay.events.is_empty() {
        return Err(format!(
            "--events {}: no event in it{}",
            path.display(),
            replay
                .complaints
                .first()
                .map(|first| format!(" ({first})"))
                .unwrap_or_default()
        ));
    }
    Ok(replay)
}

fn parse(mut from: impl BufRead, count: Option<u32>, seed: u64) -> std::io::Result<Replay> {
    let mut replay = Replay::default();
    let mut taken = HashSet::new();
    // Another stream than the clicks' of the same seed.
    let mut rng = Rng::new(!seed);
    let (mut line, mut at, mut bytes) = (Vec::new(), 0_u64, 0);
    let wanted = count.map_or(usize::MAX, |count| count as usize);
    while replay.events.len() < wanted {
        line.clear();
        at += 1;
        let read = from
            .by_ref()
            .take(LINE_BYTES_MAX as u64 + 2)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        let is_whole = line.ends_with(b"\n") || read <= LINE_BYTES_MAX;
        if !is_whole {
            skip_line(&mut from)?;
        }
        let event = line.trim_ascii();
        if event.is_empty() {
            continue;
        }
        match event_of(event, is_whole, &mut taken, &mut rng) {
            Ok((event, named)) => {
                bytes += event.len();
                if bytes > FILE_BYTES_MAX {
                    return Err(std::io::Error::other(format!(
                        "more than 256 MiB of events up to line {at}: limit them with --count"
                    )));
                }
                replay.named += u64::from(named);
                replay.events.push(event);
            }
            Err(reason) => {
                replay.skipped += 1;
                if replay.complaints.len() < NAMED_MAX {
                    replay.complaints.push(format!("line {at}: {reason}"));
                }
            }
        }
    }
    Ok(replay)
}

/// The event, and whether it had to be given an id: it has none, or another event's.
fn event_of(
    line: &[u8],
    is_whole: bool,
    taken: &mut HashSet<String>,
    rng: &mut Rng,
) -> Result<(Vec<u8>, bool), String> {
    if !is_whole || line.len() > LINE_BYTES_MAX - ID_BYTES_MAX {
        return Err("larger than the largest message, 1 MiB".to_owned());
    }
    if let Some(id) = look(line)?.id {
        if taken.insert(id) {
            return Ok((line.to_vec(), false));
        }
    }
    let id = uuid(rng);
    // In front, and the rest byte by byte as it was. A `demo_id` that is there would be the same key
    // twice, which is no event; so the new one is its replacement only where there was none.
    let rest = line.get(1..).unwrap_or_default().trim_ascii_start();
    let comma = if rest.starts_with(b"}") { "" } else { "," };
    let mut event = format!("{{\"demo_id\":\"{id}\"{comma}").into_bytes();
    event.extend_from_slice(rest);
    match look(&event) {
        Ok(_) => {
            taken.insert(id);
            Ok((event, true))
        }
        Err(_) => Err("its demo_id is another event's".to_owned()),
    }
}

fn skip_line(from: &mut impl BufRead) -> std::io::Result<()> {
    from.skip_until(b'\n').map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replay(text: &str) -> Replay {
        parse(text.as_bytes(), None, 1).unwrap()
    }

    #[test]
    fn events_with_an_id_of_their_own_stay_as_they_are() {
        let replay = replay("{\"id\":\"a\"}\r\n\n{ \"x\": 1, \"id\": 2 }");
        assert_eq!(
            replay.events,
            [&b"{\"id\":\"a\"}"[..], b"{ \"x\": 1, \"id\": 2 }"]
        );
        assert_eq!((replay.skipped, replay.named), (0, 0));
    }

    #[test]
    fn events_without_an_id_or_with_anothers_get_one() {
        let replay = replay("{}\n{ \"x\":1}\n{\"id\":7}\n{\"id\":7,\"y\":2}\n{\"id\":null}");
        assert_eq!(
            (replay.events.len(), replay.skipped, replay.named),
            (5, 0, 4)
        );
        let ids: HashSet<String> = replay
            .events
            .iter()
            .map(|event| look(event).unwrap().id.unwrap())
            .collect();
        assert_eq!(ids.len(), 5);
        assert!(replay.events[3].ends_with(b",\"id\":7,\"y\":2}"));
        assert!(replay.events[0].ends_with(b"\"}"));
    }

    #[test]
    fn lines_that_are_no_events_are_named_by_number_and_passed_over() {
        let replay = replay("{\"id\":1}\nnonsense\n[1]\n{\"id\":\n{\"id\":2}");
        assert_eq!((replay.events.len(), replay.skipped), (2, 3));
        assert!(replay.complaints[0].starts_with("line 2: "));
        assert!(replay.complaints[1].starts_with("line 3: "));
        assert!(replay.complaints[2].starts_with("line 4: "));
    }

    #[test]
    fn a_line_above_the_bound_is_passed_over_whole() {
        let long = format!("{{\"id\":\"{}\"}}", "x".repeat(3 * LINE_BYTES_MAX));
        let replay = replay(&format!("{long}\n{{\"id\":2}}\n{long}"));
        assert_eq!((replay.events.len(), replay.skipped), (1, 2));
        assert!(replay.complaints[1].starts_with("line 3: larger"));
    }

    #[test]
    fn no_more_than_the_wanted_number_is_read() {
        let replay = parse("{\"id\":1}\n{\"id\":2}\nnonsense".as_bytes(), Some(2), 1).unwrap();
        assert_eq!((replay.events.len(), replay.skipped), (2, 0));
    }

    #[test]
    fn a_file_without_events_is_an_error_with_its_first_complaint() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "nonsense\n").unwrap();
        let error = read(file.path(), None, 1).unwrap_err();
        assert!(
            error.contains("no event") && error.contains("line 1"),
            "{error}"
        );
        assert!(
            read(Path::new("/nowhere"), None, 1)
                .unwrap_err()
                .contains("/nowhere")
        );
    }
}
