"""Runs one part of Swift out of an unpacked root: `rings PORTS...`, `server SCRIPT CONFIG` or `exec COMMAND...`.

Ends with its parent, so that a killed test run leaves nothing behind.
"""
import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1


def rings(ports):
    """One ring each for accounts, containers and objects: one device, one copy."""
    from swift.common.ring import RingBuilder

    for name, port in zip(("account", "container", "object"), ports):
        builder = RingBuilder(1, 1, 0)
        builder.add_dev({"id": 0, "region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port),
                         "replication_ip": "127.0.0.1", "replication_port": int(port),
                         "device": "disk", "weight": 1.0, "meta": ""})
        builder.rebalance()
        builder.get_ring().save(os.path.join(os.environ["SWIFT_ETC"], name + ".ring.gz"))


def server(script, config):
    import eventlet

    eventlet.monkey_patch()
    from swift.common import utils

    # Without this, swift.conf is looked for in /etc/swift while its modules are loaded.
    utils.set_swift_dir(os.environ["SWIFT_ETC"])
    sys.argv = [script, config, "-v"]
    runpy.run_path(script, run_name="__main__")


ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
what, arguments = sys.argv[1], sys.argv[2:]
if what == "rings":
    rings(arguments)
elif what == "server":
    server(*arguments)
elif what == "exec":
    os.execv(arguments[0], arguments)
else:
    sys.exit("what is " + what + "?")
