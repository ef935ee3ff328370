"""Where pods and containers leave traces, for whoever looks for leftovers."""

import os
from collections.abc import Collection
from pathlib import Path

from crid.assembly.programs import own_program
from crid.cgroup.hierarchy import Hierarchy
from crid.config import Config
from crid.lifecycle.cgroups import own_name, own_parent
from crid.lifecycle.check.gather import Places
from crid.lifecycle.check.processes import Programs
from crid.oci.program import RuntimeProgram


def places(config: Config, programs: Collection[RuntimeProgram], hierarchy: Hierarchy) -> Places:
    """Return where pods and containers of this configuration leave traces."""
    run_root = Path(config.runroot)
    roots = {program.name: program.root for program in programs}
    return Places(
        root=Path(config.root),
        run_root=run_root,
        runtime_roots=roots,
        hierarchy=hierarchy,
        cgroup_parent=own_parent(config.runtime.cgroup_manager, own_name(run_root)),
        programs=Programs(
            monitors=frozenset(str(program.monitor) for program in programs),
            runtime_roots=frozenset(str(root) for root in roots.values() if root.is_relative_to(run_root)),
            helpers=frozenset(str(own_program(name)) for name in ("crid-pause", "crid-userns")),
            runtimes=frozenset(os.path.realpath(program.path) for program in programs),
            plugin_directories=frozenset(str(Path(directory)) for directory in config.network.plugin_dirs),
        ),
    )
