"""Documents: relative links lead somewhere, an ADR fits a page. `python tools/check_docs.py`; exits 1 on a finding."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
adr_words_max: Final = 700
LINK: Final = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def findings(path: Path) -> Iterator[str]:
    """What is wrong with one document."""
    name = path.relative_to(ROOT)
    text = path.read_text(encoding="utf-8")
    for target in LINK.findall(text):
        if "://" not in target and not (path.parent / target).exists():
            yield f"{name}: link to {target!r} leads nowhere"
    if name.parts[:2] == ("docs", "adr") and len(text.split()) > adr_words_max:
        yield f"{name}: {len(text.split())} words, a page has {adr_words_max}"


def main() -> int:
    """Check every document of ours."""
    paths = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
    found = [finding for path in paths for finding in findings(path)]
    for finding in found:
        print(finding)
    print(f"check_docs: {len(paths)} documents, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
