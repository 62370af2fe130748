// MQTT.js as a worker: a request a line on standard input, an answer a line on
// standard output, both JSON. clients_test.go says what they mean.
'use strict'
const mqtt = require('mqtt')
const readline = require('readline')

const PATIENCE = 120000
const connections = {}

// until asks for ok after each event of the connection.
function until (c, what, ok) {
  return new Promise((resolve, reject) => {
    const clock = setTimeout(() => reject(new Error(what + ': nothing came')), PATIENCE)
    const ask = () => {
      if (!ok()) return
      clearTimeout(clock)
      c.listeners.delete(ask)
      resolve()
    }
    c.listeners.add(ask)
    ask()
  })
}

// unlessGone waits for p, which is never settled when the connection is lost.
async function unlessGone (c, p) {
  let settled = false
  const done = () => { settled = true; c.listeners.forEach(f => f()) }
  p.then(done, done)
  await until(c, 'the answer', () => settled || c.gone).catch(e => { c.stuck = true; throw e })
  if (!settled) throw new Error(c.gone)
  return p
}

function properties (m) {
  const p = {}
  if ('content_type' in m) p.contentType = m.content_type
  if ('response_topic' in m) p.responseTopic = m.response_topic
  if ('correlation' in m) p.correlationData = Buffer.from(m.correlation)
  if ('format' in m) p.payloadFormatIndicator = m.format === 1
  if ('user' in m) {
    p.userProperties = {}
    for (const [k, v] of m.user) (p.userProperties[k] ||= []).push(v)
  }
  return p
}

function seen (topic, payload, packet) {
  const m = { topic, payload: payload.toString(), qos: packet.qos, retain: packet.retain }
  const p = packet.properties || {}
  if ('contentType' in p) m.content_type = p.contentType
  if ('responseTopic' in p) m.response_topic = p.responseTopic
  if ('correlationData' in p) m.correlation = p.correlationData.toString()
  if ('payloadFormatIndicator' in p) m.format = p.payloadFormatIndicator ? 1 : 0
  if ('userProperties' in p) m.user = Object.entries(p.userProperties).flatMap(([k, v]) => [v].flat().map(one => [k, one]))
  return m
}

const ops = {
  async connect (job) {
    const c = connections[job.conn] = { listeners: new Set(), messages: [], connack: null, gone: '', stuck: false }
    const tell = () => c.listeners.forEach(f => f())
    const options = {
      clientId: job.id,
      clean: job.clean,
      protocolVersion: { 3.1: 3, '3.1.1': 4, '5.0': 5 }[job.version],
      protocolId: job.version === '3.1' ? 'MQIsdp' : 'MQTT',
      keepalive: 300,
      reconnectPeriod: job.reconnect ? 20 : 0,
      connectTimeout: PATIENCE,
      resubscribe: false,
      wsOptions: { perMessageDeflate: false }
    }
    if (job.will) options.will = { ...job.will, payload: Buffer.from(job.will.payload) }
    if (job.version === '5.0') options.properties = { sessionExpiryInterval: job.expiry }
    c.client = mqtt.connect(job.url, options)
    c.client.on('packetreceive', p => { if (p.cmd === 'connack') { c.connack = p; tell() } })
    c.client.on('message', (topic, payload, packet) => { c.messages.push(seen(topic, payload, packet)); tell() })
    c.client.on('error', () => {})
    if (!job.reconnect) c.client.on('close', () => { c.gone = 'the connection was lost'; tell() })
    await until(c, 'CONNACK', () => c.connack || c.gone)
    if (!c.connack) throw new Error('no CONNACK: ' + c.gone)
    return { code: c.connack.reasonCode ?? c.connack.returnCode, present: c.connack.sessionPresent }
  },
  async subscribe (job) {
    const c = connections[job.conn]
    return { granted: await unlessGone(c, new Promise((resolve, reject) => {
      c.client.subscribe(job.filters, { qos: job.qos }, (err, granted, packet) => packet ? resolve(packet.granted) : reject(err || new Error('no SUBACK')))
    })) }
  },
  async publish (job) {
    const c = connections[job.conn]
    await unlessGone(c, Promise.all(job.messages.map(m => c.client.publishAsync(m.topic, m.payload, {
      qos: m.qos, retain: m.retain, properties: job.version === '5.0' ? properties(m) : undefined
    }))))
    return {}
  },
  async receive (job) {
    const c = connections[job.conn]
    await until(c, 'messages', () => c.messages.length >= job.count || c.gone).catch(() => {})
    return { messages: c.messages, gone: c.gone }
  },
  async disconnect (job) {
    // The last acknowledgements of QoS 2 are still to be written: it does not
    // wait for them itself.
    await new Promise(resolve => setTimeout(resolve, 150))
    const c = connections[job.conn]
    // It would wait for ever for an answer that does not come.
    await new Promise(resolve => c.client.end(c.stuck || c.gone !== '', {}, resolve))
    return {}
  },
  async drop (job) {
    const c = connections[job.conn]
    c.client.stream.destroy()
    await until(c, 'the end', () => c.gone)
    return {}
  }
}

let last = Promise.resolve()
readline.createInterface({ input: process.stdin }).on('line', line => {
  last = last.then(async () => {
    const job = JSON.parse(line)
    const answer = await ops[job.op](job).catch(e => ({ error: String(e.message || e) }))
    process.stdout.write(JSON.stringify(answer) + '\n')
  })
}).on('close', () => process.exit(0))
