#!/usr/bin/env python3
"""Writes docs/recording.svg: real commands, and what they printed, as a drawing that moves.

    cargo build --release
    python3 docs/recording.py target/release/kharon

Needs Python's standard library only. Two registries are served on free ports, which are shown as the ports
that README.md has. Lines appear as they came; pauses are cut to what a reader needs. Who prefers less motion
sees the end of it at once.
"""

import html
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = [
    "kharon make-payload -r 127.0.0.1:5001 -f first.zip worldclock:v1",
    "kharon push-payload -r 127.0.0.1:5002 -f first.zip",
    "kharon make-payload -r 127.0.0.1:5001 -f upgrade.zip --against first.zip worldclock:v2",
    "kharon push-payload -r 127.0.0.1:5002 -f upgrade.zip",
]
TYPING, BEFORE_OUTPUT, LONGEST_PAUSE, AFTER_COMMAND, AT_END = 0.025, 0.3, 0.6, 1.2, 6.0
FONT_SIZE, ADVANCE, LINE, MARGIN, TOP = 12, 7.23, 18, 16, 44


def serve(program, folder, environment, running):
    server = subprocess.Popen(
        [program, "serve", "--dir", folder, "--listen", "127.0.0.1:0"],
        stderr=subprocess.PIPE, text=True, env=environment,
    )
    running.append(server)
    return server.stderr.readline().split("http://")[1].split(",")[0]


def record(program):
    """Each command with its lines, and how long after its start they came."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {"HOME": folder, "PATH": os.environ["PATH"]}
        shutil.copytree(ROOT / "fixtures/quickstart", Path(folder, "worldclock"))
        running = []
        try:
            ports = {
                "127.0.0.1:5001": serve(program, f"{folder}/worldclock", environment, running),
                "127.0.0.1:5002": serve(program, f"{folder}/far", environment, running),
            }
            return [run(program, command, ports, folder, environment) for command in COMMANDS]
        finally:
            for server in running:
                server.terminate()
                server.wait()


def run(program, command, ports, folder, environment):
    line = command
    for shown, real in ports.items():
        line = line.replace(shown, real)
    process = subprocess.Popen(
        [program, *line.split()[1:]], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    started, lines = time.monotonic(), []
    for text in process.stdout:
        for shown, real in ports.items():
            text = text.replace(real, shown)
        lines.append((time.monotonic() - started, text.rstrip("\n")))
    if process.wait() != 0:
        sys.exit(f"`{command}` failed: {lines}")
    return command, lines


def schedule(recorded):
    """Rows of the screen: (appears at, text, is it typed), and the end."""
    rows, now = [], 0.6
    for command, lines in recorded:
        rows.append((now, command, True))
        now += len(command) * TYPING + BEFORE_OUTPUT
        before = 0.0
        for at, text in lines:
            now += min(at - before, LONGEST_PAUSE) + 0.05
            before = at
            rows.append((now, text, False))
        now += AFTER_COMMAND
    return rows, now + AT_END


def draw(rows, end):
    width = MARGIN * 2 + round(max(len(text) + 2 for _, text, _ in rows) * ADVANCE)
    height = TOP + len(rows) * LINE + MARGIN
    styles, texts = [], []
    for number, (at, text, typed) in enumerate(rows):
        y = TOP + number * LINE + FONT_SIZE
        shown, name = html.escape(text), f"r{number}"
        if typed:
            # The text is there from its first letter on, and uncovered letter by letter.
            start, stop = 100 * at / end, 100 * (at + len(text) * TYPING) / end
            styles.append(
                f"@keyframes {name}{{0%,{start:.2f}%{{clip-path:inset(0 100% 0 0)}}"
                f"{stop:.2f}%,100%{{clip-path:inset(0)}}}}"
                f"#{name}{{animation:{name} {end:.1f}s steps({len(text)}) infinite}}"
            )
            texts.append(f'<text x="{MARGIN}" y="{y}" class="p">$</text>')
            texts.append(f'<text id="{name}" x="{MARGIN + 2 * ADVANCE:.1f}" y="{y}" class="c" textLength="{len(text) * ADVANCE:.1f}">{shown}</text>')
        elif text:
            start = 100 * at / end
            styles.append(
                f"@keyframes {name}{{0%,{start:.2f}%{{opacity:0}}{start + 0.01:.2f}%,100%{{opacity:1}}}}"
                f"#{name}{{animation:{name} {end:.1f}s infinite}}"
            )
            kind = ' class="k"' if "saved" in text or text.startswith("worldclock") else ""
            texts.append(f'<text id="{name}" x="{MARGIN}" y="{y}"{kind}>{shown}</text>')
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="title">
<title id="title">A terminal: kharon makes a payload and pushes it, then an upgrade of it that carries a tenth</title>
<style>
.b{{fill:#f6f8fa;stroke:#d1d9e0}}.d{{fill:#d1d9e0}}text{{font:{FONT_SIZE}px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#59636e;white-space:pre}}
.c{{fill:#1f2328;font-weight:600}}.p{{fill:#1a7f37}}.k{{fill:#0969da}}
@media(prefers-color-scheme:dark){{.b{{fill:#0d1117;stroke:#3d444d}}.d{{fill:#3d444d}}text{{fill:#9198a1}}.c{{fill:#f0f6fc}}.p{{fill:#3fb950}}.k{{fill:#4493f8}}}}
@media(prefers-reduced-motion:no-preference){{
{chr(10).join(styles)}
}}
</style>
<rect class="b" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8"/>
<circle class="d" cx="20" cy="20" r="5"/><circle class="d" cx="38" cy="20" r="5"/><circle class="d" cx="56" cy="20" r="5"/>
{chr(10).join(texts)}
</svg>
"""


def main():
    program = Path(sys.argv[1]).resolve()
    rows, end = schedule(record(program))
    (ROOT / "docs/recording.svg").write_text(draw(rows, end), encoding="utf-8")


if __name__ == "__main__":
    main()
