//! What IDENTIFY asks for and gets; refusals are in `refusals.txt`.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::time::Duration;

use protocol::identify::{Offer, Ranges, Reply, Request, Settings};
use protocol::limits::IDENTITY_BYTES_MAX;

const OFFER: Offer<'static> = Offer {
    version: "1.3.0",
    rdy_count_max: 2500,
    tls: false,
    deflate: false,
    deflate_level_max: 6,
    snappy: false,
    auth_required: false,
};

fn answer(body: &str, offer: &Offer<'_>) -> (Settings, String) {
    let ranges = Ranges::default();
    let mut settings = Settings::new(&ranges);
    let request = Request::from_json(body.as_bytes()).unwrap();
    settings.apply(&request, &ranges).unwrap();
    let reply = Reply::new(&request, &settings, &ranges, offer).unwrap();
    (settings, String::from_utf8(reply.to_json()).unwrap())
}

#[test]
fn the_reply_has_the_keys_and_values_of_nsqd() {
    // What nsqd v1.3.0 answers to the same request, with snappy and deflate off.
    let (_, reply) = answer(
        r#"{"feature_negotiation":true,"snappy":true,"tls_v1":true}"#,
        &OFFER,
    );
    assert_eq!(
        reply,
        "{\"max_rdy_count\":2500,\"version\":\"1.3.0\",\"max_msg_timeout\":900000,\
         \"msg_timeout\":60000,\"tls_v1\":false,\"deflate\":false,\"deflate_level\":6,\
         \"max_deflate_level\":6,\"snappy\":false,\"sample_rate\":0,\"auth_required\":false,\
         \"output_buffer_size\":16384,\"output_buffer_timeout\":250}"
    );
    assert!(Reply::from_json(reply.as_bytes()).is_some());
    assert!(Reply::from_json(b"OK").is_none());
    let offer = Offer {
        deflate: true,
        ..OFFER
    };
    let (_, reply) = answer(r#"{"deflate":true,"deflate_level":9}"#, &offer);
    assert!(
        reply.contains("\"deflate\":true,\"deflate_level\":6"),
        "{reply}"
    );
    let (_, reply) = answer(r#"{"deflate":true,"deflate_level":3}"#, &offer);
    assert!(reply.contains("\"deflate_level\":3"), "{reply}");
}

#[test]
fn minus_one_turns_things_off() {
    let body = r#"{"heartbeat_interval":-1,"output_buffer_size":-1,"output_buffer_timeout":100}"#;
    let (settings, reply) = answer(body, &OFFER);
    assert_eq!(settings.heartbeat, None);
    assert_eq!(
        (settings.output_buffer_bytes, settings.output_buffer_timeout),
        (1, None)
    );
    assert!(
        reply.contains("\"output_buffer_size\":1,\"output_buffer_timeout\":0"),
        "{reply}"
    );
}

#[test]
fn a_second_identify_changes_what_it_names() {
    let ranges = Ranges::default();
    let mut settings = Settings::new(&ranges);
    for body in [
        r#"{"heartbeat_interval":1000,"sample_rate":7}"#,
        r#"{"msg_timeout":900000}"#,
    ] {
        let request = Request::from_json(body.as_bytes()).unwrap();
        settings.apply(&request, &ranges).unwrap();
    }
    assert_eq!(settings.heartbeat, Some(Duration::from_secs(1)));
    assert_eq!(settings.msg_timeout, Duration::from_secs(900));
    assert_eq!(settings.sample_rate, 0, "nsqd sets the rate anew each time");
}

#[test]
fn what_a_client_says_of_itself_is_cut_at_a_character() {
    let long = "é".repeat(200);
    let body = format!(r#"{{"client_id":"x{long}","user_agent":"u"}}"#);
    let (settings, _) = answer(&body, &OFFER);
    assert_eq!(settings.client_id.len(), IDENTITY_BYTES_MAX - 1);
    assert_eq!(&*settings.user_agent, "u");
}

#[test]
fn a_request_of_ours_is_read_as_it_was_meant() {
    let request = Request {
        client_id: "edge".to_owned(),
        feature_negotiation: true,
        heartbeat_interval: 5000,
        ..Request::default()
    };
    assert_eq!(Request::from_json(&request.to_json()).unwrap(), request);
}
