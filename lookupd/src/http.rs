//! nsqlookupd's HTTP API, on a registry. Requests have no bodies; everything is in the query.

use std::time::Duration;

use protocol::lookup::{ChannelsAnswer, NodesAnswer, TopicsAnswer};
use protocol::names;
use runtime::http::{Found, Query, Response, Route, find};
use serde::Serialize;

use crate::registry::Registry;

/// Answers one request.
pub(crate) fn answer(
    registry: &mut Registry,
    now: Duration,
    wall_ns: i64,
    method: &str,
    path: &str,
    query: &str,
) -> Response {
    let action = match find(ROUTES, method, path) {
        Found::Handler(action) => action,
        Found::Options { allow } => return Response::new(200).with_header("Allow", allow),
        Found::MethodNotAllowed { allow } => {
            return error(405, "METHOD_NOT_ALLOWED").with_header("Allow", allow);
        }
        Found::Redirect { status, path } => {
            let mark = if query.is_empty() { "" } else { "?" };
            return Response::new(status).with_header("Location", format!("{path}{mark}{query}"));
        }
        Found::NotFound => return error(404, "NOT_FOUND"),
    };
    match action {
        Action::Ping => {
            let plain = Response::new(200).with_header("Content-Type", "text/plain; charset=utf-8");
            plain.with_body("OK")
        }
        Action::Info => json(&Info {
            version: crate::NSQ_VERSION,
        }),
        Action::Topics => json(&TopicsAnswer {
            topics: registry.topics(),
        }),
        Action::Nodes => json(&NodesAnswer {
            producers: registry.nodes(now),
        }),
        Action::Debug => json(&registry.debug(now, wall_ns)),
        Action::WithQuery(action) => match Query::parse(query) {
            Ok(query) => match action(registry, now, &query) {
                Ok(response) => response,
                Err(Refusal(status, code)) => error(status, code),
            },
            Err(_) => error(400, "INVALID_REQUEST"),
        },
    }
}

type WithQuery = fn(&mut Registry, Duration, &Query) -> Result<Response, Refusal>;

