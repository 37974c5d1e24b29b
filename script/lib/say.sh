# shellcheck shell=bash
# What the scripts say, and how. Sourced, never run.
#
# On a terminal: colours and one progress line that is written over. In a pipe or a log: plain lines, each only once.

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
    say_terminal=1 bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' blue=$'\e[36m' plain=$'\e[0m'
else
    say_terminal='' bold='' dim='' red='' green='' blue='' plain=''
fi
say_started=$EPOCHREALTIME
say_progress=''

# Seconds since the script started, with one decimal.
say_seconds() {
    local now=$EPOCHREALTIME
    local ms=$(( (${now/[.,]/} - ${say_started/[.,]/}) / 1000 ))
    printf '%d.%d' $((ms / 1000)) $((ms % 1000 / 100))
}

# Ends the progress line, if one stands.
say_clear() {
    [ -z "$say_terminal" ] || [ -z "$say_progress" ] || printf '\r\e[K'
    say_progress=''
}

# A new part of the story.
step() {
    say_clear
    printf '%s%6ss%s %s==>%s %s%s%s\n' "$dim" "$(say_seconds)" "$plain" "$blue" "$plain" "$bold" "$*" "$plain"
}

# A line below the current part.
say() {
    say_clear
    printf '            %s\n' "$*"
}

# Something that was to be shown, and is.
good() {
    say_clear
    printf '          %s✓%s %s\n' "$green" "$plain" "$*"
}

# Where a wait stands. Said again only when it changes.
progress() {
    [ "$say_progress" != "$*" ] || return 0
    if [ -n "$say_terminal" ]; then
        printf '\r\e[K            %s%s%s' "$dim" "$*" "$plain"
    else
        printf '            %s\n' "$*"
    fi
    say_progress="$*"
}

# The reason of a failure; then the end.
fail() {
    say_clear
    printf '%sfailed:%s %s\n' "$red" "$plain" "$*" >&2
    exit 1
}
