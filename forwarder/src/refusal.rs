//! What becomes of a batch that an upstream refused: sent again, in parts, or to the dead letters.

use client::connection::is_own_fault;
use log::warn;

use crate::batch::Batch;

/// What becomes of a batch that did not arrive.
pub(crate) enum Again {
    Send(Batch),
    Bury(Batch),
}

impl Again {
    fn is_empty(&self) -> bool {
        match self {
            Self::Send(batch) | Self::Bury(batch) => batch.is_empty(),
        }
    }
}

/// What becomes of a batch that was refused with `text`, in its order.
pub(crate) fn refused(route: &str, batch: Batch, text: &str) -> Vec<Again> {
    if !is_own_fault(text) {
        return vec![Again::Send(batch)];
    }
    // nsqd says which size it takes: then all that are larger are known at once, for one lost
    // connection.
    if let Some(max) = size_limit(text) {
        let (fits, large) = batch.partition(|bytes| bytes <= max);
        if !large.is_empty() {
            warn!("route {route}: {} to the dead letters: {text}", large.len());
            let again = [Again::Bury(large), Again::Send(fits)];
            return again
                .into_iter()
                .filter(|again| !again.is_empty())
                .collect();
        }
        return halves_or_bury(route, fits, text);
    }
    halves_or_bury(route, batch, text)
}

/// Of several messages one is to blame, and halving finds it; of a wrong topic all are.
fn halves_or_bury(route: &str, batch: Batch, text: &str) -> Vec<Again> {
    if batch.len() > 1 && !text.starts_with("E_BAD_TOPIC") {
        let (first, second) = batch.split();
        return vec![Again::Send(first), Again::Send(second)];
    }
    warn!("route {route}: {} to the dead letters: {text}", batch.len());
    vec![Again::Bury(batch)]
}

/// The largest message that the upstream takes, from `E_BAD_MESSAGE .. message too big N > M`.
fn size_limit(text: &str) -> Option<usize> {
    let (head, max) = text.rsplit_once(" > ")?;
    let is_size = head.starts_with("E_BAD_MESSAGE ") && head.contains(" message too big ");
    is_size.then(|| max.parse().ok())?
}