/// Status and code.
struct Refusal(u16, &'static str);

#[derive(Clone, Copy)]
enum Action {
    Ping,
    Info,
    Topics,
    Nodes,
    Debug,
    WithQuery(WithQuery),
}

#[derive(Serialize)]
struct Info {
    version: &'static str,
}

const ROUTES: &[Route<Action>] = &[
    Route {
        method: "GET",
        path: "/ping",
        to: Action::Ping,
    },
    Route {
        method: "GET",
        path: "/info",
        to: Action::Info,
    },
    Route {
        method: "GET",
        path: "/topics",
        to: Action::Topics,
    },
    Route {
        method: "GET",
        path: "/nodes",
        to: Action::Nodes,
    },
    Route {
        method: "GET",
        path: "/debug",
        to: Action::Debug,
    },
    Route {
        method: "GET",
        path: "/lookup",
        to: Action::WithQuery(lookup),
    },
    Route {
        method: "GET",
        path: "/channels",
        to: Action::WithQuery(channels),
    },
    Route {
        method: "POST",
        path: "/topic/create",
        to: Action::WithQuery(create_topic),
    },
    Route {
        method: "POST",
        path: "/topic/delete",
        to: Action::WithQuery(delete_topic),
    },
    Route {
        method: "POST",
        path: "/topic/tombstone",
        to: Action::WithQuery(tombstone),
    },
    Route {
        method: "POST",
        path: "/channel/create",
        to: Action::WithQuery(create_channel),
    },
    Route {
        method: "POST",
        path: "/channel/delete",
        to: Action::WithQuery(delete_channel),
    },
];

fn lookup(registry: &mut Registry, now: Duration, query: &Query) -> Result<Response, Refusal> {
    let topic = topic(query)?;
    let found = registry
        .lookup(topic, now)
        .ok_or(Refusal(404, "TOPIC_NOT_FOUND"))?;
    Ok(json(&found))
}

fn channels(registry: &mut Registry, _now: Duration, query: &Query) -> Result<Response, Refusal> {
    Ok(json(&ChannelsAnswer {
        channels: registry.channels(topic(query)?),
    }))
}

fn create_topic(
    registry: &mut Registry,
    _now: Duration,
    query: &Query,
) -> Result<Response, Refusal> {
    let topic = valid(topic(query)?, "INVALID_ARG_TOPIC")?;
    registry.create_topic(topic).map_err(|_| FULL)?;
    Ok(done())
}

/// The name is not checked: what is not there need not be deleted.
fn delete_topic(
    registry: &mut Registry,
    _now: Duration,
    query: &Query,
) -> Result<Response, Refusal> {
    registry.delete_topic(topic(query)?);
    Ok(done())
}

fn tombstone(registry: &mut Registry, now: Duration, query: &Query) -> Result<Response, Refusal> {
    let topic = topic(query)?;
    let node = query.get("node").ok_or(Refusal(400, "MISSING_ARG_NODE"))?;
    registry.tombstone(topic, node, now);
    Ok(done())
}

fn create_channel(
    registry: &mut Registry,
    _now: Duration,
    query: &Query,
) -> Result<Response, Refusal> {
    let (topic, channel) = topic_and_channel(query)?;
    registry.create_channel(topic, channel).map_err(|_| FULL)?;
    Ok(done())
}

fn delete_channel(
    registry: &mut Registry,
    _now: Duration,
    query: &Query,
) -> Result<Response, Refusal> {
    let (topic, channel) = topic_and_channel(query)?;
    if registry.delete_channel(topic, channel) {
        Ok(done())
    } else {
        Err(Refusal(404, "CHANNEL_NOT_FOUND"))
    }
}

/// At the registry's bound; nsqlookupd has none.
const FULL: Refusal = Refusal(503, "TOO_MANY_REGISTRATIONS");

fn topic(query: &Query) -> Result<&str, Refusal> {
    query.get("topic").ok_or(Refusal(400, "MISSING_ARG_TOPIC"))
}

fn topic_and_channel(query: &Query) -> Result<(&str, &str), Refusal> {
    let topic = valid(topic(query)?, "INVALID_ARG_TOPIC")?;
    let channel = query
        .get("channel")
        .ok_or(Refusal(400, "MISSING_ARG_CHANNEL"))?;
    Ok((topic, valid(channel, "INVALID_ARG_CHANNEL")?))
}

fn valid<'a>(name: &'a str, code: &'static str) -> Result<&'a str, Refusal> {
    names::check(name.as_bytes()).ok_or(Refusal(400, code))
}

/// go-nsq takes an answer for one of an old version without this header, and finds nothing in it.
fn nsq(status: u16) -> Response {
    Response::new(status).with_header("X-NSQ-Content-Type", "nsq; version=1.0")
}

fn done() -> Response {
    nsq(200)
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => with_json(nsq(200), body),
        // Maps with text keys and plain structs always have a JSON form.
        Err(_) => error(500, "INTERNAL_ERROR"),
    }
}

fn error(status: u16, code: &str) -> Response {
    with_json(nsq(status), format!("{{\"message\":\"{code}\"}}"))
}

