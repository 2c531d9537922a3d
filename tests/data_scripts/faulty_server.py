"""An HTTP server on loopback that fails in the ways that servers fail."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Server:
    """What is served, how it fails, and what was asked for.

    `cut_at`: byte places at which successive answers break off. `ranges`: whether Range is honoured. `status`:
    codes of the next answers. `stall`: answers that stop after 1,000 bytes and say nothing more. `length`:
    whether an answer says how long it is; `chunked`: it does not, but its end can be told. `shift`: how many
    bytes behind the wanted one the next ranges begin. `moved`: where the next answers send on to. `endless`: a body
    without end; `trickle`: one that comes byte by byte.
    """

    files: dict[str, bytes]
    cut_at: list[int] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    ranges: bool = True
    stall: int = 0
    etag: str = '"one"'
    length: bool = True
    chunked: bool = False
    shift: int = 0
    moved: str = ""
    endless: bool = False
    trickle: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    url: str = ""


@contextmanager
def serving(files: dict[str, bytes], **faults):
    """Serve `files` until the block ends."""
    server = Server(files, **faults)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1" if server.chunked else "HTTP/1.0"

        def log_message(self, *arguments) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            answer(server, self)

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    server.url = f"http://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        listening.shutdown()
        thread.join()
        listening.server_close()


def answer(server: Server, handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    wanted = handler.headers.get("Range", "")
    server.asked.append((handler.path, wanted))
    if server.moved:
        handler.send_response(302)
        handler.send_header("Location", server.moved)
        handler.end_headers()
        return
    content = server.files.get(handler.path.lstrip("/"))
    status = server.status.pop(0) if server.status else 200
    if content is None or status >= 400:
        handler.send_error(404 if content is None else status)
        return
    start = 0
    same = handler.headers.get("If-Range", server.etag) == server.etag
    if wanted and server.ranges and same:
        start = int(wanted.removeprefix("bytes=").rstrip("-")) + server.shift
        if start >= len(content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(content)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    else:
        handler.send_response(200)
    if server.etag:
        handler.send_header("ETag", server.etag)
    if server.chunked:
        handler.send_header("Transfer-Encoding", "chunked")
    elif server.length:
        handler.send_header("Content-Length", str(len(content) - start))
    handler.end_headers()
    end = server.cut_at.pop(0) if server.cut_at else len(content)
    if server.endless or server.trickle:
        piece, pause_s = (bytes(65_536), 0.0) if server.endless else (b"x", 0.01)
        with suppress(OSError):  # until the client has had enough
            while not server.release.wait(pause_s):
                handler.wfile.write(piece)
        return
    if server.stall:
        server.stall -= 1
        handler.wfile.write(content[start : start + 1000])
        server.release.wait(10)
        return
    body = content[start : max(start, end)]
    if server.chunked:
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(body), body))
        handler.wfile.write(b"0\r\n\r\n" if end == len(content) else b"")
    else:
        handler.wfile.write(body)
