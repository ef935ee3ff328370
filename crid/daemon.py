"""The composition root: the only place that builds objects and ties them together.

Start: directories -> lock -> providers -> recovery -> socket. A client can reach the daemon only when everything that an
earlier one left is known again. Stop: the socket closes, running requests get their time, what runs in containers is left
alone.
"""

import asyncio
import fcntl
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from crid import assembly
from crid.config import Config
from crid.errors import AlreadyExistsError
from crid.lifecycle.container import ContainerLifecycle
from crid.lifecycle.exec import ExecLifecycle
from crid.lifecycle.exits import Exits
from crid.lifecycle.parts import Parts
from crid.lifecycle.recovery import Recovery
from crid.lifecycle.sandbox import SandboxLifecycle
from crid.lifecycle.stats import Stats
from crid.log import fields
from crid.tasks import Supervisor

logger = logging.getLogger(__name__)
