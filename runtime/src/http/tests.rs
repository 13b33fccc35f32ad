//! Server and client against each other, and against raw sockets.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::io::{AsyncReadExt, AsyncWriteExt};
use crate::net::{Address, Listener, connect};
use crate::{Stop, Task, run, spawn, yield_now};

const PATIENCE: Duration = Duration::from_secs(10);
const BODY_BYTES_MAX: usize = 1000;

/// A handler that answers when it is told to, and tells when it is asked.
#[derive(Clone, Default)]
struct Slow {
    asked: Stop,
    answer: Stop,
}

/// Answers `/echo` with the body, `/refuse` without looking at it, `/slow` when told to.
fn start(limits: Limits, stop: &Stop, slow: &Slow) -> (Address, Task<()>) {
    let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_address().unwrap();
    let slow = slow.clone();
    let serving = serve(listener, limits, stop.clone(), move |mut request| {
        let slow = slow.clone();
        async move {
            match request.path() {
                "/echo" => match request.body(BODY_BYTES_MAX).await {
                    Ok(body) => Response::new(200).with_body(body),
                    Err(BodyError::TooLarge { .. }) => Response::new(413).with_body("TOO_BIG"),
                    Err(BodyError::TimedOut) => Response::new(408),
                    Err(BodyError::Broken(_)) => Response::new(400),
                },
                "/slow" => {
                    slow.asked.request();
                    slow.answer.requested().await;
                    Response::new(200).with_body("late")
                }
                "/big" => Response::new(200).with_body(vec![b'x'; 16 << 20]),
                "/refuse" => Response::new(403).with_header("X-Why", "because"),
                _ => Response::new(404).with_body(format!(
                    "{} {} {}",
                    request.method(),
                    request.query(),
                    request.header("x-test").unwrap_or("-")
                )),
            }
        }
    });
    (address, spawn(serving))
}

async fn raw(address: &Address, request: &[u8]) -> String {
    let mut stream = connect(address, PATIENCE).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    timer::timeout(PATIENCE, reading)
        .await
        .expect("the server closes")
        .unwrap();
    String::from_utf8(answer).unwrap()
}

#[test]
fn requests_and_answers_arrive_whole() {
    run(async {
        let stop = Stop::new();
        let (address, serving) = start(Limits::default(), &stop, &Slow::default());
        let url = Url::new(address.clone(), "/echo").unwrap();
        let fetched = fetch("POST", &url, &[], b"abc".to_vec(), PATIENCE, 1000)
            .await
            .unwrap();
        assert_eq!(
            (fetched.status, fetched.body.as_slice()),
            (200, &b"abc"[..])
        );
        let url = Url::new(address.clone(), "/x?topic=a").unwrap();
        let headers = [("X-Test", "1")];
        let fetched = fetch("GET", &url, &headers, Vec::new(), PATIENCE, 1000)
            .await
            .unwrap();
        assert_eq!(
            (fetched.status, fetched.body.as_slice()),
            (404, &b"GET topic=a 1"[..])
        );
        let url = Url::new(address, "/refuse").unwrap();
        let fetched = fetch("GET", &url, &[], Vec::new(), PATIENCE, 1000)
            .await
            .unwrap();
        assert_eq!(
            (fetched.status, fetched.header("x-why")),
            (403, Some("because"))
        );
        stop.request();
        serving.await;
    });
}

#[test]
fn a_connection_is_kept_alive_for_pipelined_requests() {
    run(async {
        let (address, _serving) = start(Limits::default(), &Stop::new(), &Slow::default());
        let one = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
        let last = b"GET /refuse HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let answer = raw(&address, &[one, one, &last[..]].concat()).await;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 403").count(), 1, "{answer}");
        assert!(answer.contains("X-Why: because"), "{answer}");
    });
}

#[test]
fn a_body_over_the_bound_is_refused_without_being_read_and_the_answer_arrives() {
    run(async {
        let (address, _serving) = start(Limits::default(), &Stop::new(), &Slow::default());
        // Announced: refused at once, although not one byte of it comes, and no "100 Continue" asks
        // for it.
        let head = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\
            Expect: 100-continue\r\n\r\n";
        let answer = raw(&address, head).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert!(answer.ends_with("TOO_BIG"), "{answer}");
        // Sent all the same, and a lot of it.
        let mut sent =
            b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n".to_vec();
        sent.resize(sent.len() + 4_000_000, b'x');
        let answer = raw(&address, &sent).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        // In chunks: refused when the bound is passed.
        let mut sent =
            b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for _ in 0..3 {
            sent.extend_from_slice(b"190\r\n");
            sent.extend_from_slice(&[b'x'; 400]);
            sent.extend_from_slice(b"\r\n");
        }
        let answer = raw(&address, &sent).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    });
}

