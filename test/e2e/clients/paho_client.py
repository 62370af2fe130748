"""One round trip with Paho Python: subscribe, publish, receive everything back.

The job comes as JSON in the only argument, the result goes to standard output
as JSON: granted, received, denied (reason codes of publishes on denied_topic).
"""

import json
import sys
import threading
from urllib.parse import urlparse

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

LEVELS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5.0": mqtt.MQTTv5}
PATIENCE = 120


def main():
    job = json.loads(sys.argv[1])
    url = urlparse(job["url"])
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        client_id=job["client_id"],
        transport="websockets" if url.scheme == "ws" else "tcp",
        protocol=LEVELS[job["version"]],
    )
    if url.scheme == "ws":
        client.ws_set_options(path=url.path)
    client.username_pw_set(job["username"], job["password"])

    result = {"granted": [], "received": [], "denied": None, "error": None}
    acked = {}
    changed = threading.Condition()

    def tell(f):
        with changed:
            f()
            changed.notify_all()

    def wait(what, ok):
        with changed:
            if not changed.wait_for(ok, PATIENCE):
                raise TimeoutError(what)

    state = {}
    client.on_connect = lambda c, u, f, reason, p: tell(lambda: state.update(connected=reason.value))
    client.on_connect_fail = lambda c, u: tell(lambda: state.update(connected=-1))
    client.on_disconnect = lambda c, u, f, reason, p: tell(lambda: state.update(gone=reason.value))
    client.on_subscribe = lambda c, u, mid, reasons, p: tell(lambda: result["granted"].extend(r.value for r in reasons))
    client.on_message = lambda c, u, m: tell(lambda: result["received"].append([m.topic, m.payload.decode(), m.qos]))
    client.on_publish = lambda c, u, mid, reason, p: tell(lambda: acked.update({mid: reason.value}))

    client.connect(url.hostname, url.port, keepalive=30)
    client.loop_start()
    try:
        wait("CONNACK", lambda: "connected" in state)
        if state["connected"] != 0:
            raise ConnectionError("refused with %d" % state["connected"])
        client.subscribe(job["topic"], job["qos"])
        wait("SUBACK", lambda: result["granted"])
        if job.get("denied_topic"):
            info = client.publish(job["denied_topic"], "denied", job["qos"])
            if not job.get("unanswered"):
                wait("the answer to the denied publish", lambda: info.mid in acked)
                result["denied"] = acked[info.mid]
        for i in range(job["count"]):
            client.publish(job["topic"], "message %d" % i, job["qos"])
        wait("messages", lambda: len(result["received"]) >= job["count"])
        if "gone" in state:
            raise ConnectionError("the connection was lost")
        client.disconnect()
    except Exception as e:
        result["error"] = "%s: %s" % (type(e).__name__, e)
    client.loop_stop()
    print(json.dumps(result))


main()
