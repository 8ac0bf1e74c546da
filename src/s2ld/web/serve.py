"""The application behind a socket, until Ctrl-C."""

from __future__ import annotations

import ipaddress
import signal
import socket
import threading
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from s2ld.errors import S2LDError
from s2ld.log import logger


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: address or name of this machine.
        port: 0: any that is free.

    Raises:
        S2LDError: the port is taken or not allowed, or the address is none of this machine.
    """
    if not 0 <= port < 2**16:
        raise S2LDError(f"--port must be from 0 to 65535, not {port}")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise S2LDError(f"cannot listen at {host}:{port} ({reason}); choose another --port or --host") from error


def serve(app: Starlette, listener: socket.socket, started: Callable[[str], None]) -> None:
    """Serve until SIGTERM, or Ctrl-C, which raises KeyboardInterrupt; what is being answered then has five seconds.

    Args:
        app: the application.
        listener: of `listen`; closed at the end.
        started: takes the address of the page when it can be opened.
    """
    host, port = listener.getsockname()[:2]
    if not ipaddress.ip_address(host).is_loopback:
        logger.warning("everybody who reaches {} on port {} can use this page", host, port)
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn, which stops for it, raises it once more at its end
    with listener:
        started(f"http://{f'[{host}]' if ':' in host else host}:{port}")  # who comes early waits in the socket
        uvicorn.Server(config).run(sockets=[listener])
