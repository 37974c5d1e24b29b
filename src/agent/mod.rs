//! The agent: what runs on every node.
//!
//! In: the desired state that the server sends. Out: what it sees of the node and of the processes, and what they write. It pulls;
//! nothing connects to it. Refuses to know the database and the API.
//!
//! [`run`] is the agent itself; its conversation with servers is a [`Link`], which anything that is a [`Runner`] may have. It starts a supervisor ([`supervise`]) for each thing that is run, and may die and come back at any
//! time: the supervisors go on, and are found again.

mod account;
mod beneath;
mod boot;
mod client;
mod container;
mod decide;
mod engine;
mod exec;
mod expand;
mod export;
mod gang;
mod gpus;
mod identity;
mod isolate;
mod layout;
mod link;
mod login;
mod meter;
mod mount;
mod nfs;
mod node;
mod own_log;
mod part;
mod prepare;
mod probe;
mod process;
pub mod protocol;
mod readiness;
mod record;
mod report;
mod run;
mod sampler;
mod scarce;
mod seccomp;
mod session;
mod setup;
mod ship;
mod start;
mod supervisor;
mod watch;
mod work;

pub use container::carry;
pub use engine::{become_runtime, keep as keep_engine};
pub use export::keep as keep_export;
pub use link::{Link, News};
pub use login::login;
pub use mount::keep_mount;
pub use nfs::mount as mount_nfs;
pub use report::{Runner, Said, Say};
pub use run::run;
pub use session::session;
pub use supervisor::supervise;
