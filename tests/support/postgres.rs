//! A private Postgres for tests, one for each test process, and a database of its own for each test.
//!
//! In: nothing; or `BATCHYARD_TEST_DATABASE_URL`, the address of a server whose user may create databases. Out: the URL of an empty
//! database. The server's files are in a temporary folder; a shell beside it waits for the end of a pipe that the kernel closes with
//! the test process, however that ends, and then stops the server and removes the folder.

#![allow(clippy::expect_used, clippy::panic, clippy::disallowed_methods, clippy::zombie_processes, dead_code, unreachable_pub)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// Starts a server in a fresh folder and prints where, once it takes connections. As root it becomes `postgres` first, as Postgres
/// refuses to run as root.
const SERVER: &str = r#"
set -eu
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
[ -n "$bin" ] || { echo "no Postgres programs below /usr/lib/postgresql: install the package postgresql" >&2; exit 1; }
become=""
dir=$(mktemp -d /tmp/batchyard-test-pg.XXXXXX)
if [ "$(id -u)" = 0 ]; then chown postgres "$dir"; become="setpriv --reuid=postgres --regid=postgres --clear-groups"; fi
cd "$dir"
trap '' INT TERM HUP
$become "$bin/initdb" -D "$dir/data" -U postgres -A trust -N >/dev/null
$become "$bin/postgres" -D "$dir/data" -c listen_addresses= -c unix_socket_directories="$dir" -c fsync=off \
    -c synchronous_commit=off -c full_page_writes=off -c max_connections=400 -c shared_buffers=64MB >"$dir/log" 2>&1 </dev/null &
server=$!
tries=0
until "$bin/pg_isready" -q -h "$dir" -U postgres; do
    tries=$((tries + 1)); [ $tries -lt 600 ] || { cat "$dir/log" >&2; exit 1; }
    kill -0 $server 2>/dev/null || { cat "$dir/log" >&2; exit 1; }
    sleep 0.05
done
echo "$dir"
cat >/dev/null || true
kill -QUIT $server 2>/dev/null || true
wait $server 2>/dev/null || true
cd / && rm -rf "$dir"
"#;

/// The URL of a database on the server, without its name: what precedes it and what follows.
fn server() -> &'static (String, String) {
    static SERVER_URL: OnceLock<(String, String)> = OnceLock::new();
    SERVER_URL.get_or_init(|| {
        if let Ok(url) = std::env::var("BATCHYARD_TEST_DATABASE_URL") {
            let (base, query) = url.split_once('?').map_or((url.as_str(), ""), |(base, query)| (base, query));
            let base = base.rsplit_once('/').expect("a URL with a database").0;
            return (format!("{base}/"), if query.is_empty() { String::new() } else { format!("?{query}") });
        }
        let mut child =
            Command::new("bash").args(["-c", SERVER]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("bash runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("reads");
        let dir = line.trim_end().to_owned();
        assert!(!dir.is_empty(), "the test Postgres did not start: see above");
        // Kept open until this process ends: its end is the signal to stop.
        std::mem::forget(child.stdin.take());
        (String::from("postgres://postgres@localhost/"), format!("?host={dir}"))
    })
}

/// The URL of a new, empty database.
pub async fn empty_database() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let (base, query) = server();
    let mut admin = PgConnection::connect(&format!("{base}postgres{query}")).await.expect("connects");
    sqlx::raw_sql(AssertSqlSafe(format!("drop database if exists {name} with (force)")))
        .execute(&mut admin)
        .await
        .expect("drops");
    sqlx::raw_sql(AssertSqlSafe(format!("create database {name}"))).execute(&mut admin).await.expect("creates");
    admin.close().await.expect("closes");
    format!("{base}{name}{query}")
}
