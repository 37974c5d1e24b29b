//! What is known of versions of `runc`, which makes containers on nodes: which of them are known to have been closed where.
//!
//! In: what `runc --version` says. Out: the version, and the ways out of containers that it is not known to have closed. Pure.

/// A version's numbers, and that of a candidate; a release comes after all of its candidates.
type Version = (u32, u32, u32, u32);

/// Of a release.
const RELEASE: u32 = u32::MAX;

/// A way out of containers that older versions have.
struct Escape {
    /// How it is known.
    name: &'static str,
    /// The first versions without it, of each line that has one.
    fixed: &'static [Version],
    /// Packages of older versions that have the fix: all but the last number of their version, and the least of that.
    patched: &'static [(&'static str, u32)],
}

/// Source: the advisories of opencontainers/runc, and Debian's DSA-5615-1 for its packages.
const ESCAPES: [Escape; 4] = [
    Escape {
        name: "CVE-2024-21626",
        fixed: &[(1, 1, 12, RELEASE)],
        patched: &[("1.1.5+ds1-1+deb12u", 1), ("1.0.0~rc93+ds1-5+deb11u", 3)],
    },
    Escape { name: "CVE-2025-31133", fixed: &FIXED_2025, patched: &[] },
    Escape { name: "CVE-2025-52565", fixed: &FIXED_2025, patched: &[] },
    Escape { name: "CVE-2025-52881", fixed: &FIXED_2025, patched: &[] },
];

/// Those that were found together.
const FIXED_2025: [Version; 3] = [(1, 2, 8, RELEASE), (1, 3, 3, RELEASE), (1, 4, 0, 3)];

/// A `runc` as it told of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runc {
    /// Its version, with that of its package where it names one.
    pub version: String,
    /// Ways out of containers that it is not known to have closed. Whoever made it may have closed them all the same.
    pub escapes: Vec<&'static str>,
}

/// Reads what `runc --version` says; `None` where that tells no version.
pub fn read(told: &str) -> Option<Runc> {
    let version = told.lines().find_map(|line| line.strip_prefix("runc version "))?.trim();
    let numbers = parse(version)?;
    // Packages of Debian have theirs in place of a commit.
    let commit = told.lines().find_map(|line| line.strip_prefix("commit: ")).map(str::trim);
    let version = commit.filter(|commit| commit.starts_with(version)).unwrap_or(version);
    let escapes = ESCAPES.iter().filter(|escape| !escape.is_closed(numbers, version)).map(|escape| escape.name).collect();
    Some(Runc { version: version.to_owned(), escapes })
}

impl Escape {
    fn is_closed(&self, numbers: Version, version: &str) -> bool {
        let line = |version: &Version| (version.0, version.1);
        let newest = self.fixed.iter().map(line).max();
        let by_version = self.fixed.iter().any(|fixed| line(fixed) == line(&numbers) && numbers >= *fixed);
        let by_package = self.patched.iter().any(|(package, least)| {
            let last = version.strip_prefix(package).and_then(|rest| digits(rest).0);
            last.is_some_and(|last| last >= *least)
        });
        by_version || by_package || Some(line(&numbers)) > newest
    }
}

/// The number that `text` begins with, and what follows.
fn digits(text: &str) -> (Option<u32>, &str) {
    let count = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at_checked(count).unwrap_or_default();
    (number.parse().ok(), rest)
}

/// `1.2.8`, `1.4.0-rc.3`, `1.0.0~rc93+ds1`.
fn parse(text: &str) -> Option<Version> {
    let (major, rest) = digits(text);
    let (minor, rest) = digits(rest.strip_prefix('.')?);
    let (patch, rest) = digits(rest.strip_prefix('.')?);
    let candidate = rest.strip_prefix(['-', '~']).and_then(|rest| rest.strip_prefix("rc"));
    let candidate = match candidate {
        Some(rest) => digits(rest.trim_start_matches('.')).0?,
        None => RELEASE,
    };
    Some((major?, minor?, patch?, candidate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_packages_are_known_by_what_they_closed() {
        let all = ["CVE-2024-21626", "CVE-2025-31133", "CVE-2025-52565", "CVE-2025-52881"];
        for (told, version, open) in [
            ("runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2-dev\n", "1.1.5+ds1-1+deb12u1", &all[1..]),
            ("runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1\n", "1.1.5+ds1-1", &all[..]),
            ("runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u12\n", "1.1.5+ds1-1+deb12u12", &all[1..]),
            ("runc version 1.0.0~rc93+ds1\ncommit: 1.0.0~rc93+ds1-5+deb11u2\n", "1.0.0~rc93+ds1-5+deb11u2", &all[..]),
            ("runc version 1.0.0~rc93+ds1\ncommit: 1.0.0~rc93+ds1-5+deb11u3\n", "1.0.0~rc93+ds1-5+deb11u3", &all[1..]),
            ("runc version 1.1.11\ncommit: v1.1.11-0-g4bccb38c\n", "1.1.11", &all[..]),
            ("runc version 1.1.12\ncommit: v1.1.12-0-g51d5e946\n", "1.1.12", &all[1..]),
            ("runc version 1.1.15+ds1\ncommit: 1.1.15+ds1-2+b4\n", "1.1.15+ds1-2+b4", &all[1..]),
            ("runc version 1.2.7", "1.2.7", &all[1..]),
            ("runc version 1.2.8", "1.2.8", &[][..]),
            ("runc version 1.3.2", "1.3.2", &all[1..]),
            ("runc version 1.3.3", "1.3.3", &[][..]),
            ("runc version 1.3.10", "1.3.10", &[][..]),
            ("runc version 1.4.0-rc.2", "1.4.0-rc.2", &all[1..]),
            ("runc version 1.4.0-rc.3", "1.4.0-rc.3", &[][..]),
            ("runc version 1.4.0", "1.4.0", &[][..]),
            ("runc version 1.5.0", "1.5.0", &[][..]),
            ("runc version 2.0.0-rc.1", "2.0.0-rc.1", &[][..]),
        ] {
            let runc = read(told).unwrap_or_else(|| panic!("{told} is read"));
            assert_eq!((runc.version.as_str(), runc.escapes.as_slice()), (version, open), "{told}");
        }
        for told in ["", "crun version 1.8", "runc version unknown", "runc version 1.2"] {
            assert_eq!(read(told), None, "{told}");
        }
    }
}
