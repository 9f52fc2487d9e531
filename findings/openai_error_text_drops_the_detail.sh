#!/usr/bin/env bash
# openai client: the text of an error leaves out the reason that FastAPI servers give
#
# Versions: openai 3.57.0, fastapi 0.165.0, uvicorn 0.54.0 (Python 3.11). Seen 2026-11-28.
#
# A reader would expect: `str(error)` of an APIStatusError to say what the
#   server said, as it does for {"error": {"message": ...}}. Servers that offer
#   the same interface are often FastAPI applications, whose own errors, and
#   those of their request checks, are {"detail": ...}.
#
# What happens: only a "message" field (at the top or inside "error") reaches
#   the text. For {"detail": "..."}, for the list of failed checks of a 422 and
#   for {"error": "..."} with a plain text, str(error) and error.message are
#   just "Error code: 404" or the like; the reason is in error.body alone.
#
# Output:
#   openai 3.57.0 fastapi 0.165.0 uvicorn 0.54.0
#   nested {}: str 'Error code: 404 - no model nested here', body {'message': 'no model nested here'}
#   plain {}: str 'Error code: 404', body no model plain here
#   detail {}: str 'Error code: 404', body {'detail': 'no model detail here'}
#   checked {'temperature': 1.5}: str 'Error code: 422', body {'detail': [{'type': 'less_than_equal',
#       'loc': ['body', 'temperature'], 'msg': 'Input should be less than or equal to 1', 'input': 1.5,
#       'ctx': {'le': 1.0}}]}
#
# For users of preference and RLHF tooling: samplers and judges that log
#   str(error) and go on to the next prompt leave thousands of equal lines
#   "Error code: 422" without the cause (a wrong model name, a field that the
#   local server does not know). Log error.body too.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3.11 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-compile 'openai==3.57.0' 'fastapi==0.165.0' 'uvicorn==0.54.0'
cd "$tmp"
"$tmp/venv/bin/python" - <<'EOF'
import socket
import threading
import time

import fastapi
import openai
import uvicorn
from fastapi.responses import JSONResponse

print("openai", openai.__version__, "fastapi", fastapi.__version__, "uvicorn", uvicorn.__version__)
app = fastapi.FastAPI()


@app.post("/v1/chat/completions")
def complete(model: str = fastapi.Body(), temperature: float = fastapi.Body(1.0, le=1.0)):
    if model == "nested":
        return JSONResponse({"error": {"message": "no model nested here"}}, 404)
    if model == "plain":
        return JSONResponse({"error": "no model plain here"}, 404)
    raise fastapi.HTTPException(404, f"no model {model} here")


port = socket.socket()
port.bind(("127.0.0.1", 0))
server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
thread = threading.Thread(target=server.run, kwargs={"sockets": [port]}, daemon=True)
thread.start()
while not server.started:
    time.sleep(0.05)
client = openai.OpenAI(base_url=f"http://127.0.0.1:{port.getsockname()[1]}/v1", api_key="none", max_retries=0)


def ask(model, **options):
    try:
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}], **options)
    except openai.APIStatusError as error:
        print(f"{model} {options}: str {str(error)!r}, body {error.body}")
        return str(error), str(error.body)
    raise SystemExit("no error")


assert ask("nested")[0] == "Error code: 404 - no model nested here"
for model in ("plain", "detail"):
    text, body = ask(model)
    assert text == "Error code: 404" and f"no model {model} here" in body
text, body = ask("checked", temperature=1.5)
assert text == "Error code: 422" and "temperature" in body
server.should_exit = True
thread.join()
EOF
