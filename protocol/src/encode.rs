//! Commands as a client sends them, appended to the caller's buffer.

use std::time::Duration;

use crate::id::WireId;

/// `IDENTIFY` with a JSON body (see [`crate::identify::Request::to_json`]).
pub fn identify(json: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"IDENTIFY\n");
    sized(json, out);
}

/// `AUTH` with a secret.
pub fn auth(secret: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"AUTH\n");
    sized(secret, out);
}

/// `SUB`.
pub fn subscribe(topic: &str, channel: &str, out: &mut Vec<u8>) {
    line(&[b"SUB ", topic.as_bytes(), b" ", channel.as_bytes()], out);
}

/// `RDY`: the window of messages that may be in flight to this client.
pub fn ready(count: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(b"RDY ");
    decimal(u64::from(count), out);
    out.push(b'\n');
}

/// `FIN`: the message is done with.
pub fn finish(id: WireId, out: &mut Vec<u8>) {
    line(&[b"FIN ", &id.0], out);
}

/// `REQ`: give the message again after `delay`, in whole milliseconds.
pub fn requeue(id: WireId, delay: Duration, out: &mut Vec<u8>) {
    out.extend_from_slice(b"REQ ");
    out.extend_from_slice(&id.0);
    out.push(b' ');
    decimal(millis(delay), out);
    out.push(b'\n');
}

/// `TOUCH`: more time for the message.
pub fn touch(id: WireId, out: &mut Vec<u8>) {
    line(&[b"TOUCH ", &id.0], out);
}

/// `CLS`: no more messages, please; the answer is `CLOSE_WAIT`.
pub fn close(out: &mut Vec<u8>) {
    out.extend_from_slice(b"CLS\n");
}

/// `NOP`: the answer to a heartbeat.
pub fn nop(out: &mut Vec<u8>) {
    out.extend_from_slice(b"NOP\n");
}

/// `PUB`.
pub fn publish(topic: &str, body: &[u8], out: &mut Vec<u8>) {
    line(&[b"PUB ", topic.as_bytes()], out);
    sized(body, out);
}

/// `DPUB`: publish for delivery after `defer`, in whole milliseconds.
pub fn publish_deferred(topic: &str, defer: Duration, body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"DPUB ");
    out.extend_from_slice(topic.as_bytes());
    out.push(b' ');
    decimal(millis(defer), out);
    out.push(b'\n');
    sized(body, out);
}

/// `MPUB`: all of `bodies` or none.
pub fn publish_many<B: AsRef<[u8]>>(
    topic: &str,
    bodies: impl Iterator<Item = B>,
    out: &mut Vec<u8>,
) {
    line(&[b"MPUB ", topic.as_bytes()], out);
    let total_at = out.len();
    out.extend_from_slice(&[0; 8]);
    let mut count = 0u32;
    for body in bodies {
        sized(body.as_ref(), out);
        count = count.saturating_add(1);
    }
    let total = (out.len() - total_at - 4) as u32;
    let header = total.to_be_bytes().into_iter().chain(count.to_be_bytes());
    for (place, byte) in out.iter_mut().skip(total_at).zip(header) {
        *place = byte;
    }
}

fn line(parts: &[&[u8]], out: &mut Vec<u8>) {
    for part in parts {
        out.extend_from_slice(part);
    }
    out.push(b'\n');
}

fn sized(body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(body);
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Appends a number without allocating.
pub(crate) fn decimal(number: u64, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 20];
    let mut rest = number;
    let mut used = 0;
    for place in digits.iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend(digits.iter().skip(digits.len() - used));
}
