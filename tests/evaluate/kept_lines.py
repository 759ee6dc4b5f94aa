"""Progress whose lines a test can read."""

from __future__ import annotations

from embedonce.extract import Progress


class KeptLines(Progress):
    """Keeps every line that long work says."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)

    def now(self, text):
        self.lines.append(text)
