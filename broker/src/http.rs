//! nsqd's HTTP API: routes, parameters, status codes and bodies as nsqd v1.3.0 gives them.

use std::rc::Rc;
use std::time::Duration;

use config::BrokerOptions;
use protocol::batch::{Batch, BatchBounds, TextBatch};
use protocol::names::{ChannelName, TopicName};
use runtime::http::{BodyError, Found, Limits, Query, Request, Response, Route, find};
use runtime::net::Listener;
use runtime::{Stop, clock};
use serde::Serialize;
use storage::Ticket;
use storage::disk::Disk;

use crate::engine::AdminError;
use crate::host::{Host, stamp};
use crate::{limits, stats};

/// What a broker tells about itself.
pub(crate) struct About {
    pub(crate) broadcast_address: String,
    pub(crate) hostname: String,
    /// `None`: a unix socket.
    pub(crate) tcp_port: Option<u16>,
    pub(crate) http_port: Option<u16>,
    pub(crate) started_wall_ns: i64,
    /// Since boot.
    pub(crate) started: Duration,
    pub(crate) options: BrokerOptions,
}

/// Serves until `stop`.
pub(crate) async fn serve<D: Disk>(
    host: Rc<Host<D>>,
    about: Rc<About>,
    listener: Listener,
    connections_max: usize,
    stop: Stop,
) {
    let limits = Limits {
        connections_max,
        ..Limits::default()
    };
    let handler = move |request| {
        let (host, about) = (Rc::clone(&host), Rc::clone(&about));
        async move { answer(&host, &about, request).await }
    };
    runtime::http::serve(listener, limits, stop, handler).await;
}

#[derive(Clone, Copy)]
enum Action {
    Ping,
    Info,
    Stats,
    Publish,
    PublishMany,
    TopicCreate,
    TopicDelete,
    TopicEmpty,
    TopicPause(bool),
    ChannelCreate,
    ChannelDelete,
    ChannelEmpty,
    ChannelPause(bool),
}

const fn route(method: &'static str, path: &'static str, to: Action) -> Route<Action> {
    Route { method, path, to }
}

const ROUTES: &[Route<Action>] = &[
    route("GET", "/ping", Action::Ping),
    route("GET", "/info", Action::Info),
    route("GET", "/stats", Action::Stats),
    route("POST", "/pub", Action::Publish),
    route("POST", "/mpub", Action::PublishMany),
    route("POST", "/topic/create", Action::TopicCreate),
    route("POST", "/topic/delete", Action::TopicDelete),
    route("POST", "/topic/empty", Action::TopicEmpty),
    route("POST", "/topic/pause", Action::TopicPause(true)),
    route("POST", "/topic/unpause", Action::TopicPause(false)),
    route("POST", "/channel/create", Action::ChannelCreate),
    route("POST", "/channel/delete", Action::ChannelDelete),
    route("POST", "/channel/empty", Action::ChannelEmpty),
    route("POST", "/channel/pause", Action::ChannelPause(true)),
    route("POST", "/channel/unpause", Action::ChannelPause(false)),
];

/// An answer that is an error: status and NSQ's word.
#[derive(Debug)]
struct Refusal(u16, &'static str);

async fn answer<D: Disk>(host: &Host<D>, about: &About, mut request: Request) -> Response {
    let action = match find(ROUTES, request.method(), request.path()) {
        Found::Handler(action) => action,
        Found::Options { allow } => return Response::new(200).with_header("Allow", allow),
        Found::MethodNotAllowed { allow } => {
            return error(405, "METHOD_NOT_ALLOWED").with_header("Allow", allow);
        }
        Found::Redirect { status, path } => {
            let mark = if request.query().is_empty() { "" } else { "?" };
            let location = format!("{path}{mark}{}", request.query());
            return Response::new(status).with_header("Location", location);
        }
        Found::NotFound => return error(404, "NOT_FOUND"),
    };
    let result = match action {
        Action::Ping => return ping(host),
        Action::Info => return json(&info(about)),
        Action::Stats => show_stats(host, about, &request),
        Action::Publish => publish(host, about, &mut request).await,
        Action::PublishMany => publish_many(host, about, &mut request).await,
        action => administrate(host, action, request.query()).await,
    };
    result.unwrap_or_else(|Refusal(status, code)| error(status, code))
}

fn ping<D: Disk>(host: &Host<D>) -> Response {
    let (status, text) = match host.view(|engine| engine.health()) {
        Ok(()) => (200, "OK".to_owned()),
        Err(reason) => (500, format!("NOK - {reason}")),
    };
    Response::new(status)
        .with_header("Content-Type", PLAIN)
        .with_body(text)
}

#[derive(Serialize)]
struct Info<'a> {
    version: &'static str,
    broadcast_address: &'a str,
    hostname: &'a str,
    http_port: i32,
    tcp_port: i32,
    start_time: i64,
    max_heartbeat_interval: u128,
    max_output_buffer_size: u32,
    max_output_buffer_timeout: u128,
    max_deflate_level: u32,
}

