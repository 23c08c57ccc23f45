"""Calls that are cancelled, by Ctrl-C or by what `progress` raises."""

import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

import kharon
from kit import Case


class Stalling(http.server.ThreadingHTTPServer):
    """A registry that takes uploads, and does not answer to a chunk before it is let go."""

    daemon_threads = True

    def __init__(self):
        self.got_chunk, self.go, self.requests = threading.Event(), threading.Event(), []
        super().__init__(("127.0.0.1", 0), Answers)
        self.host = f"127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """Whoever calls may be gone."""


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    received = 0

    def answer(self, status, **headers):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def do_GET(self):
        self.answer(200 if self.path == "/v2/" else 404)

    def do_HEAD(self):
        self.answer(404)

    def do_DELETE(self):
        self.answer(204)

    def do_POST(self):
        self.answer(202, Location=f"/v2/big/blobs/uploads/{time.monotonic_ns()}")

    def do_PUT(self):
        self.do_PATCH()

    def do_PATCH(self):
        length = int(self.headers["Content-Length"])
        self.rfile.read(length)
        # So that a blob comes in chunks which is far smaller than those that do so by themselves.
        if length > 2 << 20:
            return self.answer(413)
        self.server.requests.append(self.command)
        # Configs are small and go up at once.
        if length > 100_000:
            self.server.got_chunk.set()
            self.server.go.wait(30)
        if self.command == "PUT":
            return self.answer(201)
        end = int(self.headers["Content-Range"].split("-")[1])
        self.answer(202, Location=self.path, Range=f"0-{end}")

    def log_message(self, *arguments):
        """Nobody reads it."""


class Cancelled(Case):
    def child(self, call):
        # Whoever runs in a shell's background inherits that SIGINT is ignored.
        heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
        code = f"{heed}; import kharon; print(1, flush=True); kharon.{call}"
        child = subprocess.Popen(
            [sys.executable, "-c", code], cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        child.stdout.readline()
        return child

    def silent(self):
        """A registry that takes connections and says nothing."""
        silent = socket.create_server(("127.0.0.1", 0))
        silent.settimeout(10)
        self.addCleanup(silent.close)
        return silent, f"127.0.0.1:{silent.getsockname()[1]}"

    def pushing(self):
        """A push that has a chunk under way."""
        self.near.image("big:1", os.urandom(4 << 20))
        self.make(images=["big:1"])
        far = Stalling()
        self.addCleanup(far.server_close)
        self.addCleanup(far.shutdown)
        self.addCleanup(far.go.set)
        arguments = f"{str(self.payload)!r}, False, {far.host!r}, False, chunk_size='1MiB'"
        child = self.child(f"push_payload({arguments})")
        self.assertTrue(far.got_chunk.wait(20))
        return child, far

    def ended(self, child, begun, seconds):
        _, errors = child.communicate(timeout=20)
        self.assertLess(time.monotonic() - begun, seconds)
        self.assertIn("KeyboardInterrupt", errors)

    def test_ctrl_c_interrupts_at_once_and_leaves_only_what_goes_on(self):
        silent, host = self.silent()
        child = self.child(f"make_payload({str(self.payload)!r}, ['a:1'], [], {host!r}, False)")
        connection, _ = silent.accept()
        self.addCleanup(connection.close)
        begun = time.monotonic()
        child.send_signal(signal.SIGINT)
        self.ended(child, begun, 4)
        left = {path.name for path in self.folder.iterdir()} - {"payload.zip.partial", "state"}
        self.assertEqual(left, set())

    def test_ctrl_c_lets_the_chunk_under_way_arrive(self):
        child, far = self.pushing()
        child.send_signal(signal.SIGINT)
        time.sleep(0.5)
        self.assertIsNone(child.poll())
        sent = list(far.requests)
        begun = time.monotonic()
        far.go.set()
        self.ended(child, begun, 3)
        self.assertEqual(far.requests, sent)

    def test_a_second_ctrl_c_ends_a_push_at_once(self):
        child, _ = self.pushing()
        child.send_signal(signal.SIGINT)
        time.sleep(0.5)
        self.assertIsNone(child.poll())
        begun = time.monotonic()
        child.send_signal(signal.SIGINT)
        self.ended(child, begun, 2)

    def test_ctrl_c_ends_a_push_whose_chunk_does_not_arrive(self):
        child, _ = self.pushing()
        begun = time.monotonic()
        child.send_signal(signal.SIGINT)
        self.ended(child, begun, 9)

    def test_a_call_that_was_cancelled_anywhere_goes_on_at_once(self):
        self.near.image("many:1", *[os.urandom(40_000) for _ in range(6)])
        whole = self.folder / "whole.zip"
        self.make(whole, ["many:1"])
        self.payload.write_bytes(b"former")
        went_on = cancelled = 0
        for n in range(200):
            told = []

            def cancel(event):
                told.append(event)
                if len(told) > n:
                    raise KeyError("enough")

            try:
                self.make(images=["many:1"], progress=cancel)
                break
            except KeyError:
                cancelled += 1
            if self.payload.read_bytes() != b"former":
                # Only the last events of a call that was done were left.
                break
            went_on += any("going on" in str(event.get("message")) for event in told)
        self.assertGreater(cancelled, 5)
        self.assertGreater(went_on, 2)
        self.assertEqual(self.payload.read_bytes(), whole.read_bytes())

    def test_a_push_that_was_cancelled_anywhere_goes_on_at_once(self):
        self.near.image("many:1", *[os.urandom(40_000) for _ in range(6)])
        self.make(images=["many:1"])
        far = self.registry()
        for n in range(200):
            told = []

            def cancel(event):
                told.append(event)
                if len(told) > n:
                    raise KeyError("enough")

            try:
                pushed = kharon.push_payload(self.payload, False, far.host, False, progress=cancel)
                break
            except KeyError:
                pass
        self.assertGreater(n, 2)
        self.assertEqual(pushed, ["many:1"])
        self.assertEqual(far.content(), {"many:1": self.near.content()["many:1"]})

    def test_other_threads_run_meanwhile(self):
        _, host = self.silent()
        code = (
            "import kharon, threading, os\n"
            "threading.Timer(0.5, lambda: os._exit(7)).start()\n"
            f"kharon.make_payload({str(self.payload)!r}, ['a:1'], [], {host!r}, False)"
        )
        self.assertEqual(subprocess.run([sys.executable, "-c", code], cwd="/", timeout=20).returncode, 7)


if __name__ == "__main__":
    unittest.main()
