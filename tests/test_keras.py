"""Silencing native code, also when threads do it at the same time."""

from __future__ import annotations

THREADS = """
import threading, time
from embedonce._keras import quiet_native_output

def silent():
    with quiet_native_output():
        time.sleep(0.05)

threads = [threading.Thread(target=silent) for _ in range(2)]
for thread in threads:
    thread.start()
    time.sleep(0.02)  # the second begins while the first is silent, and ends after it
for thread in threads:
    thread.join()
print("heard")
"""

NESTED = """
import os
from embedonce._keras import quiet_native_output

with quiet_native_output():
    with quiet_native_output():
        os.write(1, b"inner ")
    os.write(1, b"outer ")
os.write(1, b"heard")
"""


CLOSED = """
import os, sys
from embedonce._keras import quiet_native_output
from embedonce.extract.progress import make_progress

os.close(2)
sys.stderr = None
with quiet_native_output():
    os.write(1, b"inner ")
make_progress(True).say("not shown")
print("heard")
"""


def test_output_is_back_after_threads_were_silent_at_once(python):
    assert python(THREADS) == "heard\n"


def test_without_a_standard_error_there_is_less_to_silence(python):
    assert python(CLOSED) == "heard\n"


def test_silence_within_silence_ends_with_the_outer_one(python):
    assert python(NESTED) == "heard"
