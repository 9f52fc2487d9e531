"""A real HTTP server in the place of an OpenAI-compatible endpoint, which misbehaves on request.

Its model likes the answer that ends in the larger number, or is longer, and says so in JSON. What a
prompt names in braces, such as {429 half}, is how its first requests fare, one after the other;
the last name with an exclamation mark is how all others fare too: {500!}.
"""

import collections
import contextlib
import http.server
import json
import re
import threading
import time

SLOW = 1.5  # seconds, longer than the tests' client waits


class Server(http.server.ThreadingHTTPServer):
  daemon_threads = True
  request_queue_size = 64

  def __init__(self, port=0, favourite=None, usage=100):
    super().__init__(("127.0.0.1", port), Handler)
    self.favourite, self.usage = favourite, usage  # "A": it prefers whatever is shown first
    self.lock, self.asked, self.times, self.bodies, self.keys = threading.Lock(), [], [], [], []
    self.tries = collections.Counter()
    self.now, self.most = 0, 0  # requests under way
    self.hold = 0.0  # seconds that every reply takes
    self.on_request = lambda count: None

  @property
  def url(self):
    return f"http://127.0.0.1:{self.server_address[1]}/v1"

  def handle_error(self, request, client_address):
    """Says nothing of clients that went away."""


class Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = "HTTP/1.1"

  def log_message(self, *_):
    pass

  def do_POST(self):
    server = self.server
    body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
    prompt = body["messages"][0]["content"]
    with server.lock:
      server.now += 1
      server.most = max(server.most, server.now)
      server.asked.append(prompt)
      server.times.append(time.monotonic())
      server.bodies.append(body)
      server.keys.append(self.headers["Authorization"])
      turn, count = server.tries[prompt], len(server.asked)
      server.tries[prompt] += 1
    server.on_request(count)
    time.sleep(server.hold)
    with server.lock:  # before the reply, after which the client may send the next one
      server.now -= 1
    self.behave(behaviour(prompt, turn), body)

  def behave(self, how, body):
    said = completion(body, self.server)
    message, whole = said["choices"][0]["message"], json.dumps(said)
    if how == "slow":
      time.sleep(SLOW)
    if how == "cut":
      said["choices"][0]["finish_reason"] = "length"
    message["content"] = {
      "prose": "Both answers have their merits.",
      "cut": '{"reason": "The first one',
      "null": None,
      "echo": f"{message['content']} {self.headers['Authorization']}",
    }.get(how, message["content"])
    if how == "broke":
      self.send(429, json.dumps({"error": {"code": "insufficient_quota"}}))
    elif how.isdigit():
      error = {"message": f"as you wish, {self.headers['Authorization']}", "code": None}
      later = {"Retry-After": "0.3"} if how == "429" else {}
      self.send(int(how), json.dumps({"error": error}), **later)
    elif how == "drop":
      self.close_connection = True
      self.connection.close()
    elif how == "half":  # of the body
      self.close_connection = True
      self.send(200, whole, length=2 * len(whole))
    else:
      wrong = {"garbage": "<html>we are down</html>", "empty": "{}"}
      self.send(200, wrong.get(how, json.dumps(said)))

  def send(self, status, text, length=None, **headers):
    content = text.encode()
    self.send_response(status)
    self.send_header("Content-Type", "application/json")
    self.send_header("Content-Length", str(length or len(content)))
    for name, value in headers.items():
      self.send_header(name, value)
    self.end_headers()
    self.wfile.write(content)


def behaviour(prompt, turn):
  """Returns how the request of this turn fares."""
  named = re.search(r"\{([a-z0-9 ]+!?)\}", prompt)
  names = named.group(1).split() if named else []
  if names and names[-1].endswith("!"):
    return names[min(turn, len(names) - 1)].removesuffix("!")
  return names[turn] if turn < len(names) else "well"


def worths(prompt):
  """Returns what the answers of a prompt are worth: the numbers at their ends, or their lengths."""
  answers = re.findall(r"<answer_[ab]>\n(.*?)\n</answer_[ab]>", prompt, re.DOTALL)
  numbers = [re.search(r"(-?\d+)$", answer) for answer in answers]
  return [int(n.group(1)) if n else len(answer) for n, answer in zip(numbers, answers)]


def completion(body, server):
  first, second = worths(body["messages"][0]["content"])
  verdict = server.favourite or ("A" if first > second else "B" if second > first else "tie")
  message = {"role": "assistant", "content": json.dumps({"reason": "It is.", "verdict": verdict})}
  choice = {"index": 0, "message": message, "finish_reason": "stop"}
  if body.get("logprobs"):
    tops = [{"token": "A", "logprob": -0.2}, {"token": " B", "logprob": -1.8}]
    choice["logprobs"] = {"content": [{"token": "A", "logprob": -0.2, "top_logprobs": tops}]}
  made = {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"]}
  usage = {"total_tokens": server.usage} if server.usage else None
  return made | {"choices": [choice], "usage": usage}


@contextlib.contextmanager
def serving(**settings):
  """Serves from a thread until the block ends."""
  server = Server(**settings)
  thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
  thread.start()
  try:
    yield server
  finally:
    server.shutdown()
    server.server_close()
    thread.join()
