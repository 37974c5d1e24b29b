//! The front door: routes, authentication, decoding, answers.
