//! File servers.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::account::Account;
use super::document::{Document, object};
use super::output::Answer;
use super::scope::ThisInWorkspace;
use super::session::Session;
use super::verbs::{self, Deleted, IfExists, Listed};
use crate::client::{BATCH_AI, Kind, Place, Result};

/// What `file-server` does.
#[derive(Subcommand, Clone, Debug)]
pub enum FileServerVerb {
    /// Makes a file server.
    Create(Box<Create>),
    /// Shows a file server.
    Show(ThisInWorkspace),
    /// Lists the file servers of a workspace.
    List(Listed),
    /// Deletes a file server and all that is on it.
    Delete(Deleted<ThisInWorkspace>),
}

/// How a file server is made.
#[derive(Args, Clone, Debug, Default)]
#[command(
    after_help = "Examples:\n  batchyard file-server create -n nfs -s STANDARD_D1 --disk-count 1 --disk-size 16 --storage-sku Standard_LRS\n\n\
                        PUT .../workspaces/{w}/fileServers/{n}"
)]
pub struct Create {
    #[command(flatten)]
    this: ThisInWorkspace,
    /// A file with the file server, as JSON or YAML of FileServerCreateParameters; flags go before it.
    #[arg(short = 'f', long, alias = "file", value_name = "FILE")]
    config_file: Option<String>,
    /// Its size.
    #[arg(short = 's', long, value_name = "SIZE")]
    vm_size: Option<String>,
    /// How many disks; 1 where it is left out.
    #[arg(long, value_name = "COUNT")]
    disk_count: Option<u32>,
    /// The size of each. Unit: GiB.
    #[arg(long, value_name = "GIB")]
    disk_size: Option<u32>,
    /// none, readonly or readwrite.
    #[arg(long, value_name = "TYPE")]
    caching_type: Option<String>,
    /// Standard_LRS or Premium_LRS; Premium_LRS where it is left out.
    #[arg(long, value_name = "SKU")]
    storage_sku: Option<String>,
    #[command(flatten)]
    account: Account,
    /// The id of a subnet.
    #[arg(long, value_name = "ID")]
    subnet: Option<String>,
    /// What to do where one of this name exists.
    #[arg(long, value_enum, default_value = "keep")]
    if_exists: IfExists,
    /// Returns once it is accepted.
    #[arg(long)]
    no_wait: bool,
}

/// `file-server`.
///
/// # Errors
/// As of the verbs.
pub(super) async fn run(session: &Session, verb: &FileServerVerb) -> Result<Answer> {
    let place = |this: &ThisInWorkspace| session.scoped().this(Kind::FileServer, &this.within, &this.name);
    match verb {
        FileServerVerb::Create(create) => create.make(session, &place(&create.this)?).await,
        FileServerVerb::Show(this) => verbs::show(session, &place(this)?).await,
        FileServerVerb::List(listed) => verbs::list_in_workspace(session, Kind::FileServer, listed).await,
        FileServerVerb::Delete(gone) => verbs::delete(session, &place(&gone.this)?, &gone.deletion).await,
    }
}

impl Create {
    fn describe(&self, session: &Session) -> Result<Document> {
        let mut document = match &self.config_file {
            Some(file) => Document::read(file)?,
            None => Document::new("the file server"),
        };
        let alone = self.config_file.is_none();
        let properties = document.properties();
        if let Some(size) = &self.vm_size {
            properties.insert("vmSize".into(), json!(size));
        }
        if let Some(id) = &self.subnet {
            properties.insert("subnet".into(), json!({ "id": id }));
        }
        let disks = object(properties.entry("dataDisks").or_insert(Value::Null));
        for (name, value, default) in [
            ("diskCount", self.disk_count.map(|count| json!(count)), Some(json!(1))),
            ("diskSizeInGB", self.disk_size.map(|size| json!(size)), None),
            ("cachingType", self.caching_type.as_ref().map(|word| json!(word)), None),
            ("storageAccountType", self.storage_sku.as_ref().map(|sku| json!(sku)), Some(json!("Premium_LRS"))),
        ] {
            if let Some(value) = value.or(default.filter(|_| alone)) {
                disks.insert(name.to_owned(), value);
            }
        }
        let ssh = object(properties.entry("sshConfiguration").or_insert(Value::Null));
        self.account.lay_over(&session.environment, ssh)?;
        Ok(document)
    }

    async fn make(&self, session: &Session, place: &Place) -> Result<Answer> {
        let document = self.describe(session)?;
        // At the published version, whose answer says which operation makes it.
        if let Some(reply) = verbs::make(session, place, &document, BATCH_AI, self.if_exists).await? {
            session.finish(&reply, self.no_wait).await?;
        }
        verbs::show(session, place).await
    }
}
