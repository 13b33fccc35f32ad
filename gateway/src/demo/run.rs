//! The order of events: start, publish, kill half-way, start again, wait until all is there.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use runtime::{Either, clock, race, timer};

use super::DemoArgs;
use super::children::{Program, stats};
use super::consumers::{Counter, Source, Tally, together};
use super::ledger::End;
use super::link::{Link, Schedule};
use super::producers::{Plan, publish};
use super::report::{self, Report, grouped};
use super::screen::Screen;
use super::site::{Place, Site};
use super::state::State;

/// What is published.
pub(crate) type Events = Box<dyn Iterator<Item = Vec<u8>>>;

/// Between two looks at the programs, and at what the gateway has left.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// At the kill at least so many events are unanswered, where there are enough.
const UNANSWERED_WANTED: u64 = 32;
/// The gateway has delivered all that it has; what is upstream by then comes to a consumer sooner.
const QUIET: Duration = Duration::from_secs(5);
/// For an upstream that is not ours to take a subscription.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(10);

/// A run and what came of it.
pub(crate) struct Run {
    pub(crate) state: Rc<State>,
    site: Site,
    total: u64,
    rate: u32,
    seed: u64,
    screen: Rc<Screen>,
    gateway: RefCell<Option<Program>>,
    upstream: RefCell<Option<Program>>,
    upstream_tally: Tally,
    local_tallies: [Tally; 2],
}

impl Run {
    /// Nothing is started yet.
    pub(crate) fn new(site: Site, args: &DemoArgs, total: u64, screen: Rc<Screen>) -> Self {
        Self {
            state: Rc::new(State::default()),
            site,
            total,
            rate: args.rate,
            seed: args.seed,
            screen,
            gateway: RefCell::default(),
            upstream: RefCell::default(),
            upstream_tally: Tally::default(),
            local_tallies: [Tally::default(), Tally::default()],
        }
    }

    /// All of it.
    ///
    /// # Errors
    /// A program cannot be started or ended by itself, the upstream is not there, the gateway
    /// refuses an event for its own sake.
    pub(crate) async fn play(&self, events: Events) -> Result<(), String> {
        let Site { gateway, link, .. } = &self.site;
        if let Some(place) = &self.site.embedded {
            self.phase("for the upstream to answer");
            let program = self.start("the upstream", "broker", place).await?;
            self.upstream.replace(Some(program));
        }
        // What the link does is a stream of its own, not the clicks' again.
        let schedule = Schedule::new(self.seed.wrapping_add(1));
        let upstream = self.site.upstream_tcp.clone();
        let state = Rc::clone(&self.state);
        let _link = Link::open(link.clone(), upstream, schedule, state)?;
        self.phase("for the gateway to answer");
        let program = self.start("the gateway", "gateway", gateway).await?;
        self.gateway.replace(Some(program));
        let _counters = self.subscribe().await?;
        let plan = Plan {
            events,
            rate: self.rate,
            seed: self.seed,
            topic: self.site.topic.clone(),
            tcp: gateway.tcp.clone(),
            http: gateway.http.clone(),
        };
        let publishing = publish(plan, Rc::clone(&self.state));
        match race(race(self.script(), publishing), self.look_after()).await {
            Either::Left(Either::Left(end)) => end,
            Either::Left(Either::Right(error)) | Either::Right(error) => Err(error),
        }
    }

    /// The table and the verdict as of now.
    pub(crate) fn report(&self) -> Report {
        if let Some(gateway) = &*self.gateway.borrow() {
            self.note_memory(gateway);
        }
        report::report(
            &self.state,
            self.total,
            &together([&self.upstream_tally]),
            &together(&self.local_tallies),
            self.screen.elapsed(),
        )
    }

    fn phase(&self, phase: &'static str) {
        self.state.phase.set(phase);
    }

    async fn start(
        &self,
        name: &'static str,
        subcommand: &str,
        place: &Place,
    ) -> Result<Program, String> {
        let mut program = Program::start(name, subcommand, &place.config, &place.log, &place.http)?;
        program.answers().await?;
        Ok(program)
    }

