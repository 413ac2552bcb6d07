#!/usr/bin/env bash
# The engine on one GPU, in under nine minutes, with torch, transformers and NumPy alone.
#
#     bash benchmarks/gpu.sh [--model DIR]      # a real model for natural stops, where one lies there
#     bash benchmarks/gpu.sh --tiny             # every part for a moment on the CPU, to see that it runs
#
# The parts stand in the order of what they are worth, each with a time limit of its own; what runs out of it says so and
# the next part begins. PYTHON names the interpreter.
set -u
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
python=${PYTHON:-python3} tiny= model= failed=0

while [ $# -gt 0 ]; do
    case $1 in
    --tiny) tiny=1 ;;
    --model) model=${2:?--model needs a directory}; shift ;;
    *) echo "unknown option $1: expected --tiny or --model DIR" >&2; exit 2 ;;
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
    device=(--device cpu --dtype float32 --rows 24 --repeats 1) shape=tiny inputs=2 slow=1 tokens=4
    command -v nvidia-smi >/dev/null || export TRITON_INTERPRET=1
else
    device=(--device cuda --dtype bfloat16 --rows 4096 --repeats 1) shape=gpt2-xl inputs=1050 slow=4 tokens=40
fi
generation=("$python" benchmarks/generation.py "${device[@]}")

part "machine" 30 "$python" - <<'PROGRAM'
import platform, torch, transformers
print(f"torch {torch.__version__}, transformers {transformers.__version__}, Python {platform.python_version()}")
for number in range(torch.cuda.device_count()):
    found = torch.cuda.get_device_properties(number)
    print(f"{found.name}, {found.total_memory / 2**30:.0f} GiB, compute capability {found.major}.{found.minor}")
PROGRAM

part "the attention kernel against float64" 60 "$python" - <<'PROGRAM'
import sys, torch
try:
    from dino_st.decoding import kernel
except ImportError as error:
    sys.exit(print(f"skipped: {error}"))
device, worst = ("cuda" if torch.cuda.is_available() else "cpu"), {}
types = [torch.float32, *([torch.bfloat16, torch.float16] if device == "cuda" else [])]
for size in (64, 80, 96, 128, 256):
    for groups, repeats in ((2, 1), (1, 4), (1, 16)):
        for dtype in types:
            torch.manual_seed(size)
            made = lambda *shape: torch.randn(*shape, device=device).to(dtype)
            query, prompt, own = made(3, groups * repeats, size), [made(2, groups, 70, size) for _ in "kv"], [made(3, groups, 5, size) for _ in "kv"]
            rows, lengths = torch.tensor([0, 1, 1], device=device), torch.tensor([70, 33, 33], device=device)
            places = torch.arange(5, device=device) - torch.tensor([[0], [2], [4]], device=device)
            found = kernel.attend(query, tuple(prompt), tuple(own), prompt_of_row=rows, lengths=lengths, places=places, scaling=size**-0.5)
            keys, values = (torch.cat((p[rows], o), 2).double().repeat_interleave(repeats, 1) for p, o in zip(prompt, own))
            seen = torch.cat((torch.arange(70, device=device) >= 70 - lengths[:, None], places >= 0), 1)[:, None]
            scores = (keys @ query.double().unsqueeze(-1)).squeeze(-1) * size**-0.5
            expected = (scores.masked_fill(~seen, -torch.inf).softmax(-1).unsqueeze(-2) @ values).squeeze(-2)
            worst[dtype] = max(worst.get(dtype, 0.0), float((found.double() - expected).abs().max()))
for dtype, distance in worst.items():
    print(f"{dtype}: at most {distance:.1e} away")
sys.exit(any(distance > (1e-4 if dtype == torch.float32 else 0.05) for dtype, distance in worst.items()))
PROGRAM

part "$shape shape, $tokens fixed tokens, $inputs x1" 150 \
    "${generation[@]}" --shape "$shape" --fixed-tokens "$tokens" --inputs "$inputs" --programs engine
if [ -n "$model" ]; then
    part "natural stops, scores apart" 90 "${generation[@]}" --model "$model" --inputs "$inputs" --programs engine
fi
part "where a step's time goes" 70 \
    "${generation[@]}" --shape "$shape" --fixed-tokens "$tokens" --inputs $((inputs > 200 ? 200 : inputs)) --profile
part "against the published algorithm and the padded batch" 110 \
    "${generation[@]}" --shape "$shape" --fixed-tokens "$tokens" --inputs $((inputs > 200 ? 200 : inputs)) \
    --slow-inputs "$slow" --programs engine published padded
exit $failed
