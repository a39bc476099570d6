#!/usr/bin/env bash
# install-deps.sh [--bench] [--fuzz] [--check] — what building and testing loam needs, on Debian 12.
# When all is there nothing is called but pkg-config. Else it installs with apt-get as root or through sudo without a password;
# without either (or with --check) it prints the command to run and exits 1.
#   --bench   also the peers that benchmarks compare with (OpenBLAS, oneDNN)      --fuzz   also clang and libFuzzer
set -u
bench=0 fuzz=0 check=0
for a in "$@"; do case $a in --bench) bench=1;; --fuzz) fuzz=1;; --check) check=1;; *) echo "install-deps.sh: unknown option $a" >&2; exit 2;; esac; done
need=()
cmd() { command -v "$1" >/dev/null 2>&1 || need+=("$2"); }
pc() { pkg-config --exists "$1" 2>/dev/null || need+=("$2"); }
hdr() { [ -e "/usr/include/$1" ] || [ -e "/usr/include/x86_64-linux-gnu/$1" ] || need+=("$2"); }
cmd gcc gcc; cmd g++ g++; cmd make make; cmd cmake cmake; cmd ninja ninja-build; cmd pkg-config pkg-config
hdr stdio.h libc6-dev
pc jansson libjansson-dev; pc yaml-0.1 libyaml-dev; pc libpcre2-8 libpcre2-dev; pc libutf8proc libutf8proc-dev
pc libxxhash libxxhash-dev; pc libzstd libzstd-dev; pc zlib zlib1g-dev
python3 -c 'import ctypes, unittest' 2>/dev/null || need+=(python3)       # tests only: the Python package
cmd mpirun openmpi-bin; pc ompi-c libopenmpi-dev      # several ranks: tests only; loam finds MPI when it runs
[ -e /usr/share/i18n/locales/de_DE ] || need+=(locales)     # tests only: numbers under a locale with decimal commas
if [ $bench = 1 ]; then pc openblas libopenblas-dev; hdr oneapi/dnnl/dnnl.h libdnnl-dev; fi
if [ $fuzz = 1 ]; then cmd clang clang; ls /usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-x86_64.a >/dev/null 2>&1 || need+=(libclang-rt-14-dev); fi
[ ${#need[@]} = 0 ] && exit 0
if [ $check = 0 ] && command -v apt-get >/dev/null 2>&1; then
    as=()
    if [ "$(id -u)" = 0 ]; then ok=1
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then ok=1; as=(sudo)
    else ok=0; fi
    if [ $ok = 1 ]; then
        echo "installing: ${need[*]}"
        export DEBIAN_FRONTEND=noninteractive
        "${as[@]}" apt-get install -y --no-install-recommends "${need[@]}" >/dev/null 2>&1 && exit 0
        "${as[@]}" apt-get update -qq && "${as[@]}" apt-get install -y --no-install-recommends "${need[@]}" && exit 0
        echo "install-deps.sh: apt-get failed" >&2
    fi
fi
echo "missing packages; run:  sudo apt-get update && sudo apt-get install -y ${need[*]}" >&2
exit 1
