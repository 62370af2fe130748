// One round trip with MQTT.js in a browser, as mqttjs_client.js does it on
// Node: job comes from the page, the result goes to /result. What the browser
// offers as extensions of WebSocket is its own affair.
/* global mqtt, job, fetch */
'use strict'
const result = { granted: [], received: [], denied: null, error: null }

const client = mqtt.connect(job.url, {
  clientId: job.client_id,
  username: job.username,
  password: job.password,
  protocolVersion: { '3.1.1': 4, '5.0': 5 }[job.version],
  reconnectPeriod: 0
})

let done = false
function finish (error) {
  if (done) return
  done = true
  result.error = error ? String(error.message || error) : null
  fetch('/result', { method: 'POST', body: JSON.stringify(result) })
}

client.on('error', finish)
client.on('close', () => finish('the connection was lost'))
client.on('message', (topic, payload, p) => {
  result.received.push([topic, payload.toString(), p.qos])
  if (result.received.length === job.count) finish()
})
client.on('connect', () => {
  client.subscribe(job.topic, { qos: job.qos }, (err, granted) => {
    if (err) return finish(err)
    result.granted = granted.map(g => g.qos)
    const publish = () => {
      for (let i = 0; i < job.count; i++) client.publish(job.topic, 'message ' + i, { qos: job.qos })
    }
    client.publish(job.denied_topic, 'denied', { qos: job.qos }, (err) => {
      if (job.unanswered) return // publish is under way
      result.denied = err ? err.code : 0
      publish()
    })
    // MQTT.js gathers what is sent within 50 ms into one frame, and a refused
    // packet among others ends the connection.
    if (job.unanswered) setTimeout(publish, 500)
  })
})
