#!/usr/bin/env bash
# The full recipe of a preset on a machine with one GPU, in stages of at most MINUTES minutes.
# For machines whose commands are limited in time, whose disk is not kept, and without a network.
#
#   bash train/gpu_day.sh setup-check        what is here: GPU, torch, data, free space
#   bash train/gpu_day.sh STAGE [key=value]  one stage; again while it answers "call again"
#   bash train/gpu_day.sh all   [key=value]  the stages in order, as far as the minutes reach
#
# STAGE: tokenizer classifier teacher gts warm csd tune export evaluate dd1 benchmark
# Exit status: 0 the stage is finished; 3 it wants another call; else it failed.
# A stage that runs out of time has saved its last state: the same call resumes there. A finished
# one is not run again (delete RUNS/finished/STAGE to do so). `evaluate` tries five guidance scales:
# give the best to `export sampling.cfg=…` and to the stages after it.
#
#   PRESET   preset (fashion-llamagen-gpu)      DATA     folder with the four IDX files (preset's)
#   MINUTES  most minutes of a call (9)         PYTHON   interpreter (.venv/bin/python or python3)
#   RUNS     folder of the run (runs/PRESET)    N        images per evaluation (10000)
#   CFGS     guidance scales that `evaluate` tries ("1.0 1.25 1.5 1.75 2.0"; for fashion-var
#            "0 0.25 0.5 0.75 1")
#   OUT      what is worth keeping is copied here (out): at most 8 files of at most 16 MB each.
#            A fresh machine goes on from there: put those files into RESTORE=FOLDER.
set -euo pipefail
cd "$(dirname "$0")/.."

PRESET=${PRESET:-fashion-llamagen-gpu}
MINUTES=${MINUTES:-9}
RUNS=${RUNS:-runs/$PRESET}
OUT=${OUT:-out}
N=${N:-10000}
MAX_MB=16 MAX_FILES=8
STAGES=(tokenizer classifier teacher gts warm csd tune export evaluate dd1 benchmark export)
SAMPLERS=(tokenizer train_set teacher one_step parallel)
read -ra CFGS <<<"${CFGS:-1.0 1.25 1.5 1.75 2.0}"  # the preset's default is to be the best
DD1_RATES=(3e-4 1e-3 3e-3)     # the DD1 baseline's own sweep

if [ -z "${PYTHON:-}" ]; then
  PYTHON=python3
  [ -x .venv/bin/python ] && PYTHON=.venv/bin/python
fi
export PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
MARKS=$RUNS/finished
END=$((SECONDS + $(awk "BEGIN {print int(60 * $MINUTES)}")))
RESERVE=20  # seconds kept for copying the results

usage() { sed -n '2,21p' "$0" | sed 's/^# \{0,1\}//'; exit 2; }

left() { echo $((END - SECONDS - RESERVE)); }

# Run a command of the recipe, never past the end of this call. Exit 3: out of time.
step() {
  local seconds code=0
  seconds=$(left)
  [ "$seconds" -ge 1 ] || return 3
  echo "+ $*"
  timeout --kill-after=10 "$seconds" "$@" || code=$?
  case $code in
    0) return 0 ;;
    124 | 137) return 3 ;;
    *) return "$code" ;;
  esac
}

train() {  # train MODULE [key=value ...]
  local module=$1
  shift
  step "$PYTHON" -m "train.$module" "preset=$PRESET" "out=$RUNS" \
    ${DATA:+"data=$DATA"} ${WORDS[@]+"${WORDS[@]}"} "$@"
}

once() {  # once MARK command ...: skipped where an earlier call finished it
  local mark=$MARKS/$1 code=0
  shift
  [ -e "$mark" ] && return 0
  "$@" || code=$?
  [ "$code" -eq 0 ] || return "$code"
  case " ${WORDS[*]-} " in *" dry_run=true "*) return 0 ;; esac
  mkdir -p "$MARKS" && touch "$mark"
}

brought() {  # whether the preset, or a word, names a base
  case " ${WORDS[*]-} " in *" base="*) return 0 ;; esac
  grep -q '^base:' "train/presets/$PRESET.yaml" 2>/dev/null
}

