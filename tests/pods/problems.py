"""What was found wrong. A run whose documents were damaged is over as soon as it says what was done to them."""

import threading


class Over(Exception):
    """Nothing more needs to be run: all that there is to say is among the problems."""


class Problems:
    """Shared by all pods and clients. `wanted` is a part of the problem that a damage must bring, or None."""

    def __init__(self, wanted=None):
        self.wanted = wanted
        self.texts = []
        self.noticed = threading.Event()

    def add(self, text):
        self.texts.append(text)
        if self.is_wanted(text):
            self.noticed.set()

    def is_wanted(self, text):
        return self.wanted is not None and self.wanted in text

    def pause(self, seconds):
        """Sleeps; raises Over as soon as the damage was noticed."""
        if self.noticed.wait(seconds):
            raise Over
