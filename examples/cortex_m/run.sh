#!/bin/sh
# Builds an exported C network with its test for a Cortex-M3 and runs it in QEMU: run.sh FOLDER [CPU [MACHINE]]
# Needs gcc-arm-none-eabi, libnewlib-arm-none-eabi and qemu-system-arm (names of Debian's packages).
set -eu
folder=$1 cpu=${2:-cortex-m3} machine=${3:-mps2-an385} here=$(dirname "$0")
program=$(mktemp)
trap 'rm -f "$program"' EXIT
arm-none-eabi-gcc -mcpu="$cpu" -mthumb -std=c99 -O2 -DNET_WATCH --specs=rdimon.specs -nostartfiles \
  -T "$here/mps2.ld" "$here/startup.c" "$folder/net.c" "$folder/test.c" -o "$program"
arm-none-eabi-size "$program"
qemu-system-arm -M "$machine" -nographic -monitor none -serial none -semihosting-config enable=on,target=native -kernel "$program"
