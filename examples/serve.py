"""Serves a finished run on this machine: prompts in, improved answers out, as JSON.

  python examples/serve.py runs/demo 8000
  curl localhost:8000 -d '{"prompt": "…", "draft": "…"}'

Without a draft the policy writes one. For many users export the models (`pit convert export`) and
serve them with vLLM; this is the improver with its stop rule, one request after another.
"""

import http.server
import json
import sys

import pit_jax


def handler(run: pit_jax.Run) -> type[http.server.BaseHTTPRequestHandler]:
  """Returns what answers the requests."""

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
      try:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        (made,) = run.improve([asked["prompt"]], [asked.get("draft")], rounds=3)
        versions = [{"text": version.text, "gap": version.gap} for version in made.rounds]
        told = {"text": made.text, "draft": made.draft, "rounds": versions, "why": made.why}
        self._send(200, told)
      except (KeyError, TypeError, ValueError) as error:  # what whoever asks can mend
        self._send(400, {"error": str(error)})

    def _send(self, status: int, content: dict) -> None:
      body = json.dumps(content, ensure_ascii=False).encode()
      self.send_response(status)
      self.send_header("Content-Type", "application/json; charset=utf-8")
      self.send_header("Content-Length", str(len(body)))
      self.end_headers()
      self.wfile.write(body)

  return Handler


def main(workdir: str, port: str = "8000") -> None:
  """Loads the run once, and serves it until it is stopped."""
  run = pit_jax.load(workdir, batch_size=1)
  with http.server.HTTPServer(("localhost", int(port)), handler(run)) as server:
    print(f"serving {run} on http://localhost:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
  main(*sys.argv[1:])
