# shellcheck shell=bash
# Storage that stands in for an account of a cloud: an emulator of containers and a Samba of this folder's own, on loopback. Sourced after
# say.sh and debian.sh, never run.

# Whether nodes can mount here.
may_mount() {
    [ "$(id -u)" = 0 ] && [ -c /dev/fuse ] && [ -f target/azurite/node_modules/azurite/dist/src/blob/main.js ] &&
        command -v rclone fusermount3 smbd smbpasswd node >/dev/null
}

storage_pids=()

# start_storage FOLDER CONTAINER... -- SHARE...: one account `team`. Sets storage_key, and storage_settings to the settings of a server.
start_storage() {
    local folder=$1 containers=() shares=() name blob smb
    shift
    while [ "$1" != -- ]; do containers+=("$1") && shift; done
    shift
    shares=("$@")
    mkdir -p "$folder"/{blobs,smb/private,smb/state,smb/cache,smb/lock,smb/pid,smb/ncalrpc}
    storage_key=$(head -c 64 /dev/urandom | base64 -w 0)
    read -r blob smb < <(python3 -c 'import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*[one.getsockname()[1] for one in held])')
    AZURITE_ACCOUNTS="team:$storage_key" node target/azurite/node_modules/azurite/dist/src/blob/main.js --location "$folder/blobs" \
        --blobHost 127.0.0.1 --blobPort "$blob" --disableTelemetry --skipApiVersionCheck --silent >"$folder/emulator" 2>&1 </dev/null &
    storage_pids+=($!)
    echo 'root = team' >"$folder/smb/users"
    {
        printf '[global]\nserver role = standalone server\nsmb ports = %s\nbind interfaces only = yes\ninterfaces = lo\n' "$smb"
        for name in private lock pid ncalrpc; do echo "$name dir = $folder/smb/$name"; done
        for name in state cache; do echo "$name directory = $folder/smb/$name"; done
        printf 'log file = %s/smb/log\npassdb backend = smbpasswd:%s/smb/passwd\nusername map = %s/smb/users\n' "$folder" "$folder" "$folder"
        printf 'disable netbios = yes\nload printers = no\nserver min protocol = SMB3\nserver smb encrypt = required\n'
        for name in "${shares[@]}"; do
            mkdir -p "$folder/shares/$name"
            printf '[%s]\npath = %s/shares/%s\nread only = no\n' "$name" "$folder" "$name"
        done
    } >"$folder/smb/smb.conf"
    printf '%s\n%s\n' "$storage_key" "$storage_key" | smbpasswd -c "$folder/smb/smb.conf" -s -a root >/dev/null 2>&1 ||
        fail "samba takes no password"
    # Of a session of its own: when it ends it ends its whole process group.
    setsid smbd -F --no-process-group -s "$folder/smb/smb.conf" >"$folder/smb/out" 2>&1 </dev/null &
    storage_pids+=($!)
    STORAGE_KEY=$storage_key python3 - "$blob" "$smb" "${containers[@]}" <<'PYTHON' || fail "the storage did not start"
import base64, email.utils, hashlib, hmac, os, socket, sys, time, urllib.request

for port in sys.argv[1:3]:
    end = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", int(port)), 1).close()
            break
        except OSError:
            if time.monotonic() > end:
                sys.exit(f"nobody listens at port {port}")
            time.sleep(0.05)
for name in sys.argv[3:]:
    date = email.utils.formatdate(usegmt=True)
    text = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:2020-10-02\n/team/team/{name}\nrestype:container"
    proof = base64.b64encode(hmac.new(base64.b64decode(os.environ["STORAGE_KEY"]), text.encode(), hashlib.sha256).digest()).decode()
    headers = {"x-ms-date": date, "x-ms-version": "2020-10-02", "Authorization": f"SharedKey team:{proof}", "Content-Length": "0"}
    url = f"http://127.0.0.1:{sys.argv[1]}/team/{name}?restype=container"
    urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=headers), timeout=10).close()
PYTHON
    # Read by whoever sources this.
    # shellcheck disable=SC2034
    storage_settings=$(printf '[[storage.account]]\nname = "team"\nblob = "http://127.0.0.1:%s/team"\nsmb = "127.0.0.1:%s"\n' "$blob" "$smb")
}

# Ends what start_storage started.
end_storage() {
    local pid
    for pid in "${storage_pids[@]}"; do
        if kill -TERM "$pid" 2>/dev/null; then wait "$pid" || true; fi
    done
}