stage() {  # every `|| return` hands on 3, "out of time", or the failure
  local s
  case $1 in
    setup-check) setup_check ;;
    tokenizer | classifier | teacher)
      if brought; then echo "gpu_day: the base of $PRESET brings the $1"; else once "$1" train "$1"; fi ;;
    gts | warm | csd | tune) once "$1" train "$1" ;;
    export) train export ;;
    evaluate)
      for s in "${CFGS[@]}"; do
        once "evaluate-cfg-$s" train evaluate evaluate.sampler=teacher "evaluate.cfg=$s" \
          "evaluate.n=$N" "evaluate.tag=teacher-cfg$s" || return
      done
      for s in "${SAMPLERS[@]}"; do
        once "evaluate-$s" train evaluate "evaluate.sampler=$s" "evaluate.n=$N" || return
      done ;;
    dd1)
      for s in "${DD1_RATES[@]}"; do
        once "dd1-$s" train dd1 "dd1.lr=$s" "dd1.name=dd1-$s" || return
        once "evaluate-dd1-$s" train evaluate evaluate.sampler=one_step "evaluate.n=$N" \
          "evaluate.weights=$RUNS/dd1-$s/generator.safetensors" "evaluate.tag=dd1-$s" \
          evaluate.method=dd1 "evaluate.note=rate $s" || return
      done ;;
    benchmark) once benchmark train benchmark ;;
    all)
      for s in "${STAGES[@]}"; do
        stage "$s" || return
        echo "gpu_day: $s is finished, $(left) s left"
      done ;;
    *) usage ;;
  esac
}

setup_check() {
  nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv 2>/dev/null \
    || echo "no nvidia-smi: this is a machine without an NVIDIA GPU"
  df -h . | tail -1
  step "$PYTHON" - "$PRESET" ${DATA:+"data=$DATA"} ${WORDS[@]+"${WORDS[@]}"} <<'PY'
import sys

import torch

from dd2core.families.attention import choose_kernel
from dd2core.errors import DD2Error
from dd2core.tools.device import pick_device
from train.data.source import load_data
from train.settings.cli import load_config

try:
    import omegaconf, safetensors, torch_fidelity, torchvision, tqdm  # noqa: E401, F401
    cfg = load_config([f"preset={sys.argv[1]}", *sys.argv[2:]])
    device = pick_device(cfg.device)
    data = load_data(cfg)
except (DD2Error, ImportError) as error:
    sys.exit(f"error: {error}")
print(f"python {sys.version.split()[0]}, torch {torch.__version__}, device {device}, attention by "
      f"{choose_kernel(device.type, torch.bfloat16)}; {len(data.images)} + "
      f"{len(data.test_images)} images, {len(data.class_names)} classes")
PY
}

# State and weights travel as one archive cut into pieces; numbers and pictures as another.
keep() {
  local size pieces
  [ -d "$RUNS" ] || return 0
  mkdir -p "$OUT"
  rm -f "$OUT"/run.tar.* "$OUT"/results.tar.gz
  tar -czf "$OUT/results.tar.gz" --exclude='*.safetensors' --exclude='state.pt' \
    --exclude=tensorboard --exclude='.*.tmp' -C "$RUNS" .
  # The states of finished stages are not needed any more: their weights are.
  local skip=(--exclude=tensorboard --exclude='.*.tmp' --exclude='train-*.safetensors'
              --exclude='pairs-*.safetensors')
  local s
  for s in "$MARKS"/*; do
    [ -e "$s" ] && skip+=("--exclude=./$(basename "$s")/state.pt")
  done
  tar -cf - "${skip[@]}" -C "$RUNS" . | split -b "${MAX_MB}000000" -d -a 2 - "$OUT/run.tar."
  pieces=$(find "$OUT" -maxdepth 1 -name 'run.tar.*' | wc -l)
  size=$(du -sm "$OUT" | cut -f1)
  echo "gpu_day: kept $size MB in $OUT ($pieces pieces of the run, results.tar.gz)"
  [ "$pieces" -lt "$MAX_FILES" ] || echo "gpu_day: more than $MAX_FILES files: fetch them yourself"
}

restore() {  # from the pieces that `keep` wrote on another machine
  [ -n "${RESTORE:-}" ] && [ ! -d "$RUNS" ] || return 0
  mkdir -p "$RUNS"
  cat "$RESTORE"/run.tar.* | tar -xf - -C "$RUNS"
  echo "gpu_day: went on from $RESTORE"
}

[ $# -ge 1 ] || usage
STAGE=$1
shift
WORDS=("$@")
restore
code=0
stage "$STAGE" || code=$?
[ "$STAGE" = setup-check ] || [ "$code" -eq 2 ] || keep
case $code in
  0) echo "gpu_day: $STAGE is finished" ;;
  3) echo "gpu_day: $STAGE has more to do: call again" ;;
  *) echo "gpu_day: $STAGE failed ($code)" >&2 ;;
esac
exit "$code"
