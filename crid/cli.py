"""The `crid` command: without a verb it is the daemon; with one it does a small job on the daemon's directories.

    crid [--config FILE]                          run the daemon in the foreground, until SIGTERM
    crid [--config FILE] image VERB ...           pull, list, remove, import and export images
    crid [--config FILE] check [--repair]         whether records, images, mounts, networks and processes agree
    crid [--config FILE] wipe [--images]          remove everything that crid has on this machine

The modules that a verb needs are imported when it runs, so that `crid --version` and shell completion stay quick.
"""

import argparse
import asyncio
import faulthandler
import sys
from collections.abc import Sequence
from pathlib import Path

import crid
from crid import config, log
from crid.errors import CridError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (the process's own by default) and return the exit status: 2 for a bad command line
    or configuration, 1 for a failure, 0 otherwise."""
    options = _parser().parse_args(arguments)
    try:
        settings = config.load(options.config or config.DEFAULT_PATH, required=options.config is not None)
    except CridError as error:
        print(f"crid: {error}", file=sys.stderr)
        return 2
    log.configure(options.log_level or options.own_log_level or settings.runtime.log_level)
    try:
        return int(options.run(settings, options))
    except (CridError, OSError) as error:
        print(f"crid: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="crid", description="A Kubernetes CRI runtime. Without a command: the daemon.")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help=f"configuration (default {config.DEFAULT_PATH}, if it exists)"
    )
    parser.add_argument("--log-level", choices=sorted(log.LEVELS), help="overrides the configuration's")
    parser.add_argument("--version", action="version", version=f"crid {crid.__version__}")
    parser.set_defaults(run=_serve, own_log_level=None)
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND")
    image = _add_verb(verbs, "image", "images, without a client: through a running daemon, or in its store while none runs")
    image.set_defaults(run=_image, own_log_level="warning")  # what a daemon notes is in the way of a picture of bars
    _add_image_verbs(image)
    _add_upkeep_verbs(verbs)
    return parser


def _add_upkeep_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    check = verbs.add_parser("check", help="whether everything agrees; exit status 0: it does, 1: findings, 2: could not look")
    check.set_defaults(run=_check)
    check.add_argument("--full", action="store_true", help="hash every blob and walk every layer, too")
    check.add_argument("--repair", action="store_true", help="put right what can be, without a daemon")
    check.add_argument("--json", action="store_true", help="print an object with a list of findings")
    wipe = verbs.add_parser("wipe", help="remove all pods, networks and directories, without a daemon")
    wipe.set_defaults(run=_wipe)
    wipe.add_argument("--images", action="store_true", help="remove the images, too")
    wipe.add_argument("--force", action="store_true", help="also if containers run")


def _add_image_verbs(image: argparse.ArgumentParser) -> None:
    verbs = image.add_subparsers(dest="verb", metavar="VERB", required=True)
    pulling = _add_verb(verbs, "pull", "fetch an image or an OCI artifact from its registry, and print its id")
    pulling.add_argument("name", help="the image's name, such as busybox, q.io/team/app:1.2 or q.io/app@sha256:...")
    pulling.add_argument("--username", default="", help="the password is read from standard input")
    listing = _add_verb(verbs, "list", "list the images: a line a name")
    listing.add_argument("--json", action="store_true", help="as JSON, in the CRI's words")
    removing = _add_verb(verbs, "remove", "remove images with all their names")
    removing.add_argument("names", nargs="+", metavar="name", help="a name, an id or its beginning")
    exporting = _add_verb(verbs, "export", "write an image as a tar of an OCI layout")
    exporting.add_argument("name", help="a name, an id or its beginning")
    exporting.add_argument("path", type=Path, help="the file to write")
    importing = _add_verb(verbs, "import", "put images from an OCI layout or a docker archive into the store")
    importing.add_argument("path", type=Path, help="a directory or a tar, compressed or not")
    importing.add_argument("name", nargs="?", help="the image's name, where the archive holds one image")


def _add_verb(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, what: str) -> argparse.ArgumentParser:
    return verbs.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")


def _serve(settings: config.Config, options: argparse.Namespace) -> int:
    from crid.daemon import serve

    faulthandler.enable()  # a watchdog's SIGABRT shows where the daemon hung
    asyncio.run(serve(settings))
    return 0


def _image(settings: config.Config, options: argparse.Namespace) -> int:
    from crid import cli_images

    return cli_images.run(settings, options)


def _check(settings: config.Config, options: argparse.Namespace) -> int:
    from crid import cli_check

    return cli_check.check(settings, options)


def _wipe(settings: config.Config, options: argparse.Namespace) -> int:
    from crid import cli_check

    return cli_check.wipe(settings, options)
