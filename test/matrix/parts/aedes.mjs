// aedes on the TCP port and the WebSocket port that the arguments name.
import net from 'node:net'
import http from 'node:http'
import { Aedes } from 'aedes'
import { WebSocketServer, createWebSocketStream } from 'ws'

const [tcp, ws] = process.argv.slice(2).map(Number)
const broker = await Aedes.createBroker()
net.createServer(broker.handle).listen(tcp, '127.0.0.1')
const server = http.createServer().listen(ws, '127.0.0.1')
new WebSocketServer({ server, handleProtocols: all => all.has('mqtt') && 'mqtt' })
  .on('connection', (socket, req) => broker.handle(createWebSocketStream(socket), req))
