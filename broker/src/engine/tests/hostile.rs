//! Any input: never a panic, never more memory than the bounds, and nobody else notices.

use super::super::Random;
use super::*;

/// Pieces that a hostile peer may put together; `@` stands for an id that may be in flight.
const PIECES: [&[u8]; 24] = [
    b"  V2",
    b"SUB t c\n",
    b"SUB t#ephemeral c#ephemeral\n",
    b"RDY 5\n",
    b"RDY 2500\n",
    b"FIN @\n",
    b"REQ @ 0\n",
    b"REQ @ 18446744073709551615\n",
    b"TOUCH @\n",
    b"CLS\n",
    b"NOP\n",
    b"IDENTIFY\n\0\0\0\x02{}",
    b"IDENTIFY\n\0\0\0\x1a{\"heartbeat_interval\":-1}  ",
    b"PUB t\n\0\0\0\x01x",
    b"PUB t\n\0\x0f\0\0",
    b"PUB t\n\x7f\xff\xff\xff",
    b"DPUB t 1000\n\0\0\0\x01x",
    b"MPUB t\n\0\0\0\x12\0\0\0\x02\0\0\0\x01a\0\0\0\x05bcdef",
    b"MPUB t\n\0\0\0\x12\0\0\0\x02\0\0\0\x01a\0\0\0\xff",
    b"\n",
    b"\r\n",
    b"\0\0\0\0",
    b"AUTH\n\0\0\0\x01x",
    b"PUB \xff\xfe\n",
];

fn gibberish(random: &mut Random, id: [u8; 16]) -> Vec<u8> {
    let mut bytes = Vec::new();
    if random.next() % 8 > 0 {
        bytes.extend_from_slice(b"  V2");
    }
    for _ in 0..random.next() % 30 {
        let piece = PIECES[random.next() as usize % PIECES.len()];
        for byte in piece {
            match byte {
                b'@' => bytes.extend_from_slice(&id),
                _ => bytes.push(*byte),
            }
        }
        if random.next() % 20 == 0 {
            let at = random.next() as usize % bytes.len();
            bytes[at] = random.next() as u8;
        }
    }
    bytes
}

#[test]
fn any_input_leaves_other_connections_undisturbed() {
    let mut random = Random(0x5eed);
    let mut world = World::new();
    let free = world.engine.pool_free();
    let bystander = world.consumer("quiet", "c", 10);
    let mut id = *b"0000000000000000";
    for round in 0..400 {
        let body = round.to_string();
        world.publish(bystander, "quiet", &body);
        let [(received, its_id)] = &{
            let got = world.got(bystander).into_iter();
            got.filter_map(|got| match got {
                Got::Message { id, body, .. } => Some((body, id)),
                _ => None,
            })
            .collect::<Vec<_>>()
        }[..] else {
            panic!("round {round}: not one message");
        };
        assert_eq!(*received, body);
        world.answer(bystander, "FIN", *its_id, "");

        let hostile = world.connect_raw();
        for chunk in gibberish(&mut random, id).chunks(1 + random.next() as usize % 40) {
            world.send(hostile, chunk);
            if random.next() % 6 == 0 {
                world.settle();
            }
        }
        world.settle();
        let bytes = world.raw(hostile);
        if let Some(at) = bytes.windows(4).position(|four| four == [0, 0, 0, 2]) {
            if let Some(found) = bytes.get(at + 14..at + 30) {
                id.copy_from_slice(found);
            }
        }
        world.drop_client(hostile);
        world.settle();
        assert_eq!(world.engine.pool_free(), free, "round {round}");
        assert_eq!(world.engine.in_flight.len(), 0, "round {round}");
    }
    assert_eq!(world.engine.sessions_len(), 1);
}

#[test]
fn a_peer_that_sends_byte_by_byte_gets_no_more_time_than_others() {
    let mut world = World::new();
    let client = world.connect();
    world.send(client, b"PUB t\n\0\x0f\0\0");
    for _ in 0..100 {
        world.send(client, b"x");
        world.advance(SECOND);
    }
    assert_eq!(world.flow(client), Flow::Cut);
}

#[test]
fn a_body_that_never_comes_holds_the_pool_for_a_minute_even_without_heartbeats() {
    let mut world = World::with(small_pool(150_000, 110_000));
    let client = world.connect();
    world.send(client, &identify(r#"{"heartbeat_interval":-1}"#));
    let free = world.engine.pool_free();
    world.send(client, b"PUB t\n\0\x01\x86\xa0xx");
    assert!(world.engine.pool_free() < free);
    world.advance(61 * SECOND);
    assert_eq!(world.flow(client), Flow::Cut);
    world.drop_client(client);
    assert_eq!(world.engine.pool_free(), free);
}
