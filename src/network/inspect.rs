//! What a network holds.
