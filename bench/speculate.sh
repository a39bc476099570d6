#!/usr/bin/env bash
# speculate.sh MODEL DRAFT TOKENS ROUNDS — tokens a second without guesses, with a draft's, with lookup's, by turns: three openings of novels, greedy and
# sampled (0.8, top-p 0.95, min-p 0.05), and two copying tasks, greedy: a paragraph twice and its beginning, and sixty words
# five times (models of random weights, bench/peers/random_gguf.py, follow the second to its end; small trained ones leave both). The text is the same in all columns of a row.
#
#   LOAM: the program (build/loam). ARGS: more options for all. Put what keeps others off the machine before the whole.
set -eu
model=$1 draft=$2 tokens=$3 rounds=$4 loam=${LOAM:-build/loam}
prose=("It was late in the autumn of that year when the carriage came down the hill towards the village, and"
       "The captain stood upon the deck and looked out over the grey sea, thinking of"
       "\"I have never understood,\" said Miss Harding, laying down her work, \"why a man of his fortune should")
passage="The old house stood at the end of a narrow lane, with its back to the river and its windows to the east. In the morning the sun came in upon the table where my \
uncle sat over his letters, and the cat lay stretched along the sill. Nobody called there before noon; the postman left his bag at the gate, and the baker's boy \
whistled from the road. Of all the rooms I liked the library best, for it smelled of leather and apples, and one could hear the water under the floor."
copy="$passage"$'\n\n'"$passage"$'\n\n'"The old house stood at the end of a narrow lane, with"
words="letters apple library lane postman leather whistle water apple house leather the whistle cat library letters table old whistle library library \
whistle gate water lane letters water lane road gate morning the floor sun house window sun apple of sill sun the cat whistle leather morning gate old baker gate morning apple boy lane postman river of lane whistle table "
list="$words$words$words$words$words"
run() {
    "$loam" run "$model" --prompt "$prompt" --max-tokens "$tokens" --ignore-eos --seed 1 --stats ${ARGS:-} "$@" 2>&1 >/dev/null |
        awk '/tok\/s/ { r = $(NF - 1) } /guessed/ { g = $(NF - 8); k = $(NF - 5) } END { printf "%s%s", r, g == "" ? "" : " (" k " of " g ")" }'
}
row() { echo "$1: plain $(run "${@:2}")  draft $(run "${@:2}" --draft "$draft")  lookup $(run "${@:2}" --speculate lookup)"; }
for _ in $(seq "$rounds"); do
    for i in 0 1 2; do
        prompt=${prose[$i]}
        row "prose $((i + 1)), greedy" --temperature 0
        row "prose $((i + 1)), sampled" --temperature 0.8 --top-p 0.95 --min-p 0.05
    done
    prompt=$copy
    row "a paragraph, greedy" --temperature 0
    prompt=${list% }
    row "a list, greedy" --temperature 0
done
