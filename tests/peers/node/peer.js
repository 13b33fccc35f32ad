// The nsqjs peer of the tests; ../README.md has its arguments.
'use strict'

const nsq = require('nsqjs')

function fail(message) {
  console.error(String(message))
  process.exit(1)
}

function publish(address, topic, actions) {
  const [host, port] = address.split(':')
  const writer = new nsq.Writer(host, Number(port))
  writer.on('error', fail)
  writer.on('closed', () => process.exit(0))
  writer.on('ready', async () => {
    for (const action of actions) {
      const [kind, rest] = cut(action)
      await new Promise((resolve) => {
        const answered = (err) => (err ? fail(err) : resolve())
        if (kind === 'single') {
          writer.publish(topic, rest, answered)
        } else if (kind === 'multi') {
          writer.publish(topic, rest.split(','), answered)
        } else if (kind === 'defer') {
          const [delay, body] = cut(rest)
          writer.deferPublish(topic, [body], Number(delay), answered)
        } else {
          fail(`unknown action ${kind}`)
        }
      })
    }
    console.log('ok')
    writer.close()
  })
  writer.connect()
}

function consume(source, topic, channel, finish, rules) {
  const requeue = new Map()
  const hold = new Set()
  let left = Number(finish)
  for (const rule of rules) {
    const words = rule.split(':')
    if (words[0] === 'requeue') requeue.set(words[1], Number(words[2]))
    else if (words[0] === 'hold') hold.add(words[1])
    else fail(`unknown rule ${rule}`)
  }
  const [kind, address] = cut(source)
  const where =
    kind === 'lookupd'
      ? { lookupdHTTPAddresses: [address], lookupdPollInterval: 1, lookupdPollJitter: 0.1 }
      : { nsqdTCPAddresses: [address] }
  const reader = new nsq.Reader(topic, channel, {
    maxInFlight: 10,
    messageTimeout: 1000,
    maxAttempts: 0,
    ...where,
  })
  reader.on('error', fail)
  reader.on('message', (message) => {
    const body = message.body.toString()
    let does = 'finish'
    if ((requeue.get(body) || 0) > 0) {
      requeue.set(body, requeue.get(body) - 1)
      does = 'requeue'
    } else if (hold.delete(body)) {
      does = 'hold'
    }
    const id = message.id.toString()
    console.log(JSON.stringify({ body, attempts: message.attempts, id, does }))
    if (does === 'requeue') {
      message.requeue(0, false)
    } else if (does === 'finish') {
      message.finish()
      left -= 1
      // Leave only after the FIN is on its way.
      if (left === 0) setTimeout(() => process.exit(0), 100)
    }
  })
  reader.connect()
}

function cut(text) {
  const at = text.indexOf(':')
  return [text.slice(0, at), text.slice(at + 1)]
}

const [command, first, second, ...rest] = process.argv.slice(2)
if (command === 'publish') publish(first, second, rest)
else if (command === 'consume') consume(first, second, rest[0], rest[1], rest.slice(2))
else fail('usage: see tests/peers/README.md')
