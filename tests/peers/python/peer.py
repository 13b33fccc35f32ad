"""The pynsq peer of the tests; ../README.md has its arguments."""

import json
import sys

import nsq
import tornado.ioloop


def publish(address, topic, actions):
    writer = nsq.Writer([address], reconnect_interval=0.1)
    loop = tornado.ioloop.IOLoop.current()
    left = list(actions)

    def answered(_conn, data):
        if isinstance(data, nsq.Error):
            sys.exit(f"publish failed: {data}")
        step()

    def step():
        if not left:
            print("ok", flush=True)
            loop.stop()
            return
        kind, rest = left.pop(0).split(":", 1)
        if kind == "single":
            writer.pub(topic, rest.encode(), answered)
        elif kind == "multi":
            writer.mpub(topic, [body.encode() for body in rest.split(",")], answered)
        elif kind == "defer":
            delay, body = rest.split(":", 1)
            writer.dpub(topic, int(delay), body.encode(), answered)
        else:
            sys.exit(f"unknown action {kind!r}")

    def when_connected():
        if writer.conns:
            step()
        else:
            loop.call_later(0.01, when_connected)

    loop.add_callback(when_connected)
    loop.start()


def consume(source, topic, channel, finish, rules):
    requeue, hold, left = {}, set(), int(finish)
    for rule in rules:
        words = rule.split(":")
        if words[0] == "requeue":
            requeue[words[1]] = int(words[2])
        elif words[0] == "hold":
            hold.add(words[1])
        else:
            sys.exit(f"unknown rule {rule!r}")
    loop = tornado.ioloop.IOLoop.current()

    def handle(message):
        nonlocal left
        message.enable_async()
        body, does = message.body.decode(), "finish"
        if requeue.get(body, 0) > 0:
            requeue[body] -= 1
            does = "requeue"
        elif body in hold:
            hold.remove(body)
            does = "hold"
        line = {"body": body, "attempts": message.attempts, "id": message.id.decode(), "does": does}
        print(json.dumps(line), flush=True)
        if does == "requeue":
            message.requeue(delay=0, backoff=False)
        elif does == "finish":
            message.finish()
            left -= 1
            if left == 0:
                # Close only after the FIN has left.
                loop.call_later(0, close)

    def close():
        reader.close()
        loop.call_later(0.1, loop.stop)

    kind, address = source.split(":", 1)
    where = (
        {"lookupd_http_addresses": ["http://" + address], "lookupd_poll_interval": 1}
        if kind == "lookupd"
        else {"nsqd_tcp_addresses": [address]}
    )
    reader = nsq.Reader(
        topic, channel, handle, max_in_flight=10, max_tries=100, msg_timeout=1, **where
    )
    loop.start()


def main():
    if len(sys.argv) < 5:
        sys.exit("usage: see tests/peers/README.md")
    if sys.argv[1] == "publish":
        publish(sys.argv[2], sys.argv[3], sys.argv[4:])
    elif sys.argv[1] == "consume":
        consume(*sys.argv[2:6], sys.argv[6:])
    else:
        sys.exit(f"unknown command {sys.argv[1]!r}")


main()
