// One round trip with MQTT.js: subscribe, publish, receive everything back.
//
// The job comes as JSON in the only argument, the result goes to standard
// output as JSON: granted, received, denied (the reason code of a publish on
// denied_topic).
'use strict'
const mqtt = require('mqtt')

const job = JSON.parse(process.argv[2])
const result = { granted: [], received: [], denied: null, error: null }
const protocol = { '3.1': [3, 'MQIsdp'], '3.1.1': [4, 'MQTT'], '5.0': [5, 'MQTT'] }[job.version]

const client = mqtt.connect(job.url, {
  clientId: job.client_id,
  username: job.username,
  password: job.password,
  protocolVersion: protocol[0],
  protocolId: protocol[1],
  keepalive: 300,
  reconnectPeriod: 0,
  connectTimeout: 120000,
  wsOptions: { perMessageDeflate: job.deflate === true }
})

let done = false
function finish (error) {
  if (done) return
  done = true
  result.error = error ? String(error.message || error) : null
  process.stdout.write(JSON.stringify(result) + '\n', () => process.exit(0))
}

const patience = setTimeout(() => finish('nothing more came'), 120000)
client.on('error', finish)
client.on('close', () => { if (!done) finish('the connection was lost') })
client.on('message', (topic, payload, p) => {
  result.received.push([topic, payload.toString(), p.qos])
  if (result.received.length < job.count) return
  clearTimeout(patience)
  // The last acknowledgements of QoS 2 are still to be written.
  setTimeout(() => { done = true; client.end(false, {}, () => { done = false; finish() }) }, 150)
})
client.on('connect', () => {
  client.subscribe(job.topic, { qos: job.qos }, (err, granted) => {
    if (err) return finish(err)
    result.granted = granted.map(g => g.qos)
    const publish = () => {
      for (let i = 0; i < job.count; i++) client.publish(job.topic, 'message ' + i, { qos: job.qos })
    }
    if (!job.denied_topic) return publish()
    client.publish(job.denied_topic, 'denied', { qos: job.qos }, (err) => {
      result.denied = err ? err.code : 0
      publish()
    })
  })
})
