"""What `import tenure` loads. Asserted by the set of modules: times depend on the machine (and are printed)."""

import subprocess
import sys
import time

SERVER = {"apsw", "httptools", "picows", "prometheus_client", "starlette", "uvicorn", "uvloop", "cryptography"}


def loaded(code: str) -> set[str]:
    began = time.perf_counter()
    program = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    print(f"{code!r}: {1_000 * (time.perf_counter() - began):.0f} ms with the interpreter's start")
    return set(out.split())


def tops(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def test_importing_tenure_loads_nothing_but_itself() -> None:
    extra = loaded("import tenure") - loaded("import typing")
    assert extra == {"tenure"}


def test_leading_and_watching_load_no_server() -> None:
    modules = loaded("import tenure\ntenure.lead, tenure.observe, tenure.Client, tenure.LeaseLost")
    assert not tops(modules) & SERVER
    parts = {name.split(".")[1] for name in modules if name.startswith("tenure.")}
    assert parts <= {"base", "client", "leadership", "wire"}


def test_every_name_that_is_promised_exists() -> None:
    loaded("import tenure\nfor name in tenure.__all__: getattr(tenure, name)")
    loaded("import tenure.client\nfor name in tenure.client.__all__: getattr(tenure.client, name)")
