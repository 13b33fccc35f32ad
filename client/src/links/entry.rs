//! One broker of a set, and how far the connection to it is.

use std::time::Duration;

use runtime::net::Address;

use super::LinkId;
use crate::backoff::Backoff;
use crate::connection::Connection;

#[derive(Debug)]
pub(super) enum State {
    Resting {
        until: Duration,
    },
    Dialing {
        link: LinkId,
        deadline: Duration,
    },
    Open {
        link: LinkId,
        connection: Box<Connection>,
    },
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) address: Address,
    /// Still in the set. Else it lives on while it is open.
    pub(super) wanted: bool,
    pub(super) state: State,
    pub(super) backoff: Backoff,
}

impl Entry {
    pub(super) fn established(&self) -> Option<(LinkId, &Connection)> {
        match &self.state {
            State::Open { link, connection } if connection.is_established() => {
                Some((*link, connection))
            }
            _ => None,
        }
    }
}

impl State {
    pub(super) fn link(&self) -> Option<LinkId> {
        match self {
            Self::Resting { .. } => None,
            Self::Dialing { link, .. } | Self::Open { link, .. } => Some(*link),
        }
    }
}