fn info(about: &About) -> Info<'_> {
    let port = |port: Option<u16>| port.map_or(-1, i32::from);
    Info {
        version: limits::NSQ_VERSION,
        broadcast_address: &about.broadcast_address,
        hostname: &about.hostname,
        http_port: port(about.http_port),
        tcp_port: port(about.tcp_port),
        start_time: about.started_wall_ns.div_euclid(1_000_000_000),
        max_heartbeat_interval: about.options.heartbeat_interval_max.as_nanos(),
        max_output_buffer_size: about.options.output_buffer_bytes_max,
        max_output_buffer_timeout: about.options.output_buffer_timeout_max.as_nanos(),
        max_deflate_level: limits::DEFLATE_LEVEL_MAX,
    }
}

fn show_stats<D: Disk>(
    host: &Host<D>,
    about: &About,
    request: &Request,
) -> Result<Response, Refusal> {
    let query = parse(request.query())?;
    let text = |key| query.get(key).filter(|value| !value.is_empty());
    let on = |key| !matches!(query.get(key), Some("false" | "0"));
    let wanted = stats::Wanted {
        topic: text("topic"),
        channel: text("channel"),
        clients: on("include_clients"),
        memory: on("include_mem"),
    };
    let stats = host.view(|engine| stats::Stats::new(engine, about, &wanted));
    if query.get("format") == Some("json") {
        return Ok(json(&stats));
    }
    let uptime = clock::now().saturating_sub(about.started);
    let wall_s = clock::wall_ns().div_euclid(1_000_000_000);
    Ok(plain(200, stats.to_text(uptime, wall_s)))
}

async fn publish<D: Disk>(
    host: &Host<D>,
    about: &About,
    request: &mut Request,
) -> Result<Response, Refusal> {
    let max = about.options.message_bytes_max as usize;
    let (body, _held) = read_body(host, request, max, Refusal(413, "MSG_TOO_BIG")).await?;
    if body.is_empty() {
        return Err(Refusal(400, "MSG_EMPTY"));
    }
    let query = parse(request.query())?;
    let topic = topic_to_publish(&query)?;
    make_topic(host, &topic).await?;
    let defer = match query.get("defer") {
        None => Duration::ZERO,
        Some(millis) => parse_defer(millis)
            .filter(|defer| *defer <= about.options.req_timeout_max)
            .ok_or(Refusal(400, "INVALID_DEFER"))?,
    };
    let bodies = std::iter::once(&body[..]);
    store(host, &topic, bodies, defer).await
}

