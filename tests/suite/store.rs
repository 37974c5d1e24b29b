//! The store on a real Postgres.

use std::time::Duration;

use batchyard::store::{Settings, Store, StoreError};

use crate::postgres::empty_database;

async fn connect(url: &str) -> Store {
    let settings = Settings { url: url.to_owned(), connections: 4, wait: Duration::from_secs(10) };
    Store::connect(&settings).await.expect("connects")
}

#[tokio::test]
async fn a_schema_is_absent_then_right_then_newer() {
    let url = empty_database().await;
    let store = connect(&url).await;
    assert!(matches!(store.check_schema().await, Err(StoreError::SchemaAbsent)));
    let (first, second) = tokio::join!(store.migrate(), store.migrate());
    first.expect("migrates");
    second.expect("migrates beside another");
    store.check_schema().await.expect("fits");
    store.migrate().await.expect("a second time changes nothing");

    let pool = sqlx::PgPool::connect(&url).await.expect("connects");
    sqlx::query("insert into batchyard._sqlx_migrations values (99999, 'later', now(), true, '', 0)")
        .execute(&pool)
        .await
        .expect("inserts");
    assert!(matches!(store.check_schema().await, Err(StoreError::SchemaNewer { found: 99999, .. })));
    assert!(matches!(store.migrate().await, Err(StoreError::SchemaNewer { .. })));
    sqlx::query("delete from batchyard._sqlx_migrations").execute(&pool).await.expect("deletes");
    assert!(store.check_schema().await.is_err());
}

#[tokio::test]
async fn a_database_that_is_away_is_told_after_the_deadline() {
    let settings = Settings {
        url: "postgres://nobody@localhost/none?host=/nonexistent".into(),
        connections: 1,
        wait: Duration::from_millis(200),
    };
    let error = Store::connect(&settings).await.expect_err("nothing is there");
    assert!(error.is_unavailable(), "{error:?}");
}
