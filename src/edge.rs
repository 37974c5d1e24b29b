//! Sockets: accepts connections under limits and deadlines, speaks TLS where asked, hands requests to the router.