async fn publish_many<D: Disk>(
    host: &Host<D>,
    about: &About,
    request: &mut Request,
) -> Result<Response, Refusal> {
    let max = about.options.body_bytes_max as usize;
    let too_big = || Refusal(413, "BODY_TOO_BIG");
    if request
        .content_length()
        .is_some_and(|length| length > max as u64)
    {
        return Err(too_big());
    }
    let query = parse(request.query())?;
    let topic = topic_to_publish(&query)?;
    make_topic(host, &topic).await?;
    let (body, _held) = read_body(host, request, max, too_big()).await?;
    // What is neither true nor false counts as true, as it does for nsqd.
    if query
        .get("binary")
        .is_some_and(|value| !matches!(value, "false" | "0"))
    {
        let bounds = BatchBounds {
            message_bytes_max: about.options.message_bytes_max,
            body_bytes_max: about.options.body_bytes_max,
        };
        let batch = Batch::from_http(&body, &bounds).map_err(|error| {
            let code = error.code().map_or("E_BAD_BODY", |code| code.as_str());
            Refusal(413, code.strip_prefix("E_").unwrap_or(code))
        })?;
        return store(host, &topic, batch.iter(), Duration::ZERO).await;
    }
    let batch = TextBatch::new(&body, about.options.message_bytes_max)
        .map_err(|_| Refusal(413, "MSG_TOO_BIG"))?;
    if batch.is_empty() {
        return Ok(plain(200, "OK"));
    }
    store(host, &topic, batch.iter(), Duration::ZERO).await
}

/// Stores, and answers when it is durable.
async fn store<'a, D: Disk>(
    host: &Host<D>,
    topic: &TopicName,
    bodies: impl Iterator<Item = &'a [u8]> + Clone,
    defer: Duration,
) -> Result<Response, Refusal> {
    if host.stopping.get() {
        return Err(Refusal(503, "EXITING"));
    }
    let publish = host
        .insist(|engine| engine.publish_bodies(topic, bodies.clone(), defer, stamp()))
        .await;
    durable(host, publish).await?;
    Ok(plain(200, "OK"))
}

async fn administrate<D: Disk>(
    host: &Host<D>,
    action: Action,
    query: &str,
) -> Result<Response, Refusal> {
    let query = parse(query)?;
    let now = clock::now();
    let change = match action {
        Action::TopicCreate => {
            let topic = topic_to_publish(&query)?;
            host.insist(|engine| engine.create_topic(&topic)).await
        }
        Action::TopicEmpty => {
            let topic = topic_to_publish(&query)?;
            host.with(|engine| engine.empty_topic(&topic))
        }
        Action::TopicDelete => {
            let topic = topic_that_exists(&query)?;
            host.with(|engine| engine.delete_topic(&topic, now))
        }
        Action::TopicPause(paused) => {
            let topic = topic_that_exists(&query)?;
            host.with(|engine| engine.pause_topic(&topic, paused))
        }
        action => {
            let (topic, channel) = topic_and_channel(&query)?;
            host.with(|engine| match action {
                Action::ChannelCreate => engine.create_channel(&topic, &channel),
                Action::ChannelDelete => engine.delete_channel(&topic, &channel, now),
                Action::ChannelEmpty => engine.empty_channel(&topic, &channel),
                Action::ChannelPause(paused) => engine.pause_channel(&topic, &channel, paused),
                _ => Err(AdminError::TopicNotFound),
            })
        }
    };
    durable(host, change).await?;
    Ok(plain(200, ""))
}

async fn make_topic<D: Disk>(host: &Host<D>, topic: &TopicName) -> Result<(), Refusal> {
    match host.insist(|engine| engine.create_topic(topic)).await {
        // A publish to it waits for the topic's own commit too.
        Ok(_) => Ok(()),
        Err(error) => Err(refusal(&error)),
    }
}

/// Waits until a change or a publish is on flash.
async fn durable<D: Disk>(
    host: &Host<D>,
    change: Result<Ticket, AdminError>,
) -> Result<(), Refusal> {
    let ticket = change.map_err(|error| refusal(&error))?;
    host.resolved(ticket).await.map_err(|reason| {
        // The store has said it, and repeats itself less often.
        log::debug!("an HTTP request failed: {reason}");
        Refusal(503, "STORE_FAILED")
    })
}

fn refusal(error: &AdminError) -> Refusal {
    match error {
        AdminError::TopicNotFound => Refusal(404, "TOPIC_NOT_FOUND"),
        AdminError::ChannelNotFound => Refusal(404, "CHANNEL_NOT_FOUND"),
        AdminError::NotNow => Refusal(503, "STORE_FULL"),
        AdminError::Store(reason) => {
            log::warn!("an HTTP request is refused by the store: {reason}");
            Refusal(503, "STORE_REFUSED")
        }
    }
}

