"""Paho Python as a worker: a request a line on standard input, an answer a line
on standard output, both JSON. clients_test.go says what they mean."""

import json
import socket
import sys
import threading
from urllib.parse import urlparse

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

LEVELS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5.0": mqtt.MQTTv5}
PATIENCE = 120


def properties(m):
    p = Properties(PacketTypes.PUBLISH)
    if "content_type" in m:
        p.ContentType = m["content_type"]
    if "response_topic" in m:
        p.ResponseTopic = m["response_topic"]
    if "correlation" in m:
        p.CorrelationData = m["correlation"].encode()
    if "format" in m:
        p.PayloadFormatIndicator = m["format"]
    for pair in m.get("user", []):
        p.UserProperty = tuple(pair)
    return p


def seen(m):
    got = {"topic": m.topic, "payload": m.payload.decode(), "qos": m.qos, "retain": m.retain}
    p = m.properties
    if p is None:
        return got
    for name, key in (("ContentType", "content_type"), ("ResponseTopic", "response_topic"), ("PayloadFormatIndicator", "format")):
        if hasattr(p, name):
            got[key] = getattr(p, name)
    if hasattr(p, "CorrelationData"):
        got["correlation"] = p.CorrelationData.decode()
    if hasattr(p, "UserProperty"):
        got["user"] = [list(pair) for pair in p.UserProperty]
    return got


class Connection:
    def __init__(self):
        self.changed = threading.Condition()
        self.connack = self.gone = None
        self.granted, self.acked, self.messages = {}, {}, []

    def tell(self, f):
        with self.changed:
            f()
            self.changed.notify_all()

    def wait(self, what, ok):
        with self.changed:
            if not self.changed.wait_for(ok, PATIENCE):
                raise TimeoutError(what)

    def connect(self, job):
        url = urlparse(job["url"])
        v5 = job["version"] == "5.0"
        c = self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=job["id"],
            clean_session=None if v5 else job["clean"],
            transport="websockets" if url.scheme == "ws" else "tcp",
            protocol=LEVELS[job["version"]],
            reconnect_on_failure=job.get("reconnect", False),
        )
        c.reconnect_delay_set(min_delay=0.02, max_delay=0.02)
        if url.scheme == "ws":
            c.ws_set_options(path=url.path)
        if job.get("will"):
            w = job["will"]
            c.will_set(w["topic"], w["payload"], w["qos"], w["retain"])
        extra = {}
        if v5:
            extra["clean_start"] = job["clean"]
            extra["properties"] = Properties(PacketTypes.CONNECT)
            extra["properties"].SessionExpiryInterval = job["expiry"]
        c.on_connect = lambda c, u, f, reason, p: self.tell(lambda: setattr(self, "connack", (reason.value, f.session_present)))
        if not job.get("reconnect"):
            c.on_disconnect = lambda c, u, f, reason, p: self.tell(lambda: setattr(self, "gone", str(reason)))
        c.on_subscribe = lambda c, u, mid, reasons, p: self.tell(lambda: self.granted.update({mid: [r.value for r in reasons]}))
        c.on_message = lambda c, u, m: self.tell(lambda: self.messages.append(seen(m)))
        c.on_publish = lambda c, u, mid, reason, p: self.tell(lambda: self.acked.update({mid: reason.value}))
        c.connect(url.hostname, url.port, keepalive=30, **extra)
        c.loop_start()
        self.wait("CONNACK", lambda: self.connack or self.gone)
        if not self.connack:
            raise ConnectionError("no CONNACK: " + self.gone)
        return {"code": self.connack[0], "present": self.connack[1]}

    def subscribe(self, job):
        _, mid = self.client.subscribe([(f, job["qos"]) for f in job["filters"]])
        self.wait("SUBACK", lambda: mid in self.granted or self.gone)
        return {"granted": self.granted[mid]}

    def publish(self, job):
        mids = []
        for m in job["messages"]:
            p = properties(m) if job["version"] == "5.0" else None
            mids.append(self.client.publish(m["topic"], m["payload"], m["qos"], m["retain"], p).mid)
        self.wait("acknowledgements", lambda: all(m in self.acked for m in mids) or self.gone)
        return {}

    def receive(self, job):
        try:
            self.wait("messages", lambda: len(self.messages) >= job["count"] or self.gone)
        except TimeoutError:
            pass
        return {"messages": self.messages, "gone": self.gone or ""}

    def disconnect(self, job):
        self.client.on_disconnect = lambda c, u, f, reason, p: self.tell(lambda: setattr(self, "gone", str(reason)))
        self.client.disconnect()
        self.wait("the end", lambda: self.gone)
        self.client.loop_stop()
        return {}

    def drop(self, job):
        sock = self.client.socket()
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except AttributeError:  # its WebSocket
            sock._socket.shutdown(socket.SHUT_RDWR)
        self.wait("the end", lambda: self.gone)
        self.client.loop_stop()
        return {}


def main():
    connections = {}
    for line in sys.stdin:
        job = json.loads(line)
        if job["op"] == "connect":
            connections[job["conn"]] = Connection()
        try:
            answer = getattr(connections[job["conn"]], job["op"])(job)
        except Exception as e:  # whatever it is, the test is to see it
            answer = {"error": "%s: %s" % (type(e).__name__, e)}
        print(json.dumps(answer), flush=True)


main()
