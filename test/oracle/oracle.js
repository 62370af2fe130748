// mqtt-packet as an oracle.
//
//   node oracle.js read          a request a line on standard input, an answer
//                                a line on standard output: the facts of the
//                                packet and how it is written back
//   node oracle.js write SEED N  N random packets, one a line
//
// Strings go as they are, bytes as hexadecimal digits. NODE_PATH has mqtt-packet.
'use strict'
const mqtt = require('mqtt-packet')
const constants = require('mqtt-packet/constants')

const hex = b => Buffer.from(b).toString('hex')

// properties lists every property as "ID number", "ID bytes" or, of a user
// property, "26 name=value"; in what order they came the parser does not keep.
function properties (p) {
  const list = []
  for (const name of Object.getOwnPropertyNames(p || {})) {
    const id = constants.properties[name].toString(16).padStart(2, '0')
    const type = constants.propertiesTypes[name]
    for (const value of [].concat(p[name])) {
      if (type === 'pair') {
        for (const key of Object.getOwnPropertyNames(value)) {
          for (const v of [].concat(value[key])) list.push(`${id} ${hex(key)}=${hex(v)}`)
        }
      } else if (type === 'string' || type === 'binary') {
        list.push(`${id} ${hex(value)}`)
      } else {
        list.push(`${id} ${Number(value)}`)
      }
    }
  }
  return list
}

function facts (p) {
  const f = { type: p.cmd.toUpperCase(), properties: properties(p.properties) }
  switch (p.cmd) {
    case 'connect':
      Object.assign(f, {
        level: p.protocolVersion + (p.bridgeMode ? 128 : 0), clean: p.clean, keepAlive: p.keepalive, clientID: p.clientId,
        hasUser: p.username !== undefined, user: p.username || '',
        hasPassword: p.password !== undefined, password: hex(p.password || '')
      })
      if (p.will) {
        Object.assign(f, {
          hasWill: true, willQoS: p.will.qos, willRetain: p.will.retain, willTopic: p.will.topic,
          will: hex(p.will.payload), willProperties: properties(p.will.properties)
        })
      }
      break
    case 'connack':
      Object.assign(f, { present: p.sessionPresent, code: p.reasonCode === undefined ? p.returnCode : p.reasonCode })
      break
    case 'publish':
      Object.assign(f, { dup: p.dup, qos: p.qos, retain: p.retain, topic: p.topic, payload: hex(p.payload) })
      if (p.qos > 0) f.id = p.messageId
      break
    case 'puback':
    case 'pubrec':
    case 'pubrel':
    case 'pubcomp':
      Object.assign(f, { id: p.messageId, code: p.reasonCode || 0 })
      break
    case 'subscribe':
      f.id = p.messageId
      f.filters = p.subscriptions.map(s => `${s.topic} qos=${s.qos} nl=${!!s.nl} rap=${!!s.rap} rh=${s.rh || 0}`)
      break
    case 'unsubscribe':
      Object.assign(f, { id: p.messageId, filters: p.unsubscriptions })
      break
    case 'suback':
    case 'unsuback':
      Object.assign(f, { id: p.messageId, codes: p.granted || [] })
      break
    case 'disconnect':
    case 'auth':
      f.code = p.reasonCode || 0
  }
  return f
}

function read (request) {
  const answer = {}
  let packet
  try {
    const parser = mqtt.parser({ protocolVersion: request.version })
    parser.on('packet', p => { if (packet) answer.error = 'two packets'; packet = p })
    parser.on('error', err => { if (!answer.error) answer.error = err.message })
    parser.parse(Buffer.from(request.bytes, 'hex'))
    if (answer.error) return answer
    if (!packet) return { error: 'incomplete' }
    answer.facts = facts(packet)
  } catch (err) {
    return { error: 'throws: ' + err.message }
  }
  try {
    answer.again = hex(mqtt.generate(packet, { protocolVersion: request.version }))
  } catch (err) {
    answer.cannot = err.message
  }
  return answer
}