/// A body within `max`, and the part of the body pool that it takes.
async fn read_body<'h, D: Disk>(
    host: &'h Host<D>,
    request: &mut Request,
    max: usize,
    too_big: Refusal,
) -> Result<(Vec<u8>, Held<'h, D>), Refusal> {
    let announced = request.content_length().map_or(max as u64, |length| length);
    if announced > max as u64 {
        return Err(too_big);
    }
    let mut held = Held { host, bytes: 0 };
    let wanted = announced as usize;
    let deadline = clock::now() + limits::ROOM_WAIT_MAX;
    while wanted > limits::INPUT_BYTES_MAX
        && !host.with_quietly(|engine| engine.reserve_body(&mut held.bytes, wanted))
    {
        if host.again_before(deadline).await.is_err() {
            return Err(Refusal(503, "STORE_FULL"));
        }
    }
    match request.body(max).await {
        Ok(body) => Ok((body, held)),
        Err(BodyError::TooLarge { .. }) => Err(too_big),
        Err(_) => Err(Refusal(500, "INTERNAL_ERROR")),
    }
}

/// A part of the body pool, given back when the request is answered.
struct Held<'h, D: Disk> {
    host: &'h Host<D>,
    bytes: usize,
}

impl<D: Disk> Drop for Held<'_, D> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.host
                .with(|engine| engine.release_body(&mut self.bytes));
            self.host.outcome(None);
        }
    }
}

fn parse(query: &str) -> Result<Query, Refusal> {
    Query::parse(query).map_err(|_| Refusal(400, "INVALID_REQUEST"))
}

/// A topic that is made if it is not there.
fn topic_to_publish(query: &Query) -> Result<TopicName, Refusal> {
    let name = query
        .get("topic")
        .ok_or(Refusal(400, "MISSING_ARG_TOPIC"))?;
    TopicName::new(name).map_err(|_| Refusal(400, "INVALID_TOPIC"))
}

/// A topic that has to be there: nsqd does not look at the name's form.
fn topic_that_exists(query: &Query) -> Result<TopicName, Refusal> {
    let name = query
        .get("topic")
        .ok_or(Refusal(400, "MISSING_ARG_TOPIC"))?;
    TopicName::new(name).map_err(|_| Refusal(404, "TOPIC_NOT_FOUND"))
}

fn topic_and_channel(query: &Query) -> Result<(TopicName, ChannelName), Refusal> {
    let topic = query
        .get("topic")
        .ok_or(Refusal(400, "MISSING_ARG_TOPIC"))?;
    let topic = TopicName::new(topic).map_err(|_| Refusal(400, "INVALID_ARG_TOPIC"))?;
    let channel = query
        .get("channel")
        .ok_or(Refusal(400, "MISSING_ARG_CHANNEL"))?;
    let channel = ChannelName::new(channel).map_err(|_| Refusal(400, "INVALID_ARG_CHANNEL"))?;
    Ok((topic, channel))
}

/// Milliseconds as Go's ParseInt reads them: a sign is allowed, nothing else.
fn parse_defer(millis: &str) -> Option<Duration> {
    let millis: i64 = millis.parse().ok()?;
    Some(Duration::from_millis(u64::try_from(millis).ok()?))
}

const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json; charset=utf-8";

/// Clients take an answer without exactly this header for one of NSQ's first version.
fn nsq(status: u16) -> Response {
    Response::new(status).with_header("X-NSQ-Content-Type", "nsq; version=1.0")
}

fn plain(status: u16, body: impl Into<Vec<u8>>) -> Response {
    let body = body.into();
    let response = nsq(status);
    if body.is_empty() {
        return response;
    }
    response.with_header("Content-Type", PLAIN).with_body(body)
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => nsq(200).with_header("Content-Type", JSON).with_body(body),
        Err(_) => error(500, "INTERNAL_ERROR"),
    }
}

fn error(status: u16, code: &str) -> Response {
    let body = format!("{{\"message\":\"{code}\"}}");
    nsq(status)
        .with_header("Content-Type", JSON)
        .with_body(body)
}
