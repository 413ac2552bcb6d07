#!/usr/bin/env bash
# Builds the sdist and the wheel into a directory, and checks that both install the same package and read well on PyPI.
#
#   tools/check_package.sh [DIRECTORY]     (default: dist; what an earlier run left there is replaced)
#
# PYTHON=INTERPRETER names another Python than python3.
set -euo pipefail
cd "$(dirname "$0")/.."

output=${1:-dist}
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
"${PYTHON:-python3}" -m venv "$temporary/build"
python=$temporary/build/bin/python
"$python" -m pip install --quiet build twine

rm -f "$output"/dino_st-*.whl "$output"/dino_st-*.tar.gz
"$python" -m build --outdir "$output" . > "$temporary/build.log" || { cat "$temporary/build.log" >&2; exit 1; }
"$python" -m twine check --strict "$output"/dino_st-*

# The wheel was built from the sdist; the other one comes from the working tree.
"$python" -m build --wheel --outdir "$temporary/direct" . > "$temporary/build.log" || { cat "$temporary/build.log" >&2; exit 1; }
for kind in whl tar.gz direct; do
    "$python" -m venv "$temporary/$kind"
    file=$(ls "$output"/dino_st-*."$kind" 2> /dev/null || ls "$temporary"/direct/*.whl)
    "$temporary/$kind/bin/python" -m pip install --quiet --no-deps "$file"
    "$temporary/$kind/bin/python" -c "import dino_st, mteb_tasks; print('$kind installs dino-st', dino_st.__version__)"
    (
        cd "$temporary/$kind"/lib/python*/site-packages
        find dino_st mteb_tasks dino_st_mteb.* -type f ! -name '*.pyc' -exec sha256sum {} + | sort -k 2
        sed '/^$/q' dino_st-*.dist-info/METADATA
    ) > "$temporary/$kind.contents"
done
for kind in tar.gz direct; do
    diff "$temporary/whl.contents" "$temporary/$kind.contents" || {
        echo "the wheel and what $kind installs differ (above)" >&2
        exit 1
    }
done
echo "$(grep -c '^[0-9a-f]\{64\} ' "$temporary/whl.contents") files, the same from the wheel, the sdist and the working tree"
