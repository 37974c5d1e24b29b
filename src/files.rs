//! Where outputs and logs are found: the share, and the server's own archive.
