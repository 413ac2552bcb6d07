#!/usr/bin/env bash
# Runs the tests with the lowest, the pinned or the newest versions of the dependencies, in an environment made for it.
#
#   tools/check_versions.sh lowest|pinned|newest [PYTHON [PYTEST ARGUMENTS…]]
#
# lowest   of what pyproject.toml names, the oldest version that it allows; the rest newest (uv's `lowest-direct`)
# pinned   constraints.txt
# newest   whatever is out there
#
# With other versions than the pinned ones, libraries warn about each other; such warnings are printed, and fail no test.
#
# PYTHON is an interpreter or a version such as 3.13 (default: python3). Without pytest arguments the whole suite runs.
# KEEP=DIRECTORY keeps the environment there and uses it again. uv is taken from PATH, or installed beside the environment.
set -euo pipefail
cd "$(dirname "$0")/.."

versions=${1:?say lowest, pinned or newest}
python=${2:-python3}
shift $(($# > 2 ? 2 : $#))

case $versions in
lowest) resolution=(--resolution lowest-direct) warnings=(-W default) ;;
pinned) resolution=(--constraints constraints.txt) warnings=() ;;
newest) resolution=(--resolution highest --upgrade) warnings=(-W default) ;;
*)
    echo "versions '$versions': say lowest, pinned or newest" >&2
    exit 2
    ;;
esac

temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
environment=${KEEP:-$temporary/environment}
uv=$(command -v uv || true)
if [ -z "$uv" ]; then
    python3 -m venv "$temporary/uv"
    "$temporary/uv/bin/python" -m pip install --quiet uv
    uv=$temporary/uv/bin/uv
fi

[ -e "$environment" ] || "$uv" venv --quiet --python "$python" "$environment"
if [ -d "$environment/Scripts" ]; then interpreter=$environment/Scripts/python.exe; else interpreter=$environment/bin/python; fi
"$uv" pip install --quiet --python "$interpreter" "${resolution[@]}" --editable ".[report,audit,openai,test,lint]"
"$uv" pip list --python "$interpreter"
"$interpreter" -m pytest "${warnings[@]+"${warnings[@]}"}" "$@"
