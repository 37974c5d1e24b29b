//! Files that jobs wrote.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Reading;
use crate::cli::output::Answer;
use crate::cli::progress::Progress;
use crate::cli::scope::ThisJob;
use crate::cli::session::Session;
use crate::cli::views;
use crate::client::{Exit, Failure, Place, Result, make_folder};

/// What is done with files.
#[derive(Subcommand, Clone, Debug)]
pub enum FileVerb {
    /// Lists a folder of an output directory.
    List {
        #[command(flatten)]
        this: ThisJob,
        #[command(flatten)]
        directory: Directory,
        /// The folder.
        #[arg(short, long, default_value = ".", value_name = "PATH")]
        path: String,
        /// How long links are good for. Unit: minutes. Range: 5 to 600.
        #[arg(long, default_value = "60", value_name = "MINUTES")]
        expiry: u32,
    },
    /// Prints a file while it is written, until the job ends.
    Stream {
        #[command(flatten)]
        this: ThisJob,
        #[command(flatten)]
        directory: Directory,
        /// The file.
        #[arg(short, long, value_name = "NAME")]
        file_name: String,
        /// The folder that it is in.
        #[arg(short, long, default_value = ".", value_name = "PATH")]
        path: String,
    },
    /// Saves a file, or with -r a folder. What is there already is not asked for again, and what broke off goes on.
    Download {
        #[command(flatten)]
        this: ThisJob,
        #[command(flatten)]
        directory: Directory,
        /// The file or folder.
        #[arg(short, long, default_value = ".", value_name = "PATH")]
        path: String,
        /// All that is below the folder.
        #[arg(short, long)]
        recursive: bool,
        /// The folder to save in.
        #[arg(long, default_value = ".", value_name = "DIR")]
        to: PathBuf,
    },
}

/// An output directory of a job.
#[derive(Args, Clone, Debug, Default)]
pub struct Directory {
    /// Its id.
    #[arg(short = 'd', long, default_value = "stdouterr", value_name = "ID")]
    output_directory_id: String,
}

/// `job file`.
///
/// # Errors
/// There is no such job, directory or file; this machine refuses; as of the client.
pub(super) async fn run(session: &Session, verb: &FileVerb) -> Result<Answer> {
    match verb {
        FileVerb::List { this, directory, path, expiry } => {
            let entries =
                session.client.files(&session.scoped().job(this)?, &directory.output_directory_id, path, *expiry).await?;
            Ok(Answer::Many(entries.into_iter().map(|entry| entry.document).collect(), &views::FILE))
        }
        FileVerb::Stream { this, directory, file_name, path } => {
            let file = if path == "." { file_name.clone() } else { format!("{path}/{file_name}") };
            let logs = Reading { file, follow: true, directory: directory.output_directory_id.clone(), ..Reading::default() };
            logs.print(session, &session.scoped().job(this)?).await
        }
        FileVerb::Download { this, directory, path, recursive, to } => {
            download(session, &session.scoped().job(this)?, &directory.output_directory_id, path, *recursive, to).await
        }
    }
}

async fn download(
    session: &Session,
    job: &Place,
    directory: &str,
    path: &str,
    recursive: bool,
    to: &std::path::Path,
) -> Result<Answer> {
    let client = &session.client;
    let path = path.trim_end_matches('/');
    let mut wanted = Vec::new();
    if path != "."
        && let Some(link) = client.find_file(job, directory, path).await?
    {
        wanted.push((path.rsplit('/').next().unwrap_or(path).to_owned(), link));
    } else if recursive {
        let prefix = if path == "." { String::new() } else { format!("{path}/") };
        for entry in client.all_files(job, directory, path).await? {
            if let Some(link) = entry.link {
                wanted.push((entry.path.strip_prefix(&prefix).unwrap_or(&entry.path).to_owned(), link));
            }
        }
    }
    if wanted.is_empty() {
        let failure =
            Failure::new(Exit::Absent, "FileNotFound", format!("there is no file {path} in {directory} of {}", job.name()));
        let failure = if recursive { failure } else { failure.or_try("the same with -r, where it is a folder") };
        return Err(failure.or_try(format!("batchyard job file list -j {} -d {directory}", job.name())));
    }
    let total = wanted.iter().map(|(_, link)| link.size).sum();
    let mut progress = Progress::bytes(session.terminal(), total);
    let mut came = 0;
    for (name, link) in &wanted {
        let file = to.join(name);
        make_folder(&file)?;
        came += client.download(link, &file, |bytes| progress.came(bytes)).await?;
    }
    progress.done(&format!(
        "{} {}, {}, {} of it new",
        wanted.len(),
        if wanted.len() == 1 { "file" } else { "files" },
        views::size(total),
        views::size(came)
    ));
    Ok(Answer::Nothing)
}
