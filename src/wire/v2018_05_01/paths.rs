//! Paths that users give and that must stay in their folder.

/// Whether a path is something else than a relative path of plain segments.
pub fn leaves_its_folder(path: &str) -> bool {
    path.chars().any(|c| c.is_control() || c == '\\') || path.split('/').any(|s| s.is_empty() || s == "." || s == "..")
}
