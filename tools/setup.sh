#!/usr/bin/env bash
# Makes this checkout ready to work: apt packages that are missing, and .venv. Quiet and quick when nothing is to do.
#   tools/setup.sh          Python and .venv
#   tools/setup.sh test     and the tools of the tests (strace, faketime)
#   tools/setup.sh bench    and the servers that we compare with (etcd)
set -euo pipefail
cd "$(dirname "$0")/.."

need=()
python=""
for candidate in python3 python3.11 python3.12 python3.13 /usr/bin/python3; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$(command -v "$candidate")
        break
    fi
done
if [ -z "$python" ]; then
    need+=(python3 python3-venv)
elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    need+=(python3-venv)
fi
case "${1:-}" in
    "") ;;
    test)
        command -v strace >/dev/null || need+=(strace)
        command -v faketime >/dev/null || need+=(faketime)
        ;;
    bench) [ -n "${ETCD_BIN:-}" ] || command -v etcd >/dev/null || need+=(etcd-server) ;;
    *) echo "setup: unknown set '$1' (test, bench)" >&2; exit 2 ;;
esac

install_packages() {
    if [ "$(id -u)" != 0 ]; then
        echo "setup: missing packages: $*" >&2
        echo "setup: run as root: apt-get install --no-install-recommends $*" >&2
        exit 1
    fi
    # A package must not start a service on this machine: our tests and benchmarks start their own, on free ports.
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    echo "setup: installing $*"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

if [ ${#need[@]} -gt 0 ]; then
    install_packages "${need[@]}"
    python=${python:-/usr/bin/python3}
fi

if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    rm -rf .venv
    "$python" -m venv .venv
fi
stamp=$({ cat pyproject.toml; .venv/bin/python -VV; pwd; } | sha256sum | cut -d' ' -f1)
if [ "$(cat .venv/.stamp 2>/dev/null)" != "$stamp" ]; then
    echo "setup: installing Python packages into .venv"
    .venv/bin/python -m pip install -qq --disable-pip-version-check --editable '.[all,dev]'
    echo "$stamp" >.venv/.stamp
fi