// random is a generator of the given seed (mulberry32).
function random (seed) {
  return () => {
    seed = (seed + 0x6D2B79F5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

function write (seed, count, out) {
  const next = random(seed)
  const below = n => Math.floor(next() * n)
  const coin = () => next() < 0.5
  const pick = list => list[below(list.length)]
  const many = (most, make) => Array.from({ length: below(most + 1) }, make)
  const text = letters => many(12, () => pick(letters)).join('')
  const words = [...'abz09 /$ä€\u{1F321}\uFEFF\u0001']
  const name = () => text(words)
  const topic = () => 't' + text([...'ab//$ä€\u{1F321} '])
  const filter = () => pick(['#', '+', 'a', 'a/#', '+/b/+/#', '//', '$SYS/+', '$share/g/a/+', 'ä/€'])
  const bytes = most => Buffer.from(many(most, () => below(256)))
  const payload = () => next() < 0.05 ? bytes(20000) : bytes(200)
  const id = () => 1 + below(65535)
  const qos = () => below(3)

  const values = {
    int8: () => below(2), // Maximum QoS alone
    byte: coin,
    int16: () => 1 + below(65535),
    int32: () => 1 + below(0xFFFFFFFF),
    var: () => pick([1, 127, 128, 16383, 16384, 2097151, 2097152, 268435455]),
    string: name,
    binary: () => bytes(40),
    pair: () => {
      const p = Object.create(null)
      for (let n = 1 + below(3); n > 0; n--) p['k' + name()] = coin() ? name() : [name(), name()]
      return p
    }
  }
  // some draws from the given properties, in any order.
  const some = names => {
    const p = {}
    for (const n of names.map(n => [next(), n]).sort((a, b) => a[0] - b[0]).map(x => x[1])) {
      if (coin()) p[n] = n === 'responseTopic' ? topic() : values[constants.propertiesTypes[n]]()
    }
    return p
  }
  const answer = ['reasonString', 'userProperties']
  const message = ['payloadFormatIndicator', 'messageExpiryInterval', 'contentType', 'responseTopic', 'correlationData', 'userProperties']
  const acknowledge = (cmd, codes) => v => {
    const p = { cmd, messageId: id() }
    if (v === 5) {
      p.reasonCode = pick(codes)
      if (coin()) p.properties = some(answer)
    }
    return p
  }
  const make = {
    connect: v => {
      const p = {
        cmd: 'connect', protocolId: v === 3 ? 'MQIsdp' : 'MQTT', protocolVersion: v, clean: coin(), keepalive: below(65536), clientId: 'c' + name(),
        properties: some(['sessionExpiryInterval', 'receiveMaximum', 'maximumPacketSize', 'topicAliasMaximum',
          'requestResponseInformation', 'requestProblemInformation', 'userProperties', 'authenticationMethod'])
      }
      if (coin()) p.will = { topic: topic(), payload: bytes(60), qos: qos(), retain: coin(), properties: some([...message, 'willDelayInterval']) }
      if (coin()) {
        p.username = name()
        if (coin()) p.password = bytes(40)
      }
      return p
    },
    connack: v => {
      const code = v === 5 ? pick([0, 0, 0x80, 0x87, 0x9F]) : below(6)
      const p = { cmd: 'connack', sessionPresent: code === 0 && coin(), returnCode: code, reasonCode: code }
      p.properties = some([...answer, 'sessionExpiryInterval', 'receiveMaximum', 'maximumQoS', 'retainAvailable', 'maximumPacketSize',
        'assignedClientIdentifier', 'topicAliasMaximum', 'wildcardSubscriptionAvailable', 'subscriptionIdentifiersAvailable',
        'sharedSubscriptionAvailable', 'serverKeepAlive', 'responseInformation', 'serverReference', 'authenticationMethod', 'authenticationData'])
      return p
    },
    publish: v => {
      const p = { cmd: 'publish', qos: qos(), retain: coin(), topic: topic(), payload: payload() }
      if (p.qos > 0) Object.assign(p, { dup: coin(), messageId: id() })
      p.properties = some([...message, 'topicAlias'])
      if (coin()) p.properties.subscriptionIdentifier = coin() ? values.var() : [values.var(), values.var()]
      if (v === 5 && p.properties.topicAlias && coin()) p.topic = ''
      return p
    },
    puback: acknowledge('puback', [0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]),
    pubrec: acknowledge('pubrec', [0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]),
    pubrel: acknowledge('pubrel', [0, 0x92]),
    pubcomp: acknowledge('pubcomp', [0, 0x92]),
    subscribe: v => ({
      cmd: 'subscribe',
      messageId: id(),
      properties: some(['subscriptionIdentifier', 'userProperties']),
      subscriptions: Array.from({ length: 1 + below(5) }, () => {
        const f = filter()
        return { topic: f, qos: qos(), nl: !f.startsWith('$share') && coin(), rap: coin(), rh: below(3) }
      })
    }),
    suback: v => ({
      cmd: 'suback',
      messageId: id(),
      properties: some(answer),
      granted: Array.from({ length: 1 + below(9) }, () => pick(v === 5 ? [0, 1, 2, 0x80, 0x87, 0x8F, 0x97, 0xA2] : [0, 1, 2, 0x80]))
    }),
    unsubscribe: () => ({
      cmd: 'unsubscribe', messageId: id(), properties: some(['userProperties']), unsubscriptions: Array.from({ length: 1 + below(5) }, filter)
    }),
    unsuback: () => ({
      cmd: 'unsuback', messageId: id(), properties: some(answer), granted: Array.from({ length: 1 + below(9) }, () => pick([0, 0x11, 0x80, 0x87]))
    }),
    pingreq: () => ({ cmd: 'pingreq' }),
    pingresp: () => ({ cmd: 'pingresp' }),
    disconnect: () => ({ cmd: 'disconnect', reasonCode: pick([0, 0x80, 0x82, 0x98]), properties: some([...answer, 'serverReference']) }),
    auth: () => ({ cmd: 'auth', reasonCode: 0x18, properties: { authenticationMethod: name(), ...some(['authenticationData', ...answer]) } })
  }
  const brokers = ['connack', 'suback', 'unsuback', 'pingresp']
  for (let n = 0; n < count; n++) {
    const version = pick([3, 4, 5])
    const cmd = pick(Object.keys(make).filter(c => version === 5 || c !== 'auth'))
    const packet = make[cmd](version)
    out({ version, broker: brokers.includes(cmd), bytes: hex(mqtt.generate(packet, { protocolVersion: version })), facts: facts(clean(packet, version)) })
  }
}

// clean leaves out of a packet to be written what its version has no place for.
function clean (p, version) {
  if (version === 5) return p
  const q = { ...p, properties: undefined, reasonCode: undefined }
  if (q.will) q.will = { ...q.will, properties: undefined }
  if (q.subscriptions) q.subscriptions = q.subscriptions.map(s => ({ topic: s.topic, qos: s.qos }))
  if (q.cmd === 'unsuback') q.granted = undefined
  return q
}

if (process.argv[2] === 'write') {
  const lines = []
  write(Number(process.argv[3]), Number(process.argv[4]), p => lines.push(JSON.stringify(p)))
  process.stdout.write(lines.join('\n') + '\n')
} else {
  const input = require('fs').readFileSync(0, 'utf8')
  process.stdout.write(input.split('\n').filter(Boolean).map(l => JSON.stringify(read(JSON.parse(l)))).join('\n') + '\n')
}
