//! What this machine could do at most: the least program that still does the same kind of work.
//!
//! A bare axum + sqlx server (a process of its own, as the product is), and the start of an empty process.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::{get, put};
use sqlx::postgres::{PgPool, PgPoolOptions};

/// Rows that the read bounds find.
pub const ROWS: i64 = 1_000;

/// Runs the bare server on a free port of loopback, which it prints, until it is killed. Each of its rows holds `document`.
///
/// # Errors
/// The database or the socket is not to be had.
pub async fn serve(database: &str, document: &str) -> Result<()> {
    let document: serde_json::Value = serde_json::from_str(document)?;
    let pool = PgPoolOptions::new().max_connections(20).connect(database).await?;
    sqlx::raw_sql(
        "create table if not exists bound (id bigint primary key, body jsonb not null);
         create table if not exists bound_written (id bigint generated always as identity primary key, body jsonb not null);",
    )
    .execute(&pool)
    .await?;
    sqlx::query("insert into bound select n, $1 from generate_series(0, $2 - 1) n on conflict do nothing")
        .bind(&document)
        .bind(ROWS)
        .execute(&pool)
        .await?;
    let router =
        Router::new().route("/row/{id}", get(select)).route("/rows", get(list)).route("/row", put(insert)).with_state(pool);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    axum::serve(listener, router).await?;
    Ok(())
}

async fn select(State(pool): State<PgPool>, Path(id): Path<i64>) -> impl IntoResponse {
    let body: serde_json::Value =
        sqlx::query_scalar("select body from bound where id = $1").bind(id).fetch_one(&pool).await.expect("the row is there");
    axum::Json(body)
}

async fn list(State(pool): State<PgPool>) -> impl IntoResponse {
    let rows: Vec<serde_json::Value> =
        sqlx::query_scalar("select body from bound order by id limit 1000").fetch_all(&pool).await.expect("the rows are there");
    axum::Json(rows)
}

async fn insert(State(pool): State<PgPool>, axum::Json(body): axum::Json<serde_json::Value>) -> impl IntoResponse {
    let id: i64 = sqlx::query_scalar("insert into bound_written (body) values ($1) returning id")
        .bind(body)
        .fetch_one(&pool)
        .await
        .expect("the row is written");
    ([(header::CONTENT_TYPE, "text/plain")], id.to_string())
}

/// A bare server in a process of its own, ended when this is dropped.
pub struct Bare {
    child: std::process::Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Bare {
    /// Over `database`, with rows that hold `document`, so that it moves and parses what the product does.
    ///
    /// # Errors
    /// It did not start.
    pub fn start(database: &str, document: &serde_json::Value) -> Result<Bare> {
        use std::io::BufRead;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["bound-server", database, &document.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.take().context("piped")?).read_line(&mut line)?;
        let address = line.trim().parse().context("the bare server did not start")?;
        Ok(Bare { child, address })
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts of `/bin/true` per second, two at a time, each waited for.
///
/// # Errors
/// A process does not start.
pub fn spawns_per_second(count: usize) -> Result<f64> {
    let began = Instant::now();
    std::thread::scope(|scope| {
        let half = |n| {
            scope.spawn(move || {
                (0..n).try_for_each(|_| Command::new("/bin/true").status().map(drop).context("starting /bin/true"))
            })
        };
        let workers = [half(count / 2), half(count - count / 2)];
        workers.into_iter().try_for_each(|worker| worker.join().expect("does not panic"))
    })?;
    Ok(count as f64 / began.elapsed().as_secs_f64())
}
