#!/usr/bin/env python3
"""Every mutant of `cargo mutants` in one program, which is built once; `MUTANT` in the environment chooses one.

    at_once.py OUT [FILE...]     of all files, or of these, without the tests of replicas

OUT gets lists: `caught` and `missed`, `unviable` (no program) with what the compiler says, and `alone`, which
cannot be chosen while a program runs: in a constant, in a condition with `let`, or of another type than the
code beside it. Those are for `cargo mutants` itself.
"""

import collections
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import zlib

import tree_sitter
import tree_sitter_rust

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = pathlib.Path(sys.argv[1]).resolve()
ARGUED = ROOT / "tests/mutants/argued.txt"
TREE = OUT / "tree"
PARSER = tree_sitter.Parser(tree_sitter.Language(tree_sitter_rust.language()))
# But for the models of all interleavings, which take longer than everything else.
UNIT = ["--skip", "store::fleet", "--skip", "store::cached"]
# The tests from outside that are about what is mutated; and those of replicas, which take minutes.
OUTSIDE = ["asks::", "axum::", "contract::memory", "decision::", "ends::", "hashing::", "import::", "leaks::", "manage_api::",
           "manager::", "usage::", "verifier::"]
REPLICAS = ["replicas::"]
# What tests end with that have noticed: one of them failed, or all were aborted, or ran out of stack.
NOTICED = {101, -signal.SIGABRT, -signal.SIGSEGV}

CHOICE = """
/// Whether this mutant was chosen.
#[doc(hidden)]
pub fn mutant(number: usize) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<usize>> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(|| std::env::var("MUTANT").ok()?.parse().ok()) == Some(number)
}
"""


class Mutant:
    def __init__(self, number, said):
        self.number = number
        self.name = said["name"]
        self.file = said["file"]
        self.genre = said["genre"]
        self.replacement = said["replacement"]
        self.span = said["span"]
        self.returns = (said["function"] or {}).get("return_type", "")
        self.is_alone = False
        self.error = None

    @property
    def without_place(self):
        """The name, but for line and column, which move."""
        return re.sub(r":\d+:\d+: ", ": ", self.name, count=1)

    @property
    def chosen(self):
        return f"crate::mutant({self.number})"


