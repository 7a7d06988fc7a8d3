#!/usr/bin/env python3
"""Which types and traits of other crates are in the public API: what a major version of those crates breaks.

Reads rustdoc's JSON of the library with every feature, and compares with `foreign_types.txt` beside this file,
which lists `crate: path` for each; `--write` writes it anew.
"""

import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# Part of every program.
OURS = {"std", "core", "alloc"}


def documentation():
    """The library as rustdoc describes it; the option is not stable, the compiler is."""
    # A place of its own: what was built with this variable is not what is built without it.
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "foreign-types"
    command = "cargo rustdoc --quiet --locked --lib --all-features -- -Zunstable-options --output-format json --cap-lints allow"
    subprocess.run(command.split(), cwd=ROOT, check=True,
                   env=dict(os.environ, RUSTC_BOOTSTRAP="1", CARGO_TARGET_DIR=str(target)))
    with open(target / "doc" / "tower_api_key.json", encoding="utf-8") as file:
        return json.load(file)


def paths_in(node):
    """The ids of every type and trait that is named somewhere in an item."""
    if isinstance(node, dict):
        for key in ("resolved_path", "trait_", "trait"):
            inner = node.get(key)
            if isinstance(inner, dict) and "id" in inner and "path" in inner:
                yield inner["id"]
        for key, inner in node.items():
            if key not in ("docs", "links", "attrs", "span"):
                yield from paths_in(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from paths_in(inner)


def public_items(docs):
    """Every item that can be reached from the root by public names, with its inherent impls and traits."""
    index, seen, queue = docs["index"], set(), [docs["root"]]
    while queue:
        id = queue.pop()
        item = index.get(str(id))
        if id in seen or item is None or item["crate_id"] != 0:
            continue
        seen.add(id)
        kind, inner = next(iter(item["inner"].items()))
        if kind == "impl":
            # Those that the compiler or a blanket gives everybody are nobody's choice.
            if inner["is_synthetic"] or inner["blanket_impl"] is not None:
                continue
            yield {"trait_": inner["trait"], "for": inner["for"], "generics": inner["generics"]}
            queue += inner["items"]
            continue
        hidden = item["visibility"] == "default" and kind not in ("assoc_type", "assoc_const", "function", "variant", "struct_field")
        if item["visibility"] not in ("public", "default") or hidden:
            continue
        children = []
        if kind == "module":
            children = inner["items"]
        elif kind == "use":
            children = [] if inner["id"] is None else [inner["id"]]
            if children and str(inner["id"]) not in index:
                yield {"resolved_path": {"id": inner["id"], "path": ""}}
        elif kind in ("struct", "enum", "union", "trait"):
            children = inner.get("items", []) + inner.get("impls", []) + inner.get("variants", [])
            children += inner.get("implementations", []) if kind == "trait" else []
            shape = inner.get("kind")
            if isinstance(shape, dict):
                for fields in shape.values():
                    children += fields.get("fields", []) if isinstance(fields, dict) else [f for f in fields if f is not None]
        queue += children
        if isinstance(inner, dict):
            inner = {key: value for key, value in inner.items() if key not in ("items", "impls", "variants", "implementations")}
        yield {"item": inner}


def main():
    docs = documentation()
    found = set()
    for item in public_items(docs):
        for id in paths_in(item):
            path = docs["paths"].get(str(id))
            if path is None or path["crate_id"] == 0:
                continue
            crate = docs["external_crates"][str(path["crate_id"])]["name"]
            if crate not in OURS and "__private" not in path["path"]:
                found.add(f"{crate}: {'::'.join(path['path'])}")
    text = "".join(f"{line}\n" for line in sorted(found))
    kept = HERE / "foreign_types.txt"
    if "--write" in sys.argv:
        kept.write_text(text, encoding="utf-8")
    if kept.read_text(encoding="utf-8") != text:
        sys.exit(f"The public API has other types of other crates than {kept.name} says:\n{text}")
    print(f"{len(found)} types and traits of other crates are in the public API, as listed")


main()
