//! Rebuilds when a migration is added, or the page was built: both are compiled into the binary.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed=page/dist");
}