fn with_json(response: Response, body: impl Into<Vec<u8>>) -> Response {
    response
        .with_header("Content-Type", "application/json; charset=utf-8")
        .with_body(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Lifetimes;
    use protocol::lookup::PeerInfo;

    const NOW: Duration = Duration::from_secs(1000);

    fn registry() -> Registry {
        let lifetimes = Lifetimes {
            inactive_producer_timeout: Duration::from_secs(300),
            tombstone_lifetime: Duration::from_secs(45),
        };
        Registry::new(lifetimes, 100)
    }

    fn ask(registry: &mut Registry, request: &str) -> (u16, String) {
        let (method, url) = request.split_once(' ').unwrap();
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let response = answer(registry, NOW, 0, method, path, query);
        (
            response.status(),
            String::from_utf8(response.body().to_vec()).unwrap(),
        )
    }

    #[test]
    fn every_refusal_is_nsqlookupds() {
        let mut registry = registry();
        // Status and code were taken from nsqlookupd 1.3.0.
        for (request, status, code) in [
            ("GET /nothing", 404, "NOT_FOUND"),
            ("POST /ping", 405, "METHOD_NOT_ALLOWED"),
            ("GET /topic/create", 405, "METHOD_NOT_ALLOWED"),
            ("GET /channels", 400, "MISSING_ARG_TOPIC"),
            ("GET /lookup", 400, "MISSING_ARG_TOPIC"),
            ("GET /lookup?topic=", 404, "TOPIC_NOT_FOUND"),
            ("GET /lookup?topic=x", 404, "TOPIC_NOT_FOUND"),
            ("GET /lookup?topic=%zz", 400, "INVALID_REQUEST"),
            ("GET /lookup?a;b", 400, "INVALID_REQUEST"),
            ("POST /topic/create", 400, "MISSING_ARG_TOPIC"),
            ("POST /topic/create?topic=", 400, "INVALID_ARG_TOPIC"),
            ("POST /topic/create?topic=a$b", 400, "INVALID_ARG_TOPIC"),
            ("POST /channel/create?channel=c", 400, "MISSING_ARG_TOPIC"),
            (
                "POST /channel/create?topic=a$&channel=a$",
                400,
                "INVALID_ARG_TOPIC",
            ),
            ("POST /channel/create?topic=t", 400, "MISSING_ARG_CHANNEL"),
            (
                "POST /channel/create?topic=t&channel=a$",
                400,
                "INVALID_ARG_CHANNEL",
            ),
            (
                "POST /channel/delete?topic=no&channel=no",
                404,
                "CHANNEL_NOT_FOUND",
            ),
            ("POST /topic/delete", 400, "MISSING_ARG_TOPIC"),
            ("POST /topic/tombstone?topic=x", 400, "MISSING_ARG_NODE"),
        ] {
            let expected = (status, format!("{{\"message\":\"{code}\"}}"));
            assert_eq!(ask(&mut registry, request), expected, "{request}");
        }
    }

    #[test]
    fn empty_lists_are_lists() {
        let mut registry = registry();
        let mut get = |request| ask(&mut registry, request);
        assert_eq!(get("GET /ping"), (200, "OK".to_owned()));
        assert_eq!(get("GET /info"), (200, r#"{"version":"1.3.0"}"#.to_owned()));
        assert_eq!(get("GET /topics"), (200, r#"{"topics":[]}"#.to_owned()));
        assert_eq!(get("GET /nodes"), (200, r#"{"producers":[]}"#.to_owned()));
        assert_eq!(
            get("GET /channels?topic=x"),
            (200, r#"{"channels":[]}"#.to_owned())
        );
        assert_eq!(get("GET /debug"), (200, "{}".to_owned()));
        assert_eq!(get("POST /topic/create?topic=made"), (200, String::new()));
        let found = r#"{"channels":[],"producers":[]}"#.to_owned();
        assert_eq!(get("GET /lookup?topic=made"), (200, found));
        assert_eq!(get("POST /topic/delete?topic=a$"), (200, String::new()));
    }

    #[test]
    fn golden_answers_about_a_broker() {
        let mut registry = registry();
        let info = PeerInfo {
            broadcast_address: "bh".to_owned(),
            hostname: "hh".to_owned(),
            tcp_port: 4150,
            http_port: 4151,
            version: "1.2.3".to_owned(),
        };
        let id = registry.add_peer(info, "127.0.0.1:45724".to_owned(), NOW);
        registry.register(id, "t1", Some("c1")).unwrap();
        registry.register(id, "t2", None).unwrap();
        let producer = concat!(
            r#"{"remote_address":"127.0.0.1:45724","hostname":"hh","broadcast_address":"bh","#,
            r#""tcp_port":4150,"http_port":4151,"version":"1.2.3""#
        );
        let found = format!(r#"{{"channels":["c1"],"producers":[{producer}}}]}}"#);
        assert_eq!(ask(&mut registry, "GET /lookup?topic=t1"), (200, found));
        let tombstone = "POST /topic/tombstone?topic=t1&node=bh:4151";
        assert_eq!(ask(&mut registry, tombstone), (200, String::new()));
        let found = r#"{"channels":["c1"],"producers":[]}"#.to_owned();
        assert_eq!(ask(&mut registry, "GET /lookup?topic=t1"), (200, found));
        let nodes = format!(
            r#"{{"producers":[{producer},"tombstones":[true,false],"topics":["t1","t2"]}}]}}"#
        );
        assert_eq!(ask(&mut registry, "GET /nodes"), (200, nodes));
        assert_eq!(
            ask(&mut registry, "POST /channel/delete?topic=t1&channel=c1").0,
            200
        );
        assert_eq!(
            ask(&mut registry, "GET /channels?topic=t1").1,
            r#"{"channels":[]}"#
        );
    }
}
