//! The options of a mount: those of the kernel's client, as far as they mean something here. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::link::Patience;

/// Longest time until a call is answered before it is sent again over another connection.
const REPLY: Duration = Duration::from_secs(30);

/// How often it is sent again before it fails.
const RETRIES: u32 = 1;

/// How long what is known of a file is believed.
const BELIEF: Duration = Duration::from_secs(1);

/// Bounds of the patience that users may ask for.
const BOUNDS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(600));

/// Options that mean nothing here, and change nothing that anybody relies on.
const TAKEN: [&str; 24] = [
    "rw",
    "hard",
    "soft",
    "softerr",
    "intr",
    "nointr",
    "rsize",
    "wsize",
    "bsize",
    "proto",
    "noatime",
    "nodiratime",
    "relatime",
    "sec",
    "ac",
    "async",
    "acregmin",
    "acregmax",
    "acdirmin",
    "acdirmax",
    "nodev",
    "nosuid",
    "fg",
    "cto",
];

/// How a file server is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::agent) struct Options {
    /// Whether nothing is written.
    pub(super) read_only: bool,
    /// How long what is known of a file is believed.
    pub(super) belief: Duration,
    /// Whether locks are the node's own; else they are refused.
    pub(super) local_locks: bool,
    reply: Duration,
    retries: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options { read_only: false, belief: BELIEF, local_locks: false, reply: REPLY, retries: RETRIES }
    }
}

impl Options {
    /// The options in `text`, parted by commas or blanks.
    ///
    /// # Errors
    /// The first that is not known.
    pub(in crate::agent) fn parse(text: &str) -> Result<Options, String> {
        let mut options = Options::default();
        for option in text.split([',', ' ']).filter(|option| !option.is_empty() && *option != "-o") {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match (name, value.parse::<u32>()) {
                ("ro", _) => options.read_only = true,
                ("nolock", _) => options.local_locks = true,
                ("local_lock", _) if value == "all" => options.local_locks = true,
                ("lock", _) => options.local_locks = false,
                ("local_lock", _) if value == "none" => options.local_locks = false,
                ("noac" | "sync", _) => options.belief = Duration::ZERO,
                ("actimeo", Ok(seconds)) => options.belief = Duration::from_secs(seconds.min(600).into()),
                ("timeo", Ok(tenths)) => {
                    options.reply = Duration::from_millis(100).saturating_mul(tenths).clamp(BOUNDS.0, BOUNDS.1)
                }
                ("retrans", Ok(retries)) => options.retries = retries.min(100),
                ("vers" | "nfsvers", _) if value.starts_with('3') => {}
                // A newer version is asked for by habit: what it would do more is not promised.
                ("vers" | "nfsvers", _) if value.starts_with('4') => {}
                _ if TAKEN.contains(&name) => {}
                _ => return Err(option.to_owned()),
            }
        }
        Ok(options)
    }

    /// How long a server that is away is waited for.
    pub(super) fn patience(&self) -> Patience {
        let whole = self.reply.saturating_mul(self.retries.saturating_add(1)).clamp(BOUNDS.0, BOUNDS.1);
        Patience { reply: self.reply, whole }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_kernels_client_are_known() {
        let options = Options::parse("rw,soft,vers=4.2,timeo=20,retrans=2,actimeo=5").expect("known");
        assert_eq!(options.patience(), Patience { reply: Duration::from_secs(2), whole: Duration::from_secs(6) });
        assert_eq!((options.read_only, options.belief, options.local_locks), (false, Duration::from_secs(5), false));
        assert!(Options::parse("ro nolock").is_ok_and(|options| options.read_only && options.local_locks));
        assert_eq!(Options::parse("rw"), Ok(Options::default()));
        for bad in ["dev", "suid", "port=1", "addr=10.0.0.1", "vers=2"] {
            assert_eq!(Options::parse(bad), Err(bad.to_owned()));
        }
    }
}
