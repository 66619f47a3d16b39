"""A supervisor of tiny programs in place of web, worker and clock; run as a program itself.

    python stand_ins.py MIGRATION WORKER

Both arguments name a stand-in below. The home, the port and the addresses come from the
environment, as for `python -m sandbox`.
"""

import os
import sys

from sandbox.errors import SandboxError
from sandbox.programs import Command
from sandbox.settings import Settings
from sandbox.supervisor import Supervisor

WEB = """
import http.server, json, os, time

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path in ("/health/ready", "/environment") else 404)
        self.end_headers()
        self.wfile.write(json.dumps(dict(os.environ)).encode())

if os.fork() == 0:  # as gunicorn has workers, but this one does not go by itself
    time.sleep(600)
address = (os.environ["BIND_HOST"], int(os.environ["PORT"]))
http.server.HTTPServer(address, Answer).serve_forever()
"""

STAND_INS = {
    "good": "import os; print(os.listdir(os.environ['PROMETHEUS_MULTIPROC_DIR']))",
    "bad": "import sys; print('column is missing'); sys.exit(3)",
    "endless": "import time; time.sleep(600)",
    "patient": "import time; time.sleep(600)",
    "stubborn": (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('deaf', flush=True); time.sleep(600)"
    ),
    "hopeless": "print('no way'); raise SystemExit(9)",
}


def main(migration: str, worker: str) -> int:
    programs = [
        Command("web", [sys.executable, "-c", WEB], {"BIND_HOST": "127.0.0.1"}),
        Command("worker", [sys.executable, "-c", STAND_INS[worker]]),
        Command("clock", [sys.executable, "-c", STAND_INS["patient"]]),
    ]
    migrate = Command("migrate", [sys.executable, "-c", STAND_INS[migration]])
    try:
        return Supervisor(Settings.read(os.environ), migrate, programs).run()
    except SandboxError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
