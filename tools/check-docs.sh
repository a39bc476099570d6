#!/usr/bin/env bash
# check-docs.sh [BUILD_DIR] — the docs tell the truth as far as a script can see:
#   relative links (and their #anchors) resolve; each room has docs/rooms/<room>.md; in ```sh blocks of README.md and docs/ each `make X` is a target
#   and each `loam VERB --flag` a verb and a flag of the program (when BUILD_DIR/loam exists; else src/cmd/VERB.c must).
# A block that is not to be checked is opened with ```text.
set -u
cd "$(dirname "$0")/.." || exit 2
build=${1:-build}
bad=0; say() { echo "docs: $*"; bad=1; }
mapfile -t pages < <({ ls ./*.md; find docs examples bench -name '*.md'; } 2>/dev/null | sed 's|^\./||' | sort -u)

anchor() { tr '[:upper:]' '[:lower:]' | sed -E 's/[`*]//g; s/[^a-z0-9 _-]//g; s/ /-/g'; }
links=0
for p in "${pages[@]}"; do
    dir=$(dirname "$p")
    while read -r l; do
        case $l in http://*|https://*|mailto:*|'') continue;; esac
        links=$((links + 1)); file=${l%%#*}; at=; [[ $l == *#* ]] && at=${l#*#}
        target=$p; [ -n "$file" ] && { target=$dir/$file; [ -e "$target" ] || { say "$p: link to $l: no such file"; continue; }; }
        [ -z "$at" ] || [ ! -f "$target" ] || grep -E '^#+ ' "$target" | sed -E 's/^#+ +//' | anchor | grep -qxF -- "$at" || say "$p: link to $l: no such heading"
    done < <(awk '/^```/ {f = !f; next} !f' "$p" | grep -oE '\]\([^)[:space:]]+\)' | sed -E 's/^\]\((.*)\)$/\1/')
done
for d in src/*/; do
    r=$(basename "$d"); [ -n "$(find "$d" -name '*.[ch]' | head -n 1)" ] || continue
    [ -s "docs/rooms/$r.md" ] || say "docs/rooms/$r.md is missing"
done

commands=0
declare -A help
helpof() { [ -n "${help[$1]:-}" ] || help[$1]=$("$build/loam" "$1" --help 2>&1); }
for p in "${pages[@]}"; do
    while read -r line; do
        line=${line#\$ }
        while read -r part; do
            set -f; set -- $part; set +f
            while [ $# -gt 0 ] && [[ $1 == *=* || $1 == sudo || $1 == time ]]; do shift; done
            case ${1:-} in
                make) shift; for t in "$@"; do case $t in -*|*=*|'#'*) [[ $t == '#'* ]] && break;; *)
                        commands=$((commands + 1)); grep -qE "^$t:" Makefile || say "$p: make $t: no such target";; esac; done;;
                loam|build/loam|./build/loam|build-*/loam) shift; verb=${1:-}; case $verb in ''|-*|'#'*|'['*|'<'*) continue;; esac
                    [[ $verb =~ ^[A-Z]+$ ]] && continue          # VERB in an explanation
                    commands=$((commands + 1))
                    if [ -x "$build/loam" ]; then
                        helpof "$verb"; "$build/loam" "$verb" --help >/dev/null 2>&1 || { say "$p: loam $verb: no such command"; continue; }
                        for f in "$@"; do case $f in '#'*) break;; --help|--) ;; --*) f=${f%%=*}
                            grep -qE -- "(^|[^a-z-])(--no-)?${f//-no-/-}([^a-z-]|$)" <<<"${help[$verb]}" || grep -qE -- "(^|[^a-z-])$f([^a-z-]|$)" <<<"${help[$verb]}" || say "$p: loam $verb $f: no such flag";; esac; done
                    elif [ -f src/cmd/main.c ]; then [ -f "src/cmd/$verb.c" ] || say "$p: loam $verb: no such command"; fi;;
                tools/*|./tools/*|tests/*|examples/*) commands=$((commands + 1)); [ -e "$1" ] || say "$p: $1: no such file";;
            esac
        done < <(sed -E 's/(\&\&|\|\||;|\|)/\n/g' <<<"$line")
    done < <(awk '/^```/ {if (f) f = 0; else f = ($0 ~ /^```(sh|bash|console)/); next} f' "$p" | sed -E ':a; /\\$/ {N; s/\\\n//; ba}' | grep -vE '^[[:space:]]*#')
done
[ ! -x "$build/loam" ] || python3 tools/gen_commands.py "$build/loam" --check docs/commands.md || say "docs/commands.md is not what the program says of itself: tools/gen_commands.py $build/loam > docs/commands.md"
[ $bad = 0 ] && echo "docs: ${#pages[@]} pages, $links links, $commands commands: fine"
exit $bad
