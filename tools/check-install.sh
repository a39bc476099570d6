#!/usr/bin/env bash
# check-install.sh PREFIX — a program outside the tree builds against an installed loam, by pkg-config (shared) and by CMake (static), and runs.
set -eu
prefix=$1; t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
cat >"$t/hello.c" <<'C'
#include <stdio.h>
#include <string.h>
#include "base/base.h"
#include "quant/quant.h"
int main(void) {
    lm_ctx *ctx;
    if (lm_ctx_new(&ctx, NULL)) return 1;
    const lm_quant *q = lm_quant_by_name("Q8_0");
    lm_ctx_free(ctx);
    return q && q->block == 32 && !strcmp(lm_err_name(LM_E_SHAPE), "E_SHAPE") ? 0 : 1;
}
C
pc=$(dirname "$(find "$prefix" -name loam.pc)"); lib=$(dirname "$(find "$prefix" -name libloam.so | head -n 1)")
export PKG_CONFIG_PATH=$pc
# shellcheck disable=SC2046
gcc -std=gnu17 "$t/hello.c" $(pkg-config --cflags --libs loam) -o "$t/hello"
LD_LIBRARY_PATH=$lib "$t/hello"
cat >"$t/CMakeLists.txt" <<'C'
cmake_minimum_required(VERSION 3.20)
project(hello C)
find_package(loam 0.1 REQUIRED)
add_executable(hello2 hello.c)
target_link_libraries(hello2 loam::static)
C
cmake -S "$t" -B "$t/b" -DCMAKE_PREFIX_PATH="$prefix" >/dev/null
cmake --build "$t/b" >/dev/null
"$t/b/hello2"
[ ! -x "$prefix/bin/loam" ] || "$prefix/bin/loam" --version >/dev/null
echo "install: pkg-config and find_package work"
