"""The house rules that a reader of the source relies on."""

from __future__ import annotations

import ast
import doctest
import importlib
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import calco

PACKAGE = Path(calco.__file__).parent
ROOT = PACKAGE.parents[1]

# what may import what: any number downwards, none upwards
LAYER = {
    "errors": 0,
    "wording": 0,
    "ahead": 0,
    "archives": 0.5,
    "files": 1,
    "replay": 1,
    "strict_yaml": 1,
    "config_faults": 1,
    "config_tree": 1.5,
    "config": 2,
    "records": 3,
    "plan_yaml": 4,
    "runs": 5,
    "images": 6,
    "metrics": 6,
    "nets": 6,
    "formats": 6,
    "searching": 7,
    "inference": 7,
    "training": 7,
    "stages": 8,
    "teamwork": 8.5,
    "held_out": 8.7,
    "pipeline": 9,
    "scoring": 10,
    "studies": 10,
    "trials": 10,
    "tracking": 10,
    "sweeps": 11,
    "api": 11,
    "invocation": 11,
    "options": 11,
    "terminal": 11,
    "exits": 12,
    "commands": 13,
    "cli": 14,
    "__main__": 15,
}
# parts of one layer that may know each other: what is on disk is made of images, and training
# validates as inference predicts
SIDEWAYS = {("formats", "images"), ("training", "inference")}
SERVING = ("predict", "submission", "annotations", "suggest", "export", "cluster")
TORCH_FREE = (
    "errors",
    "wording",
    "ahead",
    "archives",
    "replay",
    "strict_yaml",
    "plan_yaml",
    "config",
    "config_faults",
    "config_tree",
    "records",
    "files",
    "runs",
    "formats",
    "metrics",
    "images",
)
TORCH_FREE_STAGES = (
    "samples",
    "audit",
    "split",
    "learning_curve",
    "submission",
    "annotations",
    "rle_table",
    "sweep",
    "sweep_page",
)


def modules() -> dict[str, Path]:
    """Name every module of the package, ``calco.`` left out."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def imports_of(name: str) -> Iterator[tuple[str, int]]:
    """Yield the modules of the package that a module imports anywhere, with the line."""
    for node in ast.walk(tree_of(name)):
        match node:
            case ast.Import(names):
                targets = [alias.name for alias in names]
            case ast.ImportFrom(level=0, module=str(module), names=names):
                targets = [f"{module}.{alias.name}" for alias in names]
            case _:
                continue
        for target in targets:
            inner = target.removeprefix("calco.") if target.startswith("calco.") else None
            while inner and inner not in MODULES:  # a name inside a module
                inner = inner.rpartition(".")[0]
            if inner:
                yield inner, node.lineno


def part(name: str) -> str:
    return name.partition(".")[0]


CODE = [name for name in MODULES if name]  # calco/__init__.py is the public face, lazily filled


@pytest.mark.parametrize("name", CODE)
def test_imports_go_one_way(name: str) -> None:
    here = part(name)
    for target, line in imports_of(name):
        there = part(target)
        allowed = (
            here == there != "stages"
            or LAYER[there] < LAYER[here]
            or (here, there) in SIDEWAYS
            or target == "stages"
        )
        assert allowed, f"{name}:{line} imports {target}"


@pytest.mark.parametrize("name", CODE)
def test_no_relative_import_hides_from_the_rule(name: str) -> None:
    levels = [n.level for n in ast.walk(tree_of(name)) if isinstance(n, ast.ImportFrom)]
    assert not any(levels)


def test_there_are_no_cycles() -> None:
    graph = {name: {target for target, _ in imports_of(name)} - {name} for name in CODE}
    state: dict[str, str] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert state.get(name) != "open", " -> ".join((*path, name))
        if name not in state:
            state[name] = "open"
            for target in sorted(graph.get(name, ())):
                visit(target, (*path, name))
            state[name] = "done"

    for name in CODE:
        visit(name, ())


@pytest.mark.parametrize("stage", SERVING)
def test_serving_never_reaches_training(stage: str) -> None:
    seen, todo = set(), [f"stages.{stage}"]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += [target for target, _ in imports_of(name)]
    assert not [name for name in seen if part(name) == "training"]


def torch_after(statement: str) -> list[str]:
    """Return the modules of torch that a fresh interpreter holds after a statement."""
    probe = (
        f"{statement}\nimport sys\nprint([m for m in sys.modules if m.split('.')[0] == 'torch'])"
    )
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return list(ast.literal_eval(run.stdout.strip().splitlines()[-1]))


def test_torch_is_seen_when_it_is_there() -> None:
    assert torch_after("import calco.nets.unet")  # the negative control


def test_light_parts_start_without_torch() -> None:
    light = [name for name in CODE if part(name) in TORCH_FREE]
    light += [f"stages.{s}" for s in TORCH_FREE_STAGES]
    assert torch_after("\n".join(f"import calco.{name}" for name in light)) == []


@pytest.mark.parametrize("arguments", [[], ["--help"], ["predict", "--help"], ["train", "--help"]])
def test_the_command_line_answers_without_torch(arguments: list[str]) -> None:
    call = (
        ""
        if not arguments
        else f"""
