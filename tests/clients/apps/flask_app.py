"""A service as users of a framework have it: Flask and requests, and not a word about context. `opentelemetry-instrument`
starts it, or nobody does. SERVICE, VERSION, LISTEN and CALLS are those of chain.py."""

import json
import os

import requests
from flask import Flask, jsonify

SERVICE = os.environ["SERVICE"]
app = Flask(__name__)


@app.get("/chain")
def chain():
    calls = []
    for service, base in json.loads(os.environ["CALLS"]).items():
        if service != SERVICE:
            reply = requests.get(f"{base}/chain", timeout=30)
            calls.append({"service": service, "status": reply.status_code, "answer": reply.json()})
    return jsonify(service=SERVICE, version=os.environ["VERSION"], calls=calls)


if __name__ == "__main__":
    host, port = os.environ["LISTEN"].rsplit(":", 1)
    app.run(host, int(port), threaded=True)
