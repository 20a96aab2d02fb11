"""Size and shape of the code (STYLE 2, 8, taboos). `python tools/check_style.py` prints findings; exits 1 if any."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

function_lines_max: Final = 70
module_lines_max: Final = 450
NAMES_WITHOUT_MEANING: Final = {"utils", "util", "helpers", "helper", "common", "misc"}
ROOT: Final = Path(__file__).resolve().parent.parent


def findings(path: Path) -> Iterator[str]:
    """What is wrong with one module."""
    name = path.relative_to(ROOT)
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text, str(name))
    lines = text.count("\n")
    in_tests = name.parts[0] == "tests"
    if lines > module_lines_max and not in_tests:
        yield f"{name}: {lines} lines, at most {module_lines_max}"
    if name.stem in NAMES_WITHOUT_MEANING:
        yield f"{name}: a module is named by what it does, not {name.stem!r}"
    if name.parts[0] == "src" and name.name == "__init__.py" and not ast.get_docstring(tree):
        yield f"{name}: a package opens with a short essay"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > function_lines_max:
                yield f"{name}:{node.lineno} {node.name}: {length} lines, at most {function_lines_max}"


def main() -> int:
    """Check every module of ours."""
    paths = sorted(
        path for folder in ("src", "tests", "tools", "bench", "lab") for path in (ROOT / folder).rglob("*.py")
    )
    found = [finding for path in paths for finding in findings(path)]
    for finding in found:
        print(finding)
    print(f"check_style: {len(paths)} modules, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