import contextlib, sys
from calco import cli
sys.argv = ["calco", *{arguments!r}]
with contextlib.suppress(SystemExit):
    cli.main()
"""
    )
    assert torch_after(f"import calco.cli\n{call}") == []


# --- what code of a file that people pass around must never be able to do ----------------------

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "import_module", "extractall", "print"}
UNSAFE_FLAGS = {
    ("weights_only", False),
    ("allow_pickle", True),
    ("shell", True),
    ("trust_repo", True),
}
# strict_yaml.parse_yaml hands a SafeLoader of its own to yaml.load; nobody else calls it
YAML_LOADERS = {"strict_yaml": {"_StrictLoader"}}


def called(node: ast.Call) -> str:
    match node.func:
        case ast.Name(name) | ast.Attribute(attr=name):
            return name
    return ""


def is_method_of(node: ast.Call, *owners: str) -> bool:
    match node.func:
        case ast.Attribute(value=ast.Name(owner)):
            return owner in owners
    return False


def unsafe(name: str, node: ast.AST) -> str | None:
    """Say what is wrong with a node, if anything is."""
    match node:
        case ast.Import(names) if {a.name.partition(".")[0] for a in names} & FORBIDDEN_MODULES:
            return "imports a module that runs code from files"
        case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in FORBIDDEN_MODULES:
            return "imports a module that runs code from files"
        case ast.Attribute(value=ast.Name("sys"), attr="exit") if name not in ("cli", "__main__"):
            return "ends the process outside cli.py"
        case ast.Call():
            return unsafe_call(name, node)
    return None


def unsafe_call(name: str, node: ast.Call) -> str | None:
    function = called(node)
    harmless = is_method_of(node, "re", "torch", "model", "network")  # re.compile, model.eval()
    if function in FORBIDDEN_CALLS and isinstance(node.func, ast.Name):
        return None if function == "print" and name == "cli" else f"calls {function}"
    if function in FORBIDDEN_CALLS - {"eval", "print", "compile"} and not harmless:
        return f"calls {function}"
    flags = {(k.arg, k.value.value) for k in node.keywords if isinstance(k.value, ast.Constant)}
    if flags & UNSAFE_FLAGS:
        return f"sets {flags & UNSAFE_FLAGS}"
    if function == "load" and is_method_of(node, "torch") and ("weights_only", True) not in flags:
        return "torch.load without weights_only=True"
    if function in ("load", "load_all", "full_load", "unsafe_load") and is_method_of(node, "yaml"):
        loaders = {k.value.id for k in node.keywords if isinstance(k.value, ast.Name)}
        return None if loaders and loaders <= YAML_LOADERS.get(name, set()) else "yaml.load"
    return None


@pytest.mark.parametrize("name", ["", *CODE])
def test_no_file_can_make_the_package_run_its_code(name: str) -> None:
    faults = [
        f"{name}:{getattr(node, 'lineno', 0)} {fault}"
        for node in ast.walk(tree_of(name))
        if (fault := unsafe(name, node))
    ]
    assert not faults


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.numpy_pickle",
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "np.load(p, allow_pickle=True)",
        "yaml.load(t)",
        "yaml.load(t, Loader=yaml.Loader)",
        "yaml.load(t, Loader=_StrictLoader)",
        "yaml.unsafe_load(t)",
        "eval('1')",
        "exec(code)",
        "__import__('os')",
        "importlib.import_module(n)",
        "archive.extractall(p)",
        "sys.exit(1)",
        "print('x')",
        "subprocess.run('x', shell=True)",
    ],
)
def test_the_rule_sees_what_it_should(code: str) -> None:
    assert any(unsafe("stages.fit", node) for node in ast.walk(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "network.eval()",
        "re.compile('x')",
        "torch.load(p, weights_only=True)",
        "np.load(p, allow_pickle=False)",
        "yaml.safe_load(t)",
        "json.load(f)",
    ],
)
def test_the_rule_leaves_good_code_alone(code: str) -> None:
    assert not any(unsafe("stages.fit", node) for node in ast.walk(ast.parse(code)))
    assert not unsafe("strict_yaml", ast.parse("yaml.load(t, Loader=_StrictLoader)").body[0])


@pytest.mark.parametrize("name", CODE)
def test_modules_stay_readable(name: str) -> None:
    text = MODULES[name].read_text(encoding="utf-8")
    assert ast.get_docstring(tree_of(name)), "a module says what it is for"
    assert len(text.splitlines()) <= 400


@pytest.mark.parametrize("name", [n for n in CODE if ">>>" in MODULES[n].read_text("utf-8")])
def test_examples_are_true(name: str) -> None:
    results = doctest.testmod(importlib.import_module(f"calco.{name}"))
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize("name", [n for n in CODE if MODULES[n].name != "__init__.py"])
def test_functions_stay_small(name: str) -> None:
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            n_lines = (node.end_lineno or 0) - node.lineno + 1
            assert n_lines <= 60, f"{name}:{node.lineno} {node.name} has {n_lines} lines"
            given = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
            n_given = len(given) + len(node.args.kwonlyargs) - (given[:1] in (["self"], ["cls"]))
            # on the command line every option is a parameter
            assert n_given <= 6 or part(name) == "commands", f"{name}:{node.lineno} {node.name}"


def is_remedied(call: ast.Call) -> bool:
    """Tell whether a Problem says what to do, or what would have been right; notes need not."""
    given = dict(zip(("code", "what", "where", "got", "expected", "do"), call.args, strict=False))
    given |= {k.arg: k.value for k in call.keywords if k.arg}
    match given.get("severity", ast.Constant("error")):
        case ast.Constant("error" | "warning"):
            return "do" in given or "expected" in given
        case _:
            return True


@pytest.mark.parametrize("name", CODE)
def test_every_fault_comes_with_its_remedy(name: str) -> None:
    calls = [n for n in ast.walk(tree_of(name)) if isinstance(n, ast.Call)]
    faults = [n for n in calls if called(n) == "Problem" and n.args and not is_remedied(n)]
    assert not [f"{name}:{n.lineno}" for n in faults if ast.unparse(n.args[0]) != "'USAGE'"]


def test_a_fault_without_remedy_would_be_seen() -> None:
    calls = ("Problem('A', 'b', 'c', 'd')", "Problem('A', 'b', severity='warning')")
    assert not any(is_remedied(ast.parse(c, mode="eval").body) for c in calls)  # type: ignore[arg-type]


# calco itself and the records are the two places whose names are meant to be found in one import
PACKAGES = [n for n in CODE if MODULES[n].name == "__init__.py" and n != "records"]


@pytest.mark.parametrize("name", PACKAGES)
def test_packages_re_export_nothing(name: str) -> None:
    assert len(tree_of(name).body) == 1, "only a docstring"
