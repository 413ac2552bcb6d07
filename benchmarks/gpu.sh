#!/usr/bin/env bash
# The engine on one GPU, in under nine minutes, with torch, transformers and NumPy alone; training, too, where the rest is.
#
#     bash benchmarks/gpu.sh [--model DIR|FILE.gguf [--sentences FILE]]     # a real model, for natural stops
#     bash benchmarks/gpu.sh --tiny             # every part for a moment on the CPU, to see that it runs
#
# The parts stand in the order of what they are worth, each with a time limit of its own; what runs out of it says so and
# the next part begins. PYTHON names the interpreter.
set -u
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
python=${PYTHON:-python3} tiny= model= sentences= failed=0

while [ $# -gt 0 ]; do
    case $1 in
    --tiny) tiny=1 ;;
    --model) model=${2:?--model needs a directory or a GGUF file}; shift ;;
    --sentences) sentences=${2:?--sentences needs a file}; shift ;;
    *) echo "unknown option $1: expected --tiny, --model DIR or --sentences FILE" >&2; exit 2 ;;
    esac
    shift
done

if [ -z "$tiny" ] && ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "torch sees no GPU here; --tiny runs every part on the CPU" >&2
    exit 2
fi

part() { # title, seconds, command ...
    local title=$1 limit=$2 start=$SECONDS status
    shift 2
    echo "== $title (at most $limit s)"
    timeout "$limit" "$@" && status=0 || status=$?
    case $status in
    0) echo "== done in $((SECONDS - start)) s" ;;
    124) echo "== ran out of its $limit s" ;;
    *) echo "== failed with status $status"; failed=1 ;;
    esac
}

if [ -n "$tiny" ]; then
    device=(--device cpu --dtype float32 --rows 24 --repeats 1) shape=tiny inputs=2 slow=1 tokens=4 training=(--tiny)
    command -v nvidia-smi >/dev/null || export TRITON_INTERPRET=1
else
    device=(--device cuda --dtype bfloat16 --rows 4096 --repeats 1) shape=gpt2-xl inputs=10500 slow=4 tokens=40
    training=(--device cuda --shape minilm --rows 1280 --evaluation-steps 40 --programs plain train sorted --seconds 45)
fi
generation=("$python" benchmarks/generation.py "${device[@]}")

part "machine" 30 "$python" - <<'PROGRAM'
import platform, torch, transformers
print(f"torch {torch.__version__}, transformers {transformers.__version__}, Python {platform.python_version()}")
for number in range(torch.cuda.device_count()):
    found = torch.cuda.get_device_properties(number)
    print(f"{found.name}, {found.total_memory / 2**30:.0f} GiB, compute capability {found.major}.{found.minor}")
PROGRAM

part "the kernels against float64, and texts against the CPU's" 75 \
    "$python" benchmarks/gpu_arithmetic.py "${device[@]:0:2}" --inputs "$((tiny ? 0 : 30))"
part "$shape shape, $tokens fixed tokens, $inputs x1" 120 \
    "${generation[@]}" --shape "$shape" --fixed-tokens "$tokens" --inputs "$inputs" --programs engine
if [ -n "$model" ]; then
    part "natural stops, scores under every label" 60 "${generation[@]}" --model "$model" --inputs "$inputs" \
        --rows 8192 --max-tries 5 --scores --programs engine ${sentences:+--sentences "$sentences"}
fi
if [ -z "$tiny" ]; then
    part "a step of 1,024 rows in 30 layers" 40 \
        "${generation[@]}" --shape smollm2-135m --fixed-tokens 40 --rows 1024 --profile-step
fi
part "where a step's time goes" 50 \
    "${generation[@]}" --shape "$shape" --fixed-tokens "$tokens" --inputs $((inputs > 341 ? 341 : inputs)) --profile
part "against the published algorithm and the padded batch" 85 \
    "${generation[@]}" --shape "$shape" --fixed-tokens "$tokens" --inputs $((inputs > 341 ? 341 : inputs)) \
    --slow-inputs "$slow" --programs engine published padded
if "$python" -c 'import datasets, pydantic' 2>/dev/null; then
    part "training against the plain trainer" 75 "$python" benchmarks/training.py "${training[@]}"
fi
exit $failed
