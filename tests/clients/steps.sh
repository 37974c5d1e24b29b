# shellcheck shell=bash
# What the journeys in bash share: steps with their seconds, claims, and waiting for a state with a deadline. Sourced, never run.

# Longest wait for anything. Unit: seconds.
patience=60

share="\$AZ_BATCHAI_MOUNT_ROOT/shared"
# Writes a line, waits until that was read, and writes another: what follows it sees both only while it runs. Then a file, which holds a
# variable and a secret.
# shellcheck disable=SC2034,SC2016
command='echo epoch 1; until [ -e "$AZ_BATCHAI_MOUNT_ROOT/shared/$GATE" ]; do sleep 0.05; done; echo epoch 2; echo done >&2; '
# shellcheck disable=SC2034,SC2016
command+='printf %s "$GREETING $PASSWORD" > $AZ_BATCHAI_OUTPUT_MODEL/weights.txt'
# shellcheck disable=SC2034
wanted_output=$'epoch 1\nepoch 2'

# Lets the job of journey $1 go on.
open_gate() { : >"$BATCHYARD_SHARE/$1"; }

# The body of a job of journey $1 that runs command $2; on cluster $3 where one is given, as the id is part of it.
job_body() {
    jq -n --arg gate "$1" --arg command "$2" --arg cluster "${3:-}" --arg share "$share" '{properties: ({
        nodeCount: 1,
        stdOutErrPathPrefix: $share,
        customToolkitSettings: {commandLine: $command},
        outputDirectories: [{id: "MODEL", pathPrefix: $share, pathSuffix: "model"}],
        environmentVariables: [{name: "GREETING", value: "hello"}, {name: "GATE", value: $gate}],
        secrets: [{name: "PASSWORD", value: "pa55word"}]
    } + if $cluster == "" then {} else {cluster: {id: $cluster}} end)}'
}

die() {
    echo "    $*" >&2
    exit 1
}

# Runs one step and says its seconds: step NAME COMMAND...
step() {
    local what=$1 since=$EPOCHREALTIME
    shift
    "$@"
    took "$what" "$since"
}

# Says the seconds since $2.
took() {
    local now=$EPOCHREALTIME
    printf '    %-36s %6s s\n' "$1" "$(awk -v a="${2/,/.}" -v b="${now/,/.}" 'BEGIN { printf "%.2f", b - a }')"
}

# Claims about a JSON text: claim JSON FILTER [WHAT]. The filter must answer true.
claim() {
    [ "$(jq "$2" <<<"$1" 2>&1)" = true ] || die "not so: $2${3:+ ($3)}; seen: $1"
}

# Claims that two texts are equal: same SEEN WANTED.
same() {
    [ "$1" = "$2" ] || die "seen '$1' instead of '$2'"
}

# Looks until the JSON that a command prints fits a filter: until_so FILTER COMMAND... Prints what was seen then.
until_so() {
    local filter=$1 began=$EPOCHSECONDS seen
    shift
    while :; do
        seen=$("$@") || die "failed: $*"
        [ "$(jq "$filter" <<<"$seen" 2>&1)" != true ] || break
        [ $((EPOCHSECONDS - began)) -lt $patience ] || die "not within $patience s: $filter; last seen: $seen"
        sleep 0.1
    done
    printf '%s' "$seen"
}