#[test]
fn chunked_bodies_and_expected_continues_are_served() {
    run(async {
        let (address, _serving) = start(Limits::default(), &Stop::new(), &Slow::default());
        let chunked = b"POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
            Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        assert!(raw(&address, chunked).await.ends_with("\r\n\r\nabc"));
        let mut stream = connect(&address, PATIENCE).await.unwrap();
        let head = b"POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
            Content-Length: 2\r\nExpect: 100-continue\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let mut told = [0; 25];
        stream.read_exact(&mut told).await.unwrap();
        assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(b"hi").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("\r\n\r\nhi"), "{answer}");
    });
}

#[test]
fn heads_that_are_too_large_or_no_http_are_refused() {
    run(async {
        let (address, _serving) = start(Limits::default(), &Stop::new(), &Slow::default());
        let long = format!("GET /?{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(20_000));
        let answer = raw(&address, long.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 431") || answer.starts_with("HTTP/1.1 414"),
            "{answer}"
        );
        let answer = raw(&address, b"  V2nonsense\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    });
}

#[test]
fn slow_clients_are_disconnected_and_then_others_are_served() {
    run(async {
        let limits = Limits {
            connections_max: 1,
            head_time_max: Duration::from_millis(50),
            body_pause_max: Duration::from_millis(50),
            ..Limits::default()
        };
        let (address, _serving) = start(limits, &Stop::new(), &Slow::default());
        let idle = connect(&address, PATIENCE).await.unwrap();
        let mut half = connect(&address, PATIENCE).await.unwrap();
        half.write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
            .await
            .unwrap();
        let url = Url::new(address, "/echo").unwrap();
        let fetched = fetch("POST", &url, &[], b"abc".to_vec(), PATIENCE, 1000)
            .await
            .unwrap();
        assert_eq!(fetched.status, 200);
        let mut answer = String::new();
        half.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        drop(idle);
    });
}

#[test]
fn a_client_that_does_not_read_its_answer_is_disconnected_and_then_others_are_served() {
    run(async {
        let limits = Limits {
            connections_max: 1,
            write_pause_max: Duration::from_millis(50),
            ..Limits::default()
        };
        let (address, _serving) = start(limits, &Stop::new(), &Slow::default());
        let mut deaf = connect(&address, PATIENCE).await.unwrap();
        deaf.write_all(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        deaf.readable().await.unwrap(); // it has the slot
        let url = Url::new(address, "/echo").unwrap();
        let fetched = fetch("POST", &url, &[], b"abc".to_vec(), PATIENCE, 1000)
            .await
            .unwrap();
        assert_eq!(fetched.status, 200);
    });
}

#[test]
fn a_stop_lets_requests_finish_and_closes_idle_connections() {
    run(async {
        let (stop, slow) = (Stop::new(), Slow::default());
        let (address, serving) = start(Limits::default(), &stop, &slow);
        let _idle = connect(&address, PATIENCE).await.unwrap();
        let url = Url::new(address.clone(), "/slow").unwrap();
        let answered = Rc::new(Cell::new(false));
        let seen = Rc::clone(&answered);
        let asking = spawn(async move {
            let fetched = fetch("GET", &url, &[], Vec::new(), PATIENCE, 1000)
                .await
                .unwrap();
            seen.set(true);
            fetched.body
        });
        slow.asked.requested().await;
        stop.request();
        yield_now().await;
        assert!(!answered.get());
        slow.answer.request();
        serving.await;
        assert_eq!(asking.await, b"late");
        assert!(
            connect(&address, PATIENCE).await.is_err(),
            "nobody listens any more"
        );
    });
}

#[test]
fn answers_too_late_or_too_large_are_errors_that_name_the_url() {
    run(async {
        let (address, _serving) = start(Limits::default(), &Stop::new(), &Slow::default());
        let url = Url::new(address.clone(), "/slow").unwrap();
        let brief = Duration::from_millis(50);
        let error = fetch("GET", &url, &[], Vec::new(), brief, 1000)
            .await
            .unwrap_err();
        assert!(matches!(error, FetchError::TimedOut { .. }), "{error}");
        assert!(error.to_string().contains(&url.to_string()));
        let url = Url::new(address, "/echo").unwrap();
        let error = fetch("POST", &url, &[], vec![b'x'; 9], PATIENCE, 8)
            .await
            .unwrap_err();
        assert!(
            error.to_string().ends_with("larger than 8 bytes"),
            "{error}"
        );
    });
}
