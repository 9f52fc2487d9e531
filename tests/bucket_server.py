"""A real HTTP server in the place of Google Cloud Storage: its JSON API over buckets in memory.

tensorstore, gcsfs and Google's own client talk to it when the variables of `environment` are set.
It can be down for a while, refuse what it is asked to, and be looked at and damaged from within.
"""

import base64
import collections
import contextlib
import dataclasses
import hashlib
import http.server
import itertools
import json
import re
import threading
import urllib.parse

BUCKET = "bucket"
OBJECT = re.compile(r"(?:/download)?/storage/v1/b/([^/]+)/o/([^/]+)")
REWRITE = re.compile(OBJECT.pattern + r"/rewriteTo/b/([^/]+)/o/([^/]+)")
MOVE = re.compile(OBJECT.pattern + r"/moveTo/o/([^/]+)")


@dataclasses.dataclass(frozen=True)
class Object:
  content: bytes
  generation: int

  def described(self, name):
    digest = base64.b64encode(hashlib.md5(self.content).digest()).decode()
    time = "2026-01-01T00:00:00.000Z"
    return {
      "kind": "storage#object", "bucket": BUCKET, "name": name, "size": str(len(self.content)),
      "generation": str(self.generation), "metageneration": "1", "md5Hash": digest,
      "timeCreated": time, "updated": time, "storageClass": "STANDARD",
    }  # fmt: skip


class Server(http.server.ThreadingHTTPServer):
  daemon_threads = True
  request_queue_size = 64

  def __init__(self):
    super().__init__(("127.0.0.1", 0), Handler)
    self.objects, self.uploads, self.lock = {}, {}, threading.RLock()
    self.generations, self.asked = itertools.count(1), collections.Counter()
    # (method, path) → an HTTP status for this request to fail with, or None.
    self.fails = lambda method, path: None

  @property
  def environment(self):
    url = f"http://127.0.0.1:{self.server_address[1]}"
    return {
      "STORAGE_EMULATOR_HOST": url,
      "TENSORSTORE_GCS_HTTP_URL": url,
      "GOOGLE_AUTH_TOKEN_FOR_TESTING": "token",
      "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # asks for a bucket's kind over gRPC
      "FSSPEC_GCS_TOKEN": "anon",
    }

  def put(self, name, content):
    with self.lock:
      self.objects[name] = Object(content, next(self.generations))
      return self.objects[name]

  def below(self, prefix):
    with self.lock:
      return sorted(name for name in self.objects if name.startswith(prefix))

  def handle_error(self, request, client_address):
    """Says nothing of clients that went away."""


class Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = "HTTP/1.1"

  def log_message(self, *_):
    pass

  def handle_request(self):
    self.url = urllib.parse.urlsplit(self.path)
    self.query = dict(urllib.parse.parse_qsl(self.url.query, keep_blank_values=True))
    self.body = self.read()
    with self.server.lock:
      self.server.asked[self.command] += 1
      status = self.server.fails(self.command, urllib.parse.unquote(self.path))
      if status:
        return self.fail(status)
      answer = {
        "GET": self.get, "POST": self.post, "PUT": self.post, "DELETE": self.delete,
      }[self.command]  # fmt: skip
      return answer()

  do_GET = do_POST = do_PUT = do_DELETE = handle_request

  def read(self):
    if self.headers.get("Transfer-Encoding") == "chunked":
      parts = []
      while size := int(self.rfile.readline().strip(), 16):
        parts.append(self.rfile.read(size))
        self.rfile.readline()
      self.rfile.readline()
      return b"".join(parts)
    return self.rfile.read(int(self.headers.get("Content-Length") or 0))

  def named(self):
    """Returns the name of the object that is asked for, or None where it is a bucket."""
    found = OBJECT.fullmatch(self.url.path)
    return urllib.parse.unquote(found.group(2)) if found else None

  def get(self):
    name = self.named()
    if name is None:
      return self.list() if self.url.path.endswith("/o") else self.say({"name": BUCKET})
    found = self.server.objects.get(name)
    if found is None:
      return self.fail(404)
    if self.query.get("alt") != "media":
      return self.say(found.described(name))
    headers = {"x-goog-generation": str(found.generation)}
    if self.query.get("ifGenerationNotMatch") == str(found.generation):
      return self.send(304, b"", **headers)
    content, status = found.content, 200
    if asked := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or ""):
      first, last = asked.groups()
      start = int(first) if first else len(content) - int(last)
      end = int(last) + 1 if first and last else len(content)
      if start >= len(content):
        return self.fail(416)
      headers["Content-Range"] = f"bytes {start}-{min(end, len(content)) - 1}/{len(content)}"
      content, status = content[start:end], 206
    return self.send(status, content, **headers)

  def list(self):
    prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter")
    start, end = self.query.get("startOffset", ""), self.query.get("endOffset")
    found, folders = [], set()
    for name in self.server.below(prefix):
      if name < start or (end and name >= end):
        continue
      head, mark, _ = name[len(prefix) :].partition(delimiter or "\0")
      if mark and delimiter:
        folders.add(prefix + head + delimiter)
      else:
        found.append(self.server.objects[name].described(name))
    return self.say({"items": found, "prefixes": sorted(folders)})

  def post(self):
    if copied := REWRITE.fullmatch(self.url.path):
      source, target = (urllib.parse.unquote(copied.group(i)) for i in (2, 4))
      if source not in self.server.objects:
        return self.fail(404)
      made = self.server.put(target, self.server.objects[source].content)
      return self.say({"done": True, "resource": made.described(target)})
    if moved := MOVE.fullmatch(self.url.path):
      source, target = (urllib.parse.unquote(moved.group(i)) for i in (2, 3))
      if source not in self.server.objects:
        return self.fail(404)
      content = self.server.objects.pop(source).content
      return self.say(self.server.put(target, content).described(target))
    if "upload_id" in self.query:
      return self.resume()
    kind = self.query["uploadType"]
    if kind == "resumable":
      name = self.query.get("name") or json.loads(self.body)["name"]
      key = str(len(self.server.uploads))
      self.server.uploads[key] = [name, b""]
      url = f"{self.server.environment['STORAGE_EMULATOR_HOST']}/upload/resumable?upload_id={key}"
      return self.send(200, b"{}", Location=url)
    if kind == "media":
      return self.finish(self.query["name"], self.body)
    mark = re.search(r'boundary="?([^"]+)', self.headers["Content-Type"]).group(1).encode()
    about, content = self.body.split(b"--" + mark)[1:3]
    content = re.split(rb"\r?\n\r?\n", content, maxsplit=1)[1]
    name = json.loads(re.split(rb"\r?\n\r?\n", about, maxsplit=1)[1])["name"]
    return self.finish(name, re.sub(rb"\r?\n\Z", b"", content))

  def resume(self):
    upload = self.server.uploads[self.query["upload_id"]]
    upload[1] += self.body
    if self.headers["Content-Range"].endswith("*"):
      return self.send(308, b"", Range=f"bytes=0-{len(upload[1]) - 1}")
    return self.finish(*upload)

  def finish(self, name, content):
    wanted = self.query.get("ifGenerationMatch")
    there = self.server.objects.get(name)
    if wanted is not None and int(wanted) != (there.generation if there else 0):
      return self.fail(412)
    return self.say(self.server.put(name, content).described(name))

  def delete(self):
    if self.server.objects.pop(self.named(), None) is None:
      return self.fail(404)
    return self.send(204, b"")

  def say(self, content):
    self.send(200, json.dumps(content).encode(), **{"Content-Type": "application/json"})

  def fail(self, status):
    self.send(status, json.dumps({"error": {"code": status, "message": "as you wish"}}).encode())

  def send(self, status, content, **headers):
    self.send_response(status)
    for name, value in {"Content-Length": str(len(content)), **headers}.items():
      self.send_header(name.replace("_", "-"), value)
    self.end_headers()
    if self.command != "HEAD":
      self.wfile.write(content)


@contextlib.contextmanager
def serving():
  """Serves from a thread until the block ends."""
  server = Server()
  thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
  thread.start()
  try:
    yield server
  finally:
    server.shutdown()
    server.server_close()
    thread.join()
