//! What clients see: the published shapes and their conversion to and from the domain.
