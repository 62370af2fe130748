"""gmqtt as a worker: a request a line on standard input, an answer a line on
standard output, both JSON. clients_test.go says what they mean."""

import asyncio
import json
import sys
from urllib.parse import urlparse

import gmqtt

PATIENCE = 120
NAMES = {"content_type": "content_type", "response_topic": "response_topic", "payload_format_id": "format"}


def properties(m):
    p = {ours: m[theirs] for ours, theirs in NAMES.items() if theirs in m}
    if "correlation" in m:
        p["correlation_data"] = m["correlation"].encode()
    if "user" in m:
        p["user_property"] = [tuple(pair) for pair in m["user"]]
    return p


class Connection:
    def __init__(self):
        self.present = self.gone = None
        self.granted, self.messages = {}, []

    async def wait(self, what, ok):
        async def until():
            while not ok():
                await asyncio.sleep(0.002)  # its callbacks are plain functions

        try:
            await asyncio.wait_for(until(), PATIENCE)
        except asyncio.TimeoutError:
            raise TimeoutError(what) from None

    async def connect(self, job):
        url = urlparse(job["url"])
        v5 = job["version"] == "5.0"
        extra = {"session_expiry_interval": job["expiry"]} if v5 else {}
        if job.get("will"):
            w = job["will"]
            extra["will_message"] = gmqtt.Message(w["topic"], w["payload"], qos=w["qos"], retain=w["retain"])
        c = self.client = gmqtt.Client(job["id"], clean_session=job["clean"], **extra)
        c.stop_reconnect()
        c.on_connect = lambda c, flags, rc, p: setattr(self, "present", bool(flags & 1))
        c.on_disconnect = lambda c, packet, exc=None: setattr(self, "gone", "connection lost")
        c.on_subscribe = lambda c, mid, qos, p: self.granted.update({mid: list(qos)})
        c.on_message = self.on_message
        try:
            await asyncio.wait_for(c.connect(url.hostname, url.port, keepalive=30, version=5 if v5 else 4), PATIENCE)
        except gmqtt.mqtt.handler.MQTTConnectError as e:
            return {"code": e._code, "present": False}
        return {"code": 0, "present": self.present}

    def on_message(self, c, topic, payload, qos, p):
        got = {"topic": topic, "payload": payload.decode(), "qos": qos, "retain": bool(p["retain"])}
        for ours, theirs in NAMES.items():
            if ours in p:
                got[theirs] = p[ours][0]
        if "correlation_data" in p:
            got["correlation"] = p["correlation_data"][0].decode()
        if "user_property" in p:
            got["user"] = [list(pair) for pair in p["user_property"]]
        self.messages.append(got)
        return 0

    async def subscribe(self, job):
        mid = self.client.subscribe([gmqtt.Subscription(f, qos=job["qos"]) for f in job["filters"]])
        await self.wait("SUBACK", lambda: mid in self.granted or self.gone)
        return {"granted": self.granted[mid]}

    async def publish(self, job):
        for m in job["messages"]:
            p = properties(m) if job["version"] == "5.0" else {}
            # It raises an error where it would exceed the broker's Receive Maximum.
            await self.wait("acknowledgements", lambda: len(self.client._persistent_storage.get_all()) < 9 or self.gone)
            self.client.publish(m["topic"], m["payload"], qos=m["qos"], retain=m["retain"], **p)
        await self.wait("acknowledgements", lambda: self.client._persistent_storage.is_empty or self.gone)
        return {}

    async def receive(self, job):
        try:
            await self.wait("messages", lambda: len(self.messages) >= job["count"] or self.gone)
        except TimeoutError:
            pass
        return {"messages": self.messages, "gone": self.gone or ""}

    async def disconnect(self, job):
        await self.client.disconnect()
        return {}

    async def drop(self, job):
        self.client._is_active = False
        self.client._connection._transport.abort()
        return {}


async def main():
    connections = {}
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        job = json.loads(line)
        if job["op"] == "connect":
            connections[job["conn"]] = Connection()
        try:
            answer = await getattr(connections[job["conn"]], job["op"])(job)
        except Exception as e:  # whatever it is, the test is to see it
            answer = {"error": "%s: %s" % (type(e).__name__, e)}
        print(json.dumps(answer), flush=True)


asyncio.run(main())
