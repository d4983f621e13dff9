#!/usr/bin/env bash
# Tests the AArch64 code on any Linux: compiles with the pinned toolchain and runs the tests under emulation, once for
# each way of multiplying bytes, and type-checks for macOS. On an AArch64 machine the tests run as they are.
#
#   scripts/test-arm64.sh           instruction sets and unit tests of the CPU backend, and the storyteller's answers
#   scripts/test-arm64.sh --all     all tests of the CPU backend too (emulated: a quarter of an hour more)
#   scripts/test-arm64.sh --units   instruction sets and unit tests only, without lints and type-checks: what CI runs
#   scripts/test-arm64.sh --check   lints and type-checks only, for Linux and macOS: needs no linker and no emulator
#
# Fetches the targets' standard libraries with rustup and, on Debian and its relatives, linker and emulator with apt. Where
# linker or emulator cannot be had, the exit status is 3, and none of the tests has run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mode=${1-}
case "$mode" in
  "" | --all | --units | --check) ;;
  *) echo "usage: $0 [--all | --units | --check]" >&2; exit 2 ;;
esac

linux=aarch64-unknown-linux-gnu
macos=aarch64-apple-darwin
if [ "$mode" = --units ]; then
  rustup target add "$linux"
else
  rustup target add "$linux" "$macos"
  echo "== clippy for $linux"
  cargo clippy -p metallic-cpu --all-targets --target "$linux" -- -D warnings
  for target in "$linux" "$macos"; do
    echo "== type-check for $target"
    cargo check -p metallic-cpu -p metallic --tests --target "$target"
  done
fi
if [ "$mode" = --check ]; then
  exit
fi

run_tests() {
  cargo test --target "$linux" -p metallic-cpu --lib -- "$@"
}

run_all_tests() {
  run_tests
  if [ "$mode" != --units ]; then
    cargo test --target "$linux" -p metallic --test storyteller -- greedy
  fi
  if [ "$mode" = --all ]; then
    cargo test --target "$linux" -p metallic-cpu --release --tests
  fi
}

if [ "$(uname -sm)" = "Linux aarch64" ]; then
  run_all_tests
  exit
fi

find_tools() {
  command -v qemu-aarch64 >/dev/null && command -v aarch64-linux-gnu-gcc >/dev/null
}
if ! find_tools && command -v apt-get >/dev/null; then
  apt-get update -q && apt-get install -y -q --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user \
    || echo "apt has not installed them" >&2
fi
if ! find_tools; then
  echo "needs qemu-aarch64 (user emulation) and aarch64-linux-gnu-gcc: install them, or pass --check" >&2
  exit 3
fi
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# What each emulated processor must be taken for: no dot product; sdot; everything that the emulator knows, usdot and usmmla
# among it.
for emulated in "cortex-a57=NEON" "neoverse-n1=NEON DotProd" "max=NEON I8MM"; do
  processor=${emulated%%=*}
  echo "== tests on an emulated $processor"
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -cpu $processor -L /usr/aarch64-linux-gnu"
  METALLIC_TEST_ISA=${emulated#*=} run_tests --ignored this_processor_has_the_named_instruction_set | tee "$log"
  grep -q "1 passed" "$log"
  run_all_tests
done
