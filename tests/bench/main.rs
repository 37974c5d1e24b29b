//! The benchmark: the product beside bounds measured in the same run.

fn main() {}
