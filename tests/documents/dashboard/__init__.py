"""The dashboard of the real executable, looked at in Chromium: `python3 -m tests.documents.dashboard`."""