class Source:
    """A file, and the mutants in it, which it is written out with."""

    def __init__(self, file, mutants):
        self.file = file
        self.text = (ROOT / file).read_bytes()
        self.lines = [0]
        for line in self.text.split(b"\n"):
            self.lines.append(self.lines[-1] + len(line) + 1)
        self.at = collections.defaultdict(list)
        for mutant in mutants:
            start, end = self.offset(mutant.span["start"]), self.offset(mutant.span["end"])
            self.at[mutant.genre, start, end].append(mutant)
        self.placed = set()
        tree = PARSER.parse(self.text)
        self.functions = []
        self.find_functions(tree.root_node)
        self.root = tree.root_node

    def offset(self, place):
        start = self.lines[place["line"] - 1]
        line = self.text[start:self.lines[place["line"]]].decode()
        return start + len(line[:place["column"] - 1].encode())

    def find_functions(self, node):
        if node.type == "function_item" and node.child_by_field_name("body"):
            self.functions.append(node)
        for child in node.children:
            self.find_functions(child)

    def written(self, usable):
        self.usable = usable
        self.bodies = collections.defaultdict(list)
        for (genre, start, end), mutants in self.at.items():
            if genre == "FnValue":
                around = [f for f in self.functions
                          if f.child_by_field_name("body").start_byte < start and end < f.end_byte]
                if around:
                    inner = min(around, key=lambda f: f.end_byte - f.start_byte)
                    self.bodies[inner.child_by_field_name("body").start_byte] += mutants
        return self.emit(self.root, False)

    def take(self, genre, node):
        return self.take_at(genre, node.start_byte, node.end_byte)

    def take_at(self, genre, start, end):
        taken = [m for m in self.at.get((genre, start, end), []) if m.number in self.usable]
        self.placed.update(m.number for m in taken)
        return taken

    def take_to_comma(self, genre, node):
        ends = (node.end_byte - 1, node.end_byte, node.end_byte + 1)
        return [m for end in ends for m in self.take_at(genre, node.start_byte, end)]

    def raw(self, node):
        return self.text[node.start_byte:node.end_byte].decode()

    def emit(self, node, constant):
        if node.type in ("const_item", "static_item"):
            constant = True
        if node.type == "function_item":
            constant = any(c.type == "function_modifiers" and b"const" in c.text for c in node.children)
        if constant or not node.children:
            return self.raw(node)
        if node.type == "binary_expression" or node.type == "compound_assignment_expr":
            left, operator, right = (node.child_by_field_name(n) for n in ("left", "operator", "right"))
            mutants = self.take("BinaryOperator", operator)
            if mutants:
                branches = "".join(f"if {m.chosen} {{ {self.raw(left)} {m.replacement} {self.raw(right)} }} else "
                                   for m in mutants)
                same = f"{self.emit(left, constant)} {self.raw(operator)} {self.emit(right, constant)}"
                return f"({branches}{{ {same} }})"
        if node.type == "unary_expression":
            operator, operand = node.children[0], node.children[-1]
            for m in self.take("UnaryOperator", operator):
                return f"(if {m.chosen} {{ {self.raw(operand)} }} else {{ {self.raw(operator)}{self.emit(operand, constant)} }})"
        if node.type == "match_arm":
            return self.arm(node, constant)
        if node.type in ("field_initializer", "shorthand_field_initializer"):
            base = next((c for c in node.parent.children if c.type == "base_field_initializer"), None)
            field, value = node.child_by_field_name("field") or node, node.child_by_field_name("value") or node
            for m in self.take_to_comma("StructField", node) if base is not None else []:
                other, same = self.raw(base.children[-1]), self.raw(value) if value is node else self.emit(value, constant)
                return f"{self.raw(field)}: if {m.chosen} {{ ({other}).{self.raw(field)} }} else {{ {same} }}"
        text = self.joined(node, constant)
        if node.type == "block" and node.start_byte in self.bodies:
            chosen = [m for m in self.bodies[node.start_byte] if m.number in self.usable]
            self.placed.update(m.number for m in chosen)
            returns = "".join(f" if {m.chosen} {{ return {m.replacement}; }}" for m in chosen)
            text = "{" + returns + text[1:]
        return text

    def joined(self, node, constant):
        parts, last = [], node.start_byte
        for child in node.children:
            parts.append(self.text[last:child.start_byte].decode())
            parts.append(self.emit(child, constant))
            last = child.end_byte
        parts.append(self.text[last:node.end_byte].decode())
        return "".join(parts)

    def arm(self, node, constant):
        pattern = node.child_by_field_name("pattern")
        guard = pattern.child_by_field_name("condition")
        gone = self.take_to_comma("MatchArm", node)
        if guard is not None and guard.type in ("let_condition", "let_chain"):
            self.placed.difference_update(m.number for m in gone)
            return self.joined(node, constant)
        conditions = [f"!{m.chosen}" for m in gone]
        if guard is not None:
            condition = self.emit(guard, constant)
            for m in self.take("MatchArmGuard", guard):
                condition = f"(if {m.chosen} {{ {m.replacement} }} else {{ {condition} }})"
            conditions.append(condition)
        if not conditions:
            return self.joined(node, constant)
        rest = node.children[node.children.index(pattern) + 1:]
        after, last = [], pattern.end_byte
        for child in rest:
            after.append(self.text[last:child.start_byte].decode() + self.emit(child, constant))
            last = child.end_byte
        bare = self.text[node.start_byte:guard.prev_sibling.start_byte if guard else pattern.end_byte].decode()
        return f"{bare.rstrip()} if {' && '.join(conditions)}{''.join(after)}"


def closing(text, start):
    """Where the block ends that begins at `start`."""
    depth = 0
    for place in range(start, len(text)):
        depth += {b"{": 1, b"}": -1}.get(text[place:place + 1], 0)
        if depth == 0:
            return place + 1
    raise ValueError("a block without an end")


