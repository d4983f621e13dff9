#!/usr/bin/env bash
# Tests the AArch64 code on any Linux: compiles with the pinned toolchain and runs the tests under emulation, once for
# each way of multiplying bytes, and type-checks for macOS. On an AArch64 machine the tests run as they are.
#
#   scripts/test-arm64.sh           instruction sets and unit tests of the CPU backend, and the storyteller's answers
#   scripts/test-arm64.sh --all     all tests of the CPU backend too (emulated: a quarter of an hour more)
#   scripts/test-arm64.sh --check   lints and type-checks only, for Linux and macOS: needs no linker and no emulator
#
# Fetches the targets' standard libraries with rustup and, on Debian and its relatives, linker and emulator with apt.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mode=${1-}
case "$mode" in
  "" | --all | --check) ;;
  *) echo "usage: $0 [--all | --check]" >&2; exit 2 ;;
esac

linux=aarch64-unknown-linux-gnu
macos=aarch64-apple-darwin
rustup target add "$linux" "$macos"

echo "== clippy for $linux"
cargo clippy -p metallic-cpu --all-targets --target "$linux" -- -D warnings
for target in "$linux" "$macos"; do
  echo "== type-check for $target"
  cargo check -p metallic-cpu -p metallic --tests --target "$target"
done
if [ "$mode" = --check ]; then
  exit
fi

run_tests() {
  cargo test --target "$linux" -p metallic-cpu --lib
  cargo test --target "$linux" -p metallic --test storyteller -- greedy
  if [ "$mode" = --all ]; then
    cargo test --target "$linux" -p metallic-cpu --release --tests
  fi
}

if [ "$(uname -sm)" = "Linux aarch64" ]; then
  run_tests
  exit
fi

if ! command -v qemu-aarch64 >/dev/null || ! command -v aarch64-linux-gnu-gcc >/dev/null; then
  if ! command -v apt-get >/dev/null; then
    echo "needs qemu-aarch64 (user emulation) and aarch64-linux-gnu-gcc: install them, or pass --check" >&2
    exit 1
  fi
  apt-get update -q
  apt-get install -y -q --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
fi
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc

# No dot product; sdot; everything that the emulator knows, usdot among it.
for processor in cortex-a57 neoverse-n1 max; do
  echo "== tests on an emulated $processor"
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -cpu $processor -L /usr/aarch64-linux-gnu"
  run_tests
done