    /// The channels are there before the first event: a channel that comes later misses it.
    async fn subscribe(&self) -> Result<[Counter; 3], String> {
        let Site {
            topic,
            upstream_topic,
            count,
            ..
        } = &self.site;
        let upstream = Source {
            end: End::Upstream,
            topic: upstream_topic,
            channel: count,
            address: &self.site.upstream_tcp,
        };
        let local = Source {
            end: End::Local,
            topic,
            channel: count,
            address: &self.site.gateway.tcp,
        };
        let start = |source: &Source<'_>, tally: &Tally, seed: u64| {
            Counter::start(source, tally, self.seed.wrapping_add(seed), &self.state)
        };
        let [first, second] = &self.local_tallies;
        let upstream = start(&upstream, &self.upstream_tally, 2);
        let locals = [start(&local, first, 3), start(&local, second, 4)];
        self.phase("for the upstream to grant a subscription");
        let granted = timer::timeout(UPSTREAM_TIMEOUT, upstream.subscribed()).await;
        granted.map_err(|timer::TimedOut| {
            format!(
                "the upstream {}: no nsqd took a subscription within {} s",
                self.site.upstream_tcp,
                UPSTREAM_TIMEOUT.as_secs()
            )
        })?;
        self.phase("for the gateway to grant subscriptions");
        for counter in &locals {
            counter.subscribed().await;
        }
        let [first, second] = locals;
        Ok([upstream, first, second])
    }

    async fn script(&self) -> Result<(), String> {
        let Site { gateway, .. } = &self.site;
        let total = self.total;
        let half = total.div_ceil(2);
        let half_way = move |state: &State| state.totals().acknowledged >= half;
        self.state
            .until("for half of the events to be acknowledged", half_way)
            .await;
        // Then the store has a backlog to keep. It may run out of events before, at a high rate.
        let is_down = move |state: &State| {
            let late = total.saturating_sub(total / 4);
            !state.facts.borrow().link_is_up || state.totals().acknowledged >= late
        };
        self.state.until("for the link to be cut", is_down).await;
        self.phase("for the gateway's statistics");
        self.note_written().await?;
        // So that there is something to be unanswered.
        self.state.is_rushing.set(true);
        let is_time = move |state: &State| {
            let open = total - state.totals().acknowledged;
            let wanted = UNANSWERED_WANTED.min(open / 2).max(1);
            open == 0 || state.unanswered.get() >= wanted
        };
        self.state
            .until("for publishes to be unanswered", is_time)
            .await;
        self.kill_gateway();
        self.state.is_rushing.set(false);
        let killed_at = clock::now();
        self.phase("for the killed gateway to answer again");
        let program = self.start("the gateway", "gateway", gateway).await?;
        self.gateway.replace(Some(program));
        let back_after = clock::now().saturating_sub(killed_at);
        self.state.facts.borrow_mut().back_after = Some(back_after);
        self.screen.say(&format!(
            "        the gateway is back on the same store after {:.2} s",
            back_after.as_secs_f64()
        ));
        let all_acknowledged = move |state: &State| state.totals().acknowledged >= total;
        self.state
            .until("for all events to be acknowledged", all_acknowledged)
            .await;
        let complete = |state: &State| state.ledger.borrow().is_complete();
        let completed = self
            .state
            .until("for all acknowledged events to arrive", complete);
        // In the second case the report names what is missing.
        if let Either::Right(asked) = race(completed, self.nothing_comes()).await {
            asked?;
        }
        // Duplicates may still be on their way; then the counts are whole.
        self.phase("for the gateway to have nothing left to deliver");
        while stats(&gateway.http).await?.unfinished() > 0 {
            timer::sleep(LOOK_AGAIN).await;
        }
        self.note_written().await
    }

    /// Ends when the gateway has nothing left to deliver, and no consumer got anything for a while.
    async fn nothing_comes(&self) -> Result<(), String> {
        let arrivals = || {
            let totals = self.state.totals();
            [totals.upstream, totals.local].map(|end| end.events + end.duplicates)
        };
        let mut last = (clock::now(), arrivals());
        while clock::now().saturating_sub(last.0) < QUIET {
            let left = stats(&self.site.gateway.http).await?.unfinished();
            if left > 0 || arrivals() != last.1 {
                last = (clock::now(), arrivals());
            }
            timer::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    fn kill_gateway(&self) {
        let Some(mut gateway) = self.gateway.take() else {
            return;
        };
        self.note_memory(&gateway);
        gateway.kill();
        let unanswered = self.state.unanswered.get();
        let buffered = self.state.totals().buffered;
        {
            let mut facts = self.state.facts.borrow_mut();
            facts.kills += 1;
            facts.unanswered_at_kill = unanswered;
            facts.buffered_at_kill = buffered;
        }
        self.screen.say(&format!(
            "        kill -9 of the gateway with {} events unanswered and {} buffered",
            grouped(unanswered),
            grouped(buffered)
        ));
    }

    /// Ends when a program ended by itself, with what it said.
    async fn look_after(&self) -> String {
        loop {
            for program in [&self.gateway, &self.upstream] {
                let running = program.borrow_mut().as_mut().map(Program::is_running);
                if let Some(Err(error)) = running {
                    return error;
                }
            }
            timer::sleep(LOOK_AGAIN).await;
        }
    }

    /// Once in each life of the gateway: what its store wrote in this life until now, and for how much
    /// payload. Both at the same time, so that their ratio is right although the life goes on.
    async fn note_written(&self) -> Result<(), String> {
        let written = stats(&self.site.gateway.http).await?.storage;
        let mut facts = self.state.facts.borrow_mut();
        facts.written_bytes += written.bytes;
        facts.payload_bytes += written.payload_bytes;
        Ok(())
    }

    fn note_memory(&self, gateway: &Program) {
        let peak = gateway.peak_memory().unwrap_or_default();
        let mut facts = self.state.facts.borrow_mut();
        facts.peak_memory_bytes = facts.peak_memory_bytes.max(peak);
    }
}