def branches(text):
    """Where the mutants are in what was written: (start, end, number), in bytes."""
    return [(match.start(), closing(text, match.end() - 1), int(match[1]))
            for match in re.finditer(rb"crate::mutant\((\d+)\) \{", text)]


def arms(text, start):
    """The arms that mutants take away from the `match` that begins before `start`."""
    block = text.index(b"{", start)
    inside = text[block:closing(text, block)]
    return {int(match[1]) for match in re.finditer(rb"!crate::mutant\((\d+)\)", inside)}


def rename():
    """Gives the tree a version of its own, so that cargo keeps its programs and those of the real one apart."""
    for name in ("Cargo.toml", "Cargo.lock"):
        path = TREE / name
        ours = re.compile(r'(name = "tower-api-key"\nversion = "[^"]+)"')
        path.write_text(ours.sub(rf'\1-mutants.{zlib.crc32(bytes(OUT))}"', path.read_text(), count=1))


def write_tree(sources, usable):
    for source in sources:
        (TREE / source.file).write_text(source.written(usable))
    lib = TREE / "src/lib.rs"
    lib.write_text((ROOT / "src/lib.rs").read_text() + CHOICE)


def build(*targets):
    """The programs, or what the compiler says of which byte of which file."""
    command = ["cargo", "test", "--locked", "--all-features", "--no-run", "--message-format=json", *targets]
    environment = {"CARGO_TARGET_DIR": str(ROOT / "target"), **os.environ}
    run = subprocess.run(command, cwd=TREE, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    programs, errors = [], []
    for line in run.stdout.splitlines():
        said = json.loads(line)
        if said["reason"] == "compiler-artifact" and said.get("executable") and said["profile"]["test"]:
            programs.append(said["executable"])
        if said["reason"] == "compiler-message" and said["message"]["level"] == "error":
            errors.append(said["message"])
    return programs, errors


def blamed(errors):
    """The mutants that do not compile, with the reason; and the errors that are nobody's."""
    reasons, unknown = {}, []
    for error in errors:
        mine = set()
        for span in [s for s in error["spans"] if s["is_primary"]] + error["spans"]:
            text = (TREE / span["file_name"]).read_bytes()
            inside = [(end - start, number) for start, end, number in branches(text)
                      if start <= span["byte_start"] < end]
            if inside:
                mine = {min(inside)[1]}
                break
            if (error["code"] or {}).get("code") == "E0004":
                mine = arms(text, span["byte_end"])
                break
        reasons |= {number: error["message"] for number in mine}
        if not mine and error["spans"]:
            unknown.append(error["rendered"])
    return reasons, unknown


def build_all(sources, mutants):
    for mutant in mutants:
        mutant.is_alone = mutant.genre == "FnValue" and "impl " in mutant.returns
    while True:
        usable = {m.number for m in mutants if not m.is_alone and not m.error}
        write_tree(sources, usable)
        programs, errors = build("--lib")
        if not errors:
            break
        reasons, unknown = blamed(errors)
        if not reasons:
            sys.exit("no mutant is to blame for:\n" + "\n".join(unknown[:5]))
        for mutant in mutants:
            mutant.error = mutant.error or reasons.get(mutant.number)
    placed = set().union(*(source.placed for source in sources))
    for mutant in mutants:
        mutant.is_alone |= mutant.number not in placed and not mutant.error
    return programs[0]


def survives(program, mutant, arguments, seconds):
    # Whoever notices with few inputs would notice with more.
    environment = dict(os.environ, RUST_BACKTRACE="0", PROPTEST_CASES="32")
    command = [program, "--test-threads=1", *arguments]
    if mutant is not None:
        environment["MUTANT"] = str(mutant.number)
        # One test that fails is enough. The option is not stable; the test harness is.
        environment["RUSTC_BOOTSTRAP"] = "1"
        command += ["-Zunstable-options", "--fail-fast"]
    # Of what nobody expects to fail, what it said is wanted.
    output = subprocess.DEVNULL if mutant else subprocess.PIPE
    try:
        run = subprocess.run(command, cwd=TREE, env=environment, timeout=seconds, stdout=output,
                             stderr=subprocess.STDOUT, check=False)
    except subprocess.TimeoutExpired:
        return False
    if mutant is None and run.returncode != 0:
        print(run.stdout.decode(errors="replace"))
    if run.returncode != 0 and run.returncode not in NOTICED:
        which = mutant.name if mutant else "the code as it is"
        sys.exit(f"the tests ended with {run.returncode}, which says nothing of: {which}")
    return run.returncode == 0


def module(mutant):
    return mutant.file.removeprefix("src/").removesuffix(".rs").replace("/", "::")


def survivors(program, mutants, arguments, what, at_once=os.cpu_count(), tries=1):
    # What hangs is noticed.
    patience = {}
    for asked in sorted({tuple(arguments(m)) for m in mutants}):
        began = time.monotonic()
        # What fails now and then was printed, and is to be mended; nor does it notice a mutant.
        if not survives(program, None, asked, None):
            tries = 3
            if not any(survives(program, None, asked, None) for _ in range(tries)):
                sys.exit(f"{what} ({' '.join(asked)}) fail without any mutant")
        patience[asked] = 20 + 10 * (time.monotonic() - began)

    def is_alive(mutant):
        asked = tuple(arguments(mutant))
        return any(survives(program, mutant, asked, patience[asked]) for _ in range(tries))

    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        alive = list(pool.map(is_alive, mutants))
    left = [mutant for mutant, lives in zip(mutants, alive) if lives]
    (OUT / "missed.txt").write_text("".join(mutant.name + "\n" for mutant in left))
    print(f"{len(mutants)} mutants met {what}, which did not notice {len(left)}", flush=True)
    return left


def main():
    listed = subprocess.run(["cargo", "mutants", "--list", "--json"], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    mutants = [Mutant(number, said) for number, said in enumerate(json.loads(listed.stdout))]
    if sys.argv[2:]:
        # Whether those that are argued are still missed is asked when all are run.
        argued = ARGUED.read_text().splitlines()
        mutants = [m for m in mutants if m.file in sys.argv[2:] and m.without_place not in argued]
    for file in sys.argv[2:]:
        if all(mutant.file != file for mutant in mutants):
            sys.exit(f"{file} has no mutant: is it still there, and in .cargo/mutants.toml?")
    OUT.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(TREE, ignore_errors=True)
    # With times of their own: nothing that was built of another tree is taken for built of this one.
    ignored = shutil.ignore_patterns("target", "node_modules", ".git")
    shutil.copytree(ROOT, TREE, ignore=ignored, copy_function=shutil.copy)
    rename()
    files = {mutant.file for mutant in mutants}
    sources = [Source(file, [m for m in mutants if m.file == file]) for file in sorted(files)]

    unit = build_all(sources, mutants)
    together = [m for m in mutants if not m.is_alone and not m.error]
    missed = survivors(unit, together, lambda m: [module(m), *UNIT], "the unit tests of their file")
    missed = survivors(unit, missed, lambda _: UNIT, "all unit tests")
    if missed:
        outside, errors = build("--test", "it")
        if errors:
            sys.exit(errors[0]["rendered"])
        missed = survivors(outside[0], missed, lambda _: OUTSIDE, "the tests from outside")
        if not sys.argv[2:]:
            # These are about time: one that fails once may have failed of another program.
            missed = survivors(outside[0], missed, lambda _: REPLICAS, "those of replicas", at_once=1, tries=2)

    lists = {
        "missed": [m.name for m in missed],
        "caught": [m.name for m in together if m not in missed],
        "unviable": [f"{m.name}: {m.error}" for m in mutants if m.error],
        "alone": [m.name for m in mutants if m.is_alone],
    }
    for name, lines in lists.items():
        (OUT / f"{name}.txt").write_text("".join(line + "\n" for line in lines))
    print(", ".join(f"{len(lines)} {name}" for name, lines in lists.items()))


if __name__ == "__main__":
    main()
