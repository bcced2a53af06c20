"""A real pseudo-terminal, as the user of a job sees it."""

import os
import pty
import re
import select
import time


class Screen:
    """The user's side of a pseudo-terminal."""

    def __init__(self):
        self._user, self._program = pty.openpty()
        self.device = os.ttyname(self._program)
        self._open = True

    def wait_for(self, text):
        """Return what is written until a text appears, without control sequences; fail after ten seconds."""
        found, deadline = "", time.time() + 10
        while text not in found:
            ready, _, _ = select.select([self._user], [], [], deadline - time.time())
            assert ready, found
            found += re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", os.read(self._user, 65_536).decode())
        return found

    def close(self):
        """Close the window."""
        if self._open:
            os.close(self._user)
            os.close(self._program)
        self._open = False
