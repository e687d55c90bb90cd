#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints what is in the binaries, as CycloneDX: sbom.py VERSION EPOCH BINARY..."""

import datetime
import json
import os
import subprocess
import sys
import uuid

# Go links these; the C of the library and nrun is this project's own, and libc is the system's.
LICENSES = {"std": "BSD-3-Clause", "golang.org/x/sys": "BSD-3-Clause"}


def component(kind, name, version, license_id, purl=None):
    """One entry; what has a purl is known by that everywhere."""
    entry = {"type": kind, "bom-ref": purl or name, "name": name, "version": version}
    entry["licenses"] = [{"license": {"id": license_id}}]
    if purl:
        entry["purl"] = purl
    return entry


def module(path, version):
    """A Go module; one whose license nobody has looked at is an error."""
    if path not in LICENSES:
        sys.exit(f"sbom.py: add the license of {path}")
    return component("library", path, version, LICENSES[path], f"pkg:golang/{path}@{version}")


def modules(binary):
    """The modules in a binary, from what the Go linker has written into it; none if it is C."""
    go = subprocess.run(["go", "version", "-m", "-json", binary], capture_output=True, text=True, check=False)
    if go.returncode != 0 or not go.stdout.strip():
        return []
    info = json.loads(go.stdout)
    found = [module("std", info["GoVersion"].removeprefix("go"))]
    return found + [module(m["Path"], m["Version"]) for m in info.get("Deps", [])]


def main():
    version, epoch, *binaries = sys.argv[1:]
    own, theirs, uses = [], {}, []
    for path in binaries:
        name = os.path.basename(path)
        own.append(component("library" if ".so" in name else "application", name, version, "Apache-2.0"))
        needed = {m["bom-ref"]: m for m in modules(path)}
        theirs.update(needed)
        uses.append({"ref": name, "dependsOn": sorted(needed)})
    root = component("library", "libnetrunner", version, "Apache-2.0")
    uses.insert(0, {"ref": "libnetrunner", "dependsOn": [c["bom-ref"] for c in own]})
    bom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": datetime.datetime.fromtimestamp(int(epoch), datetime.timezone.utc).isoformat(),
            "component": root,
        },
        "components": own + [theirs[ref] for ref in sorted(theirs)],
        "dependencies": uses + [{"ref": ref, "dependsOn": []} for ref in sorted(theirs)],
    }
    # The same for the same contents, as all of a release is.
    bom["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(bom, sort_keys=True))}"
    print(json.dumps(bom, indent=2))


main()
