//! What waits for its commit: units of publishes and catalogue changes, in the order in which they were asked for.
//!
//! Sequences and ids are given when a unit's block is built, not here, so that a unit that fails leaves no hole.

use std::collections::VecDeque;

use crate::entry::{self, Entry, Record};
use crate::ids::{Ticket, TopicNo};

/// One commit's worth of requests.
pub(crate) struct Unit {
    pub(crate) ticket: Ticket,
    /// Encoded entries that change the catalogue. They are applied already, so they outlive a failed commit.
    pub(crate) ops: Vec<u8>,
    pub(crate) runs: Vec<PendingRun>,
    /// Bytes of all runs' records.
    pub(crate) run_bytes: u64,
    /// Bytes of all runs' bodies.
    pub(crate) body_bytes: u64,
    /// Its commit failed once.
    pub(crate) failed_once: bool,
    /// A batch too large for the ring, alone in its unit.
    pub(crate) is_flood: bool,
}

/// Records of one topic without their numbers yet.
pub(crate) struct PendingRun {
    pub(crate) topic: TopicNo,
    pub(crate) wall_ns: i64,
    pub(crate) count: u32,
    pub(crate) records: Vec<u8>,
}

/// How many bodies, and how large together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bodies {
    pub(crate) count: u32,
    pub(crate) bytes: u64,
}

/// Units, oldest first.
pub(crate) struct Queue {
    pub(crate) units: VecDeque<Unit>,
    /// The next unit's.
    next_ticket: Ticket,
    /// Bytes of all units' records.
    pub(crate) run_bytes: u64,
    /// Bounds of a unit.
    run_bytes_max: u64,
    ops_bytes_max: usize,
}

impl Queue {
    /// No unit takes more than `run_bytes_max` of records (but a flood) and about `ops_bytes_max` of changes.
    pub(crate) fn new(run_bytes_max: u64, ops_bytes_max: usize) -> Queue {
        Queue {
            units: VecDeque::new(),
            next_ticket: Ticket(1),
            run_bytes: 0,
            run_bytes_max,
            ops_bytes_max,
        }
    }

    /// Adds a catalogue change.
    pub(crate) fn push_op(&mut self, entry: &Entry<'_>) -> Ticket {
        let ops_bytes_max = self.ops_bytes_max;
        let unit = self.unit(|unit| unit.ops.len() < ops_bytes_max);
        entry::push(&mut unit.ops, entry);
        unit.ticket
    }

    /// Adds a change that belongs to the one before it: a crash leaves both or neither.
    pub(crate) fn push_op_along(&mut self, entry: &Entry<'_>) -> Ticket {
        let unit = self.unit(|_| true);
        entry::push(&mut unit.ops, entry);
        unit.ticket
    }

    /// Adds a batch of encoded records, whose times count from `wall_ns`.
    pub(crate) fn push_records(
        &mut self,
        topic: TopicNo,
        wall_ns: i64,
        bodies: Bodies,
        records: &mut Vec<u8>,
    ) -> Ticket {
        let count = bodies.count;
        let bytes = records.len() as u64;
        self.run_bytes += bytes;
        let run_bytes_max = self.run_bytes_max;
        let is_flood = bytes > run_bytes_max;
        let unit = self.unit(|unit| !is_flood && unit.run_bytes + bytes <= run_bytes_max);
        unit.is_flood = is_flood;
        unit.run_bytes += bytes;
        unit.body_bytes += bodies.bytes;
        let open = unit
            .runs
            .iter_mut()
            .find(|run| run.topic == topic && run.wall_ns == wall_ns);
        match open {
            Some(run) => {
                run.count += count;
                run.records.append(records);
            }
            None => {
                let records = std::mem::take(records);
                unit.runs.push(PendingRun {
                    topic,
                    wall_ns,
                    count,
                    records,
                });
            }
        }
        unit.ticket
    }

    /// The wall time from which a new record of `topic` has to count to join an open run: the run's own, if the
    /// difference fits.
    pub(crate) fn wall_base(&self, topic: TopicNo, wall_ns: i64) -> i64 {
        let unit = self.units.back().filter(|unit| !unit.is_flood);
        let run = unit.and_then(|unit| unit.runs.iter().find(|run| run.topic == topic));
        run.map(|run| run.wall_ns)
            .filter(|base| Record::delta_us(*base, wall_ns).is_some())
            .unwrap_or(wall_ns)
    }

    /// Takes the oldest unit.
    pub(crate) fn pop(&mut self) -> Option<Unit> {
        let unit = self.units.pop_front()?;
        self.run_bytes -= unit.run_bytes;
        Some(unit)
    }

    /// Puts a unit back to the front.
    pub(crate) fn unpop(&mut self, unit: Unit) {
        self.run_bytes += unit.run_bytes;
        self.units.push_front(unit);
    }

    /// Drops all records that wait; the changes of the catalogue stay. Every ticket given so far.
    pub(crate) fn fail_all(&mut self) -> Ticket {
        let ticket = Ticket(self.next_ticket.0 - 1);
        let units = std::mem::take(&mut self.units);
        self.run_bytes = 0;
        self.keep_ops(
            ticket,
            units.into_iter().flat_map(|unit| unit.ops).collect(),
        );
        ticket
    }

    /// Bytes of all units' changes.
    pub(crate) fn ops_bytes(&self) -> u64 {
        self.units.iter().map(|unit| unit.ops.len() as u64).sum()
    }

    /// Takes the changes out of all units, for a block before theirs.
    pub(crate) fn take_ops(&mut self) -> Vec<u8> {
        let ops = self.units.iter_mut();
        ops.flat_map(|unit| std::mem::take(&mut unit.ops)).collect()
    }

    /// Drops the oldest unit if there is nothing left in it to say.
    pub(crate) fn pop_said(&mut self) -> Option<Ticket> {
        let front = self.units.front()?;
        if !front.ops.is_empty() || !front.runs.is_empty() {
            return None;
        }
        self.pop().map(|unit| unit.ticket)
    }

    /// Puts the changes of a failed unit in front of those that wait: their order is that of the log. If nothing
    /// waits they get a ticket of their own, for others will join them; `ticket` is resolved.
    pub(crate) fn keep_ops(&mut self, ticket: Ticket, mut ops: Vec<u8>) {
        if ops.is_empty() {
            return;
        }
        match self.units.front_mut().filter(|unit| !unit.is_flood) {
            Some(front) => {
                ops.append(&mut front.ops);
                front.ops = ops;
            }
            None => {
                let mut unit = self.new_unit();
                unit.ops = ops;
                if !self.units.is_empty() {
                    unit.ticket = ticket;
                }
                self.units.push_front(unit);
            }
        }
    }

    fn new_unit(&mut self) -> Unit {
        let ticket = self.next_ticket;
        self.next_ticket = Ticket(ticket.0 + 1);
        Unit {
            ticket,
            ops: Vec::new(),
            runs: Vec::new(),
            run_bytes: 0,
            body_bytes: 0,
            failed_once: false,
            is_flood: false,
        }
    }

    /// The newest unit if `has_room`, else a new one.
    fn unit(&mut self, has_room: impl FnOnce(&Unit) -> bool) -> &mut Unit {
        if !self
            .units
            .back()
            .is_some_and(|unit| !unit.is_flood && has_room(unit))
        {
            let unit = self.new_unit();
            self.units.push_back(unit);
        }
        let newest = self.units.len() - 1;
        #[expect(clippy::indexing_slicing, reason = "the queue is not empty: see above")]
        &mut self.units[newest]
    }
}
